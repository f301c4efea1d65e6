"""Every number against scikit-learn, pairs counted one by one or thresholds tried in turn; weights against copies."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from frz.heads.scores import NAMES, ClassScores, Ranking, auc, average_precision, class_metrics, recall_at

RNG = np.random.default_rng(0)


def tied(n=300, levels=12):
    score = RNG.integers(0, levels, n) / levels
    return score, RNG.random(n) < 0.1 + 0.6 * score


def made_up(n=400, n_class=2):
    true = RNG.integers(0, n_class, n)
    logit = RNG.normal(size=(n, n_class)) + 1.5 * (true[:, None] == np.arange(n_class))
    return np.exp(logit) / np.exp(logit).sum(1, keepdims=True), true


def test_the_area_counts_pairs_and_half_of_the_ties():
    score, positive = tied()
    up, down = score[positive][:, None], score[~positive][None, :]
    (found,) = auc(Ranking(score, positive).counts())
    assert found == pytest.approx(np.mean((up > down) + 0.5 * (up == down)))
    assert found == pytest.approx(roc_auc_score(positive, score))


def test_average_precision_sums_steps_and_equal_scores_are_one():
    score, positive = tied()
    (found,) = average_precision(Ranking(score, positive).counts())
    by_hand, recall = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        taken = score >= threshold
        now = (taken & positive).sum() / positive.sum()
        by_hand += (now - recall) * (taken & positive).sum() / taken.sum()
        recall = now
    assert found == pytest.approx(by_hand)
    assert found == pytest.approx(average_precision_score(positive, score))


@pytest.mark.parametrize("specificity", [0.0, 0.5, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("levels", [4, 50, 10_000])
def test_recall_tries_every_threshold(specificity, levels):
    score, positive = tied(levels=levels)
    allowed = [t for t in [*set(score), 2.0] if (score[~positive] < t).mean() >= specificity - 1e-12]
    expected = max((score[positive] >= t).mean() for t in allowed)
    assert recall_at(Ranking(score, positive).counts(), specificity)[0] == pytest.approx(expected)


def test_one_class_alone_has_no_area():
    for positive in (np.ones(3, bool), np.zeros(3, bool)):
        counts = Ranking(np.arange(3.0), positive).counts()
        assert np.isnan([auc(counts)[0], average_precision(counts)[0], recall_at(counts)[0]]).all()
    empty = Ranking(np.zeros(0), np.zeros(0, bool)).counts()
    assert np.isnan([auc(empty)[0], average_precision(empty)[0], recall_at(empty)[0]]).all()


def test_scores_that_say_nothing():
    positive = np.arange(100) < 14
    counts = Ranking(np.full(100, 0.14), positive).counts()
    assert (auc(counts)[0], recall_at(counts)[0]) == (0.5, 0.0)
    assert average_precision(counts)[0] == pytest.approx(0.14)


@pytest.mark.parametrize("n_class", [2, 4])
def test_metrics_equal_sklearn(n_class):
    p, true = made_up(n_class=n_class)
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


@pytest.mark.parametrize("n_class", [2, 3])
def test_calibration_error_of_every_bin_by_hand(n_class):
    p, true = made_up(n_class=n_class)
    claimed = p[:, 1] if n_class == 2 else p.max(1)
    came = true == 1 if n_class == 2 else p.argmax(1) == true
    expected = 0.0
    for k in range(15):
        inside = (claimed >= k / 15) & (claimed < (k + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(claimed[inside].mean() - came[inside].mean())
    assert class_metrics(p, true)["ece"] == pytest.approx(expected)


def test_a_calibration_that_is_right_has_no_error_and_certainty_is_in_the_last_bin():
    p = np.array([0.25] * 4 + [1.0] * 2)
    true = np.array([1, 0, 0, 0, 1, 1])
    assert class_metrics(np.stack([1 - p, p], 1), true)["ece"] == pytest.approx(0)


@pytest.mark.parametrize("n_class", [2, 3])
def test_weights_are_copies(n_class):
    p, true = made_up(80, n_class)
    p = p.round(1)
    p[:, -1] = 1 - p[:, :-1].sum(1)
    weights = RNG.integers(0, 4, (5, 80))
    found = ClassScores(p, true).metrics(weights)
    for row, copies in enumerate(weights):
        expected = class_metrics(p.repeat(copies, 0), true.repeat(copies))
        assert {name: values[row] for name, values in found.items()} == pytest.approx(expected)


def test_a_row_without_one_of_the_classes_is_not_a_number_where_both_are_needed():
    p, true = made_up(50)
    weights = np.stack([np.ones(50), true == 0, np.zeros(50)])
    found = ClassScores(p, true).metrics(weights)
    for name in ("auc", "auprc", "recall_at_spec95"):
        assert np.isnan(found[name]).tolist() == [False, True, True]
    for name in ("brier", "log_loss", "ece", "accuracy"):
        assert np.isnan(found[name]).tolist() == [False, False, True]


def test_of_more_classes_those_that_occur_are_averaged():
    p, true = made_up(200, 3)
    two = true > 0
    found = class_metrics(p[two], true[two])
    sides = [roc_auc_score(true[two] == k, p[two][:, k]) for k in (1, 2)]
    assert found["auc"] == pytest.approx(np.mean(sides))


def test_numbers_to_train_by_are_always_finite():
    assert class_metrics(np.zeros((0, 2)), np.zeros(0, np.int64)) == dict.fromkeys(NAMES, 0.0)
    p, _ = made_up(20)
    found = class_metrics(p, np.zeros(20, np.int64))
    assert found.keys() == set(NAMES)
    assert (found["auc"], found["auprc"], found["recall_at_spec95"]) == (0.5, 0.0, 0.0)
