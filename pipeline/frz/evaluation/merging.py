"""From wedges back to the collision: one list of tracks, and the truth it is held against.

Particular: the truth is not put together from the wedges' tracks, whose hits end at a wedge's edge. The data set
lists every particle once, in the wedge that owns it, with all its hits in the collision.
"""

# Axes: S predicted tracks of all wedges, C pairs of conflicting tracks.

import numpy as np

from frz.evaluation.hitsets import Arrays, HitSets
from frz.evaluation.matching import overlaps


def parent_truth(events: Arrays) -> HitSets:
    """The particles of the collisions with all their hits, found by their wedges or not.

    Give it all wedges of the data set, those that the model skipped too: then no particle leaves the
    denominator.

    Parameters
    ----------
    events : mapping
        `event/group`, `particle/offsets`, `particle_hit/offsets` and `particle_hit/parent_hit`.

    Returns
    -------
    HitSets
        In the order of the particles; events are collisions (`event/group`), hits positions in them.
    """
    event = np.repeat(events["event/group"], np.diff(events["particle/offsets"]))
    hits = events["particle_hit/parent_hit"].astype(np.int64)
    return HitSets(event, events["particle_hit/offsets"], hits, np.ones(len(event)))


def merge(predicted: HitSets, events: Arrays, share: float = 0.5) -> HitSets:
    """Tracks of all wedges as tracks of their collisions; what two wedges found twice is kept once.

    Tracks are taken from the longest to the shortest, of equal ones the one of higher quality, then in order. A
    track is dropped if more than `share` of its hits belong to one kept track of another wedge. Tracks of
    one wedge never drop each other: with one wedge nothing changes, and a model's own duplicates show.

    Parameters
    ----------
    predicted : HitSets
        From `predicted_tracks`.
    events : mapping
        The wedges: `event/id`, `event/group`, `hit/offsets` and `hit/parent_hit`.
    share : float
        See above.

    Returns
    -------
    HitSets
        The kept tracks in the order given; events are collisions, hits positions in them.
    """
    by_id = np.argsort(events["event/id"], kind="stable")
    wedge = by_id[np.searchsorted(events["event/id"], predicted.event, sorter=by_id)]
    assert np.array_equal(events["event/id"][wedge], predicted.event), "tracks of events that are not given"
    flat = events["hit/offsets"][wedge][predicted.set_of_hit] + predicted.hits
    tracks = HitSets(
        event=events["event/group"][wedge],
        offsets=predicted.offsets,
        hits=events["hit/parent_hit"][flat].astype(np.int64),
        quality=predicted.quality,
    )
    rank = np.empty(len(tracks), np.int64)
    rank[np.lexsort((np.arange(len(tracks)), -tracks.quality, -tracks.n_hits))] = np.arange(len(tracks))
    better, worse, shared = overlaps(tracks, tracks)
    conflict = (wedge[better] != wedge[worse]) & (rank[better] < rank[worse])
    conflict &= shared > share * tracks.n_hits[worse]
    better, worse = better[conflict], worse[conflict]
    kept = np.zeros(len(tracks), bool)
    open_ = np.ones(len(tracks), bool)
    # Taking tracks one by one, done for all collisions at once: who has no better rival left is kept and
    # drops its conflicts. The best open track never has a rival, so every round decides something.
    while open_.any():
        rivalled = np.zeros(len(tracks), bool)
        rivalled[worse[open_[better]]] = True
        now = open_ & ~rivalled
        kept |= now
        open_ &= ~now
        open_[worse[now[better]]] = False
    return tracks.select(kept)
