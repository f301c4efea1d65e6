"""Code is told apart by what it does, found without being imported, and followed through its imports."""

import sys

import pytest

from frz.lineage import changed_since, code_digests, imported, soft_differences, versions


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that imports in all the ways there are."""
    folder = tmp_path / "linpkg"
    (folder / "sub").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "sub" / "__init__.py").write_text("from . import near\n")
    (folder / "sub" / "near.py").write_text("import numpy as np\nimport json\n")
    (folder / "net.py").write_text(
        "from linpkg.sub import near\nimport lin_beside\nimport frz.errors\nimport nowhere\n"
    )
    (folder / "unused.py").write_text("")
    (tmp_path / "lin_beside.py").write_text("import linpkg.deep.er\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def test_imports_are_followed_and_nothing_is_run(package):
    found = imported(["linpkg.net"], ["frz.backbones"])
    assert found == ["lin_beside", "linpkg", "linpkg.net", "linpkg.sub", "linpkg.sub.near"]
    assert "linpkg" not in sys.modules
    assert set(code_digests([*found, "nowhere", "linpkg.missing"])) == set(found)


def test_the_code_of_a_family_of_ours_is_its_own():
    found = imported(["frz.backbones.hit_track.model"], ["frz.backbones"])
    assert {"frz.backbones.layers", "frz.backbones.hit_track.decoder"} <= set(found)
    assert all(name.startswith("frz.backbones") for name in found)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("def f(x):  # other words\n\n    # a line\n    return x + '#'\n\n\n", True),
        ("def f(x):\n    return x + '# '\n", False),
        ("def f(x):\n    return x - '#'\n", False),
    ],
)
def test_comments_and_blank_lines_do_not_count(package, text, same):
    file = package / "unused.py"
    file.write_text("def f(x):\n    return x + '#'\n")
    before = code_digests(["linpkg.unused"])
    file.write_text(text)
    assert (code_digests(["linpkg.unused"]) == before) == same


def test_blank_lines_within_text_count(package):
    file = package / "unused.py"
    file.write_text("x = '''a\n\nb'''\n")
    before = code_digests(["linpkg.unused"])
    file.write_text("x = '''a\nb'''\n")
    assert code_digests(["linpkg.unused"]) != before


def test_what_differs_is_said_in_words(package):
    made_with = versions() | {"device": "cuda", "code": code_digests(["linpkg.sub", "linpkg.net"])}
    assert changed_since(made_with) == []
    (package / "net.py").unlink()  # whoever lacks the code cannot say that it has changed
    (package / "sub" / "__init__.py").write_text("")
    assert changed_since(made_with | {"torch": "1.0"}) == [
        f"torch (1.0 there, {versions()['torch']} here)",
        "code of linpkg.sub",
    ]
    assert soft_differences({"scipy": "1"}, {"code": {"a": "1"}}) == ["scipy (1 there, none here)", "code of a"]
