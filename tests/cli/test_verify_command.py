"""`frz verify`: 0 whole, 1 damaged, 2 a command that cannot be done."""

import json
import shutil
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


def test_a_version_that_is_not_there_is_answered_with_those_that_are(artifacts: Path) -> None:
    build(tiny_recipe(70), artifacts)
    result = frz("verify", "tiny", "--version", "99", "--artifacts", str(artifacts))
    assert (result.exit_code, result.stderr.strip().endswith("no version 99; versions: 1, 2")) == (2, True)


@pytest.fixture
def mine(tiny: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny, tmp_path / "artifacts")


@pytest.mark.parametrize("kind", ["backbones", "heads"])
def test_the_weights_of_a_run_are_read_and_compared(mine: Path, kind: str) -> None:
    (run,) = (mine / kind / "tiny").iterdir()
    for name in (f"{kind}/tiny", f"{kind}/tiny@{run.name}", str(run)):
        result = frz("verify", name, "--artifacts", str(mine))
        assert (result.exit_code, result.stdout.startswith(f"whole: {run}: card.json, best.saf")) == (0, True), name
    file = run / "best.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    result = frz("verify", f"{kind}/tiny", "--artifacts", str(mine))
    assert result.exit_code == 1
    assert f"damaged: {file}: damaged: wrong checksum of" in result.stdout
    assert "put a copy of it back, remove the folder" in result.stdout
    result = frz("verify", f"{kind}/tiny", "--json", "--artifacts", str(mine))
    assert (result.exit_code, json.loads(result.stdout)["whole"]) == (1, False)
    file.unlink()
    assert "best.safetensors: is missing" in frz("verify", f"{kind}/tiny", "--artifacts", str(mine)).stdout


def test_a_card_of_another_run_or_a_broken_one_is_damage(mine: Path) -> None:
    (run,) = (mine / "backbones/tiny").iterdir()
    card = run / "card.json"
    card.write_text(card.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    assert "its fingerprint is not that of best.safetensors" in frz("verify", str(run)).stdout
    card.write_text("{")
    assert f"damaged: {card}: not valid JSON" in frz("verify", str(run)).stdout


def test_a_run_that_was_killed_at_its_start_is_unfinished_and_not_damaged(mine: Path) -> None:
    run = mine / "heads/begun/0badcafe"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("name: begun")
    for name in ("begun@0badcafe", "heads/begun@0badcafe"):
        result = frz("verify", name, "--artifacts", str(mine))
        told = f"unfinished, and whole so far: {run}: nothing saved yet"
        assert (result.exit_code, result.stdout.strip()) == (0, told), name
    for name in ("begun", "heads/begun"):
        assert "no finished run of head 'begun'" in frz("verify", name, "--artifacts", str(mine)).stderr
    assert "the run has no weights yet" in frz("evaluate", "begun@0badcafe", "--artifacts", str(mine)).stderr
    assert "is a head, not a data set" in frz("repair", "heads/tiny", "--artifacts", str(mine)).stderr


def test_a_bare_name_is_the_store_and_only_else_the_run(mine: Path) -> None:
    (mine / "datasets/tiny").rename(mine / "datasets/data")
    features, folder = next((mine / "features").iterdir()), ["--artifacts", str(mine)]
    assert str(features) in frz("verify", "tiny", *folder).stdout
    assert frz("verify", "tiny@7", *folder).exit_code == 2
    result = frz("verify", "backbones/tiny", "--version", "1", *folder)
    assert (result.exit_code, "a run has no versions" in result.stderr) == (2, True)
    shutil.rmtree(mine / "features")
    shutil.rmtree(mine / "heads")
    assert "backbones/tiny" in frz("verify", "tiny", *folder).stdout
