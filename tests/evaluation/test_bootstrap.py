"""Drawn samples keep groups whole and give the spread that theory knows."""

import numpy as np
import pytest
from scipy.stats import norm

from frz.evaluation.bootstrap import percentiles, resamples, weights
from frz.heads.scores import Ranking, auc


def test_a_sample_holds_whole_groups_and_as_many_as_there_are():
    groups = np.array([7, 3, 7, 5, 3, 7])
    for chosen in resamples(groups, 20):
        drawn = groups[chosen]
        times = {group: (drawn == group).sum() / (groups == group).sum() for group in (3, 5, 7)}
        assert all(share == int(share) for share in times.values())
        assert sum(times.values()) == 3


def test_equal_seeds_give_paired_samples():
    groups = np.arange(50)
    one, same, other = (np.stack(list(resamples(groups, 3, seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_the_interval_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    means = np.array([values[chosen].mean() for chosen in resamples(np.arange(400), 2000)])
    low, high = percentiles(means, 0.683)
    assert (high - low) / 2 == pytest.approx(values.std() / 20, rel=0.1)


def test_the_mean_of_pairs_that_agree_is_known_as_well_as_that_of_single_events():
    values = np.random.default_rng(0).normal(size=400).repeat(2)
    spread = {}
    for name, groups in (("pairs", np.arange(400).repeat(2)), ("single", np.arange(800))):
        spread[name] = np.std([values[chosen].mean() for chosen in resamples(groups, 2000)])
    assert spread["pairs"] / spread["single"] == pytest.approx(np.sqrt(2), rel=0.1)


def test_there_is_no_interval_of_what_is_not_finite():
    assert percentiles(np.array([1.0, np.nan]), 0.683) is None
    assert percentiles(np.array([]), 0.683) is None


def test_weights_count_what_the_samples_hold():
    groups = np.array([7, 3, 7, 5, 3, 7])
    for n in (1, 64, 130):
        counted = [np.bincount(chosen, minlength=6) for chosen in resamples(groups, n, seed=4)]
        np.testing.assert_array_equal(np.concatenate(list(weights(groups, n, seed=4))), counted)
    assert list(weights(groups, 0)) == []


def test_intervals_of_an_area_hold_the_true_one_as_often_as_they_claim():
    """Normal scores a distance d apart have the area Phi(d / sqrt 2)."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(200):
        positive = np.arange(150) < 60
        ranking = Ranking(rng.normal(size=150) + positive, positive)
        drawn = [auc(ranking.counts(rows)) for rows in weights(np.arange(150), 128)]
        low, high = percentiles(np.concatenate(drawn), 0.683)
        inside += low <= norm.cdf(1 / np.sqrt(2)) <= high
    # Two standard deviations of 200 binomial trials are 6.6 %.
    assert inside / 200 == pytest.approx(0.683, abs=0.07)
