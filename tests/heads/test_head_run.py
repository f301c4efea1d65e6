"""Stage-2 runs: of exactly the features asked for, and without any backbone in the process."""

import json
import shutil

import numpy as np
import pytest

from conftest import TINY_BACKBONE, TINY_HEAD
from frz import artifacts as names
from frz.errors import CheckpointError, ConfigError, IdentityError
from frz.heads.prefix import prepare
from frz.heads.run import load_head, predict, train
from frz.pretrain import train as train_backbone
from frz.store import EventStore


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


def test_a_backbone_trained_anew_makes_the_old_features_stale(mine):
    newer = {**TINY_BACKBONE, "trainer": {**TINY_BACKBONE["trainer"], "seed": 5}}
    fresh = train_backbone(newer, mine)
    old = names.features("tiny", mine).path
    with pytest.raises(IdentityError, match="run 'frz extract --ckpt tiny'"):
        train({**TINY_HEAD, "name": "h"}, mine)
    with pytest.raises(IdentityError, match=fresh["fingerprint"][:12]):
        train({**TINY_HEAD, "name": "h"}, mine, features=str(old))
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
