import json

import numpy as np
import pytest

from frz.evaluation.binning import binned
from frz.evaluation.intervals import Proportion

EDGES = [0.0, 1.0, 2.0, 4.0]


def test_edges_belong_to_the_bin_above_but_for_the_last():
    values = np.array([0.0, 1.0, 1.5, 2.0, 4.0, -0.1, 4.1, np.nan])
    result = binned(values, np.array([1, 0, 1, 1, 1, 1, 0, 0], bool), EDGES)
    assert result.bins == (Proportion(1, 1), Proportion(1, 2), Proportion(2, 2))
    assert result.outside == Proportion(1, 3)


def test_empty_bins_stay_in_their_place():
    result = binned(np.array([3.0]), np.array([True]), EDGES)
    assert result.bins == (Proportion(0, 0), Proportion(0, 0), Proportion(1, 1))
    numbers = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert [entry["value"] for entry in numbers["bins"]] == [None, None, 1.0]
    assert numbers["edges"] == EDGES


@pytest.mark.parametrize("seed", range(5))
def test_against_numpy_histograms(seed):
    rng = np.random.default_rng(seed)
    values, success, missing = rng.normal(1, 2, 300).round(1), rng.random(300) < 0.7, rng.normal(1, 2, 40).round(1)
    result = binned(values, success, EDGES, missing)
    total = np.histogram(np.concatenate([values, missing]), EDGES)[0]
    assert [p.total for p in result.bins] == total.tolist()
    assert [p.successes for p in result.bins] == np.histogram(values[success], EDGES)[0].tolist()
    assert result.outside.total == 340 - total.sum()


@pytest.mark.parametrize("edges", [[1.0], [1.0, 1.0], [2.0, 1.0]])
def test_edges_must_rise(edges):
    with pytest.raises(AssertionError):
        binned(np.zeros(1), np.zeros(1, bool), edges)
