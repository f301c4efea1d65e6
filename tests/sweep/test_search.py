"""Adaptive search: batches of points from optuna, trained together, gone on with."""

import pkgutil
import shutil

import pytest

from conftest import TINY_HEAD
from frz.errors import ConfigError
from frz.sweep import run as sweep_run
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


@pytest.fixture(scope="module")
def unbroken(tiny, tmp_path_factory):
    pytest.importorskip("optuna", reason="the search needs optuna: pip install 'frz[search]'")
    return search(shutil.copytree(tiny, tmp_path_factory.mktemp("unbroken") / "artifacts"), trials=12)


@pytest.mark.parametrize(
    ("what", "call"),
    [
        ("frz.sweep.run.train_pass", 2),
        ("frz.sweep.run.keep", 3),  # two of four heads are whole
        ("optuna.Trial.suggest_float", 4),  # of the second point the second number
        ("optuna.Trial.suggest_float", 22),  # the same after ten points, where numbers are no longer random
        ("optuna.Study.tell", 7),
    ],
)
def test_a_search_that_was_killed_trains_the_same_points(mine, unbroken, monkeypatch, what, call):
    calls, original = [], pkgutil.resolve_name(what)

    def killed(*arguments, **more):
        calls.append(arguments)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(what, killed)
        with pytest.raises(KeyboardInterrupt):
            search(mine, trials=12)
    before = {path.parent.name for path in (mine / "heads").glob("try-*/*/best.safetensors")}
    kept, keep = [], sweep_run.keep

    def watched(course, *more):
        kept.append(course.member.name)
        return keep(course, *more)

    monkeypatch.setattr(sweep_run, "keep", watched)
    found = search(mine, trials=12)
    assert {row["name"] for row in found["heads"]} == {row["name"] for row in unbroken["heads"]}
    assert found["heads_trained"] == 12
    assert len(kept) + len(before) == 12  # none twice


def test_the_lock_that_a_killed_search_left_is_not_waited_for(mine, monkeypatch):
    journal = pytest.importorskip(
        "optuna.storages.journal", reason="the search needs optuna: pip install 'frz[search]'"
    )
    first = search(mine, trials=1)
    lock = mine / "sweeps/try/study.log.lock"
    lock.symlink_to("study.log")
    acquire = journal.JournalFileSymlinkLock.acquire

    def watched(self):
        assert not lock.is_symlink()
        return acquire(self)

    monkeypatch.setattr(journal.JournalFileSymlinkLock, "acquire", watched)
    assert search(mine, trials=1)["heads"] == first["heads"]


@pytest.mark.parametrize("over", [{"trainer.lr": OVER["trainer.lr"]}, {**OVER, "trainer.schedule": ["none", "linear"]}])
def test_a_study_over_other_keys_or_choices_is_not_gone_on_with(mine, over):
    pytest.importorskip("optuna", reason="the search needs optuna: pip install 'frz[search]'")
    first = search(mine, trials=1)
    with pytest.raises(ConfigError, match="a search over other keys or choices; give another name"):
        search(mine, trials=1, over=over)
    wider = {**OVER, "trainer.lr": {"log": [1e-6, 1e-1]}}
    assert search(mine, trials=1, over=wider)["heads"] == first["heads"]


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
