"""Random events with tracks and model outputs, as the evaluation reads them."""

import numpy as np

from frz.store.ragged import offsets_of


def made_up_events(seed, n_events=12, n_queries=5, pairs=False):
    """Events with 0 to 9 hits, 0 to 4 overlapping tracks, and queries that claim some of the hits.

    Returns
    -------
    dict
        Features and truth by `axis/name`; ids do not rise, groups hold about three events.
    """
    rng = np.random.default_rng(seed)
    n_hits = rng.integers(0, 10, n_events)
    n_tracks = rng.integers(0, 5, n_events)
    members, logits, match = [], [], []
    for hits, tracks in zip(n_hits, n_tracks, strict=True):
        truth = rng.random((tracks, hits)) < 0.5
        members += [np.flatnonzero(row) for row in truth]
        claims = rng.random((n_queries, hits)) < 0.3
        chosen = rng.permutation(n_queries)[:tracks]
        claims[chosen] = truth[: len(chosen)] ^ (rng.random((len(chosen), hits)) < 0.2)
        if n_queries > 1:
            claims[0] = claims[-1]  # duplicates
        logits.append(np.where(claims, 1.0, -1.0).T * rng.uniform(0.1, 4, (hits, n_queries)))
        match.append(np.full(n_queries, -1))
        match[-1][chosen] = np.arange(len(chosen))
    valid = rng.normal(0.5, 1, n_events * n_queries).round(1)
    events = {
        "event/id": rng.permutation(n_events) * 7 + 100,
        "event/group": rng.integers(0, n_events // 3 + 1, n_events),
        "hit/offsets": offsets_of(n_hits),
        "track/offsets": offsets_of(n_tracks),
        "member/offsets": offsets_of(np.array([len(m) for m in members], np.int64)),
        "member/hit": np.concatenate([np.zeros(0, int), *members]).astype(np.int32),
        "query/valid_logit": valid.astype(np.float32),
        "query/match": np.concatenate([np.zeros(0, int), *match]).astype(np.int32),
    }
    dense = np.concatenate([np.zeros((0, n_queries)), *logits]).astype(np.float32)
    if not pairs:
        return events | {"hit/assignment_logit": dense}
    kept = dense > -3.0
    return events | {
        "pair/offsets": offsets_of(kept.sum(axis=1)),
        "pair/query": np.nonzero(kept)[1].astype(np.int32),
        "pair/logit": dense[kept],
    }


def sets_of(hit_sets):
    """The sets as [(event, {hits}), ...]."""
    cuts = zip(hit_sets.event, hit_sets.offsets[:-1], hit_sets.offsets[1:], strict=True)
    return [(int(event), set(hit_sets.hits[begin:end].tolist())) for event, begin, end in cuts]
