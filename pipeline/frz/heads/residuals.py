"""Numbers from residuals and scores: bias, widths, areas under curves, log-loss. Each is finite for no entries.

A robust width and a clipped root mean square stand beside the plain one: a few lost tracks decide the
latter alone.
"""

# Axes: N slots or other members, K classes.

import math

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]

CLIP = 3.0
"""Clipping of `clipped_rms`, in root mean squares."""
LEAST_PROBABILITY = 1e-7
"""Of a true class in the log-loss: one certain mistake costs 16, not infinity."""


def wrapped(difference: Values) -> Values:
    """Angle difference (rad) brought to [-pi, pi)."""
    return np.asarray((difference + math.pi) % (2 * math.pi) - math.pi)


def robust_width(residual: Values) -> float:
    """Half of the range that holds the central 68 %: (q84 - q16) / 2; 0 for no entries."""
    if not len(residual):
        return 0.0
    low, high = np.quantile(residual, (0.16, 0.84))
    return float(high - low) / 2


def clipped_rms(residual: Values) -> float:
    """Root mean square after removing |residual - mean| > 3 RMS again and again until nothing goes; 0 for no entries.

    Each round removes at least one entry or ends, so it ends.
    """
    kept = np.asarray(residual, np.float64)
    while len(kept):
        centre, spread = kept.mean(), kept.std()
        inside = np.abs(kept - centre) <= CLIP * spread
        if inside.all():
            return float(np.sqrt(np.mean(np.square(kept))))
        kept = kept[inside]
    return 0.0


def summary(residual: Values) -> dict[str, float]:
    """Mean (`bias`), `width`, `clipped_rms` and `rmse` of a residual."""
    exact = np.asarray(residual, np.float64)
    return {
        "bias": float(exact.mean()) if len(exact) else 0.0,
        "width": robust_width(exact),
        "clipped_rms": clipped_rms(exact),
        "rmse": float(np.sqrt(np.mean(np.square(exact)))) if len(exact) else 0.0,
    }


def area_under_curve(score: Values, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: probability that a positive scores above a negative, ties counting half.

    0.5 when one of the two is absent.
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return 0.5
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]  # mean rank of each group of ties, from 1
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def average_precision(score: Values, positive: NDArray[np.bool_]) -> float:
    """Area under the precision-recall curve as a sum of steps: sum over thresholds of (change of recall) x precision.

    Equal scores are one threshold. The share of positives is what a coin toss gets; 0 without positives.
    """
    if not positive.any():
        return 0.0
    _, place = np.unique(-score, return_inverse=True)
    taken = np.bincount(place)
    right = np.bincount(place, positive)
    precision = np.cumsum(right) / np.cumsum(taken)
    return float(right @ precision / positive.sum())


def class_metrics(probability: Values, true: NDArray[np.integer]) -> dict[str, float]:
    """Metrics of class probabilities (N, K) against true classes (N,).

    `accuracy`; `auc` (ROC) and `auprc` of the upper of two classes, of more the mean over classes against the rest;
    `brier` = mean of sum over classes of (p - [true])^2 / 2, for two classes (p_1 - [1])^2; `log_loss` = mean of
    -ln p of the true class, p at least 1e-7. All 0 for no entries, `auc` 0.5 where a class is missing.
    """
    n, n_class = probability.shape
    if not n:
        return dict.fromkeys(("accuracy", "auc", "auprc", "brier", "log_loss"), 0.0)
    p = np.asarray(probability, np.float64)
    is_true = true[:, None] == np.arange(n_class)
    looked_at = range(1, 2) if n_class == 2 else range(n_class)
    return {
        "accuracy": float((p.argmax(1) == true).mean()),
        "auc": float(np.mean([area_under_curve(p[:, k], is_true[:, k]) for k in looked_at])),
        "auprc": float(np.mean([average_precision(p[:, k], is_true[:, k]) for k in looked_at])),
        "brier": float(np.square(p - is_true).sum(1).mean() / 2),
        "log_loss": float(-np.log(np.maximum(p[is_true], LEAST_PROBABILITY)).mean()),
    }
