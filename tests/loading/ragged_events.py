"""Events with everything that a schema can say: fixed, ragged and nested axes, references, members that are missing."""

import numpy as np

from frz.store.ragged import offsets_of
from frz.store.schema import Array, Axis, EventArrays, Schema

SCHEMA = Schema(
    axes={
        "hit": Axis(),
        "query": Axis(length=2),
        "slot": Axis(),
        "pair": Axis(parent="slot"),
        "twin": Axis(parent="hit", length=2),
    },
    arrays={
        "event/id": Array(dtype="int64"),
        "event/group": Array(dtype="int64"),
        "hit/x": Array(dtype="float16", shape=(3,)),
        "query/y": Array(dtype="float32"),
        "query/first": Array(dtype="int32", refers_to="hit"),
        "slot/good": Array(dtype="bool"),
        "pair/hit": Array(dtype="int32", refers_to="hit"),
        "pair/both": Array(dtype="int64", shape=(2,), refers_to="query"),
        "twin/z": Array(dtype="float64"),
    },
)


def events(n: int, seed: int = 0) -> EventArrays:
    rng = np.random.default_rng(seed)
    hits, slots = rng.integers(0, 6, n), rng.integers(0, 4, n)
    pairs = rng.integers(0, 3, slots.sum()) * np.repeat(hits > 0, slots)
    event = np.repeat(np.repeat(np.arange(n), slots), pairs)
    return {
        "event/id": np.arange(n) + 100,
        "event/group": np.arange(n) // 3,
        "hit/offsets": offsets_of(hits),
        "hit/x": rng.normal(size=(hits.sum(), 3)).astype(np.float16),
        "query/y": rng.normal(size=2 * n).astype(np.float32),
        "query/first": np.minimum(rng.integers(-1, 6, 2 * n), np.repeat(hits, 2) - 1).astype(np.int32),
        "slot/offsets": offsets_of(slots),
        "slot/good": rng.random(slots.sum()) < 0.5,
        "pair/offsets": offsets_of(pairs),
        "pair/hit": rng.integers(0, hits[event]).astype(np.int32),
        "pair/both": rng.integers(0, 2, (len(event), 2)),
        "twin/z": rng.normal(size=2 * hits.sum()),
    }
