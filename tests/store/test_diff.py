"""Differences between versions, against one event at a time."""

import numpy as np
import pytest
from events_of_every_shape import SCHEMAS, random_events
from hypothesis import given, settings
from hypothesis import strategies as st

from frz.data.units import KEY_ARRAY
from frz.store import Array, EventStore, Schema, part, ragged, snapshot
from frz.store.catalogue import Catalogue, entry
from frz.store.cut import PartLimits, cut
from frz.store.diff import diff
from frz.store.keys import content_digest, event_keys
from frz.store.opened import open_part
from frz.store.snapshot import Snapshot
from frz.store.split import Split


def with_keys(kind):
    plain = SCHEMAS[kind]
    return plain.model_copy(update={"arrays": {**plain.arrays, "event/key": KEY_ARRAY}})


def commit(root, schema, arrays, per_part=4, split=None):
    """One more version of a store, whose parts are found by what they hold."""
    arrays = arrays | {"event/key": event_keys(arrays, schema)}
    snapshot.prepare_root(root)
    pieces = cut([arrays], schema, PartLimits(events=per_part))
    records = [part.write_part(root, "events", content_digest(piece), schema, piece) for piece in pieces]
    entries = Catalogue.of(entry({"events": record}) for record in records)
    made = Snapshot(name="d", event_schema=schema, split=split or Split(), parts=entries)
    return EventStore(root, snapshot.commit(root, lambda latest: made).version)


def each_event(store):
    """id -> (key, name -> bytes of an array that is no input, split)."""
    splits = {int(i): name for name in store.snapshot.split.fractions for i in store.split(name)}
    found = {}
    for position in range(store.n_events):
        event = store.events([position])
        names = [n for n in event if n not in ("event/key", "event/id")]
        others = {n: event[n].tobytes() for n in names if n in store.schema.arrays}
        lengths = {n: event[n].tobytes() for n in names if n.endswith("/offsets")}
        values = {
            n: (
                v,
                *(lengths[f"{a}/offsets"] for a in store.schema.lineage(n.split("/")[0]) if f"{a}/offsets" in lengths),
            )
            for n, v in others.items()
        }
        found[int(event["event/id"][0])] = (event["event/key"].tobytes(), values, splits[position])
    return found


@given(
    kind=st.sampled_from(["clinical", "tracking", "views"]),
    order=st.permutations(range(14)),
    sizes=st.tuples(st.integers(1, 10), st.integers(1, 10)),
    other=st.sets(st.integers(0, 13), max_size=5),
    truth=st.sets(st.integers(0, 13), max_size=5),
    shuffled=st.booleans(),
    seed=st.integers(0, 2),
)
@settings(max_examples=25)
def test_diff_is_comparing_one_by_one(tmp_path_factory, kind, order, sizes, other, truth, shuffled, seed):
    schema = with_keys(kind)
    root = tmp_path_factory.mktemp("s")
    arrays = {n: v for n, v in random_events(schema, 14, 0).items() if n != "event/key"}
    foreign = {n: v for n, v in random_events(schema, 14, 1).items() if n != "event/key"}
    both = ragged.concat([arrays, foreign])
    after = ragged.take(both, schema, np.array([e + 14 * (e in other) for e in range(14)]))
    target = next(n for n in schema.arrays if schema.arrays[n].role != "input" and n not in ("event/id", "event/key"))
    for event in truth:
        after[target] = after[target].copy()
        begin, end = ragged.edges(after, schema, target.split("/")[0])[event : event + 2]
        after[target][begin:end] += np.array(1, after[target].dtype)
    left, right = (np.array(order if shuffled else sorted(order))[:n] for n in (13 - sizes[0], 13))
    a = commit(root, schema, ragged.take(arrays, schema, np.delete(np.arange(14), sizes[1])))
    b = commit(root, schema, ragged.take(after, schema, right if seed else left), split=Split(seed=seed))

    found, ours, theirs = diff(a, b), each_event(a), each_event(b)
    common = ours.keys() & theirs.keys()
    assert found.n_events == (a.n_events, b.n_events)
    assert found.added.tolist() == sorted(theirs.keys() - ours.keys())
    assert found.removed.tolist() == sorted(ours.keys() - theirs.keys())
    changed = {i for i in common if ours[i][0] != theirs[i][0]}
    assert found.changed.tolist() == sorted(changed)
    assert found.amended.tolist() == sorted(i for i in common - changed if ours[i][1] != theirs[i][1])
    moved = {f"{ours[i][2]} -> {theirs[i][2]}" for i in common} - {f"{s} -> {s}" for s in ("train", "val", "test")}
    assert {way: ids.tolist() for way, ids in found.moved.items()} == {
        way: sorted(i for i in common if f"{ours[i][2]} -> {theirs[i][2]}" == way) for way in moved
    }
    assert found.reordered == ([i for i in ours if i in common] != [i for i in theirs if i in common])
    differing = {name: sum(ours[i][1][name] != theirs[i][1][name] for i in common) for name in ours[min(ours)][1]}
    assert found.arrays == {name: n for name, n in differing.items() if n}
    assert bool(found.schema) == (seed > 0)
    assert bool(found) == (a.snapshot.hash != b.snapshot.hash)


def test_what_both_point_at_is_not_read(tmp_path, monkeypatch):
    schema = with_keys("tracking")
    arrays = {n: v for n, v in random_events(schema, 40, 0).items() if n != "event/key"}
    a = commit(tmp_path, schema, arrays)
    grown = ragged.concat([arrays, {n: v for n, v in random_events(schema, 2, 1, 40).items() if n != "event/key"}])
    b = commit(tmp_path, schema, grown)
    opened = []
    monkeypatch.setattr("frz.store.reader.open_part", lambda *_: opened.append(_) or open_part(*_))
    found = diff(a, b)
    assert found.added.tolist() == [40, 41]
    assert len(opened) == 1
    assert found.summary(1) == {
        "events": {"a": 40, "b": 42, "added": 2, "removed": 0, "changed": 0, "amended": 0, "reordered": False},
        "arrays": {},
        "schema": {},
        "ids": {"added": [40]},
    }


def test_rows_of_a_part_that_both_point_at_are_not_read(tmp_path, monkeypatch):
    """Versions cut differently that point at ranges of one part."""
    schema = with_keys("image").select(["event/id", "event/group", "event/key", "event/n"])
    a = commit(tmp_path, schema, {n: v for n, v in random_events(schema, 9, 0).items() if n != "event/key"}, per_part=9)
    (whole,) = a.snapshot.parts
    (piece,) = whole.groups["events"]
    cuts = [(0, 2), (3, 9)]  # event 2 is left out
    parts = Catalogue.of(
        whole._replace(
            n_events=last - first, events=f"{first}", groups={"events": (piece._replace(first=first, last=last),)}
        )
        for first, last in cuts
    )
    b = EventStore.of(tmp_path, a.snapshot.model_copy(update={"parts": parts}))
    monkeypatch.setattr("frz.store.ragged.equal_events", None)
    assert diff(a, b).summary(9)["ids"] == {"removed": [2]}


def test_schemas_differ_in_words(tmp_path):
    one = with_keys("image").select(["event/id", "event/group", "event/key", "event/n"])
    arrays = {n: v for n, v in random_events(one, 5, 0).items() if n != "event/key"}
    n = Array(dtype="int32", role="input", unit="mm")
    two = Schema(arrays={**{k: v for k, v in one.arrays.items() if k != "event/n"}, "event/n": n, "event/x": n})
    a = commit(tmp_path / "a", one, arrays)
    b = commit(
        tmp_path / "b", two, arrays | {"event/n": arrays["event/n"].astype(np.int32), "event/x": np.zeros(5, np.int32)}
    )
    found = diff(a, b)
    assert found.schema == {
        "added": ["event/x"],
        "changed": ["event/n: dtype uint16 -> int32", "event/n: unit  -> mm"],
    }
    assert len(found.changed) == 5
    assert found.arrays == {}
    assert diff(b, a).schema["removed"] == ["event/x"]


@pytest.mark.parametrize("per_part", [3, 4])
def test_the_same_events_in_two_stores_are_equal(tmp_path, per_part):
    schema = with_keys("clinical")
    arrays = {n: v for n, v in random_events(schema, 12, 0).items() if n != "event/key"}
    assert not diff(commit(tmp_path / "a", schema, arrays), commit(tmp_path / "b", schema, arrays, per_part))
