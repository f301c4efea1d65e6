"""Sizes, names and what an import really loads. The import graph itself is checked by import-linter."""

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Python = Callable[..., "subprocess.CompletedProcess[str]"]

LIMIT = 400
ROOTS = ("pipeline/frz", "cli/frz_cli")
SHAPELESS = {"utils", "util", "helpers", "helper", "misc", "common", "manager"}


def sources(project: Path) -> list[Path]:
    return sorted(path for root in ROOTS for path in (project / root).rglob("*.py"))


def test_no_file_is_longer_than_one_idea(project: Path) -> None:
    lengths = {str(p.relative_to(project)): len(p.read_text().splitlines()) for p in sources(project)}
    assert lengths
    assert {path: n for path, n in lengths.items() if n > LIMIT} == {}


def test_no_module_has_a_name_that_says_nothing(project: Path) -> None:
    assert [path for path in sources(project) if path.stem.strip("_") in SHAPELESS] == []


def test_every_folder_of_modules_is_a_package(project: Path) -> None:
    folders = {path.parent for path in sources(project)}
    assert sorted(str(f.relative_to(project)) for f in folders if not (f / "__init__.py").exists()) == []


def test_every_module_says_what_it_is(project: Path) -> None:
    assert [path for path in sources(project) if not path.read_text().lstrip().startswith(('"""', 'r"""'))] == []


def loaded_after(fresh_python: Python, statement: str, *packages: str) -> dict[str, bool]:
    """Whether each package is loaded in a fresh process after a statement."""
    code = f"{statement}\nimport sys, json; print(json.dumps({{p: p in sys.modules for p in {packages!r}}}))"
    done = fresh_python("-c", code)
    assert done.returncode == 0, done.stderr
    loaded: dict[str, bool] = json.loads(done.stdout.splitlines()[-1])
    return loaded


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("frz", ("torch", "zarr", "numpy")),
        ("frz_cli.main", ("torch", "zarr", "numpy", "matplotlib")),
        ("frz.store", ("torch",)),
        ("frz.lineage", ("torch",)),
        ("frz.artifacts", ("torch", "zarr", "numpy")),
        ("frz.inventory", ("torch",)),
        ("frz.view", ("torch", "pandas")),
        ("frz.heads.run", ("frz.backbones",)),
    ],
)
def test_an_import_loads_no_more_than_it_may(module: str, absent: tuple[str, ...], fresh_python: Python) -> None:
    assert loaded_after(fresh_python, f"import {module}", *absent) == dict.fromkeys(absent, False)


def test_the_probe_of_loaded_modules_can_tell(fresh_python: Python) -> None:
    assert loaded_after(fresh_python, "import numpy", "numpy", "torch") == {"numpy": True, "torch": False}


def test_packages_are_found_where_the_tree_says(project: Path) -> None:
    for name, root in zip(("frz", "frz_cli"), ROOTS, strict=True):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert Path(str(spec.origin)) == project / root / "__init__.py"
