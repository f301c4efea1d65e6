import json

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binomtest

from frz.evaluation.intervals import Mean, Proportion


@pytest.mark.parametrize(("successes", "total"), [(0, 1), (1, 1), (0, 50), (3, 50), (25, 50), (50, 50), (9, 100_000)])
@pytest.mark.parametrize("z", [1.0, 1.96])
def test_wilson_against_scipy(successes, total, z):
    level = float(ndtr(z) - ndtr(-z))
    expected = binomtest(successes, total).proportion_ci(level, method="wilson")
    assert Proportion(successes, total).interval(z) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_ends_solve_its_defining_equation():
    proportion = Proportion(17, 60)
    for p in proportion.interval(2.0):
        assert abs(17 - 60 * p) == pytest.approx(2.0 * np.sqrt(60 * p * (1 - p)))


@pytest.mark.parametrize("total", [1, 3, 10, 997])
def test_interval_holds_the_value(total):
    for successes in {0, 1, total // 2, total}:
        proportion = Proportion(successes, total)
        assert 0 <= proportion.low <= proportion.value <= proportion.high <= 1
        assert proportion.low < proportion.high


def test_nothing_to_count_is_not_zero():
    empty = Proportion(0, 0)
    assert np.isnan(empty.value)
    assert empty.interval() == (0.0, 1.0)
    assert json.loads(json.dumps(empty.to_json(), allow_nan=False))["value"] is None
    assert str(empty) == "none of 0"


def test_of_flags_and_missing():
    assert Proportion.of(np.array([True, False, True]), missing=4) == Proportion(2, 7)
    assert str(Proportion(2, 7)) == "0.2857 (+0.1887 -0.1352, 2/7)"


def test_more_successes_than_trials_is_a_bug():
    with pytest.raises(AssertionError):
        Proportion(3, 2)


@pytest.mark.parametrize("missing", [0, 3])
def test_mean_and_its_standard_error(missing):
    values = np.random.default_rng(0).random(20)
    padded = np.append(values, np.zeros(missing))
    mean = Mean.of(values, missing)
    assert mean.value == pytest.approx(padded.mean())
    assert mean.error == pytest.approx(padded.std(ddof=1) / np.sqrt(len(padded)))
    assert mean.count == len(padded)
    assert mean.to_json() == {"value": mean.value, "error": mean.error, "count": mean.count}


def test_mean_of_too_few():
    assert Mean.of(np.zeros(0)).to_json() == {"value": None, "error": None, "count": 0}
    assert Mean.of(np.array([0.5])).to_json() == {"value": 0.5, "error": None, "count": 1}
