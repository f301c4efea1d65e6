import numpy as np
import pytest
from feature_events import N_QUERY, as_pairs, feature_events, feature_schema, probability

from frz.errors import StoreError
from frz.heads.slots import counted, hits_of_slots, matched_rows, physical_targets, valid_slots

SCHEMA = feature_schema()


def brute_double_matched(events):
    """Slots whose mask and true hits share at least half of either, by sets."""
    found = []
    hits, tracks, members = (events[f"{axis}/offsets"] for axis in ("hit", "track", "member"))
    p = probability(events["hit/assignment_logit"])
    for event in range(len(hits) - 1):
        for query in range(N_QUERY):
            match = events["query/match"][event * N_QUERY + query]
            if match < 0:
                found.append(False)
                continue
            row = tracks[event] + match
            true = set(events["member/hit"][members[row] : members[row + 1]].tolist())
            mask = set(np.nonzero(p[hits[event] : hits[event + 1], query] >= 0.5)[0].tolist())
            shared = len(true & mask)
            found.append(shared > 0 and 2 * shared >= len(true) and 2 * shared >= len(mask))
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sparse", [False, True])
def test_double_matched_equals_sets(seed, sparse):
    events = feature_events(seed, hits=(7, 0, 1, 12, 5, 9, 4, 30), tracks=(2, 0, 1, 3, 2, 0, 1, 3))
    expected = brute_double_matched(events)
    schema = feature_schema(sparse=sparse)
    events = as_pairs(events) if sparse else events
    truth = matched_rows(events, schema, "track")
    assert counted(events, schema, truth, "double_matched", "member/hit").tolist() == expected


def test_double_matching_finds_both_outcomes():
    events = feature_events(0, hits=(6, 6), tracks=(1, 1))
    for query in range(N_QUERY):
        events["hit/assignment_logit"][:, query] = -5
    events["query/match"][:] = [0, -1, -1, -1, 0, -1]
    events["member/offsets"] = np.array([0, 4, 8])
    events["member/hit"] = np.array([0, 1, 2, 3, 0, 1, 2, 3], np.int32)
    events["hit/assignment_logit"][[0, 1, 4, 5], 0] = 5  # shares two of four either way: in (inclusive)
    events["hit/assignment_logit"][[6, 10, 11], 1] = 5  # shares one of four
    truth = matched_rows(events, SCHEMA, "track")
    assert counted(events, SCHEMA, truth, "double_matched", "member/hit").tolist() == [True] + [False] * 5


def test_counting():
    events = feature_events()
    truth = matched_rows(events, SCHEMA, "track")
    true, valid = events["query/match"] >= 0, events["query/valid_logit"] >= 0
    np.testing.assert_array_equal(counted(events, SCHEMA, truth, "all_true", ""), true)
    np.testing.assert_array_equal(counted(events, SCHEMA, truth, "valid", ""), true & valid)
    assert (true & ~valid).any()


def test_a_backbone_without_validity_has_valid_slots_only():
    events = feature_events()
    del events["query/valid_logit"]
    assert valid_slots(events, 18).tolist() == [True] * 18


def test_matched_rows_count_in_the_flat_array():
    events = feature_events()
    rows = matched_rows(events, SCHEMA, "track").reshape(-1, N_QUERY)
    for event, (first, last) in enumerate(zip(events["track/offsets"], events["track/offsets"][1:], strict=False)):
        assert sorted(rows[event][rows[event] >= 0].tolist()) == list(range(first, last))


def test_physical_targets_and_ratios():
    events = feature_events()
    columns = {"eta": [1], "q/pt": [3, 0]}
    row = np.array([2, -1, 5])
    found = physical_targets(events, "track/parameters", row, columns, np.arange(3))
    p = events["track/parameters"]
    expected = [[p[2, 1], p[2, 3] / p[2, 0]], [0, 0], [p[5, 1], p[5, 3] / p[5, 0]]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    p[2, 0] = 0
    found = physical_targets(events, "track/parameters", row, columns, np.arange(3))
    assert found[0, 1] == pytest.approx(p[2, 3] * 1e6)


def test_a_target_that_is_not_finite_is_named():
    events = feature_events()
    events["track/parameters"][4, 1] = np.nan
    with pytest.raises(StoreError, match="track/parameters, event 3: target 'eta' is not finite"):
        physical_targets(events, "track/parameters", np.array([0, 4]), {"pt": [0], "eta": [1]}, np.array([0, 3]))


def test_hits_of_slots_keeps_what_the_kept_slots_use():
    events = feature_events()
    kept = np.array([0, 4, 9, 10, 12, 16])
    found = hits_of_slots(events, SCHEMA, kept, 0.4)
    offsets = events["hit/offsets"]
    p = probability(events["hit/assignment_logit"])
    used = set()
    for place, slot in enumerate(kept):
        event, query = divmod(int(slot), N_QUERY)
        expected = [h for h in range(offsets[event], offsets[event + 1]) if p[h, query] >= 0.4]
        begin, end = found["pair/offsets"][place : place + 2]
        local = found["pair/hit"][begin:end]
        rows = found["hit/row"][found["hit/offsets"][event] + local]
        assert rows.tolist() == expected
        np.testing.assert_allclose(found["pair/weight"][begin:end], p[expected, query], rtol=1e-6)
        used |= set(expected)
    assert found["hit/row"].tolist() == sorted(used)
