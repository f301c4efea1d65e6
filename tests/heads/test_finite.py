"""NaN among what a net sees is refused by array and number of events, in whichever split it stands."""

import numpy as np
import pytest
from feature_events import feature_events, feature_schema
from stay_events import stay_events, stay_schema

from frz.config import parse
from frz.errors import TrainingError
from frz.heads.classifier import ClassifierConfig, ClassifierHead
from frz.heads.pooled import PooledConfig, PooledHead
from frz.store.table import EventTable

SPLITS = {"train": np.array([0, 1]), "val": np.array([2]), "test": np.array([5, 4, 3])}


def refused(head, schema, events):
    store, table = EventTable(schema, events), EventTable(head.prepared, head.prepare(events))
    head.check(store, table, {"train": SPLITS["train"]})
    with pytest.raises(TrainingError) as caught:
        head.check(store, table, SPLITS)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_array_that_holds_it_is_named_and_others_are_not():
    model = {"rows": "event", "target": "event/label", "field": "label", "descriptors": ["event/static"]}
    config = parse(ClassifierConfig, {**model, "inputs": ["event/pooled_fast", "set/mu"]}, "test")
    events = stay_events()
    events["set/mu"][events["set/offsets"][[3, 5]]] = np.nan  # of one set in each of two stays
    told = refused(ClassifierHead(config, stay_schema()), stay_schema(), events)
    assert told.startswith("inputs: set/mu hold NaN in 2 of 3 events of 'test'; take them out of the inputs")


def test_hits_of_slots_are_counted_by_event():
    schema, events = feature_schema(), feature_events()
    head = PooledHead(parse(PooledConfig, {}, "test"), schema)
    events["hit/embedding"][events["hit/offsets"][4] : events["hit/offsets"][5]] = np.nan
    told = refused(head, schema, events)
    assert told.startswith("inputs: hit/embedding hold NaN in 1 of 3 events of 'test'; ")
