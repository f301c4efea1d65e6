import json

import numpy as np
import pytest
from made_up_tracks import made_up_events, sets_of

from frz.data.velo.archive import N_MODULES, ParentEvent
from frz.data.velo.wedges import Wedges
from frz.evaluation.hitsets import predicted_tracks, true_tracks
from frz.evaluation.matching import match
from frz.evaluation.merging import merge, parent_truth
from frz.evaluation.tracking import score
from frz.store.ragged import concat


def collision(number, rng, n_particles=40):
    """Straight tracks from the beam line, 3 to 8 hits each, and noise."""
    lengths = rng.integers(3, 9, n_particles)
    direction = np.repeat(rng.uniform(-np.pi, np.pi, n_particles), lengths)
    phi = np.append(direction + rng.normal(0, 0.05, len(direction)), rng.uniform(-np.pi, np.pi, 30))
    rho = rng.uniform(5, 50, len(phi))
    xyz = np.stack([rho * np.cos(phi), rho * np.sin(phi), rng.uniform(0, 700, len(phi))], axis=1)
    module = np.sort(rng.integers(0, N_MODULES, len(phi)))
    owner = np.repeat(np.arange(n_particles), lengths)
    return ParentEvent(number, xyz, module, np.zeros((n_particles, 14)), owner, np.arange(len(owner)))


@pytest.fixture(scope="module")
def wedges():
    rng = np.random.default_rng(0)
    return concat([Wedges(8, 0.2, 3).cut(collision(number, rng)) for number in (5, 2, 9)])


def perfect_in_each_wedge(events):
    """All that a model could say that finds every particle wherever it has three hits, its own or not."""
    truth = sets_of(parent_truth(events))
    queries, hits = [], np.split(events["hit/parent_hit"], events["hit/offsets"][1:-1])
    for group, parent_hits in zip(events["event/group"], hits, strict=True):
        seen = [np.isin(parent_hits, list(s)) for event, s in truth if event == group]
        queries.append([claims for claims in seen if claims.sum() >= 3])
    n_queries = max(map(len, queries))
    logits = np.full((len(events["hit/parent_hit"]), n_queries), -9.0, np.float32)
    valid = np.full((len(queries), n_queries), -9.0, np.float32)
    for e, claims in enumerate(queries):
        begin, end = events["hit/offsets"][e : e + 2]
        for q, flags in enumerate(claims):
            logits[begin:end, q][flags] = 9.0
            valid[e, q] = 9.0
    return events | {"hit/assignment_logit": logits, "query/valid_logit": valid.ravel()}


def test_truth_of_the_collision_is_whole(wedges):
    rng = np.random.default_rng(0)
    expected = []
    for number in (5, 2, 9):
        event = collision(number, rng)
        expected += [(number, frozenset(event.hit_of[event.particle_of == p].tolist())) for p in range(40)]
    found = [(event, frozenset(hits)) for event, hits in sets_of(parent_truth(wedges))]
    assert len(found) == len(expected) == len(set(expected))
    assert set(found) == set(expected)


def test_tracks_found_in_several_wedges_are_kept_once(wedges):
    events = perfect_in_each_wedge(wedges)
    predicted, truth = predicted_tracks(events), parent_truth(events)
    merged = merge(predicted, events)
    assert len(predicted) > len(truth) == 120
    scores = score(match(merged, truth))
    assert scores.efficiency_strict.value == 1.0
    assert scores.duplicates_of_predicted_strict.successes == 0
    assert scores.fakes_of_predicted_strict.successes == 0
    # Without merging the overlaps count twice.
    before = score(match(merge(predicted, events, share=1.0), truth))
    assert before.duplicates_of_predicted_strict.successes > 10


def test_hits_beyond_the_wedge_count_against_the_track():
    """A track that is whole in its wedge has lost the hits beyond, and the merged numbers show it."""
    events = Wedges(8, 0.0, 3).cut(collision(5, np.random.default_rng(1)))
    tracks = true_tracks(events)
    inside = score(match(tracks, tracks))
    merged = score(match(merge(tracks, events), parent_truth(events)))
    n_lost = 40 - len(tracks)
    assert n_lost > 0
    assert inside.hit_efficiency_of_true.value == 1.0
    assert merged.hit_purity_of_matched.value == 1.0
    assert merged.efficiency_strict.total == 40
    # Each track holds the same part of its particle's hits as in the data set.
    n_tracks, n_all = np.diff(events["track/offsets"]), np.diff(events["particle_hit/offsets"])
    own = np.concatenate([np.arange(b, b + n) for b, n in zip(events["particle/offsets"][:-1], n_tracks, strict=True)])
    shares = np.append(np.diff(events["member/offsets"]) / n_all[own], np.zeros(n_lost))
    assert merged.hit_efficiency_of_true.value == pytest.approx(shares.mean())
    assert shares.mean() < 1.0


def test_one_wedge_per_collision_changes_nothing():
    events = made_up_events(3)
    events["event/group"] = events["event/id"] * 11
    events["hit/parent_hit"] = np.concatenate([np.arange(n, dtype=np.int32) for n in np.diff(events["hit/offsets"])])
    predicted = predicted_tracks(events, min_hits=0)
    merged = merge(predicted, events)
    assert sets_of(merged) == [(event * 11, hits) for event, hits in sets_of(predicted)]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.3, 0.5])
def test_against_taking_tracks_one_by_one(seed, share):
    rng = np.random.default_rng(seed)
    events = made_up_events(seed, n_events=15, n_queries=6)
    n_hits = np.diff(events["hit/offsets"])
    seats = [np.sort(rng.choice(12, n, replace=False)) for n in n_hits]
    events["hit/parent_hit"] = np.concatenate(seats).astype(np.int32)
    predicted = predicted_tracks(events, min_hits=1)
    place = {event: e for e, event in enumerate(events["event/id"])}
    tracks = []
    for i, (event, hits) in enumerate(sets_of(predicted)):
        wedge = place[event]
        tracks.append((i, wedge, events["event/group"][wedge], {int(seats[wedge][h]) for h in hits}))
    kept = []
    for i, wedge, group, hits in sorted(tracks, key=lambda t: (-len(t[3]), -predicted.quality[t[0]], t[0])):
        if not any(w != wedge and g == group and len(hits & other) > share * len(hits) for _, w, g, other in kept):
            kept.append((i, wedge, group, hits))
    assert sets_of(merge(predicted, events, share)) == [(group, hits) for _, _, group, hits in sorted(kept)]
    assert 0 < len(kept) < len(tracks)


def test_nothing_predicted(wedges):
    events = wedges | {
        "hit/assignment_logit": np.full((len(wedges["hit/raw"]), 2), -9.0, np.float32),
        "query/valid_logit": np.full(2 * len(wedges["event/id"]), -9.0, np.float32),
    }
    scores = score(match(merge(predicted_tracks(events), events), parent_truth(events)))
    assert (scores.efficiency_inclusive.successes, scores.efficiency_inclusive.total) == (0, 120)
    json.dumps(scores.to_json(), allow_nan=False)


def test_skipped_wedges_keep_their_particles(wedges):
    """Predictions for some of the wedges, truth for all: what was skipped is missed, not forgotten."""
    events = perfect_in_each_wedge(wedges)
    predicted = predicted_tracks(events)
    kept = predicted.select(predicted.event // 1000 != 2)
    scores = score(match(merge(kept, events), parent_truth(events)))
    assert (scores.efficiency_strict.successes, scores.efficiency_strict.total) == (80, 120)
