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
        stand_in: Mock = create_autospec(getattr(importlib.import_module(module), name))
        stand_in.return_value = {"events": 3, "path": "x"}
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
        (
            ["train-head", "run.yaml", "--data", "muon-sim@2"],
            "frz.heads.run.train",
            ({"name": "a", "features": {"data": "muon-sim@2"}}, HERE, "run.yaml", None),
        ),
        (
            ["train-backbone", "run.yaml", "--tensorboard"],
            "frz.pretrain.train",
            ({"name": "a", "trainer": {"tensorboard": True}}, HERE, "run.yaml"),
        ),
        (
            ["train-head", "run.yaml", "--tensorboard"],
            "frz.heads.run.train",
            ({"name": "a", "trainer": {"tensorboard": True}}, HERE, "run.yaml", None),
        ),
        (["train-head", "run.yaml"], "frz.heads.run.train", ({"name": "a"}, HERE, "run.yaml", None)),
        (["evaluate", "eta", *SET], "frz.evaluation.run.evaluate", ("eta", HERE, {"a": {"b": 1}, "c": "x"})),
        (["compare", "eta", "phi"], "frz.evaluation.compare.compare", (["eta", "phi"], HERE, "test", 1000, ())),
        (
            ["compare", "a", "--split", "val", "--scores", "b.csv", "--resamples", "9"],
            "frz.evaluation.compare.compare",
            (["a"], HERE, "val", 9, [Path("b.csv")]),
        ),
        (
            ["predict", "eta", "--data", "velo", "--out", "p.parquet"],
            "frz.joint.predict.predict",
            ("eta", HERE, "velo", Path("p.parquet")),
        ),
        (["demo", *SET], "frz.evaluation.demo.demo", (HERE, {"a": {"b": 1}, "c": "x"}, "muon")),
        (["demo", "--family", "icu"], "frz.evaluation.demo.demo", (HERE, {}, "icu")),
        (["ls"], "frz.inventory.listing", (HERE, "")),
        (["ls", "heads"], "frz.inventory.listing", (HERE, "heads")),
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
    assert json.loads(result.stdout) == {"events": 3, "path": "x"}


def test_people_are_shown_no_tables_of_hashes_and_programs_are(library: Any) -> None:
    fingerprint = {"value": "f" * 64, "config": {"dim": 32}, "tensors": {"a": "a" * 64, "b": "b" * 64}}
    stand_in = library("frz.inventory.describe")
    stand_in.return_value = {"name": "muon", "about": {"fingerprint": fingerprint}}
    shown = CliRunner().invoke(app, ["show", "muon"], catch_exceptions=False).stdout
    assert "2 hashes" in shown
    assert "f" * 64 in shown
    assert "dim" not in shown
    assert "a" * 64 not in shown
    assert json.loads(CliRunner().invoke(app, ["show", "muon", "--json"]).stdout) == stand_in.return_value


def test_a_bench_is_a_row_per_way_and_a_sentence(library: Any) -> None:
    row = {"events_per_s": 1234.5, "epoch_s": 2.0, "over_frozen": 1.0, "memory": 5e8, "device_memory": None}
    shares = {"reading": 0.25, "copies": 0.0, "compute": 0.75}
    stand_in = library("frz.joint.bench.bench")
    stand_in.return_value = {
        "head": "a",
        "prepare": {"events_per_s": 100.0, "seconds_for_all": 3.0, "bytes": 7},
        "left_out": {"joint": "no backbone"},
        "ways": {"frozen": row | shares},
        "advice": "do that",
    }
    arguments = ["bench", "run.yaml", "--seconds", "2", "--artifacts", "there"]
    assert json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["ways"]["frozen"]["reading"] == 0.25
    stand_in.assert_called_once_with({"name": "a"}, HERE, "run.yaml", seconds=2.0)
    lines = CliRunner().invoke(app, arguments).stdout.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        *("head a", "joint is left out no backbone", "prepare, once 3 s (100 events/s)", "ways"),
        "events/s s per epoch × frozen memory reading copies compute",
        "frozen 1,234 2 1 500 MB 25% 0% 75%",
        "do that.",
    ]


def test_data_show_describes_the_version_that_was_named(library: Any) -> None:
    store = Path("there/datasets/tiny")
    (store / "snapshots").mkdir(parents=True)
    for version in (1, 2):
        (store / "snapshots" / f"{version}.json").write_text("{}")
    stand_in = library("frz.inventory.describe_store")
    result = CliRunner().invoke(app, ["data", "show", "tiny@1", "--artifacts", "there", "--json"])
    assert json.loads(result.stdout) == {"events": 3, "path": "x"}
    stand_in.assert_called_once_with(store, 1)


def test_the_environment_says_where_artifacts_lie(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = library("frz.inventory.listing")
    stand_in.return_value = []
    monkeypatch.setenv("FRZ_ARTIFACTS", "elsewhere")
    assert CliRunner().invoke(app, ["ls"]).exit_code == 0
    stand_in.assert_called_once_with(Path("elsewhere"), "")


def test_runs_are_listed_in_short_lines(tmp_path: Path) -> None:
    for kind, name, run, fingerprint in (
        ("backbones", "a-rather-long-name", "11111111", "ab" * 32),
        ("heads", "regression-of-a-long-name", "22222222", None),
    ):
        folder = tmp_path / kind / name / run
        folder.mkdir(parents=True)
        card = {"finished": True, "created": "2026-01-02T03:04:05+00:00", "epochs": 100, "score": 0.123456}
        (folder / "card.json").write_text(json.dumps(card | ({"fingerprint": fingerprint} if fingerprint else {})))
    out = CliRunner().invoke(app, ["ls", "--artifacts", str(tmp_path)]).stdout
    assert max(map(len, out.splitlines())) <= 110
    titles = [line for line in out.splitlines() if not line.startswith(" ")]
    assert titles == ["backbones", "heads"]
    assert "a-rather-long-name@11111111  2026-01-02 03:04  finished     yes     100  0.1235" in out
    assert out.count("abababab ") == 1


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ["backbones/a", "heads/a-b", "heads/c"]),
        ("heads", ["heads/a-b", "heads/c"]),
        ("a-", ["heads/a-b"]),
        ("b@", ["heads/a-b"]),
        ("a*", ["backbones/a", "heads/a-b"]),
        ("heads/*@2*", ["heads/c"]),
        ("A", []),
    ],
)
def test_the_list_is_of_what_fits(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    for place in ("backbones/a/11111111", "heads/a-b/11111111", "heads/c/22222222"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "card.json").write_text(json.dumps({"finished": True}))
    told = CliRunner().invoke(app, ["ls", pattern, "--json", "--artifacts", str(tmp_path)])
    rows = json.loads(told.stdout)
    assert [f"{row['kind']}/{row['name'].partition('@')[0]}" for row in rows] == expected
    if not expected:
        told = CliRunner().invoke(app, ["ls", pattern, "--artifacts", str(tmp_path)])
        assert (told.stdout, told.stderr) == ("", f"nothing in {tmp_path} fits 'A'\n")


def test_an_impossible_place_is_an_error_and_an_absent_default_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    for place, what in (("file", "error: file: is a file"), ("typo", "error: typo: no such folder")):
        result = CliRunner().invoke(app, ["ls", "--artifacts", place])
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(what)
    result = CliRunner().invoke(app, ["ls"])
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("nothing in artifacts yet")


def test_an_evaluation_is_rows_of_numbers_with_their_intervals(library: Any) -> None:
    found = {"value": 0.98123456789, "low": 0.9761, "high": 0.9854, "successes": 981, "total": 1000}
    none = {"value": None, "low": 0.0, "high": 1.0, "successes": 0, "total": 0}
    result = {
        "backbone": "muon@11111111",
        "predicted_tracks": 385,
        "valid_slots": 402,
        "min_hits": 3,
        "slots": {"purity": {"value": 0.5, "error": 0.01, "count": 30}, "validity_auc": 0.25},
        "tracking": {"efficiency": found, "fakes": none},
        "binned": {"pt": {"edges": [5.0, 10.0, 20.0], "bins": [found, none], "outside": none, "unit": "GeV"}},
    }
    library("frz.evaluation.run.evaluate").return_value = result
    assert json.loads(CliRunner().invoke(app, ["evaluate", "muon", "--json"]).stdout) == result
    lines = [line.strip() for line in CliRunner().invoke(app, ["evaluate", "muon"]).stdout.splitlines()]
    assert [line.split() for line in lines] == [
        ["backbone", "muon@11111111"],
        ["predicted_tracks", "385", "(of", "402", "valid", "slots", "those", "with", "3", "or", "more", "hits)"],
        ["slots"],
        ["value", "low", "high", "counted"],
        ["purity", "0.5", "0.49", "0.51", "mean", "of", "30"],
        ["validity_auc", "0.25", "-", "-", "-"],
        ["tracking"],
        ["value", "low", "high", "counted"],
        ["efficiency", "0.9812", "0.9761", "0.9854", "981", "of", "1,000"],
        ["fakes", "-", "0", "1", "0", "of", "0"],
        ["binned.pt"],
        ["pt", "value", "low", "high", "counted"],
        ["5", "to", "10", "GeV", "0.9812", "0.9761", "0.9854", "981", "of", "1,000"],
        ["10", "to", "20", "GeV", "-", "0", "1", "0", "of", "0"],
    ]
    result["binned"]["pt"]["outside"] = found
    assert "outside" in CliRunner().invoke(app, ["evaluate", "muon"]).stdout


def test_classes_are_told_once_with_intervals_and_by_parts(library: Any) -> None:
    none = {"value": None, "low": None, "high": None, "reason": "all members are of one class"}
    area = {"value": 0.85, "low": 0.84, "high": 0.86}
    told = {
        "counted": 900,
        "left_out": 3,
        "classes": {"0": 800, "1": 100},
        "intervals": {"level": 0.683, "resamples": 1000},
        "metrics": {"auc": area | {"yardstick": 0.5}, "auprc": area | {"yardstick": 0.1}},
        "calibration": {"temperature": None, "reason": "there is no validation split"},
        "reliability": [{"low": 0.0}],
        "by": {"event/static.unit": [{"part": "1", "members": 900, "positives": 100, "auc": area, "auprc": none}]},
    }
    metrics = {"head": {"events": 900, "label/auc": 0.85}, "training_mean": {"events": 900, "label/auc": 0.5}}
    library("frz.evaluation.run.evaluate").return_value = {"metrics": metrics, "classes": {"label": told}}
    lines = [" ".join(line.split()) for line in CliRunner().invoke(app, ["evaluate", "icu"]).stdout.splitlines()]
    for line in (
        "counted 900 (0: 800, 1: 100)",
        "intervals 68.3 % of 1,000 samples",
        "auc 0.85 0.84 0.86 0.5",
        "reason there is no validation split",
        "1 900 100 0.85 (0.84 to 0.86) - (all members are of one class)",
    ):
        assert line in lines
    assert not any("label/auc" in line or line == "head 900" for line in lines)
    metrics["head"]["pt/width"] = 0.25
    lines = [" ".join(line.split()) for line in CliRunner().invoke(app, ["evaluate", "icu"]).stdout.splitlines()]
    assert {"head 900 0.25", "training_mean 900 -"} <= set(lines)


def test_heads_stand_side_by_side_and_the_best_is_marked(library: Any) -> None:
    difference = {"value": 0.1, "low": 0.04, "high": 0.16, "p": 0.0123}
    other = {"value": 0.6, "low": None, "high": None, "difference": difference}
    cells = {"a@1": {"value": 0.5, "low": 0.49, "high": 0.51}, "b@2": other}
    result = {
        "split": "test",
        "events": 30,
        "resamples": 200,
        "heads": {"a@1": {"epochs": 3}, "b@2": {"epochs": 4}},
        "config": {"trainer.lr": {"a@1": 0.1, "b@2": 0.2}},
        "made_from": {},
        "metrics": {"eta/width": {"best": "a@1", "heads": cells}},
    }
    library("frz.evaluation.compare.compare").return_value = result
    lines = CliRunner().invoke(app, ["compare", "a", "b"]).stdout.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        *("split test", "events 30", "resamples 200"),
        *("heads", "epochs", "a@1 3", "b@2 4"),
        *("config", "a@1 b@2", "trainer.lr 0.1 0.2"),
        *("metrics", "a@1 b@2", "eta/width 0.5 (0.49 to 0.51) * 0.6"),
        *("less_the_best_value", "b@2", "eta/width 0.1 (0.04 to 0.16), p 0.012"),
    ]


def test_a_training_ends_in_few_lines_and_whole_json(library: Any) -> None:
    result = {"path": "x", "status": "trained", "epoch_metrics": {"best": {"loss": 1}}, "versions": {"torch": "2"}}
    library("frz.pretrain.train").return_value = result
    assert json.loads(CliRunner().invoke(app, ["train-backbone", "run.yaml", "--json"]).stdout) == result
    lines = CliRunner().invoke(app, ["train-backbone", "run.yaml"]).stdout.splitlines()
    assert [line.split() for line in lines] == [["path", "x"], ["status", "trained"]]


def test_a_training_ends_with_a_picture_of_its_curves(library: Any) -> None:
    run = Path("runs/x")
    run.mkdir(parents=True)
    line = {"epoch": 1, "lr": 1e-3, "train/loss": 1.0, "val/loss": 2.0}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    library("frz.heads.run.train").return_value = {"path": str(run), "status": "trained"}
    assert "curves  runs/x/curves.png" in CliRunner().invoke(app, ["train-head", "run.yaml"]).stdout
    assert (run / "curves.png").stat().st_size > 1000


def test_an_empty_folder_says_how_to_begin(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["ls", "--artifacts", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (0, "")
    assert "frz demo" in result.stderr
    assert json.loads(CliRunner().invoke(app, ["ls", "--artifacts", str(tmp_path), "--json"]).stdout) == []
