"""Heads side by side: their own numbers, what differs, and a best only where the paired interval says so."""

import json
import shutil

import numpy as np
import pytest

from conftest import TINY_HEAD, tiny_recipe
from frz import artifacts as names
from frz import progress
from frz.data.build import build
from frz.errors import CheckpointError, ConfigError
from frz.evaluation.compare import _ranked, _Watched, compare
from frz.extract.run import extract
from frz.heads.prefix import prepare
from frz.heads.run import load_head, score, train
from frz.store import EventStore
from frz.training.checkpoint import load


@pytest.fixture(scope="module")
def two(tiny, tmp_path_factory):
    """The tiny artifacts with a second head."""
    artifacts = shutil.copytree(tiny, tmp_path_factory.mktemp("two") / "artifacts")
    trainer = TINY_HEAD["trainer"] | {"seed": 1, "max_epochs": 3}
    train({**TINY_HEAD, "name": "other", "trainer": trainer}, artifacts)
    return artifacts


@pytest.fixture(scope="module")
def found(two):
    return compare(["tiny", "heads/other"], two, n=25)


def labels_of(found):
    return list(found["heads"])


def test_the_values_are_those_of_the_cards(found, two):
    for head, label in zip(("tiny", "other"), labels_of(found), strict=True):
        metrics = names.card(names.head(head, two).path)["metrics"]["test"]["head"]
        assert set(found["metrics"]) == set(metrics)
        for name, value in metrics.items():
            assert found["metrics"][name]["heads"][label]["value"] == pytest.approx(value, rel=1e-5, abs=1e-6)
    json.dumps(found)


def test_intervals_hold_what_they_are_of(found):
    (label, *_) = labels_of(found)
    width = found["metrics"]["eta/rmse"]["heads"][label]
    assert width["low"] < width["value"] < width["high"]


def test_what_differs_is_named_and_what_is_equal_is_not(found):
    one, other = labels_of(found)
    assert found["config"] == {"trainer.max_epochs": {one: 2, other: 3}, "trainer.seed": {one: 0, other: 1}}
    assert found["made_from"] == {}
    assert found["heads"][other]["epochs"] == 3
    assert found["heads"][one]["parameters"] == found["heads"][other]["parameters"] > 0
    assert found["heads"][one]["seconds"] > 0


def test_other_splits_can_be_asked_for(two, found):
    everything = compare(["tiny", "other"], two, "all", n=2)
    assert everything["events"] == 320 > found["events"]
    with pytest.raises(ConfigError, match="no split 'dev'"):
        compare(["tiny", "other"], two, "dev")


def test_a_small_difference_on_the_same_events_is_sure_though_the_intervals_overlap():
    common = np.random.default_rng(0).normal(1, 0.1, 200)
    found = _ranked("pt/relative_width", ["a", "b"], np.array([1.0, 1.01]), np.stack([common, common + 0.01]))
    assert found["best"] == "a"
    assert found["heads"]["a"]["high"] > found["heads"]["b"]["low"]
    expected = {"value": 0.01, "low": 0.01, "high": 0.01, "p": 2 / 201}
    assert found["heads"]["b"]["difference"] == pytest.approx(expected)
    assert "difference" not in found["heads"]["a"]


def test_nobody_is_best_where_the_difference_may_be_zero():
    samples = np.random.default_rng(0).normal(1, 0.1, (2, 200))
    found = _ranked("pt/width", ["a", "b"], np.array([1.0, 1.01]), samples)
    assert found["best"] is None
    below = (samples[1] < samples[0]).mean()
    assert found["heads"]["b"]["difference"]["p"] == pytest.approx(2 * min(below, 1 - below), abs=0.01)


def test_the_best_is_better_than_every_other():
    base = np.random.default_rng(0).normal(0.9, 0.01, 200)
    drawn = np.stack([base, base, base - 0.05])
    assert _ranked("q/accuracy", list("abc"), np.array([0.9, 0.9, 0.85]), drawn)["best"] is None
    assert _ranked("q/accuracy", list("abc"), np.array([0.9, 0.89, 0.85]), drawn - [[0], [0.01], [0]])["best"] == "a"


@pytest.mark.parametrize(
    ("name", "best"),
    [("q/auc", "b"), ("q/rmse", "c"), ("q/bias", "a"), ("pt/pull_width", "b"), ("slots", None), ("pt/coverage", None)],
)
def test_each_metric_has_its_better_side(name, best):
    drawn = np.array([[0.1], [0.8], [-0.7]]) + np.linspace(-1e-3, 1e-3, 50)
    assert _ranked(name, list("abc"), drawn.mean(1), drawn)["best"] == best


def test_a_calibration_error_has_the_interval_that_evaluate_gives_it():
    """Drawn samples are off by more than the events they are drawn from: mirrored, for one head and for two."""
    drawn = np.stack([np.linspace(0.06, 0.10, 101), np.linspace(0.05, 0.07, 101)])
    values = np.array([0.06, 0.04])
    found = _ranked("label/ece", ["a", "b"], values, drawn)["heads"]
    low, high = np.quantile(drawn[0], [(1 - 0.683) / 2, (1 + 0.683) / 2])
    assert (found["a"]["low"], found["a"]["high"]) == pytest.approx((0.12 - high, 0.12 - low))
    assert found["b"]["low"] >= 0
    between = found["a"]["difference"]
    least, most = np.quantile(drawn[0] - drawn[1], [0.025, 0.975])
    assert (between["low"], between["high"]) == pytest.approx((0.04 - most, 0.04 - least))


def test_a_metric_that_is_not_finite_has_no_interval_and_no_best():
    drawn = np.array([[np.nan, 1.0], [2.0, 2.0]])
    found = _ranked("pt/width", ["a", "b"], np.array([1.0, 2.0]), drawn)
    assert found["best"] is None
    assert found["heads"]["a"] == {"value": 1.0, "low": None, "high": None}


def test_every_way_of_looking_at_an_array_is_noted():
    arrays = {"slot/target": np.zeros(2), "hit/embedding": np.ones(2)}
    ways = (
        (lambda w: w["slot/target"], {"slot/target"}),
        (lambda w: w.get("slot/target"), {"slot/target"}),
        (lambda w: "slot/target" in w, {"slot/target"}),
        (lambda w: list(w.items()), set(arrays)),
        (lambda w: list(w.values()), set(arrays)),
        (lambda w: {**w}, set(arrays)),
        (lambda w: w | {}, set(arrays)),
    )
    for look, seen in ways:
        watched = _Watched(arrays)
        look(watched)
        assert watched.seen == seen
    assert _Watched(arrays).get("slot/valid") is None


def test_one_head_is_not_compared_with_itself(tiny):
    run = names.head("tiny", tiny).path.name
    with pytest.raises(ConfigError, match=f"only tiny@{run} to compare"):
        compare(["tiny", f"tiny@{run}"], tiny)


def test_the_weights_that_are_named_are_compared(two):
    """The last ones of a run beside its best, which are others: it went on after its best epoch."""
    path = names.head("other", two).path
    run, state = f"other@{path.name}", load(path / "last.safetensors")
    found = compare(["other", f"other/{path.name}/last.safetensors"], two, n=2)
    assert list(found["heads"]) == [run, f"{run}/last"]
    assert found["heads"][f"{run}/last"]["score"] == state[1]["metrics"]["val/loss"]
    head, about = load_head(str(path / "last.safetensors"), two)
    store = EventStore(about["features"]["store"], about["features"]["version"])
    expected = score(head, prepare(head, store), store.split("test"))["head"]["eta/rmse"]
    assert found["metrics"]["eta/rmse"]["heads"][f"{run}/last"]["value"] == pytest.approx(expected, rel=1e-5)


def test_an_unfinished_run_is_refused(two, tmp_path):
    artifacts = shutil.copytree(two, tmp_path / "artifacts")
    run = names.head("other", artifacts).path
    (run / "card.json").write_text('{"finished": false}')
    with pytest.raises(CheckpointError, match="not finished"):
        compare(["tiny", f"other@{run.name}"], artifacts)


def test_heads_that_measure_other_things_are_not_compared(two, tmp_path, project, monkeypatch):
    monkeypatch.syspath_prepend(project / "tests/heads")
    artifacts = shutil.copytree(two, tmp_path / "artifacts")
    train({**TINY_HEAD, "name": "mean", "head": "user_head:MeanHitHead", "model": {}}, artifacts)
    train({**TINY_HEAD, "name": "eta", "model": {"fields": ["eta"]}}, artifacts)
    with pytest.raises(ConfigError, match="no metric in common: mean@.* has pt/rmse; eta@.* has slots"):
        compare(["mean", "eta"], artifacts)


def test_heads_that_were_tested_on_other_events_are_not_compared(two, tmp_path):
    artifacts = shutil.copytree(two, tmp_path / "artifacts")
    build(tiny_recipe(400), artifacts)
    extract("tiny", artifacts, settings={"dtype": "float32"})
    train({**TINY_HEAD, "name": "more"}, artifacts)
    with pytest.raises(ConfigError, match="tiny@.* and more@.* have other events in 'test'"):
        compare(["tiny", "more"], artifacts)


def test_what_not_all_heads_have_is_named(two, tmp_path, capsys):
    mine = shutil.copytree(two, tmp_path / "artifacts")
    fewer = {"fields": ["eta", "phi"], "assignment_threshold": 0.4}
    train({**TINY_HEAD, "name": "fewer", "model": fewer}, mine)
    progress.show("lines")
    metrics = compare(["tiny", "fewer"], mine, n=2)["metrics"]
    assert "eta/width" in metrics
    assert "pt/width" not in metrics
    assert "not compared, because not all heads have them: pt/" in capsys.readouterr().err


def test_a_count_has_no_interval():
    found = _ranked("events", ["a", "b"], np.array([201.0, 201.0]), np.full((2, 50), 201.0))
    assert found["heads"]["a"] == {"value": 201.0, "low": None, "high": None}
