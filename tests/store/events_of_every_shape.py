"""Schemas of every shape the families need, and random events for each."""

import numpy as np

from frz.store.schema import Array, Axis, EventArrays, Schema

ID = {"event/id": Array(dtype="int64", role="meta"), "event/group": Array(dtype="int64", role="meta")}
SCHEMAS = {
    "clinical": Schema(  # stay > set > element
        axes={"set": Axis(), "element": Axis(parent="set")},
        arrays=ID
        | {
            "set/time": Array(dtype="float32"),
            "element/value": Array(dtype="float64"),
            "element/code": Array(dtype="uint8"),
            "event/label": Array(dtype="bool", role="target"),
        },
    ),
    "tracking": Schema(
        axes={
            "hit": Axis(),
            "track": Axis(),
            "member": Axis(parent="track"),
            "edge": Axis(),
            "query": Axis(length=2),
            "pair": Axis(parent="hit"),
        },
        arrays=ID
        | {
            "hit/raw": Array(dtype="float32", shape=(3,), columns=("x", "y", "z")),
            "track/parameters": Array(dtype="float32", shape=(2,), role="target"),
            "member/hit": Array(dtype="int32", role="target", refers_to="hit"),
            "edge/src": Array(dtype="int16", refers_to="hit"),
            "edge/dst": Array(dtype="int16", refers_to="hit"),
            "query/embedding": Array(dtype="float16", shape=(4,), role="feature"),
            "pair/query": Array(dtype="int32", role="feature", refers_to="query"),
        },
    ),
    "views": Schema(
        axes={"view": Axis(length=4), "token": Axis(parent="view", length=6), "mask": Axis(parent="view")},
        arrays=ID
        | {"token/embedding": Array(dtype="float32", shape=(5,)), "mask/sensor": Array(dtype="int32", role="meta")},
    ),
    "image": Schema(
        arrays=ID | {"event/image": Array(dtype="float32", shape=(4760, 2)), "event/n": Array(dtype="uint16")}
    ),
}


def random_events(schema: Schema, n_events: int, seed: int, first_id: int = 0) -> EventArrays:
    """Random events: about a third of the parents have no members."""
    rng = np.random.default_rng(seed)
    counts = {"event": n_events}
    arrays: EventArrays = {}
    for axis in schema.ordered_axes():
        n_parents, length = counts[schema.axes[axis].parent], schema.axes[axis].length
        if length is None:
            lengths = rng.integers(0, 6, n_parents) * (rng.random(n_parents) > 0.33)
            arrays[f"{axis}/offsets"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            counts[axis] = int(lengths.sum())
        else:
            counts[axis] = n_parents * length
    for name, spec in schema.arrays.items():
        shape = (counts[name.partition("/")[0]], *spec.shape)
        kind = np.dtype(spec.dtype).kind
        values = rng.normal(size=shape) if kind == "f" else rng.integers(0, 2 if kind == "b" else 100, shape)
        arrays[name] = values.astype(spec.dtype)
    arrays["event/id"] = np.arange(first_id, first_id + n_events, dtype=np.int64)
    arrays["event/group"] = arrays["event/id"] // 3
    return arrays


def equal(found: EventArrays, expected: EventArrays) -> None:
    """Same names, dtypes, shapes and values."""
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        np.testing.assert_array_equal(found[name], values, err_msg=name)
