import numpy as np
import pytest
from feature_events import FLOOR_P, N_QUERY, as_pairs, feature_events, feature_schema, logit, probability

from frz.errors import ConfigError, StoreError
from frz.heads.pairs import assigned_pairs, assignment_arrays, check_threshold

DENSE, SPARSE = feature_schema(), feature_schema(sparse=True)


def brute(events, threshold):
    """(event, query, hit, p) by loops."""
    found = []
    offsets = events["hit/offsets"]
    p = probability(events["hit/assignment_logit"])
    for event in range(len(offsets) - 1):
        for query in range(N_QUERY):
            for hit in range(offsets[event], offsets[event + 1]):
                if p[hit, query] >= threshold:
                    found.append((event, query, hit - offsets[event], p[hit, query]))
    return found


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.9])
def test_pairs_are_those_of_the_loops(threshold):
    events = feature_events()
    pairs = assigned_pairs(events, DENSE, threshold)
    slot = np.repeat(np.arange(len(pairs["pair/offsets"]) - 1), np.diff(pairs["pair/offsets"]))
    expected = brute(events, threshold)
    assert len(pairs["pair/offsets"]) == 6 * N_QUERY + 1
    assert [(s // N_QUERY, s % N_QUERY, h) for s, h in zip(slot, pairs["pair/hit"], strict=True)] == [
        row[:3] for row in expected
    ]
    np.testing.assert_allclose(pairs["pair/weight"], [row[3] for row in expected], rtol=1e-6)
    assert pairs["pair/hit"].dtype == np.int32
    assert pairs["pair/weight"].dtype == np.float32


@pytest.mark.parametrize("threshold", [0.01, 0.1, 0.5])
def test_sparse_equals_dense(threshold):
    events = feature_events(3)
    dense = assigned_pairs(events, DENSE, threshold)
    sparse = assigned_pairs(as_pairs(events), SPARSE, threshold)
    logit_there = events["hit/assignment_logit"].ravel()[dense.pop("pair/place")]
    np.testing.assert_array_equal(as_pairs(events)["pair/logit"][sparse.pop("pair/place")], logit_there)
    for name, values in dense.items():
        np.testing.assert_array_equal(sparse[name], values)


def test_threshold_is_inclusive():
    events = feature_events(hits=(2,), tracks=(1,))
    events["hit/assignment_logit"][:] = -50
    events["hit/assignment_logit"][0, 1] = 0.0
    assert assigned_pairs(events, DENSE, 0.5)["pair/hit"].tolist() == [0]
    assert assigned_pairs(events, DENSE, 0.5000001)["pair/hit"].tolist() == []


def test_extreme_logits_give_no_warning_and_weights_in_range():
    events = feature_events(hits=(2,), tracks=(1,))
    events["hit/assignment_logit"][0] = 3e38
    events["hit/assignment_logit"][1] = -np.inf
    weight = assigned_pairs(events, DENSE, 0.0)["pair/weight"]
    assert weight.tolist() == [1, 0] * N_QUERY


def test_threshold_below_the_floor_is_refused():
    with pytest.raises(ConfigError, match=r"assignment_threshold 0\.005 is below 0\.01"):
        check_threshold(SPARSE, 0.005)
    with pytest.raises(ConfigError, match="below"):
        check_threshold(SPARSE, 0.0)
    check_threshold(SPARSE, FLOOR_P)
    check_threshold(DENSE, 0.0)


def test_nan_logits_are_refused():
    events = feature_events()
    events["hit/assignment_logit"][3, 1] = np.nan
    with pytest.raises(StoreError, match="NaN"):
        assigned_pairs(events, DENSE, 0.1)


def test_features_without_assignment_are_refused():
    with pytest.raises(ConfigError, match="hold no assignment"):
        assignment_arrays(feature_schema().select(["query/embedding"]))


def test_floor_of_the_fixture_is_a_logit():
    assert SPARSE.arrays["pair/logit"].floor == pytest.approx(logit(0.01))
