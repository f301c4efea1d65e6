import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from frz.heads.fieldmetrics import field_metrics
from frz.heads.residuals import (
    area_under_curve,
    average_precision,
    class_metrics,
    clipped_rms,
    robust_width,
    summary,
    wrapped,
)

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


def test_area_under_curve_equals_sklearn_with_ties():
    score = RNG.integers(0, 12, 300).astype(float)
    positive = RNG.random(300) < 0.3
    assert area_under_curve(score, positive) == pytest.approx(roc_auc_score(positive, score))


def test_area_under_curve_without_one_class():
    assert area_under_curve(np.arange(3.0), np.ones(3, bool)) == 0.5
    assert area_under_curve(np.zeros(0), np.zeros(0, bool)) == 0.5


def test_average_precision_equals_sklearn_with_ties():
    score = np.round(RNG.random(500), 2)
    positive = RNG.random(500) < 0.2 + 0.5 * score
    assert average_precision(score, positive) == pytest.approx(average_precision_score(positive, score))
    assert average_precision(score, np.zeros(500, bool)) == 0


@pytest.mark.parametrize("n_class", [2, 4])
def test_class_metrics_equal_sklearn(n_class):
    true = RNG.integers(0, n_class, 400)
    logit = RNG.normal(size=(400, n_class)) + 1.5 * (true[:, None] == np.arange(n_class))
    p = np.exp(logit) / np.exp(logit).sum(1, keepdims=True)
    found = class_metrics(p, true)
    one_hot = true[:, None] == np.arange(n_class)
    if n_class == 2:
        expected = roc_auc_score(true, p[:, 1]), average_precision_score(true, p[:, 1])
        assert found["brier"] == pytest.approx(brier_score_loss(true, p[:, 1]))
    else:
        expected = (
            roc_auc_score(true, p, multi_class="ovr"),
            np.mean([average_precision_score(one_hot[:, k], p[:, k]) for k in range(n_class)]),
        )
    assert (found["auc"], found["auprc"]) == pytest.approx(expected)
    assert found["log_loss"] == pytest.approx(log_loss(true, p))
    assert found["accuracy"] == pytest.approx((p.argmax(1) == true).mean())


def test_class_metrics_of_nothing():
    assert set(class_metrics(np.zeros((0, 2)), np.zeros(0, np.int64)).values()) == {0.0}
