"""A new version of a data set runs what changed in it, and what it says is what a fresh extraction would say."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frz import artifacts as names
from frz.extract import plan as planning
from frz.extract.run import extract
from frz.store import EventStore, EventTable, ragged, snapshot
from frz.store.catalogue import Catalogue, entry
from frz.store.keys import content_digest, event_keys
from frz.store.part import write_part
from frz.store.schema import KEY, Array

FP32 = {"dtype": "float32"}
PART = 16


@pytest.fixture
def mine(tiny, tmp_path):
    """A copy of the tiny artifacts that a test may change."""
    return shutil.copytree(tiny, tmp_path / "artifacts")


def commit(artifacts, arrays, schema=None, part=PART):
    """Make these events the next version of the tiny data set."""
    root = artifacts / "datasets/tiny"
    newest = snapshot.read(root)
    schema = schema or newest.event_schema
    arrays = {**arrays, KEY: event_keys(arrays, schema)}
    table, entries = EventTable(schema, arrays), []
    for begin in range(0, table.n_events, part):
        piece = table.range(begin, min(begin + part, table.n_events))
        entries.append(entry({"events": write_part(root, "events", content_digest(piece), schema, piece)}))
    made = newest.model_copy(update={"parts": Catalogue.of(entries), "event_schema": schema})
    snapshot.commit(root, lambda latest: made)


def check(artifacts, ran):
    """Extract the newest version: only `ran` events run, and all is as in a store of its own."""
    result = extract("tiny", artifacts, settings=FP32)
    assert result["events_run"] == ran
    fresh = extract("tiny", artifacts, settings=FP32 | {"out": str(artifacts / "fresh")})
    assert fresh["events_run"] == fresh["events"]
    one, other = EventStore(result["path"]), EventStore(fresh["path"])
    assert one.schema == other.schema
    for name in sorted(one.schema.arrays):  # rows of other batches agree to rounding
        np.testing.assert_allclose(one.array(name), other.array(name), rtol=1e-4, atol=1e-5, err_msg=name)
    shutil.rmtree(artifacts / "fresh")
    again = extract("tiny", artifacts, settings=FP32)
    assert (again["events_run"], again["version"]) == (0, result["version"])
    return one


def everything(artifacts):
    store = EventStore(artifacts / "datasets/tiny")
    return store.range(0, store.n_events), store.schema


def change(arrays, schema, events):
    """Move every hit of some events a little."""
    edges = ragged.edges(arrays, schema, "hit")
    raw = arrays["hit/raw"].copy()
    for event in events:
        raw[edges[event] : edges[event + 1], 0] += 1
    return {**arrays, "hit/raw": raw}


def test_changed_events_run_and_nothing_else(mine):
    arrays, schema = everything(mine)
    old = EventStore(*names.features("tiny", mine))
    commit(mine, change(arrays, schema, [3, 4, 50, 319]))
    edges = ragged.edges(arrays, schema, "hit")
    empty = sum(edges[event] == edges[event + 1] for event in [3, 4, 50, 319])
    store = check(mine, 4 - empty)
    assert EventStore(old.root, 1).snapshot.hash == old.snapshot.hash
    same = [store.events([0, 5, 318]), old.events([0, 5, 318])]
    np.testing.assert_array_equal(same[0]["query/embedding"], same[1]["query/embedding"])


def test_a_removed_event_costs_no_forward_pass(mine):
    arrays, schema = everything(mine)
    commit(mine, ragged.take(arrays, schema, np.delete(np.arange(320), 100)))
    check(mine, 0)


def test_events_in_another_order_and_other_parts_cost_no_forward_pass(mine):
    arrays, schema = everything(mine)
    order = np.random.default_rng(0).permutation(320)
    commit(mine, ragged.take(arrays, schema, order), part=40)
    check(mine, 0)


def test_new_truth_of_an_event_costs_its_annotation(mine):
    arrays, _ = everything(mine)
    parameters = arrays["track/parameters"].copy()
    parameters[7] += 1
    commit(mine, {**arrays, "track/parameters": parameters})
    store = check(mine, 0)
    np.testing.assert_array_equal(store.array("track/parameters"), parameters)


def test_a_new_label_costs_no_forward_pass(mine):
    arrays, schema = everything(mine)
    label = Array(dtype="float32", role="target", unit="GeV")
    wider = schema.model_copy(update={"arrays": {**schema.arrays, "event/label": label}})
    commit(mine, {**arrays, "event/label": np.arange(320, dtype=np.float32)}, wider)
    store = check(mine, 0)
    np.testing.assert_array_equal(store.array("event/label"), np.arange(320))


def test_features_in_too_many_pieces_are_copied_together(mine, monkeypatch):
    monkeypatch.setattr(planning, "MOST_PIECES", 3)
    arrays, schema = everything(mine)
    commit(mine, change(arrays, schema, range(0, 320, 5)), part=20)
    edges = ragged.edges(arrays, schema, "hit")
    store = check(mine, sum(edges[event] < edges[event + 1] for event in range(0, 320, 5)))
    assert max(store.snapshot.parts.groups["features"].pieces) == 1


def test_going_back_to_an_old_version_runs_nothing(mine):
    arrays, schema = everything(mine)
    commit(mine, change(arrays, schema, range(100)))
    extract("tiny", mine, settings=FP32)
    result = extract("tiny", mine, "tiny@1", settings=FP32)
    assert result["events_run"] == 0
    assert EventStore(result["path"]).snapshot.parts == EventStore(result["path"], 1).snapshot.parts


@given(seed=st.integers(0, 9), data=st.data())
@settings(max_examples=5)
def test_any_history_ends_in_the_right_rows(tiny, tmp_path_factory, seed, data):
    mine = shutil.copytree(tiny, tmp_path_factory.mktemp("history") / "artifacts")
    rng = np.random.default_rng(seed)
    arrays, schema = everything(mine)
    commit(mine, ragged.take(arrays, schema, np.arange(120)))  # a history of few events is as good
    for _ in range(data.draw(st.integers(1, 3))):
        arrays, schema = everything(mine)
        n = len(arrays["event/id"])
        kept = np.sort(rng.choice(n, size=int(n * data.draw(st.sampled_from([0.5, 0.9, 1.0]))), replace=False))
        arrays = ragged.take(arrays, schema, kept)
        changed = rng.choice(len(kept), size=data.draw(st.sampled_from([0, 1, 30])), replace=False)
        commit(mine, change(arrays, schema, changed), part=data.draw(st.sampled_from([16, 33])))
        edges = ragged.edges(arrays, schema, "hit")
        check(mine, sum(edges[event] < edges[event + 1] for event in changed))
