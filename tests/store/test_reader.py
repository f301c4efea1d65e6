"""A store of many parts reads like one table in memory."""

import numpy as np
import pytest
from events_of_every_shape import SCHEMAS, equal, random_events
from hypothesis import given, settings
from hypothesis import strategies as st

from frz.errors import ConfigError, StoreError
from frz.store import EventStore, EventTable, part, ragged, snapshot
from frz.store.catalogue import Catalogue, PartEntry, Piece, entry
from frz.store.cut import PartLimits, cut
from frz.store.snapshot import Snapshot
from frz.store.split import Split


def build(root, schema, arrays, limits, batch=5):
    snapshot.prepare_root(root)
    n = len(arrays["event/id"])
    stream = (ragged.slice_events(arrays, schema, a, min(a + batch, n)) for a in range(0, n, batch))
    records = [
        part.write_part(root, "events", f"{i:032x}" * 2, schema, piece)
        for i, piece in enumerate(cut(stream, schema, limits))
    ]
    entries = Catalogue.of(entry({"events": record}) for record in records)
    made = Snapshot(name="d", event_schema=schema, split=Split(), parts=entries)
    snapshot.commit(root, lambda latest: made)
    return EventStore(root)


@given(kind=st.sampled_from(sorted(SCHEMAS)), n=st.integers(1, 90), seed=st.integers(0, 99), data=st.data())
@settings(deadline=None, max_examples=15)
def test_every_way_of_reading_agrees_with_the_table(tmp_path_factory, kind, n, seed, data):
    schema = SCHEMAS[kind]
    arrays = random_events(schema, n, seed)
    limits = PartLimits(events=data.draw(st.integers(1, 9)))
    store = build(tmp_path_factory.mktemp("s"), schema, arrays, limits)
    table = EventTable(schema, arrays)
    assert store.n_events == table.n_events == len(store) == n
    assert store.n_parts == -(-n // limits.events)
    positions = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=12)), np.int64)
    equal(store.events(positions), table.events(positions))
    first, last = sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
    equal(store.range(first, last), table.range(first, last))
    for name in arrays:
        np.testing.assert_array_equal(store.array(name), table.array(name))
    for axis in schema.axes:
        np.testing.assert_array_equal(store.lengths(axis), table.lengths(axis))
    for name in schema.arrays:
        equal(store.events(positions, [name]), table.events(positions, [name]))
        assert store.nbytes(name) == arrays[name].nbytes
    equal(ragged.concat(list(store.parts())), arrays)


@given(n=st.integers(1, 60), batch=st.integers(1, 60), size=st.integers(1, 4000))
@settings(deadline=None, max_examples=40)
def test_parts_end_where_the_events_say_not_where_batches_end(n, batch, size):
    schema = SCHEMAS["tracking"]
    arrays = random_events(schema, n, 0)
    limits = PartLimits(events=17, bytes=size)
    whole = list(cut([arrays], schema, limits))
    pieces = (ragged.slice_events(arrays, schema, a, min(a + batch, n)) for a in range(0, n, batch))
    streamed = list(cut(pieces, schema, limits))
    assert len(whole) == len(streamed)
    for one, other in zip(whole, streamed, strict=True):
        equal(one, other)
        sizes = ragged.event_bytes(one, schema)
        assert len(sizes) <= 17
        assert sizes[:-1].sum() < size
    equal(ragged.concat(whole), arrays)


def test_limits_of_a_source_of_known_size_are_powers_of_two():
    assert PartLimits.for_source(None).events == 2048
    assert [PartLimits.for_source(n).events for n in (10, 2000, 5000, 20_000, 21_000, 10**7)] == [
        16,
        16,
        64,
        256,
        256,
        2048,
    ]


@pytest.fixture
def store(tmp_path):
    return build(tmp_path, SCHEMAS["tracking"], random_events(SCHEMAS["tracking"], 40, 1), PartLimits(events=8))


@given(kind=st.sampled_from(sorted(SCHEMAS)), seed=st.integers(0, 99), data=st.data())
@settings(deadline=None, max_examples=15)
def test_pieces_of_other_parts_read_like_parts_of_ones_own(tmp_path_factory, kind, seed, data):
    schema = SCHEMAS[kind]
    arrays = random_events(schema, 30, seed)
    old = build(tmp_path_factory.mktemp("s"), schema, arrays, PartLimits(events=7))
    entries, order = [], []
    for _ in range(data.draw(st.integers(1, 4))):
        pieces = []
        for _ in range(data.draw(st.integers(1, 4))):
            index = data.draw(st.integers(0, old.n_parts - 1))
            key, digest, _, n = old.snapshot.parts[index].groups["events"][0]
            first = data.draw(st.integers(0, n - 1))
            last = data.draw(st.integers(first + 1, n))
            pieces.append(Piece(key, digest, first, last))
            order += [int(old.part_bounds[index]) + i for i in range(first, last)]
        n_events = sum(piece.last - piece.first for piece in pieces)
        entries.append(PartEntry(n_events, {"events": tuple(pieces)}, counts={}, largest={}))
    made = old.snapshot.model_copy(update={"parts": Catalogue.of(entries)})
    store = EventStore.of(old.root, made)
    expected = ragged.take(arrays, schema, np.array(order))
    equal(store.range(0, len(order)), expected)
    equal(ragged.concat(list(store.parts())), expected)
    positions = np.array(data.draw(st.lists(st.integers(0, len(order) - 1), max_size=12)), np.int64)
    equal(store.events(positions), ragged.take(expected, schema, positions))
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(order))] * 2)))
    equal(store.range(first, last), ragged.slice_events(expected, schema, first, last))
    assert list(made.parts) == entries


def test_a_missing_part_is_an_error_never_zeros(store):
    place = store.root / "events.zarr" / part.part_name("events", store.snapshot.parts[2].groups["events"][0].key)
    place.rename(place.with_name("gone"))
    store.range(0, 16)
    with pytest.raises(StoreError, match="the part is missing"):
        store.range(0, 40)


def test_unknown_names_and_places_are_refused(store, tmp_path):
    reads = [
        store.array,
        lambda name: store.events([0], [name]),
        lambda name: store.part(0, [name]),
        lambda name: store.parts([name]),
        lambda name: store.range(0, 0, [name]),
    ]
    for read in reads:
        with pytest.raises(ConfigError, match=r"no array 'hit/rew'; did you mean 'hit/raw'\?"):
            read("hit/rew")
        with pytest.raises(ConfigError, match=r"no array 'hits/offsets'; did you mean 'hit/offsets'\?"):
            read("hits/offsets")
    with pytest.raises(ConfigError, match=r"no axis 'hits'; did you mean 'hit'\?"):
        store.lengths("hits")
    with pytest.raises(ConfigError, match="no static array 'wall'; have: nothing"):
        store.static("wall")
    with pytest.raises(StoreError, match=r"no events \[30, 41\); give 0 <= first <= last <= 40"):
        store.range(30, 41)
    for index in (-1, store.n_parts):
        with pytest.raises(StoreError, match=rf"no part {index}.*give 0 <= index < {store.n_parts}"):
            store.part(index)
    with pytest.raises(ConfigError, match=r"no array 'hit/rew'; did you mean 'hit/raw'\?"):
        store.nbytes("hit/rew")
    with pytest.raises(StoreError, match="no event store"):
        EventStore(tmp_path / "nothing")


def test_events_are_found_by_id(tmp_path):
    schema = SCHEMAS["tracking"]
    arrays = random_events(schema, 40, 2)
    ids = np.random.default_rng(1).permutation(40) * 3 - 7
    store = build(tmp_path, schema, arrays | {"event/id": ids}, PartLimits(events=9))
    at = store.positions([-7, 110, 2, 110])
    np.testing.assert_array_equal(store.events(at, ["event/id"])["event/id"], [-7, 110, 2, 110])
    np.testing.assert_array_equal(store.positions(ids), np.arange(40))
    assert store.positions(5).shape == (1,)
    assert store.positions([]).tolist() == []
    with pytest.raises(StoreError, match=r"no event of id 0, 1000, -9; the ids are the array event/id"):
        store.positions([-7, 0, 1000, -9])


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([3, 40], "no event at position 40; positions are whole numbers from 0 to 39"),
        (-1, "no event at position -1;"),
        (np.array([2**63], np.uint64), "no event at position"),
        ([1.5], "cannot take events at float64 values"),
        ([[0, 1]], r"of shape \(1, 2\)"),
        (np.ones(40, bool), r"np.flatnonzero\(mask\)"),
        ("first", "positions are whole numbers"),
    ],
)
def test_positions_that_are_no_events_are_refused(store, positions, message):
    with pytest.raises(StoreError, match=message):
        store.events(positions)


def test_one_position_and_one_name_are_lists_of_one(store):
    equal(store.events(5), store.events([5]))
    equal(store.events([], "hit/raw"), store.events(np.empty(0, np.int64), ["hit/raw"]))
    assert set(store.events(5, "hit/raw")) == {"hit/offsets", "hit/raw"}
    names = store.keys()
    assert {"hit/raw", "hit/offsets", "event/id"} <= set(names)
    assert all(len(store.array(name)) for name in names)


def test_splits_cover_all_events_and_tear_no_group(store):
    groups = store.array("event/group")
    splits = {name: store.split(name) for name in ("train", "val", "test")}
    assert sorted(np.concatenate(list(splits.values())).tolist()) == list(range(40))
    found = [set(groups[positions].tolist()) for positions in splits.values()]
    assert len(found[0] | found[1] | found[2]) == sum(len(part) for part in found)
    with pytest.raises(ConfigError, match="no split 'dev'"):
        store.split("dev")
