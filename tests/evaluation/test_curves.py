"""Learning curves in the folder of a run."""

import json
import shutil
import sys

import pytest
import yaml
from matplotlib.image import imread

from frz import artifacts as names
from frz.evaluation.curves import draw, figure
from frz.training.history import history, kept


@pytest.fixture
def run(tiny, tmp_path):
    return shutil.copytree(names.head("tiny", tiny).path, tmp_path / "run")


def test_a_run_gets_a_picture(run):
    file = draw(run)
    assert file == run / "curves.png"
    picture = imread(file)
    assert (picture[..., 3] == 1).all()  # can be read on a dark page
    assert picture.std() > 0


def test_equal_runs_give_equal_pictures(run):
    first = draw(run).read_bytes()
    assert draw(run).read_bytes() == first


def test_the_metric_that_decided_is_drawn(run):
    assert len(figure(run).axes) == 3
    lines = [line | {"val/q/auc": 0.5} for line in history(run)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"]["monitor"] = "val/q/auc"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert [axes.get_ylabel() for axes in figure(run).axes] == ["loss", "parts, validation", "metric", "learning rate"]


def test_a_run_without_metrics_and_a_machine_without_matplotlib_draw_nothing(run, tmp_path, monkeypatch):
    assert draw(tmp_path) is None
    monkeypatch.setitem(sys.modules, "frz.evaluation.plots", None)  # as if importing it failed
    monkeypatch.delattr("frz.evaluation.plots", raising=False)
    assert draw(run) is None
    assert not (run / "curves.png").exists()


def test_the_card_says_which_epoch_was_kept(run, tmp_path):
    lines = history(run)
    assert kept(run, lines) == names.card(run)["epoch_metrics"]["best"]["epoch"]
    assert kept(run, lines, "last") == lines[-1]["epoch"]
    unfinished = [{"epoch": 0.5, "val/loss": 1.0}, {"epoch": 1, "val/loss": 2.0}]
    assert kept(tmp_path, unfinished) == 0.5
    ranked = [line | {"val/auc": line["epoch"]} for line in unfinished]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"trainer": {"monitor": "val/auc", "lr": 0.1}}))
    assert kept(tmp_path, ranked) == 1
    assert kept(tmp_path, [{"epoch": 0.5, "train/loss": 2.0}]) == 0.5
