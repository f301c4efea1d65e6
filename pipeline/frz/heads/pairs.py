"""Which hits belong to which query: one view of the two ways a store keeps assignment logits.

Dense (`hit/assignment_logit`, one column per query) or sparse (axis `pair` below `hit`); heads see neither, only
the assigned pairs sorted by (event, query, hit). The cut is made on logits, not on probabilities, so that
a pair at the threshold is in on every machine.
"""

# Axes: M hits, Q queries and P assigned pairs of all events together.

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from frz.errors import ConfigError, StoreError
from frz.store.ragged import edges, offsets_of
from frz.store.schema import EventArrays, Schema

DENSE = "hit/assignment_logit"
SPARSE = ("pair/query", "pair/logit")

FLOOR_SLACK = 1e-6
"""A floor is written in the precision of a config and compared with one computed from a probability."""


def assignment_arrays(schema: Schema) -> tuple[str, ...]:
    """Names of the stored arrays that hold the assignment.

    Raises
    ------
    ConfigError
        If the store holds neither form.
    """
    if DENSE in schema.arrays:
        return (DENSE,)
    if all(name in schema.arrays for name in SPARSE):
        return SPARSE
    raise ConfigError(
        f"the features hold no assignment: neither {DENSE} nor {' and '.join(SPARSE)}",
        way_out="extract with a backbone that gives hit-to-query logits",
    )


def logit_of(probability: float) -> float:
    """ln(p / (1 - p)) for p in [0, 1); -inf for 0."""
    return math.log(probability / (1 - probability)) if probability > 0 else -math.inf


def check_threshold(schema: Schema, threshold: float) -> None:
    """Refuse a threshold that would need pairs the store left out.

    Raises
    ------
    ConfigError
        If the threshold is below the floor of the stored pair logits.
    """
    names = assignment_arrays(schema)
    floor = schema.arrays[names[-1]].floor
    if floor is not None and logit_of(threshold) < floor - FLOOR_SLACK:
        raise ConfigError(
            f"assignment_threshold {threshold:g} is below {expit(floor):.4g}, the smallest assignment stored",
            way_out=f"raise it to {expit(floor):.4g} or more, or extract again with a lower floor",
        )


def assigned_pairs(events: EventArrays, schema: Schema, threshold: float) -> EventArrays:
    """Pairs (query, hit) whose assignment probability reaches the threshold.

    Parameters
    ----------
    events : EventArrays
        With the arrays of `assignment_arrays(schema)` and the offsets of the axes they live on.
    schema : Schema
        Of the feature store.
    threshold : float
        t in [0, 1); a pair is in if sigmoid(logit) >= t (inclusive, as in the definition of the mask
        a_nm = [p_nm >= t]).

    Returns
    -------
    EventArrays
        Axis `pair` below `query`: `pair/offsets` int64 (Q + 1) over the queries of all events, `pair/hit` int32
        (P) position of the hit in its event, `pair/weight` float32 (P) = sigmoid(logit), `pair/place` int64 (P) where
        the logit stands in the stored array, laid out flat. Sorted by (event, query, hit).

    Raises
    ------
    ConfigError
        If the threshold is below what the store kept.
    StoreError
        If a logit is NaN.
    """
    check_threshold(schema, threshold)
    if DENSE in schema.arrays:
        hit, query, place = _dense(events, threshold)
    else:
        hit, query, place = _sparse(events, schema, threshold)
    logit = events[assignment_arrays(schema)[-1]].reshape(-1)[place]
    hits, queries = edges(events, schema, "hit"), edges(events, schema, "query")
    event = np.searchsorted(hits, hit, side="right") - 1
    slot = queries[event] + query
    # Pairs come sorted by hit, and hits by event: a stable sort by slot leaves them sorted by (event, query, hit).
    order = np.argsort(slot, kind="stable")
    return {
        "pair/offsets": offsets_of(np.bincount(slot, minlength=int(queries[-1]))),
        "pair/hit": (hit - hits[event])[order].astype(np.int32),
        "pair/weight": expit(logit.astype(np.float64))[order].astype(np.float32),
        "pair/place": place[order],
    }


def _dense(events: EventArrays, threshold: float) -> tuple[NDArray[np.int64], ...]:
    logit = events[DENSE]  # (M, Q per event)
    _refuse_nan(logit, DENSE)
    hit, query = np.nonzero(logit >= np.float64(logit_of(threshold)))
    return hit, query, hit * logit.shape[1] + query


def _sparse(events: EventArrays, schema: Schema, threshold: float) -> tuple[NDArray[np.int64], ...]:
    assert schema.axes["pair"].parent == "hit"
    query, logit = (events[name] for name in SPARSE)
    _refuse_nan(logit, SPARSE[1])
    kept = np.nonzero(logit >= np.float64(logit_of(threshold)))[0]
    hit = np.searchsorted(events["pair/offsets"], kept, side="right") - 1
    return hit, query[kept].astype(np.int64), kept


def _refuse_nan(logit: NDArray[np.float32], name: str) -> None:
    if np.isnan(logit).any():
        raise StoreError(
            "NaN among the assignment logits", where=name, way_out="extract with a backbone that is finite"
        )
