"""Features of two nested ragged axes, from a simulated data set to the store."""

import json
import shutil

import numpy as np
import pytest
import torch

from frz import artifacts as names
from frz import progress
from frz.data.build import build
from frz.errors import ConfigError, IdentityError
from frz.evaluation.run import evaluate
from frz.extract.opening import check_inputs, open_both
from frz.extract.run import extract
from frz.loading.batch import to_batch
from frz.pretrain import train
from frz.store import EventStore
from frz.training import checkpoint

BACKBONE = {
    "name": "icu",
    "family": "set_sequence",
    "data": "icu",
    "model": {
        "dim": 16,
        "levels": True,
        "static": True,
        "element_dropout": 0.1,
        "supervised": {"labels": {"event/label": 1.0}},
    },
    "trainer": {"max_epochs": 1, "batch_size": 32, "device": "cpu", "monitor": "val/label", "monitor_mode": "min"},
}


@pytest.fixture(scope="module")
def icu(tmp_path_factory):
    """A data set, a backbone and its features, made once."""
    artifacts = tmp_path_factory.mktemp("icu")
    source = {"kind": "icu_sim", "n_events": 160, "hours": 8, "empty": 0.1}
    build({"name": "icu", "source": source}, artifacts)
    train(BACKBONE, artifacts)
    extract("icu", artifacts)
    return artifacts


def test_features_are_the_forward_pass_of_each_stay(icu):
    frozen, source = open_both(names.weights("icu", icu), icu)
    store = EventStore(*names.features("icu", icu))
    for name in ("event/id", "event/label", "set/minute"):
        np.testing.assert_array_equal(store.array(name), source.array(name))
    np.testing.assert_array_equal(store.array("set/size"), _sizes(source))
    assert (store.lengths("set") == 0).any()
    for event in range(0, 160, 23):
        batch = to_batch(source.events(np.array([event]), frozen.module.inputs), source.schema)
        with torch.inference_mode():
            alone = frozen.module(batch)
        stored = store.events(np.array([event]))
        for name in frozen.module.outputs:
            np.testing.assert_allclose(stored[name], alone[name].numpy(), rtol=1e-4, atol=2e-5, err_msg=name)


def _sizes(source):
    return np.diff(source.events(np.arange(source.n_events), ["element/value"])["element/offsets"])


def test_two_extractions_are_bit_equal(icu, tmp_path):
    again = shutil.copytree(icu, tmp_path / "again")
    shutil.rmtree(again / "features")
    extract("icu", again)
    first, second = (EventStore(*names.features("icu", where)) for where in (icu, again))
    assert first.snapshot.hash == second.snapshot.hash
    for name in first.schema.arrays:
        np.testing.assert_array_equal(first.array(name), second.array(name))


def test_training_tells_of_collapse_and_of_the_label(icu):
    lines = (names.backbone("icu", icu).path / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert {"val/label", "val/active_units", "val/nats", "val/forecast", "val/reconstruction/full"} <= set(last)
    assert 0 <= last["val/active_units"] <= 1


def test_another_vocabulary_is_refused(icu):
    frozen, source = open_both(names.weights("icu", icu), icu)
    spec = source.schema.static["variable/code"]
    turned = spec.model_copy(update={"columns": spec.columns[::-1]})
    schema = source.schema.model_copy(update={"static": {**source.schema.static, "variable/code": turned}})
    with pytest.raises(IdentityError, match="variable/code is .* extract from a data set of the same layout"):
        check_inputs(frozen, schema)


def test_weights_of_another_vocabulary_are_no_start(icu, tmp_path, capsys):
    tensors, meta = checkpoint.load(names.weights("icu", icu))
    vocabulary = meta["backbone"]["event_schema"]["static"]["variable/code"]
    vocabulary["columns"] = vocabulary["columns"][::-1]
    checkpoint.save(tmp_path / "turned.safetensors", tensors, meta)
    progress.show("lines")
    config = BACKBONE | {"name": "warm", "init": str(tmp_path / "turned.safetensors")}
    with pytest.raises(IdentityError, match=r"columns of variable/code were \['WBC', .*init_except"):
        train(config, icu)
    assert not (icu / "backbones/warm").exists()
    assert train(config | {"init_except": ["tokens.", "levels.", "forecast."]}, icu)["finished"]
    assert "warning: columns of variable/code were" in capsys.readouterr().err


def test_a_backbone_of_no_tracks_is_not_measured_by_itself(icu):
    with pytest.raises(ConfigError, match="are of no tracks, so nothing is measured of .*; train a head on them"):
        evaluate("icu", icu)
