"""Random feature stores in memory: what a hit-to-track backbone leaves behind, dense or as pairs."""

import numpy as np
from numpy.typing import NDArray

from frz.store.ragged import offsets_of
from frz.store.schema import Array, Axis, EventArrays, Schema

D, N_QUERY, N_FIELD = 8, 3, 5
FLOOR_P = 0.01
FIELDS = tuple("abcde")
PARAMETERS = ("pt", "eta", "phi", "q")


def logit(p: float) -> float:
    return float(np.log(p) - np.log1p(-p))


def feature_schema(*, sparse: bool = False, dtype: str = "float32", truth: bool = True) -> Schema:
    arrays = {
        "event/id": Array(dtype="int64", role="meta"),
        "event/group": Array(dtype="int64", role="meta"),
        "query/embedding": Array(dtype=dtype, shape=(D,), role="feature"),
        "query/valid_logit": Array(dtype="float32", role="feature"),
        "hit/embedding": Array(dtype=dtype, shape=(D,), role="feature"),
        "hit/scaled": Array(dtype="float32", shape=(N_FIELD,), role="feature", columns=FIELDS),
    }
    axes = {"hit": Axis(), "query": Axis(length=N_QUERY)}
    if sparse:
        axes["pair"] = Axis(parent="hit")
        arrays["pair/query"] = Array(dtype="int32", role="feature", refers_to="query")
        arrays["pair/logit"] = Array(dtype="float32", role="feature", floor=logit(FLOOR_P))
    else:
        arrays["hit/assignment_logit"] = Array(dtype="float32", shape=(N_QUERY,), role="feature")
    if truth:
        axes |= {"track": Axis(), "member": Axis(parent="track")}
        arrays["query/match"] = Array(dtype="int32", role="target")
        arrays["track/parameters"] = Array(dtype="float32", shape=(4,), role="target", columns=PARAMETERS)
        arrays["member/hit"] = Array(dtype="int32", role="target", refers_to="hit")
    return Schema(axes=axes, arrays=arrays)


def feature_events(
    seed: int = 0,
    hits: tuple[int, ...] = (7, 0, 1, 12, 5, 9),
    tracks: tuple[int, ...] = (2, 0, 1, 3, 2, 0),
    dtype: str = "float32",
) -> EventArrays:
    """Events in dense form; a track may have no hits, a query no assignment."""
    rng = np.random.default_rng(seed)
    n, n_hit, n_track = len(hits), sum(hits), sum(tracks)
    members = [
        rng.permutation(h)[: rng.integers(0, h + 1)] for h, t in zip(hits, tracks, strict=True) for _ in range(t)
    ]
    match = np.full((n, N_QUERY), -1, np.int32)
    for event, t in enumerate(tracks):
        match[event, rng.permutation(N_QUERY)[:t]] = rng.permutation(t)
    parameters = np.stack(
        [
            rng.uniform(5, 80, n_track),
            rng.normal(0, 1, n_track),
            rng.uniform(-np.pi, np.pi, n_track),
            np.where(np.arange(n_track) % 2, 1.0, -1.0),
        ],
        1,
    )
    return {
        "event/id": np.arange(n, dtype=np.int64) + 100 * seed,
        "event/group": np.arange(n, dtype=np.int64),
        "query/embedding": rng.normal(size=(n * N_QUERY, D)).astype(dtype),
        "query/valid_logit": rng.normal(size=n * N_QUERY).astype(np.float32),
        "query/match": match.ravel(),
        "hit/offsets": offsets_of(np.array(hits)),
        "hit/embedding": rng.normal(size=(n_hit, D)).astype(dtype),
        "hit/scaled": rng.normal(size=(n_hit, N_FIELD)).astype(np.float32),
        "hit/assignment_logit": (3 * rng.normal(size=(n_hit, N_QUERY)) - 1).astype(np.float32),
        "track/offsets": offsets_of(np.array(tracks)),
        "track/parameters": parameters.astype(np.float32),
        "member/offsets": offsets_of(np.array([len(member) for member in members], np.int64)),
        "member/hit": np.concatenate([np.zeros(0, np.int32), *members]).astype(np.int32),
    }


def without_truth(events: EventArrays) -> EventArrays:
    gone = ("track/", "member/", "query/match")
    return {name: values for name, values in events.items() if not name.startswith(gone)}


def as_pairs(events: EventArrays, floor: float = FLOOR_P) -> EventArrays:
    """The same events with the assignment as pairs at or above `floor`."""
    dense = events["hit/assignment_logit"]
    kept = dense >= logit(floor)
    hit, query = np.nonzero(kept)
    result = {name: values for name, values in events.items() if name != "hit/assignment_logit"}
    return result | {
        "pair/offsets": offsets_of(kept.sum(1)),
        "pair/query": query.astype(np.int32),
        "pair/logit": dense[hit, query],
    }


def probability(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))
