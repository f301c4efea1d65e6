"""`frz verify`: 0 whole, 1 damaged, 2 a command that cannot be done."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from conftest import tiny_recipe
from frz.data.build import build
from frz_cli.main import app


def frz(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    build(tiny_recipe(64), tmp_path)
    return tmp_path


def shard(artifacts: Path) -> Path:
    """The values of one array of the second part."""
    second = sorted((artifacts / "datasets/tiny/events.zarr").glob("events-*"))[1]
    return next(path for path in (second / "hit").rglob("0") if path.is_file())


def test_a_whole_store(artifacts: Path) -> None:
    for name in ("tiny", "tiny@1", "datasets/tiny", str(artifacts / "datasets/tiny")):
        result = frz("verify", name, "--content", "--artifacts", str(artifacts))
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith("whole: version 1 of")
    result = frz("verify", "tiny", "--json", "--artifacts", str(artifacts))
    assert json.loads(result.stdout)["whole"] is True


def test_a_damaged_store(artifacts: Path) -> None:
    path = shard(artifacts)
    raw = path.read_bytes()
    path.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    result = frz("verify", "tiny", "--artifacts", str(artifacts))
    assert result.exit_code == 1
    first, *_, last = result.stdout.splitlines()
    assert str(path.relative_to(artifacts / "datasets/tiny")) in first
    assert "of version 1" in first
    assert last == "1 damaged; run 'frz repair tiny'"
    result = frz("verify", "tiny", "--json", "--artifacts", str(artifacts))
    assert result.exit_code == 1
    damage = json.loads(result.stdout)["damages"][0]
    assert (damage["thing"], damage["what"]) == ("shard", "the checksum does not fit")


def test_versions_are_listed_as_people_write_them(artifacts: Path) -> None:
    result = frz("verify", "tiny", "--version", "7", "--artifacts", str(artifacts))
    assert result.stderr.endswith("no version 7; versions: 1\n")


@pytest.mark.parametrize("arguments", [["tini"], ["tiny@7"], ["tiny", "--version", "7"]])
def test_what_is_not_there_is_a_user_error(artifacts: Path, arguments: list[str]) -> None:
    result = frz("verify", *arguments, "--artifacts", str(artifacts))
    assert result.exit_code == 2
    assert "error" in result.output
