import math

import numpy as np
import pytest

from frz.heads.fieldmetrics import field_metrics
from frz.heads.residuals import clipped_rms, robust_width, summary, wrapped

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


def test_coverage_is_between_the_lowest_and_the_highest_quantile_in_any_order():
    truth = np.array([0.0, 1.0, 2.0, 9.0])
    quantiles = {"pt_q95": truth.clip(max=5), "pt_q5": truth - 1, "pt_q50": truth, "pt_q2_of": truth + 99}
    assert field_metrics("pt", "linear", {"pt": truth, **quantiles}, truth, relative=False)["pt/coverage"] == 0.75


def test_width_is_half_of_the_central_range():
    assert robust_width(np.arange(101.0)) == pytest.approx(34)


@pytest.mark.parametrize("residual", [np.zeros(0), np.zeros(1), np.full(5, 2.0)])
def test_degenerate_residuals_are_finite(residual):
    assert all(math.isfinite(value) for value in summary(residual).values())


def test_clipped_rms_of_a_constant_is_its_size():
    assert clipped_rms(np.full(5, -2.0)) == 2.0


def test_wrapped():
    np.testing.assert_allclose(wrapped(np.array([0.1, 2 * math.pi - 0.1, -4.0])), [0.1, -0.1, 2 * math.pi - 4])
