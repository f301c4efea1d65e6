"""Which predicted track stands for which particle, found without the training's matching.

Particular: a model's slots come in truth order only while truth is at hand. Here each predicted track is
held against all particles of its event, as for someone who runs the model on data.
"""

# Axes: P predicted tracks, T true tracks, C pairs of a predicted and a true track that share hits.

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from frz.evaluation.hitsets import HitSets, Index


def overlaps(first: HitSets, second: HitSets) -> tuple[Index, Index, Index]:
    """Pairs of a set of `first` and one of `second` in the same event that share hits.

    Returns
    -------
    a, b : int64 (C,)
        Positions in `first` and `second`, sorted by a, then b.
    shared : int64 (C,)
        Hits in both.
    """
    events, event = np.unique(np.concatenate([first.event, second.event]), return_inverse=True)
    stride = 1 + max((int(s.hits.max()) for s in (first, second) if len(s.hits)), default=0)
    event_a, event_b = event[: len(first)], event[len(first) :]
    column_a = event_a[first.set_of_hit] * stride + first.hits
    column_b = event_b[second.set_of_hit] * stride + second.hits
    used, column = np.unique(np.concatenate([column_a, column_b]), return_inverse=True)
    ones = np.ones(len(column), np.int64)
    split = len(column_a)
    a = csr_array((ones[:split], column[:split], first.offsets), shape=(len(first), len(used)))
    b = csr_array((ones[split:], column[split:], second.offsets), shape=(len(second), len(used)))
    table = (a @ b.T).tocsr()
    table.sort_indices()
    found = table.tocoo()
    return found.row.astype(np.int64), found.col.astype(np.int64), found.data


@dataclass(frozen=True)
class Matching:
    """Every predicted track with the particle it shares most hits with, every particle with one track."""

    n_predicted_hits: Index
    """(P,) hits of each predicted track."""
    n_true_hits: Index
    """(T,) hits of each particle."""
    particle: Index
    """(P,) the particle with most shared hits (of several the one with fewest hits, then the first); -1: none."""
    shared: Index
    """(P,) hits shared with it."""
    track: Index
    """(T,) the track that the particle is given to; -1: no track picked it."""

    @property
    def given(self) -> NDArray[np.bool_]:
        """Predicted tracks that hold their particle (P,); others that picked it came second."""
        held = np.zeros(len(self.particle), bool)
        held[self.track[self.track >= 0]] = True
        return held

    def double_majority(self, strict: bool) -> NDArray[np.bool_]:
        """Predicted tracks (P,) of which the majority is one particle's, and which hold that one's majority.

        Both shared / hits of the track and shared / hits of the particle must be > 0.5 (`strict`, as in
        TrackML) or >= 0.5 (else, as in the muon papers).
        """
        return _double_majority(self.shared, self.n_predicted_hits, self._particle_hits, strict)

    @property
    def perfect(self) -> NDArray[np.bool_]:
        """Predicted tracks (P,) that have all hits of their particle and no other."""
        same = np.stack([self.n_predicted_hits, self._particle_hits]) == np.maximum(self.shared, 1)
        whole: NDArray[np.bool_] = same.all(axis=0)
        return whole

    @property
    def _particle_hits(self) -> Index:
        """Hits of each track's particle (P,); 0 where it has none."""
        return np.append(self.n_true_hits, 0)[self.particle]


def match(predicted: HitSets, true: HitSets) -> Matching:
    """Match predicted to true tracks, one track per particle.

    Each predicted track picks the particle with which it shares most hits. Of the tracks that picked one
    particle, it is given to one with a double majority (> 0.5 before >= 0.5) if there is one, then to that
    with most shared hits, fewest hits of its own, highest quality, first in order.
    """
    a, b, shared = overlaps(predicted, true)
    n_predicted, n_true = predicted.n_hits, true.n_hits
    best = np.lexsort((b, n_true[b], -shared, a))
    best = best[np.diff(a[best], prepend=-1) > 0]  # the first of each predicted track
    particle, most = np.full(len(predicted), -1), np.zeros(len(predicted), np.int64)
    particle[a[best]], most[a[best]] = b[best], shared[best]
    picked = a[best]
    goal, hits = particle[picked], most[picked]
    majorities = [_double_majority(hits, n_predicted[picked], n_true[goal], strict) for strict in (True, False)]
    order = np.lexsort(
        (picked, -predicted.quality[picked], n_predicted[picked], -hits, ~majorities[1], ~majorities[0], goal)
    )
    order = order[np.diff(goal[order], prepend=-1) > 0]
    track = np.full(len(true), -1)
    track[goal[order]] = picked[order]
    return Matching(n_predicted, n_true, particle, most, track)


def _double_majority(shared: Index, n_predicted: Index, n_true: Index, strict: bool) -> NDArray[np.bool_]:
    twice, most = 2 * shared, np.maximum(n_predicted, n_true)
    return np.greater(twice, most) if strict else (shared > 0) & np.greater_equal(twice, most)
