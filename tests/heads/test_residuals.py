import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from frz.heads.residuals import area_under_curve, clipped_rms, robust_width, summary, wrapped

RNG = np.random.default_rng(0)


def test_gaussian_widths_agree():
    residual = RNG.normal(0.5, 2, 100_000)
    found = summary(residual)
    assert found["bias"] == pytest.approx(0.5, abs=0.03)
    assert found["width"] == pytest.approx(2, rel=0.01)
    assert found["rmse"] == pytest.approx(math.hypot(0.5, 2), rel=0.01)
    assert found["clipped_rms"] == pytest.approx(found["rmse"], rel=0.02)


def test_tails_move_the_plain_width_alone():
    residual = np.concatenate([RNG.normal(0, 1, 10_000), np.full(100, 1e3)])
    assert robust_width(residual) == pytest.approx(1, rel=0.05)
    assert clipped_rms(residual) == pytest.approx(1, rel=0.05)
    assert summary(residual)["rmse"] > 50


def test_width_is_half_of_the_central_range():
    assert robust_width(np.arange(101.0)) == pytest.approx(34)


@pytest.mark.parametrize("residual", [np.zeros(0), np.zeros(1), np.full(5, 2.0)])
def test_degenerate_residuals_are_finite(residual):
    assert all(math.isfinite(value) for value in summary(residual).values())


def test_clipped_rms_of_a_constant_is_its_size():
    assert clipped_rms(np.full(5, -2.0)) == 2.0


def test_wrapped():
    np.testing.assert_allclose(wrapped(np.array([0.1, 2 * math.pi - 0.1, -4.0])), [0.1, -0.1, 2 * math.pi - 4])


def test_area_under_curve_equals_sklearn_with_ties():
    score = RNG.integers(0, 12, 300).astype(float)
    positive = RNG.random(300) < 0.3
    assert area_under_curve(score, positive) == pytest.approx(roc_auc_score(positive, score))


def test_area_under_curve_without_one_class():
    assert area_under_curve(np.arange(3.0), np.ones(3, bool)) == 0.5
    assert area_under_curve(np.zeros(0), np.zeros(0, bool)) == 0.5
