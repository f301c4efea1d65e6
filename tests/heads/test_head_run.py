"""Stage-2 runs: of exactly the features asked for, and without any backbone in the process."""

import json
import re
import shutil
import signal

import numpy as np
import pytest

from conftest import TINY_BACKBONE, TINY_HEAD, tiny_recipe
from frz import artifacts as names
from frz import progress
from frz.data.add import add
from frz.data.build import build
from frz.errors import CheckpointError, ConfigError, IdentityError, TrainingError
from frz.extract.run import extract
from frz.heads import run as heads_run
from frz.heads.contract import Head
from frz.heads.prefix import prepare
from frz.heads.regression import RegressionHead
from frz.heads.run import load_head, predict, score, train
from frz.inventory import listing
from frz.loading.balance import classes_of, draw_epoch
from frz.loading.order import STRETCHES, shuffle_quality
from frz.pretrain import train as train_backbone
from frz.store import EventStore
from frz.training import checkpoint


@pytest.fixture
def mine(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "artifacts")


def test_no_backbone_is_imported_by_a_head_run(fresh_python, tiny, tmp_path):
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    code = f"""
import json, sys
from pathlib import Path
from frz.heads.run import train
values = json.loads({json.dumps(json.dumps({**TINY_HEAD, "name": "alone"}))})
train(values, Path({str(artifacts)!r}))
assert not [name for name in sys.modules if name.startswith("frz.backbones")], sorted(sys.modules)
"""
    done = fresh_python("-c", code)
    assert done.returncode == 0, done.stderr


def test_a_finished_run_is_reported_with_metrics_beside_the_yardstick(tiny):
    card = train(TINY_HEAD, tiny)
    assert card["finished"]
    assert card["status"] == "finished before: nothing to do"
    assert card["next"] == f"frz evaluate tiny@{names.head('tiny', tiny).path.name}"
    assert set(card["epoch_metrics"]) == {"best", "last"}
    for split in ("val", "test"):
        metrics = card["metrics"][split]
        assert set(metrics) == {"head", "training_mean"}
        assert metrics["head"]["slots"] == metrics["training_mean"]["slots"] > 0
        assert 0 <= metrics["head"]["q/accuracy"] <= 1


def test_a_metric_of_the_head_decides_which_weights_are_best(mine):
    """Measured on the validation split with the averaged weights, as `evaluate` would: the values agree."""
    trainer = {**TINY_HEAD["trainer"], "monitor": "val/pt/rmse", "ema_decay": 0.9, "max_epochs": 3, "save_top_k": 2}
    card = train({**TINY_HEAD, "name": "by-pt", "trainer": trainer}, mine)
    run = names.head("by-pt", mine).path
    values = [json.loads(line)["val/pt/rmse"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert card["epoch_metrics"]["best"]["val/pt/rmse"] == min(values)
    assert card["metrics"]["val"]["head"]["pt/rmse"] == pytest.approx(min(values), rel=1e-6)
    assert (card["score"], card["monitor"], card["monitor_mode"]) == (min(values), "val/pt/rmse", "min")
    kept = sorted(path.name for path in run.glob("top-*"))
    assert len(kept) == 2
    head, _ = load_head(f"by-pt/{run.name}/{kept[0]}", mine)
    assert isinstance(head, Head)


@pytest.mark.parametrize("mode", ["auto", "min"])
def test_a_refused_run_leaves_no_folder(mine, mode):
    trainer = {**TINY_HEAD["trainer"], "monitor": "val/pt/rmes", "monitor_mode": mode}
    wanted = r"monitor = val/pt/rmes: no such metric; did you mean 'val/pt/rmse'\?"
    for name in ("tiny", "other"):
        with pytest.raises(TrainingError, match=wanted):
            train({**TINY_HEAD, "name": name, "trainer": trainer}, mine)
    assert [path.name for path in names.entries(mine, "heads")] == ["tiny"]
    assert [row["state"] for row in listing(mine) if row["kind"] == "heads"] == ["finished"]


def test_a_run_that_was_there_before_it_is_refused_stays(mine, monkeypatch):
    fit = heads_run.fit
    monkeypatch.setattr(heads_run, "fit", None)
    with pytest.raises(TypeError):  # as if killed, before anything was saved
        train({**TINY_HEAD, "name": "other"}, mine)
    monkeypatch.setattr(heads_run, "fit", fit)
    monkeypatch.setattr("frz.loading.residency.free_memory", lambda: 1)
    with pytest.raises(TrainingError, match="do not fit"):
        train({**TINY_HEAD, "name": "other"}, mine)
    assert [row["state"] for row in listing(mine) if row["name"].startswith("other")] == ["unfinished"]


def test_a_new_run_says_what_differs_from_the_last(mine, capsys):
    progress.show("lines")
    train({**TINY_HEAD, "trainer": {**TINY_HEAD["trainer"], "lr": 0.002, "max_epochs": 1}}, mine)
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "is a new run of tiny" in line]
    before = names.runs(mine / "heads/tiny")[0].name
    assert told.endswith(f"since tiny@{before}: trainer.lr 0.001 -> 0.002, trainer.max_epochs 2 -> 1")


def test_metrics_follow_from_the_predictions(tiny):
    head, about = load_head("tiny", tiny)
    store = EventStore(about["features"]["store"], about["features"]["version"])
    table = prepare(head, store)
    positions = store.split("test")
    made = predict(head, table, positions)
    truth = table.events(positions)
    residual = (made["slot/eta"] - truth["slot/target"][:, 0])[truth["slot/counts"]]
    card = names.card(names.head("tiny", tiny).path)
    np.testing.assert_allclose(card["metrics"]["test"]["head"]["eta/rmse"], np.sqrt(np.mean(residual**2)), rtol=1e-5)


def test_some_events_are_prepared_as_all_are(tiny, monkeypatch):
    monkeypatch.setattr("frz.heads.prefix.PREPARE_EVENTS", 50)
    head, about = load_head("tiny", tiny)
    store = EventStore(about["features"]["store"], about["features"]["version"])
    positions = store.split("train")[::-1]
    some, whole = prepare(head, store, positions), prepare(head, store).events(positions)
    assert some.arrays.keys() == whole.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(some.array(name), values)


LOADING = {"block": 16, "shuffle_blocks": 4}
MODES = ["device", "ram", "mapped"]


def weights_of(artifacts, card):
    tensors, meta = checkpoint.load(artifacts / "heads" / card["path"].rpartition("heads/")[2] / "last.safetensors")
    return tensors, meta["metrics"]


def assert_same_run(artifacts, one, other):
    (ours, line), (theirs, expected) = weights_of(artifacts, one), weights_of(artifacts, other)
    assert line == expected
    assert all(ours[name].equal(theirs[name]) for name in theirs)
    assert one["metrics"] == other["metrics"]


def test_where_events_lie_changes_no_bit(mine):
    cards = [train({**TINY_HEAD, "name": mode, "loading": {**LOADING, "residency": mode}}, mine) for mode in MODES]
    assert [card["residency"]["mode"] for card in cards] == MODES
    assert cards[0]["epochs"] == 2
    for card in cards[1:]:
        assert_same_run(mine, card, cards[0])
    other = train({**TINY_HEAD, "name": "other", "loading": {**LOADING, "block": 8}}, mine)
    assert weights_of(mine, other)[1] != weights_of(mine, cards[0])[1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("call", [2, 9])
def test_an_interrupted_epoch_goes_on_in_every_mode(mine, monkeypatch, mode, call):
    """And with events that lie elsewhere than before."""
    whole = train({**TINY_HEAD, "name": "whole", "loading": LOADING}, mine)
    calls, loss = [], RegressionHead.loss

    def interrupted(self, batch):
        calls.append(len(calls))
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return loss(self, batch)

    monkeypatch.setattr(RegressionHead, "loss", interrupted)
    values = {**TINY_HEAD, "name": "broken", "loading": {**LOADING, "residency": mode}}
    with pytest.raises(KeyboardInterrupt):
        train(values, mine)
    done = train({**values, "loading": {**LOADING, "residency": MODES[MODES.index(mode) - 1]}}, mine)
    assert done["status"].startswith("resumed after")
    assert_same_run(mine, done, whole)


def test_the_order_is_part_of_a_run_and_where_events_lie_is_not(mine):
    first = train({**TINY_HEAD, "name": "h", "loading": {"residency": "ram"}}, mine)
    again = train({**TINY_HEAD, "name": "h", "loading": {"residency": "mapped", "prefix": "store"}}, mine)
    assert again["status"] == "finished before: nothing to do"
    assert again["path"] == first["path"]
    assert train({**TINY_HEAD, "name": "h", "loading": {"block": 64}}, mine)["path"] != first["path"]


def test_the_window_of_the_first_stage_makes_no_other_head(mine):
    first = train({**TINY_HEAD, "name": "h"}, mine)
    again = train({**TINY_HEAD, "name": "h", "trainer": {**TINY_HEAD["trainer"], "window": 3}}, mine)
    assert (again["status"], again["path"]) == ("finished before: nothing to do", first["path"])


def test_a_run_says_how_well_it_shuffles(mine, capsys):
    progress.show("lines")
    card = train({**TINY_HEAD, "name": "h", "loading": {"block": 64, "shuffle_blocks": 1, "prefix": "memory"}}, mine)
    progress.show("none")
    said = capsys.readouterr().err
    assert 0 < card["shuffle"]["place in the data set"] < 0.95
    assert "residency: ram; takes" in said
    assert re.search(r"shuffle: batch entropy 0\.\d\d by place in the data set .*loading.block=\d+", said)


def test_a_backbone_trained_anew_makes_the_old_features_stale(mine, capsys):
    newer = {**TINY_BACKBONE, "trainer": {**TINY_BACKBONE["trainer"], "seed": 5}}
    fresh = train_backbone(newer, mine)
    old = names.features("tiny", mine).path
    with pytest.raises(IdentityError, match="run 'frz extract --ckpt tiny'"):
        train({**TINY_HEAD, "name": "h"}, mine)
    progress.show("lines")
    asked = {**TINY_HEAD, "name": "h", "features": {"backbone": "gone", "data": "nowhere"}}
    assert train(asked, mine, features=str(old))["finished"]  # by name, whatever the config asks for
    assert f"backbone 'tiny' has {fresh['fingerprint'][:12]} by now" in capsys.readouterr().err
    runs = [run.name for run in names.runs(mine / "backbones/tiny")]
    first = next(r for r in runs if r not in fresh["path"])
    named = {**TINY_HEAD, "name": "h", "features": {"backbone": f"tiny@{first}", "data": "tiny"}}
    assert train(named, mine)["finished"]


def test_features_of_another_data_set_are_refused(mine):
    asked = {**TINY_HEAD, "name": "h", "features": {"backbone": "tiny", "data": "muon"}}
    with pytest.raises(IdentityError, match="holds features of tiny@1, the head asks for muon"):
        train(asked, mine)
    asked["features"] = {"backbone": "tiny", "data": "tiny@2"}
    with pytest.raises(IdentityError, match="tiny@1.*tiny@2"):
        train(asked, mine)


def test_a_feature_store_stands_alone(mine):
    shutil.rmtree(mine / "backbones")
    shutil.rmtree(mine / "datasets")
    assert train({**TINY_HEAD, "name": "h"}, mine)["finished"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "regresion"}, "did you mean 'regression'"),
        ({"model": {"dropuot": 0.1}}, "did you mean 'dropout'"),
        ({"model": {"dim": 9}}, "dim"),
        ({"model": {"fields": ["etta"]}}, "eta"),
    ],
)
def test_mistakes_are_one_line(tiny, change, message):
    with pytest.raises(ConfigError, match=message) as caught:
        train({**TINY_HEAD, **change}, tiny)
    assert "\n" not in str(caught.value)


def test_the_checkpoint_of_a_backbone_is_no_head(tiny):
    with pytest.raises(CheckpointError, match="not the checkpoint of a head"):
        load_head(str(names.weights("tiny", tiny)), tiny)


def test_balanced_training_sees_the_draws_and_validation_does_not(mine, monkeypatch):
    """Of both stages: sources are caught on their way to the loop."""
    caught = []

    class Caught(Exception):
        pass

    def catch(module, train_events, val_events, *arguments, **keywords):
        caught.append((train_events, val_events))
        raise Caught

    def measure(labels, *arguments):
        shuffled.append(labels)
        return shuffle_quality(labels, *arguments)

    shuffled = []
    monkeypatch.setattr("frz.heads.run.shuffle_quality", measure)
    balance = {"by": "track/parameters", "column": "q", "mode": "sqrt"}
    for path, run, values in (("heads.run", train, TINY_HEAD), ("pretrain", train_backbone, TINY_BACKBONE)):
        monkeypatch.setattr(f"frz.{path}.fit", catch)
        with pytest.raises(Caught):
            run({**values, "trainer": {**values["trainer"], "balance": balance, "data_seed": 4}}, mine)
    for store, (train_events, val_events) in zip(
        (EventStore(names.features("tiny", mine).path), EventStore(mine / "datasets/tiny")), caught, strict=True
    ):
        split = store.split("train")
        classes = classes_of(store, "track/parameters", "q", split)
        expected = split[draw_epoch(classes, "sqrt", seed=4, epoch=2)]
        assert len(np.unique(expected)) < len(expected)
        assert sorted(np.concatenate(train_events.plan(2)).tolist()) == expected.tolist()
        assert sorted(np.concatenate(val_events.plan(0)).tolist()) == store.split("val").tolist()
    (measured,) = shuffled
    store = EventStore(names.features("tiny", mine).path)
    split = store.split("train")
    drawn = split[draw_epoch(classes_of(store, "track/parameters", "q", split), "sqrt", seed=4, epoch=0)]
    assert measured["place in the data set"].tolist() == (drawn * STRETCHES // store.n_events).tolist()
    with pytest.raises(ConfigError, match=r"trainer.balance: there is no array 'event/charge'"):
        train({**TINY_HEAD, "trainer": {**TINY_HEAD["trainer"], "balance": {"by": "event/charge"}}}, mine)


@pytest.mark.parametrize("head", ["pooled", "linear-classifier", "mlp-classifier", "attention"])
def test_other_heads_train_and_are_found_again(head, mine):
    config = {**TINY_HEAD, "name": "other", "head": head, "model": {"assignment_threshold": 0.4}}
    card = train(config, mine)
    loaded, about = load_head("other", mine)
    store = EventStore(about["features"]["store"], about["features"]["version"])
    again = score(loaded, prepare(loaded, store), store.split("test"))
    assert again == card["metrics"]["test"]
    assert again["head"]["slots"] > 0


def test_labels_added_to_events_are_classified(mine, tmp_path):
    store = EventStore(names.dataset("tiny", mine).path)
    events = store.range(0, store.n_events)
    rows = ["id,busy", *(f"{i},{int(n > 1)}" for i, n in zip(events["event/id"], store.lengths("track"), strict=True))]
    (tmp_path / "labels.csv").write_text("\n".join(rows[:-5]))  # five events have none
    add("tiny", tmp_path / "labels.csv", mine)
    extract("tiny", mine, data="tiny@2", settings={"dtype": "float32"})
    model = {"rows": "event", "target": "event/busy", "field": "busy", "inputs": ["hit/embedding", "query/embedding"]}
    features = {"backbone": "tiny", "data": "tiny@2"}
    card = train({**TINY_HEAD, "name": "busy", "head": "mlp-classifier", "features": features, "model": model}, mine)
    loaded, _ = load_head("busy", mine)
    table = prepare(loaded, EventStore(names.features("tiny", mine).path))
    assert (~table.array("event/counts")).sum() == 5
    assert 0 <= card["metrics"]["test"]["head"]["busy/auc"] <= 1
    assert card["metrics"]["test"]["training_mean"]["busy/auc"] == 0.5


def test_newer_data_than_the_features_are_told(tiny, tmp_path, capsys):
    artifacts = shutil.copytree(tiny, tmp_path / "artifacts")
    build(tiny_recipe(340), artifacts)
    progress.show("lines")
    train({**TINY_HEAD, "name": "again"}, artifacts)
    told = "the features are of tiny@1, the data set has version 2; 'frz extract --ckpt tiny' adds what is new"
    assert told in capsys.readouterr().err
    train({**TINY_HEAD, "name": "fixed", "features": {"backbone": "tiny", "data": "tiny@1"}}, artifacts)
    assert "the data set has version" not in capsys.readouterr().err
    with pytest.raises(IdentityError, match="run 'frz extract --ckpt tiny --data tiny@2'"):
        train({**TINY_HEAD, "features": {"backbone": "tiny", "data": "tiny@2"}}, artifacts)
