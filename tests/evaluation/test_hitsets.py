import numpy as np
import pytest
from made_up_tracks import made_up_events, sets_of

from frz.evaluation.hitsets import logit, predicted_tracks, query_sets, true_tracks


@pytest.mark.parametrize("seed", range(5))
def test_true_tracks(seed):
    events = made_up_events(seed)
    expected = []
    for e, event_id in enumerate(events["event/id"]):
        for t in range(*events["track/offsets"][e : e + 2]):
            expected.append((event_id, set(events["member/hit"][slice(*events["member/offsets"][t : t + 2])].tolist())))
    assert sets_of(true_tracks(events)) == expected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_query_sets_from_dense_logits_and_from_pairs(seed, threshold):
    events, pairs = made_up_events(seed), made_up_events(seed, pairs=True)
    expected = []
    for e, event_id in enumerate(events["event/id"]):
        begin, end = events["hit/offsets"][e : e + 2]
        probability = 1 / (1 + np.exp(-events["hit/assignment_logit"][begin:end].astype(float)))
        expected += [(event_id, set(np.flatnonzero(probability[:, q] >= threshold).tolist())) for q in range(5)]
    assert sets_of(query_sets(events, threshold)) == expected
    assert sets_of(query_sets(pairs, threshold)) == expected


@pytest.mark.parametrize("valid_threshold", [0.3, 0.5])
@pytest.mark.parametrize("min_hits", [0, 1, 3])
def test_predicted_tracks_are_valid_and_long_enough(valid_threshold, min_hits):
    events = made_up_events(1)
    everything = sets_of(query_sets(events))
    probability = 1 / (1 + np.exp(-events["query/valid_logit"].astype(float)))
    expected = [
        s for s, p in zip(everything, probability, strict=True) if p >= valid_threshold and len(s[1]) >= min_hits
    ]
    predicted = predicted_tracks(events, valid_threshold=valid_threshold, min_hits=min_hits)
    assert sets_of(predicted) == expected
    assert 0 < len(predicted) < len(everything)


def test_thresholds_include_their_value():
    events = made_up_events(0)
    events["hit/assignment_logit"][:] = 0.0
    assert query_sets(events, 0.5).n_hits.tolist() == np.repeat(np.diff(events["hit/offsets"]), 5).tolist()
    assert len(query_sets(events, 0.51).hits) == 0
    events["query/valid_logit"][:] = 0.0
    assert len(predicted_tracks(events, min_hits=0)) == 60


def test_select_by_mask_and_by_position():
    sets = true_tracks(made_up_events(2))
    listed = sets_of(sets)
    mask = np.arange(len(sets)) % 3 == 0
    assert sets_of(sets.select(mask)) == listed[::3]
    assert sets_of(sets.select(np.array([4, 0, 4]))) == [listed[4], listed[0], listed[4]]


def test_no_events():
    events = made_up_events(0, n_events=0)
    assert len(true_tracks(events)) == len(query_sets(events)) == 0


def test_logit():
    assert logit(0.1) == pytest.approx(np.log(1 / 9))
    assert (logit(0.0), logit(1.0)) == (-np.inf, np.inf)
