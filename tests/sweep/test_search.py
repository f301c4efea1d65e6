"""Adaptive search: batches of points from optuna, trained together, gone on with."""

import shutil

import pytest

from conftest import TINY_HEAD
from frz.errors import ConfigError
from frz.sweep.run import sweep

BASE = {**TINY_HEAD, "model": {"hit_nets": []}}
OVER = {
    "trainer.lr": {"log": [1e-5, 1e-1]},
    "model.dropout": {"uniform": [0, 0.5]},
    "trainer.schedule": ["none", "cosine"],
}


@pytest.fixture
def mine(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "artifacts")


def search(artifacts, **settings):
    values = {"name": "try", "base": BASE, "over": OVER, "search": "optuna", "trials": 8, "batch": 4, **settings}
    return sweep(values, artifacts, "sweep.yaml")


def test_a_search_trains_batches_and_keeps_its_study(mine):
    pytest.importorskip("optuna", reason="the search needs optuna: pip install 'frz[search]'")
    found = search(mine)
    assert found["heads_trained"] == len(found["heads"]) == 8
    assert found["largest_stack"] == 4
    assert len({row["lr"] for row in found["heads"]}) == 8
    assert (mine / "sweeps/try/study.log").is_file()
    again = search(mine)
    assert [row["score"] for row in again["heads"]] == [row["score"] for row in found["heads"]]
    more = search(mine, trials=12)
    assert more["heads_trained"] == 12
    assert {row["name"] for row in found["heads"]} < {row["name"] for row in more["heads"]}


def test_a_search_that_was_killed_goes_on(mine, monkeypatch):
    pytest.importorskip("optuna", reason="the search needs optuna: pip install 'frz[search]'")
    from frz.sweep import run

    train, calls = run.train_pass, []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(run, "train_pass", killed)
        with pytest.raises(KeyboardInterrupt):
            search(mine)
    assert search(mine)["heads_trained"] == 8


def test_points_that_failed_count_when_a_search_goes_on(mine):
    pytest.importorskip("optuna", reason="the search needs optuna: pip install 'frz[search]'")
    over = {"trainer.lr": {"log": [1e20, 1e30]}}
    found = search(mine, over=over, trials=3, batch=3)
    assert (found["heads_trained"], found["heads_failed"]) == (0, 3)
    again = search(mine, over=over, trials=3, batch=3)
    assert [row["name"] for row in again["heads"]] == [row["name"] for row in found["heads"]]


def test_without_optuna_the_extra_is_named(mine, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"frz\[search\]"):
        search(mine)
