"""Index arithmetic against one event at a time."""

import numpy as np
import pytest
from events_of_every_shape import ID, SCHEMAS, equal, random_events
from hypothesis import given, settings
from hypothesis import strategies as st

from frz.store import ragged
from frz.store.schema import Array, Schema, count_events
from frz.store.table import pick

pytestmark = pytest.mark.filterwarnings("error")


@given(
    kind=st.sampled_from(sorted(SCHEMAS.keys() - {"image"})),
    n=st.integers(0, 12),
    seed=st.integers(0, 99),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_take_is_slicing_one_by_one(kind, n, seed, data):
    schema = SCHEMAS[kind]
    arrays = random_events(schema, n, seed)
    events = data.draw(st.lists(st.integers(0, n - 1), max_size=8) if n else st.just([]))
    singles = [ragged.slice_events(arrays, schema, e, e + 1) for e in events]
    expected = ragged.concat(singles) if singles else ragged.slice_events(arrays, schema, 0, 0)
    found = ragged.take(arrays, schema, np.array(events, np.int64))
    equal(found, expected)
    ragged.check(found, schema)
    assert count_events(found, schema) == len(events)


@given(kind=st.sampled_from(sorted(SCHEMAS)), n=st.integers(0, 9), seed=st.integers(0, 99), data=st.data())
@settings(deadline=None, max_examples=60)
def test_concat_undoes_slicing(kind, n, seed, data):
    schema = SCHEMAS[kind]
    arrays = random_events(schema, n, seed)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
    edges = [0, *cuts, n]
    pieces = [ragged.slice_events(arrays, schema, a, b) for a, b in zip(edges, edges[1:], strict=False)]
    equal(ragged.concat(pieces), arrays)


def test_lengths_and_bytes_sum_over_nested_axes():
    schema = SCHEMAS["clinical"]
    arrays = random_events(schema, 7, 1)
    sets = np.diff(arrays["set/offsets"])
    elements = np.add.reduceat(np.r_[np.diff(arrays["element/offsets"]), 0], arrays["set/offsets"][:-1]) * (sets > 0)
    np.testing.assert_array_equal(ragged.lengths(arrays, schema, "set"), sets)
    np.testing.assert_array_equal(ragged.lengths(arrays, schema, "element"), elements)
    expected = 8 + 8 + 1 + 4 * sets + 9 * elements
    np.testing.assert_array_equal(ragged.event_bytes(arrays, schema), expected)


def test_check_names_the_array_that_is_wrong():
    schema = SCHEMAS["tracking"]
    arrays = random_events(schema, 3, 0)
    arrays["hit/raw"] = arrays["hit/raw"].astype(np.float64)
    with pytest.raises(AssertionError, match="hit/raw: dtype float64"):
        ragged.check(arrays, schema)


@given(
    kind=st.sampled_from(sorted(SCHEMAS.keys() - {"image"})),
    n=st.integers(0, 9),
    seeds=st.tuples(*[st.integers(0, 5)] * 2),
    data=st.data(),
)
@settings(deadline=None, max_examples=200)
def test_equal_events_compares_one_by_one(kind, n, seeds, data):
    schema = SCHEMAS[kind]
    one, two = (random_events(schema, n, seed) for seed in seeds)
    both = ragged.concat([one, two])
    a, b = (ragged.take(both, schema, np.array(data.draw(picks(n)), np.int64)) for _ in "ab")
    names = data.draw(st.lists(st.sampled_from(sorted(schema.arrays)), min_size=1, unique=True))
    if n and data.draw(st.booleans()):
        touch(b, data.draw(st.sampled_from(names)), data.draw(st.integers(0, 99)))
    found = ragged.equal_events(a, b, schema, names)
    a, b = (pick(arrays, schema, names) for arrays in (a, b))
    for event in range(n):
        x, y = (ragged.slice_events(arrays, schema, event, event + 1) for arrays in (a, b))
        assert found[event] == all(x[name].tobytes() == y[name].tobytes() for name in x), event
    assert found.shape == (n,)
    assert found.dtype == np.bool_


def picks(n: int) -> st.SearchStrategy[list[int]]:
    """Events of a first or a second set of n, one for each of n places."""
    return st.tuples(*(st.sampled_from([e, n + e]) for e in range(n))).map(list)


def touch(arrays, name, position):
    """Change one bit of one value, if there is one."""
    values = arrays[name] = arrays[name].copy()
    if values.size:
        bits = values.reshape(-1).view(np.uint8)
        bits[position % len(bits)] ^= 1


def test_equal_events_compares_bits():
    schema = Schema(arrays={"event/id": ID["event/id"], "event/x": Array(dtype="float32", shape=(2,))})
    other_nan = np.uint32(0x7FC00001).view(np.float32)
    a = {"event/x": np.array([[np.nan, 1], [0, 1], [np.nan, 1], [1, 2]], np.float32)}
    b = {"event/x": np.array([[np.nan, 1], [-0.0, 1], [other_nan, 1], [1, 3]], np.float32)}
    assert ragged.equal_events(a, b, schema, ["event/x"]).tolist() == [True, False, False, False]
