"""A temperature that was put in is found again, and is the best there is."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from frz.evaluation.temperature import LARGEST, bound, fit, scaled


def claims(temperature, n=20_000, n_class=2, seed=0):
    """Probabilities that are true, told at another temperature, and what came of them."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(n, n_class))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    true = (rng.random((n, 1)) > p.cumsum(1)).sum(1)
    return scaled(p, 1 / temperature), true


def log_loss(p, true):
    return -np.log(p[np.arange(len(true)), true]).mean()


@pytest.mark.parametrize("n_class", [2, 4])
@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature, n_class):
    p, true = claims(temperature, n_class=n_class)
    assert fit(p, true) == pytest.approx(temperature, rel=0.04)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_it_is_the_minimum_of_the_log_loss(temperature):
    p, true = claims(temperature, n=300, seed=1)
    best = minimize_scalar(lambda t: log_loss(scaled(p, t), true), bounds=(0.01, 50), method="bounded")
    assert fit(p, true) == pytest.approx(best.x, rel=1e-3)
    assert log_loss(scaled(p, fit(p, true)), true) <= best.fun + 1e-9


def test_temperature_one_changes_nothing_and_none_changes_the_order():
    p, _ = claims(1.0, n=100)
    np.testing.assert_allclose(scaled(p, 1.0), p, rtol=1e-9)
    np.testing.assert_array_equal(np.argsort(scaled(p, 2.5)[:, 1]), np.argsort(p[:, 1]))
    np.testing.assert_allclose(scaled(p, 2.5).sum(1), 1)


def test_where_there_is_no_best_one_it_ends_within_bounds():
    p = np.array([[0.9, 0.1], [0.2, 0.8]])
    always_right, always_wrong = fit(p, np.array([0, 1])), fit(p, np.array([1, 0]))
    assert always_right >= 1 / LARGEST
    unsure_and_right = fit(np.array([[0.51, 0.49], [0.4, 0.6]]), np.array([0, 1]))
    assert bound(unsure_and_right).startswith("0.01 is the bound: of a perfect ranking")
    assert bound(always_wrong).startswith("100 is the bound: of a useless ranking")
    assert bound(1.3) == ""
    assert log_loss(scaled(p, always_right), np.array([0, 1])) < 1e-12
    assert always_wrong == pytest.approx(LARGEST, rel=1e-6)
    assert fit(np.full((2, 2), 0.5), np.array([1, 0])) > 0


def test_a_certain_mistake_has_a_finite_answer():
    p = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    fitted = fit(p, np.array([0, 1, 1]))
    assert np.isfinite(scaled(p, fitted)).all()
    # Two of three right: at the best temperature the likelier class is claimed with 2/3.
    assert scaled(p, fitted)[0, 0] == pytest.approx(2 / 3)
