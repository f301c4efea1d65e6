from typing import Any

import numpy as np
import pytest
import torch
from feature_events import feature_events, feature_schema
from stay_events import N_STATIC, D, stay_events, stay_schema

from frz.config import parse
from frz.errors import ConfigError, TrainingError
from frz.heads.classifier import ClassifierConfig, ClassifierHead
from frz.heads.descriptors import Descriptors
from frz.heads.pooled import PooledConfig, PooledHead
from frz.loading.batch import to_batch
from frz.store.schema import Array, Schema
from frz.store.table import EventTable


def build(**config: Any) -> ClassifierHead:
    torch.manual_seed(0)
    config = {
        "rows": "event",
        "target": "event/label",
        "field": "label",
        "inputs": ["event/pooled_fast"],
        "descriptors": ["event/static"],
        **config,
    }
    return ClassifierHead(parse(ClassifierConfig, config, "test"), stay_schema()).eval()


def test_known_values_are_standardised_with_what_is_known_and_unknown_ones_flagged():
    events = stay_events(sets=(1,) * 40)
    head = build()
    prepared = head.prepare(events)
    raw = events["event/static"]
    np.testing.assert_array_equal(prepared["event/descriptors"], raw)
    head.fit([{name: v[a:b] if "event/" in name else v for name, v in prepared.items()} for a, b in ((0, 7), (7, 40))])
    seen = head.descriptors(torch.from_numpy(prepared["event/descriptors"])).detach().numpy()
    expected = (raw - np.nanmean(raw, 0)) / np.nanstd(raw, 0)
    np.testing.assert_allclose(seen[:, :N_STATIC], np.nan_to_num(expected), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(seen[:, N_STATIC:], ~np.isnan(raw))
    assert head.net[0].in_features == D + 2 * N_STATIC


def test_a_column_that_nobody_knows_says_nothing():
    descriptors = Descriptors(["event/static"], stay_schema())
    values = np.full((4, N_STATIC), np.nan, np.float32)
    values[:, 0] = [1, 2, 3, 4]
    descriptors.standard.look(values)
    descriptors.standard.settle()
    seen = descriptors(torch.from_numpy(values))
    assert torch.isfinite(seen).all()
    assert seen[:, 1:N_STATIC].abs().sum() == 0
    assert seen[:, N_STATIC:].tolist() == [[1, 0, 0]] * 4


def test_names_of_columns_and_arrays_without_columns():
    schema = stay_schema()
    more = {"event/age": Array(dtype="int16"), "event/pair": Array(dtype="float32", shape=(2,))}
    schema = Schema(axes=schema.axes, arrays=schema.arrays | more)
    descriptors = Descriptors(["event/pair", "event/age", "event/static"], schema)
    assert descriptors.columns == ("pair_0", "pair_1", "age", "age", "gender", "weight")
    events = stay_events() | {"event/age": np.arange(6, dtype=np.int16), "event/pair": np.ones((6, 2), np.float32)}
    found = descriptors.values(events, np.array([4, 1]))
    assert found[:, :3].tolist() == [[1, 1, 4], [1, 1, 1]]
    assert descriptors.values(events, np.zeros(0, np.int64)).shape == (0, 6)


def test_the_truth_is_no_input():
    with pytest.raises(ConfigError, match="inputs: event/label is truth; leave it out"):
        build(inputs=["event/pooled_fast", "event/label"])


def test_what_may_be_unknown_is_no_input():
    events, head = stay_events(sets=(1,) * 40), build(inputs=["event/static"], descriptors=[])
    store, table = EventTable(stay_schema(), events), EventTable(head.prepared, head.prepare(events))
    bad = int(np.isnan(events["event/static"]).any(1).sum())
    with pytest.raises(TrainingError, match=f"event/static hold NaN in {bad} of 40 events .* go to descriptors"):
        head.check(store, table, {"train": np.arange(40)})


def test_slots_are_told_what_describes_their_event():
    schema, events = feature_schema(), feature_events()
    load = Array(dtype="float32", role="meta")
    schema = Schema(axes=schema.axes, arrays=schema.arrays | {"event/load": load})
    events["event/load"] = np.arange(6, dtype=np.float32)
    head = PooledHead(parse(PooledConfig, {"descriptors": ["event/load"]}, "test"), schema)
    prepared = head.prepare(events)
    event = np.repeat(np.arange(6), np.diff(prepared["slot/offsets"]))
    np.testing.assert_array_equal(prepared["slot/descriptors"][:, 0], event)
    head.fit([prepared])
    loss, _ = head.loss(to_batch(prepared, head.prepared))
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["event/statics"], r"descriptors: the features hold no array 'event/statics'; did you mean 'event/static'"),
        (["set/mu"], r"set/mu does not hold one row of numbers per event; take arrays event/..."),
        (["event/label"], r"event/label is truth; leave it out: it gives the answer"),
    ],
)
def test_bad_descriptors_are_named(names, message):
    with pytest.raises(ConfigError, match=message):
        build(descriptors=names)
