"""Tracks as sets of hits: what a model proposes, and what is true.

Particular: a hit may stand in several sets or in none, and a set may be empty. Events are told apart by their
id, so that predictions and truth may come from different readers in any order.
"""

# Axes: E events, Q queries per event, S sets, M (set, hit) pairs, N hits of all events.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.store.ragged import offsets_of, rows

Index = NDArray[np.int64]
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class HitSets:
    """S sets of hits, each within one event."""

    event: Index
    """(S,) id of the event."""
    offsets: Index
    """(S + 1,) where the hits of each set begin and end."""
    hits: Index
    """(M,) positions of the hits within their event; no hit twice in a set."""
    quality: NDArray[np.float64]
    """(S,) the higher, the more a set is believed; used to settle ties alone."""

    def __len__(self) -> int:
        return len(self.event)

    @property
    def n_hits(self) -> Index:
        """Hits per set (S,)."""
        return np.diff(self.offsets)

    @property
    def set_of_hit(self) -> Index:
        """Set of each (set, hit) pair (M,)."""
        return np.repeat(np.arange(len(self)), self.n_hits)

    def select(self, chosen: NDArray[Any]) -> "HitSets":
        """The sets that a mask (S,) or positions pick, in their order."""
        index = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        picked, offsets = rows(self.offsets, index)
        return HitSets(self.event[index], offsets, self.hits[picked], self.quality[index])


def true_tracks(events: Arrays) -> HitSets:
    """The true tracks of events, in their order.

    Parameters
    ----------
    events : mapping
        `event/id`, `track/offsets`, `member/offsets` and `member/hit` (positions within the event).
    """
    event = np.repeat(events["event/id"], np.diff(events["track/offsets"]))
    hits = events["member/hit"].astype(np.int64)
    return HitSets(event, events["member/offsets"], hits, np.ones(len(event)))


def query_sets(events: Arrays, threshold: float = 0.5) -> HitSets:
    """The hits that each query claims: E Q sets, query after query, empty ones too.

    Parameters
    ----------
    events : mapping
        `event/id`, `hit/offsets`, `query/valid_logit` (E Q,) and the assignment logits: either
        `hit/assignment_logit` (N, Q), or `pair/offsets` (N + 1), `pair/query` (positions within the event)
        and `pair/logit`. Hits without a stored pair are not claimed.
    threshold : float
        A hit is claimed if its assignment probability is at least this; by several queries, if need be.
    """
    n_events = len(events["event/id"])
    logits = events["query/valid_logit"].astype(np.float64)
    n_queries = len(logits) // max(n_events, 1)
    lengths = np.diff(events["hit/offsets"])
    event_of_hit = np.repeat(np.arange(n_events), lengths)
    if "hit/assignment_logit" in events:
        hit, query = np.nonzero(events["hit/assignment_logit"] >= logit(threshold))
    else:
        claimed = np.flatnonzero(events["pair/logit"] >= logit(threshold))
        hit = np.repeat(np.arange(len(event_of_hit)), np.diff(events["pair/offsets"]))[claimed]
        query = events["pair/query"][claimed].astype(np.int64)
    owner = event_of_hit[hit] * n_queries + query
    order = np.argsort(owner, kind="stable")
    local = hit - events["hit/offsets"][event_of_hit[hit]]
    return HitSets(
        event=np.repeat(events["event/id"], n_queries),
        offsets=offsets_of(np.bincount(owner, minlength=len(logits))),
        hits=local[order].astype(np.int64),
        quality=logits,
    )


def predicted_tracks(
    events: Arrays, threshold: float = 0.5, valid_threshold: float = 0.5, min_hits: int = 3
) -> HitSets:
    """The tracks that a user of the model gets, without looking at truth.

    A track is a query with a validity probability of at least `valid_threshold` that claims at least
    `min_hits` hits; queries below either bound are no tracks, thus neither right nor fake.

    Parameters
    ----------
    events : mapping
        As for `query_sets`.
    """
    sets = query_sets(events, threshold)
    return sets.select((sets.quality >= logit(valid_threshold)) & (sets.n_hits >= min_hits))


def logit(probability: float) -> float:
    """log(p / (1 - p)), at 0 and 1 its limits."""
    with np.errstate(divide="ignore"):
        return float(np.log(probability) - np.log1p(-probability))
