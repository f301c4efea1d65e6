"""Each command is one call into the library, with the arguments that the library takes."""

import importlib
import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest
from typer.testing import CliRunner

from frz.extract.cluster import Workers
from frz_cli.main import app


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Replace a library function by a stand-in that refuses any other signature."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("name: a\n")

    def replace(target: str) -> Mock:
        module, _, name = target.rpartition(".")
        stand_in: Mock = create_autospec(getattr(importlib.import_module(module), name), return_value={"events": 3})
        monkeypatch.setattr(target, stand_in)
        return stand_in

    return replace


HERE, SET = Path("there"), ["--set", "a.b=1", "--set", "c=x"]


@pytest.mark.parametrize(
    ("arguments", "target", "expected"),
    [
        (
            ["data", "build", "run.yaml", *SET],
            "frz.data.build.build",
            ({"name": "a", "a": {"b": 1}, "c": "x"}, HERE, "run.yaml"),
        ),
        (
            ["train-backbone", "run.yaml", *SET],
            "frz.pretrain.train",
            ({"name": "a", "a": {"b": 1}, "c": "x"}, HERE, "run.yaml"),
        ),
        (
            ["extract", "--ckpt", "muon@best", "--data", "velo", *SET],
            "frz.extract.run.extract",
            ("muon@best", HERE, "velo", {"a": {"b": 1}, "c": "x"}, Workers(), False),
        ),
        (["extract", "--ckpt", "muon"], "frz.extract.run.extract", ("muon", HERE, None, {}, Workers(), False)),
        (
            ["extract", "--ckpt", "muon", "--dry-run", "--workers", "2", "--threads", "1"],
            "frz.extract.run.extract",
            ("muon", HERE, None, {}, Workers(2, 1), True),
        ),
        (
            ["train-head", "run.yaml", "--features", "muon"],
            "frz.heads.run.train",
            ({"name": "a"}, HERE, "run.yaml", "muon"),
        ),
        (["train-head", "run.yaml"], "frz.heads.run.train", ({"name": "a"}, HERE, "run.yaml", None)),
        (["evaluate", "eta", *SET], "frz.evaluation.run.evaluate", ("eta", HERE, {"a": {"b": 1}, "c": "x"})),
        (
            ["predict", "eta", "--data", "velo", "--out", "p.parquet"],
            "frz.joint.predict.predict",
            ("eta", HERE, "velo", Path("p.parquet")),
        ),
        (["demo", *SET], "frz.evaluation.demo.demo", (HERE, {"a": {"b": 1}, "c": "x"})),
        (["ls"], "frz.inventory.listing", (HERE,)),
        (["show", "muon"], "frz.inventory.describe", ("muon", HERE)),
    ],
)
def test_a_command_calls_the_library_and_prints_its_result(
    arguments: list[str], target: str, expected: tuple[Any, ...], library: Any
) -> None:
    stand_in = library(target)
    result = CliRunner().invoke(app, [*arguments, "--artifacts", "there", "--json"], catch_exceptions=False)
    assert result.exit_code == 0
    stand_in.assert_called_once_with(*expected)
    assert json.loads(result.stdout) == {"events": 3}


def test_data_show_describes_the_version_that_was_named(library: Any) -> None:
    store = Path("there/datasets/tiny")
    (store / "snapshots").mkdir(parents=True)
    for version in (1, 2):
        (store / "snapshots" / f"{version}.json").write_text("{}")
    stand_in = library("frz.inventory.describe_store")
    result = CliRunner().invoke(app, ["data", "show", "tiny@1", "--artifacts", "there", "--json"])
    assert json.loads(result.stdout) == {"events": 3}
    stand_in.assert_called_once_with(store, 1)


def test_the_environment_says_where_artifacts_lie(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = library("frz.inventory.listing")
    monkeypatch.setenv("FRZ_ARTIFACTS", "elsewhere")
    assert CliRunner().invoke(app, ["ls"]).exit_code == 0
    stand_in.assert_called_once_with(Path("elsewhere"))


def test_an_empty_folder_says_how_to_begin(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["ls", "--artifacts", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert "frz demo" in result.stderr
    assert json.loads(CliRunner().invoke(app, ["ls", "--artifacts", str(tmp_path), "--json"]).stdout) == []
