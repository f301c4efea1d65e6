import numpy as np
import pytest
from made_up_tracks import made_up_events, sets_of

from frz.evaluation.hitsets import HitSets, predicted_tracks, true_tracks
from frz.evaluation.matching import match, overlaps
from frz.store.ragged import offsets_of


def hit_sets(*sets, event=0, quality=None):
    lengths = np.array([len(s) for s in sets], np.int64)
    hits = np.array([hit for s in sets for hit in sorted(s)], np.int64)
    given = np.ones(len(sets)) if quality is None else np.array(quality, float)
    return HitSets(np.full(len(sets), event), offsets_of(lengths), hits, given)


def by_hand(predicted, true, quality):
    """The rules of `match` with loops over lists of (event, set)."""
    pick = []
    for event, hits in predicted:
        near = [(-len(hits & other), len(other), t) for t, (e, other) in enumerate(true) if e == event and hits & other]
        pick.append((min(near)[2], -min(near)[0]) if near else (-1, 0))

    def majority(p, strict):
        t, shared = pick[p]
        fractions = (shared / len(predicted[p][1]), shared / len(true[t][1]))
        return all(f > 0.5 for f in fractions) if strict else all(f >= 0.5 for f in fractions)

    def rank(p):
        return not majority(p, True), not majority(p, False), -pick[p][1], len(predicted[p][1]), -quality[p], p

    track = []
    for t in range(len(true)):
        rivals = [p for p in range(len(predicted)) if pick[p][0] == t]
        track.append(min(rivals, key=rank) if rivals else -1)
    strict, inclusive = ([t >= 0 and majority(p, s) for p, (t, _) in enumerate(pick)] for s in (True, False))
    perfect = [t >= 0 and predicted[p][1] == true[t][1] for p, (t, _) in enumerate(pick)]
    return pick, track, strict, inclusive, perfect


@pytest.mark.parametrize("seed", range(40))
def test_match_against_plain_loops(seed):
    events = made_up_events(seed, n_events=8)
    predicted, true = predicted_tracks(events, min_hits=1), true_tracks(events)
    shuffled = np.random.default_rng(seed).permutation(len(true))  # truth may come in another order
    true = true.select(shuffled)
    matching = match(predicted, true)
    pick, track, strict, inclusive, perfect = by_hand(sets_of(predicted), sets_of(true), predicted.quality)
    assert list(zip(matching.particle.tolist(), matching.shared.tolist(), strict=True)) == pick
    assert matching.track.tolist() == track
    assert matching.double_majority(strict=True).tolist() == strict
    assert matching.double_majority(strict=False).tolist() == inclusive
    assert matching.perfect.tolist() == perfect
    assert matching.given.tolist() == [p in track for p in range(len(predicted))]


@pytest.mark.parametrize("seed", range(5))
def test_overlaps_against_plain_loops(seed):
    events = made_up_events(seed)
    first, second = predicted_tracks(events, min_hits=0), true_tracks(events)
    expected = [
        (a, b, len(hits & other))
        for a, (event, hits) in enumerate(sets_of(first))
        for b, (e, other) in enumerate(sets_of(second))
        if e == event and hits & other
    ]
    assert list(zip(*(values.tolist() for values in overlaps(first, second)), strict=True)) == expected


def test_nothing_to_match():
    nothing, track = hit_sets(), hit_sets({0, 1, 2})
    assert match(nothing, nothing).track.tolist() == []
    assert match(track, nothing).particle.tolist() == [-1]
    assert match(track, nothing).double_majority(strict=False).tolist() == [False]
    assert match(nothing, track).track.tolist() == [-1]
    assert match(hit_sets(set()), hit_sets(set())).double_majority(strict=False).tolist() == [False]


def test_same_hits_in_another_event_are_not_shared():
    assert match(hit_sets({0, 1, 2}, event=3), hit_sets({0, 1, 2}, event=5)).track.tolist() == [-1]


@pytest.mark.parametrize(
    ("predicted", "true", "strict", "inclusive"),
    [
        ({0, 1, 2, 9}, {0, 1, 2, 3}, True, True),  # 3/4, 3/4
        ({0, 1, 8, 9}, {0, 1, 2}, False, True),  # purity exactly one half
        ({0, 1, 2}, {0, 1, 2, 3, 4, 5}, False, True),  # efficiency exactly one half
        ({0, 1, 8, 9}, {0, 1, 2, 3}, False, True),  # both exactly one half
        ({0, 1, 2}, {0, 1, 2, 3, 4, 5, 6}, False, False),
        ({0, 1, 7, 8, 9}, {0, 1, 2}, False, False),
    ],
)
def test_both_conventions(predicted, true, strict, inclusive):
    matching = match(hit_sets(predicted), hit_sets(true))
    assert matching.track.tolist() == [0]  # matched by overlap in any case
    assert matching.double_majority(strict=True).tolist() == [strict]
    assert matching.double_majority(strict=False).tolist() == [inclusive]


@pytest.mark.parametrize("pure", [set(range(7)), set(range(5))])  # a strict and an inclusive double majority
def test_a_pure_track_goes_before_a_long_impure_one(pure):
    particle, impure = set(range(10)), set(range(8)) | set(range(20, 40))
    matching = match(hit_sets(impure, pure), hit_sets(particle))
    assert matching.track.tolist() == [1]
    assert matching.given.tolist() == [False, True]


def test_equal_tracks_are_settled_by_quality_then_order():
    twins = [{0, 1, 2}, {0, 1, 2}]
    assert match(hit_sets(*twins, quality=[0.1, 0.9]), hit_sets({0, 1, 2})).track.tolist() == [1]
    assert match(hit_sets(*twins, quality=[0.5, 0.5]), hit_sets({0, 1, 2})).track.tolist() == [0]


def test_ids_of_any_size():
    big = 2**62
    matching = match(hit_sets({2**31 - 2, 5, 7}, event=big), hit_sets({2**31 - 2, 5, 8}, event=big))
    assert matching.shared.tolist() == [2]
