"""From stored features to what a slot head trains on: the slots that matter, their targets, their hits.

A slot is a query that counts in the loss or that the backbone calls a track; all others are dropped, so a
model with 64 queries for six tracks costs six slots. Hits in no pair of a kept slot are dropped as well, and
the rest renumbered within their event. Everything is index arithmetic, without a loop over events.
"""

# Axes: F fields, S kept slots, Q queries, M hits, P pairs of all events together.

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from frz.errors import ConfigError, StoreError, nearest
from frz.heads.pairs import assigned_pairs
from frz.heads.targets import TINY
from frz.store.ragged import edges, offsets_of, rows
from frz.store.schema import ID, EventArrays, Schema

Counting: TypeAlias = Literal["all_true", "valid", "double_matched"]

MATCH, VALID = "query/match", "query/valid_logit"
MASK_THRESHOLD = 0.5
"""Assignment probability (inclusive) from which a hit is on the track that a user is shown."""


def owners(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Parent of each member: [0, 0, 1] for offsets [0, 2, 3]."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def valid_slots(events: EventArrays, n_query: int) -> NDArray[np.bool_]:
    """Which queries (Q,) the backbone calls a track: sigmoid(valid_logit) >= 0.5, all where it has no such logit."""
    return np.asarray(events[VALID] >= 0) if VALID in events else np.ones(n_query, bool)


def matched_rows(events: EventArrays, schema: Schema, axis: str) -> NDArray[np.int64]:
    """Row in the flat arrays of `axis` of the true object of each query (Q,), or -1."""
    match = events[MATCH].astype(np.int64)
    first = edges(events, schema, axis)[owners(edges(events, schema, "query"))]
    return np.where(match >= 0, first + match, -1)


def counted(
    events: EventArrays, schema: Schema, truth: NDArray[np.int64], counting: Counting, members: str
) -> NDArray[np.bool_]:
    """Which queries (Q,) count in loss and metrics.

    Parameters
    ----------
    events : EventArrays
        Stored features.
    schema : Schema
        Of the feature store.
    truth : int64 array (Q,)
        Row of the true object of each query, or -1.
    counting : {'all_true', 'valid', 'double_matched'}
        Queries with a true object; of these the ones called a track; or of these the ones whose mask (hits with
        p >= 0.5) and true hits share at least half of either (inclusive).
    members : str
        Array of the true hits of each object.
    """
    result = truth >= 0
    if counting == "valid":
        result &= valid_slots(events, len(truth))
    elif counting == "double_matched":
        result &= _double_matched(events, schema, truth, members)
    return result


def _double_matched(events: EventArrays, schema: Schema, truth: NDArray[np.int64], members: str) -> NDArray[np.bool_]:
    pairs = assigned_pairs(events, schema, MASK_THRESHOLD)
    hits, queries = edges(events, schema, "hit"), edges(events, schema, "query")
    axis = members.partition("/")[0]
    member_offsets = events[f"{axis}/offsets"]
    tracks = edges(events, schema, schema.axes[axis].parent)
    member_track = owners(member_offsets)
    member_hit = hits[owners(tracks)[member_track]] + events[members]
    slot = owners(pairs["pair/offsets"])
    hit = hits[owners(queries)[slot]] + pairs["pair/hit"]
    # One number per (true object, hit); pairs of unmatched queries get negative numbers, which no member has.
    n_hit = int(hits[-1])
    shared = np.isin(truth[slot] * n_hit + hit, member_track * n_hit + member_hit)
    n_shared = np.bincount(slot[shared], minlength=len(truth))
    n_true = np.diff(np.append(member_offsets, member_offsets[-1]))[truth]  # -1 reads the appended zero
    n_assigned = np.diff(pairs["pair/offsets"])
    return (n_shared > 0) & (2 * n_shared >= n_true) & (2 * n_shared >= n_assigned)


def physical_targets(
    events: EventArrays,
    array: str,
    row: NDArray[np.int64],
    columns: Mapping[str, Sequence[int]],
    event: NDArray[np.int64],
) -> NDArray[np.float32]:
    """True values of the slots.

    Parameters
    ----------
    events : EventArrays
        Stored features.
    array : str
        Array of the true parameters.
    row : int64 array (S,)
        Row in it, or -1 for a slot that does not count (its values are 0).
    columns : mapping
        One column of the array per field (F), or two for a ratio; a denominator nearer to 0 than 1e-6 is moved there.
    event : int64 array (S,)
        Event of each slot, for the message.

    Returns
    -------
    float32 array (S, F)

    Raises
    ------
    StoreError
        If a value is not finite, naming event and field.
    """
    result = np.zeros((len(row), len(columns)), np.float32)
    has = np.nonzero(row >= 0)[0]
    for field, (name, chosen) in enumerate(columns.items() if len(has) else ()):
        picked = events[array][row[has]].reshape(len(has), -1)
        value, *rest = (picked[:, column].astype(np.float64) for column in chosen)
        for denominator in rest:
            value = value / np.where(np.abs(denominator) < TINY, np.copysign(TINY, denominator), denominator)
        result[has, field] = value
        bad = has[~np.isfinite(result[has, field])]
        if len(bad):
            raise StoreError(
                f"target {name!r} is not finite",
                where=f"{array}, event {events[ID][event[bad[0]]]}",
                way_out="mend the source or drop the event there",
            )
    return result


def hits_of_slots(events: EventArrays, schema: Schema, kept: NDArray[np.int64], threshold: float) -> EventArrays:
    """Pairs of the kept queries, and which hits they need.

    Parameters
    ----------
    events : EventArrays
        Stored features.
    schema : Schema
        Of the feature store.
    kept : int64 array (S,)
        Rows of the kept queries, ascending.
    threshold : float
        Assignment threshold (inclusive).

    Returns
    -------
    EventArrays
        `pair/offsets` (S + 1), `pair/hit` int32 (P; position among the kept hits of the event), `pair/weight` float32
        (P), `pair/row` int64 (P; row of the hit in the flat input arrays), `pair/place` (P; see `assigned_pairs`),
        `hit/offsets` (n_event + 1) and `hit/row` int64: rows of the kept hits.
    """
    pairs = assigned_pairs(events, schema, threshold)
    hits, queries = edges(events, schema, "hit"), edges(events, schema, "query")
    picked, pair_offsets = rows(pairs["pair/offsets"], kept)
    event = owners(queries)[kept][owners(pair_offsets)]
    hit = hits[event] + pairs["pair/hit"][picked]
    used = np.zeros(int(hits[-1]), bool)
    used[hit] = True
    new_row = offsets_of(used)
    new_hits = new_row[hits]
    return {
        "pair/offsets": pair_offsets,
        "pair/hit": (new_row[hit] - new_hits[event]).astype(np.int32),
        "pair/weight": pairs["pair/weight"][picked],
        "pair/row": hit,
        "pair/place": pairs["pair/place"][picked],
        "hit/offsets": new_hits,
        "hit/row": np.nonzero(used)[0],
    }


def columns_of(schema: Schema, array: str, names: Iterable[str] | None, where: str = "") -> list[int]:
    """Positions of the named columns (None = all) of a stored array; one without columns has that of its own name.

    `where` is the key that named them, for the error.

    Raises
    ------
    ConfigError
        If a column is missing, naming the nearest.
    """
    spec = schema.arrays[array]
    known = spec.columns or (() if spec.shape else (array.partition("/")[2],))
    if names is None:
        return list(range(spec.shape[-1]))
    names = list(names)
    for name in names:
        if name not in known:
            raise ConfigError(f"{array} has no column {name!r}", where=where, way_out=nearest(name, known))
    return [known.index(name) for name in names]
