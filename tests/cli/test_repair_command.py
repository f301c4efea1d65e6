"""`frz repair`: 0 whole, 1 something stays damaged, 2 a command that cannot be done."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from frz import artifacts as names
from frz.store.lease import Leases
from frz_cli.main import app


def frz(artifacts: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, [*arguments, "--artifacts", str(artifacts)])


@pytest.fixture
def artifacts(tiny: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny, tmp_path / "artifacts")


def lose(store: Path, group: str) -> Path:
    place = sorted((store / "events.zarr").glob(f"{group}-*"))[2]
    shutil.rmtree(place)
    return place


def test_a_whole_store_stays_as_it_is(artifacts: Path) -> None:
    result = frz(artifacts, "repair", "datasets/tiny")
    assert result.exit_code == 0
    assert result.stdout == f"whole: {artifacts / 'datasets/tiny'}: 0 repaired\n"


def test_data_and_features_are_repaired_in_that_order(artifacts: Path) -> None:
    data, features = artifacts / "datasets/tiny", names.features("tiny", artifacts).path
    shutil.rmtree(data / "events.zarr")
    assert frz(artifacts, "verify", "datasets/tiny").exit_code == 1
    part = lose(features, "features")
    first = frz(artifacts, "repair", features.name)
    assert first.exit_code == 1
    assert f"run 'frz repair {data}'" in first.stdout
    assert first.stdout.splitlines()[-1] == f"1 damaged: {features}: 0 repaired"
    assert frz(artifacts, "repair", "datasets/tiny").exit_code == 0
    second = frz(artifacts, "repair", features.name)
    assert second.exit_code == 0
    path = part.relative_to(features)
    assert f"repaired: {path}: made again, equal to what was committed" in second.stdout.splitlines()
    assert second.stdout.splitlines()[-1] == f"whole: {features}: 1 repaired"
    assert frz(artifacts, "verify", features.name).exit_code == 0


def test_it_answers_in_json(artifacts: Path) -> None:
    part = lose(artifacts / "datasets/tiny", "events")
    found = json.loads(frz(artifacts, "repair", "datasets/tiny", "--json").stdout)
    assert (found["whole"], found["new_version"], len(found["damages"])) == (True, None, 1)
    (outcome,) = found["outcomes"]
    assert (outcome["repaired"], outcome["same"], outcome["how"]) == (True, True, "made again")
    assert outcome["path"] == str(part.relative_to(artifacts / "datasets/tiny"))


def test_it_does_not_run_beside_a_worker(artifacts: Path) -> None:
    with Leases(artifacts / "datasets/tiny").hold():
        result = frz(artifacts, "repair", "datasets/tiny")
    assert result.exit_code == 2
    assert "works on the store; run the same command when that has ended" in result.stderr


def test_a_store_that_is_not_there_is_a_user_error(artifacts: Path) -> None:
    result = frz(artifacts, "repair", "tini")
    assert result.exit_code == 2
    assert "did you mean 'tiny'" in result.stderr
