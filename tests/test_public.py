"""What `import frz` offers: a short, sorted list, each entry there and documented."""

import inspect
import tomllib
from pathlib import Path

import pytest
import yaml

import frz
import frz.errors


def test_the_public_list_is_sorted_and_complete() -> None:
    assert list(frz.__all__) == sorted(frz.__all__)
    public = {
        name
        for name, value in vars(frz).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "TYPE_CHECKING"
    }
    assert public == set(frz.__all__)


@pytest.mark.parametrize("name", frz.__all__)
def test_what_is_public_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(frz, name))


def test_the_error_that_is_exported_is_the_one_that_is_raised() -> None:
    assert frz.FrzError is frz.errors.FrzError


def test_constraints_pin_every_dependency_within_its_range(project: Path) -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    declared = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    wanted = [*declared["dependencies"], *(r for extra in declared["optional-dependencies"].values() for r in extra)]
    lines = (project / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}
    for requirement in map(Requirement, wanted):
        if requirement.name != "frz":
            assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement


def test_no_registry_is_named(project: Path) -> None:
    text = (project / "constraints.txt").read_text() + (project / "pyproject.toml").read_text()
    assert "://" not in text
    assert "--index-url" not in text


def test_every_shipped_yaml_is_a_mapping(project: Path) -> None:
    files = [*(project / "configs").rglob("*.yaml"), *(project / "data").glob("*.yaml")]
    assert files
    assert [path for path in files if not isinstance(yaml.safe_load(path.read_text()), dict)] == []
