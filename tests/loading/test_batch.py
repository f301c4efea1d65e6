"""`to_batch` against loops over events."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frz.loading.batch import to_batch, with_offsets
from frz.store.schema import Array, Axis, EventArrays, Schema

SCHEMA = Schema(
    axes={
        "hit": Axis(),
        "track": Axis(),
        "member": Axis(parent="track"),
        "edge": Axis(),
        "query": Axis(length=2),
        "pair": Axis(parent="hit"),
    },
    arrays={
        "event/id": Array(dtype="int64"),
        "event/key": Array(dtype="uint8", shape=(16,)),
        "hit/raw": Array(dtype="float16", shape=(3,)),
        "member/hit": Array(dtype="int32", refers_to="hit"),
        "edge/ends": Array(dtype="int16", shape=(2,), refers_to="hit"),
        "query/match": Array(dtype="int32", refers_to="track"),
        "pair/query": Array(dtype="uint8", refers_to="query"),
    },
)


def make_events(hits: list[int], tracks: list[int], seed: int) -> EventArrays:
    """Random events with the given numbers of hits and tracks; an event without hits has no members or edges."""
    rng = np.random.default_rng(seed)
    n = len(hits)
    members = [int(rng.integers(0, 4)) if hits[i] else 0 for i in range(n) for _ in range(tracks[i])]
    event_of_track = np.repeat(np.arange(n), tracks)
    edges = [int(rng.integers(0, 4)) if n_hit else 0 for n_hit in hits]
    pairs = rng.integers(0, 3, sum(hits))

    def offsets(lengths: object) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int64)

    def positions(counts: list[int], limits: list[int], dtype: str, width: tuple[int, ...] = ()) -> np.ndarray:
        drawn = [rng.integers(0, max(limit, 1), (c, *width)) for c, limit in zip(counts, limits, strict=True)]
        return np.concatenate([np.empty((0, *width), np.int64), *drawn]).astype(dtype)

    match = np.concatenate([np.empty(0, np.int64), *[rng.integers(-1, t, 2) for t in tracks]]).astype("int32")
    return {
        "event/id": np.arange(n) + 100,
        "event/key": rng.integers(0, 255, (n, 16)).astype("uint8"),
        "hit/offsets": offsets(hits),
        "hit/raw": rng.normal(size=(sum(hits), 3)).astype("float16"),
        "track/offsets": offsets(tracks),
        "member/offsets": offsets(members),
        "member/hit": positions(members, [hits[i] for i in event_of_track], "int32"),
        "edge/offsets": offsets(edges),
        "edge/ends": positions(edges, hits, "int16", (2,)),
        "query/match": match,
        "pair/offsets": offsets(pairs),
        "pair/query": rng.integers(0, 2, int(pairs.sum())).astype("uint8"),
    }


sizes = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=8)


@settings(max_examples=50)
@given(sizes, st.integers(0, 2**32 - 1))
def test_positions_count_in_the_batch(sizes: list[tuple[int, int]], seed: int) -> None:
    hits, tracks = [n for n, _ in sizes], [n for _, n in sizes]
    arrays = make_events(hits, tracks, seed)
    batch = to_batch(arrays, SCHEMA)
    first_hit, first_track = arrays["hit/offsets"], arrays["track/offsets"]
    for event in range(len(sizes)):
        for track in range(first_track[event], first_track[event + 1]):
            for member in range(arrays["member/offsets"][track], arrays["member/offsets"][track + 1]):
                assert batch["member/hit"][member] == arrays["member/hit"][member] + first_hit[event]
        for edge in range(arrays["edge/offsets"][event], arrays["edge/offsets"][event + 1]):
            assert batch["edge/ends"][edge].tolist() == (arrays["edge/ends"][edge] + first_hit[event]).tolist()
        for query in (2 * event, 2 * event + 1):
            local = arrays["query/match"][query]
            assert batch["query/match"][query] == (-1 if local < 0 else local + first_track[event])
        for hit in range(first_hit[event], first_hit[event + 1]):
            for pair in range(arrays["pair/offsets"][hit], arrays["pair/offsets"][hit + 1]):
                assert batch["pair/query"][pair] == int(arrays["pair/query"][pair]) + 2 * event


def test_other_arrays_are_handed_over_as_they_are() -> None:
    arrays = make_events([3, 0, 2], [1, 0, 1], seed=1)
    batch = to_batch(arrays, SCHEMA)
    assert set(batch) == set(arrays)
    assert batch["hit/raw"].dtype == torch.float16
    assert batch["event/key"].dtype == torch.uint8
    assert all(batch[f"{name}"].dtype == torch.int64 for name in ("member/hit", "edge/ends", "query/match"))
    for name in ("event/id", "event/key", "hit/raw", "hit/offsets"):
        np.testing.assert_array_equal(batch[name].numpy(), arrays[name])
        assert batch[name].data_ptr() == arrays[name].ctypes.data, f"{name} was copied"


def test_small_types_do_not_overflow() -> None:
    """uint8 positions of 300 events with two members each need more than a byte in the batch."""
    schema = Schema(axes={"query": Axis(length=2)}, arrays={"query/next": Array(dtype="uint8", refers_to="query")})
    batch = to_batch({"query/next": np.tile(np.array([1, 0], "uint8"), 300)}, schema)
    assert batch["query/next"][-2:].tolist() == [599, 598]


def test_read_only_memory_is_copied_not_shared() -> None:
    values = np.arange(4.0)
    values.flags.writeable = False
    schema = Schema(arrays={"event/y": Array(dtype="float64")})
    batch = to_batch({"event/y": values}, schema)
    batch["event/y"] += 1
    np.testing.assert_array_equal(values, np.arange(4.0))


def test_batches_of_events_equal_the_events_of_a_batch() -> None:
    """Shifting is the only difference between events alone and together."""
    arrays = make_events([2, 3], [1, 2], seed=3)
    batch = to_batch(arrays, SCHEMA)
    first = arrays["hit/offsets"][1]
    split = arrays["member/offsets"][arrays["track/offsets"][1]]
    alone = {"hit/offsets": np.array([0, 3]), "track/offsets": np.array([0, 2])}
    alone["member/offsets"] = arrays["member/offsets"][1:] - split
    alone["member/hit"] = arrays["member/hit"][split:]
    assert torch.equal(to_batch(alone, SCHEMA)["member/hit"] + first, batch["member/hit"][split:])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["event/id"], {"event/id"}),
        (["member/hit"], {"member/hit", "hit/offsets"}),
        (["pair/query", "query/match"], {"pair/query", "query/match", "track/offsets"}),
    ],
)
def test_names_bring_the_offsets_they_refer_to(names: list[str], expected: set[str]) -> None:
    assert set(with_offsets(names, SCHEMA)) == expected
