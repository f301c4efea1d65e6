"""`frz sweep`: few rows for people, all of it for machines."""

import json
from pathlib import Path
from unittest.mock import create_autospec

import pytest
from typer.testing import CliRunner

import frz.evaluation.sweep_plots as plots
import frz.sweep.run as library
from frz_cli.main import app


@pytest.fixture
def result(monkeypatch, tmp_path):
    heads = [{"name": f"h{i}", "lr": i / 10, "score": i, "val/q/auc": 0.5} for i in range(30)]
    told = {"name": "s", "path": "there/sweeps/s", "points": [{"lr": 0.5, "score": 1.0}] * 30, "heads": heads}
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("name: s")
    monkeypatch.setattr(library, "sweep", create_autospec(library.sweep, side_effect=lambda *given: dict(told)))
    monkeypatch.setattr(plots, "draw", create_autospec(plots.draw, return_value=["sweep.png"]))
    return told


def test_a_sweep_is_told_whole_as_json(result):
    done = CliRunner().invoke(app, ["sweep", "run.yaml", "--features", "muon", "--artifacts", "there", "--json"])
    assert json.loads(done.stdout) == {**result, "plots": ["sweep.png"]}
    library.sweep.assert_called_once_with({"name": "s"}, Path("there"), "run.yaml", "muon")
    plots.draw.assert_called_once_with(Path("there/sweeps/s"))


def test_people_see_the_best_heads_and_what_tells_them_apart(result):
    shown = CliRunner().invoke(app, ["sweep", "run.yaml", "--set", "random=30"]).stdout
    assert library.sweep.call_args.args[0] == {"name": "s", "random": 30}
    assert "h19" in shown
    assert "h20" not in shown
    assert "auc" not in shown


def test_settings_of_a_base_that_is_a_file_can_be_changed(result):
    Path("run.yaml").write_text("name: s\nbase: head.yaml")
    Path("head.yaml").write_text("name: h\nfeatures: {backbone: b, data: d}\ntrainer: {max_epochs: 9}")
    args = ["sweep", "run.yaml", "--set", "base.trainer.max_epochs=2", "--data", "mine@2"]
    assert CliRunner().invoke(app, args).exit_code == 0
    base = {"name": "h", "features": {"backbone": "b", "data": "mine@2"}, "trainer": {"max_epochs": 2}}
    assert library.sweep.call_args.args[0] == {"name": "s", "base": base}


def test_people_see_points_where_there_are_seeds(result):
    result["points"] = result["points"][:10]
    shown = CliRunner().invoke(app, ["sweep", "run.yaml"]).stdout
    assert "points" in shown
    assert "h0" not in shown


@pytest.mark.usefixtures("result")
@pytest.mark.parametrize("command", ["sweep", "train-head"])
def test_a_data_set_beside_features_is_refused(command):
    done = CliRunner().invoke(app, [command, "run.yaml", "--features", "muon", "--data", "mine"])
    assert done.exit_code == 2
    assert "--data: the features say of which data they are; leave it out" in done.stderr
