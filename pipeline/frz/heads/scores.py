"""Numbers from the scores of classes: areas under curves, recall at a specificity, Brier score, log-loss, calibration.

Particular: every number is computed for many weightings of the same members at once. Members are ranked and binned
when an object is made; a sample drawn with replacement is a row of weights (how often each member was drawn), and costs
a sum, not a sort. A number without weights is the one-row case. Numpy alone: heads and evaluation both count with this.
"""

# Axes: R rows of weights, N members (slots or events), K classes, T thresholds (distinct scores), B bins.

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Values = NDArray[np.floating]

LEAST_PROBABILITY = 1e-7
"""Of a true class in the log-loss: one certain mistake costs 16, not infinity."""
SPECIFICITY = 0.95
"""At which recall is quoted: at most one in twenty negatives is called positive."""
N_BINS = 15
"""Equal bins of probability in the calibration error."""
SLACK = 1e-9
"""Relative; weights of thousands of members do not sum exactly."""
RANKED = ("auc", "auprc", "recall_at_spec95")
"""Numbers that need both classes, see `Ranking`."""
NAMES = ("accuracy", *RANKED, "brier", "log_loss", "ece")
"""What `ClassScores.metrics` gives."""


class Counts(NamedTuple):
    """Weight of the positives and of the negatives at or above each threshold, the highest first."""

    positive: Floats
    negative: Floats
    """(R, T) both."""


class Ranking:
    """Members ranked by score, the highest first; equal scores share a threshold.

    Parameters
    ----------
    score : float array (N,)
        Finite.
    positive : bool array (N,)
    """

    def __init__(self, score: Values, positive: NDArray[np.bool_]) -> None:
        self.order = np.argsort(-np.asarray(score, np.float64), kind="stable")
        ranked = np.asarray(score)[self.order]
        self.first = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])[: len(ranked)])
        """Place of the first member of each threshold (T,)."""
        self.thresholds = ranked[self.first]
        self.positive = np.asarray(positive, np.float64)[self.order]

    def counts(self, weights: Values | None = None) -> Counts:
        """Count at every threshold, for rows of weights (R, N); None = one row of ones."""
        if not len(self.order):
            return Counts(*np.zeros((2, 1 if weights is None else len(weights), 0)))
        ranked = np.ones((1, len(self.order))) if weights is None else np.asarray(weights, np.float64)[:, self.order]
        positive = ranked * self.positive
        steps = (np.add.reduceat(values, self.first, axis=1) for values in (positive, ranked - positive))
        return Counts(*(np.cumsum(values, axis=1) for values in steps))


def auc(counts: Counts) -> Floats:
    """Area under the ROC curve (R,): probability that a positive scores above a negative, ties counting half.

    NaN where one of the two is absent.
    """
    positive, negative = counts
    middle = (_before(positive) + positive) / 2
    return _ratio((_steps(negative) * middle).sum(1), _last(positive) * _last(negative))


def average_precision(counts: Counts) -> Floats:
    """Area under the precision-recall curve as a sum of steps (R,): (change of recall) x precision over thresholds.

    Equal scores are one threshold. The share of positives is what a coin toss gets; NaN where one class is absent.
    """
    positive, negative = counts
    taken = positive + negative
    precision = np.divide(positive, taken, out=np.zeros_like(taken), where=taken > 0)
    found = _ratio((_steps(positive) * precision).sum(1), _last(positive))
    return np.where(_last(negative) > 0, found, np.nan)


def recall_at(counts: Counts, specificity: float = SPECIFICITY) -> Floats:
    """Largest share of the positives (R,) at or above a threshold that leaves `specificity` of the negatives below it.

    Between two thresholds nothing is interpolated. NaN where one class is absent.
    """
    positive, negative = counts
    allowed = (1 - specificity) * _last(negative) * (1 + SLACK)
    best = np.where(negative <= allowed[:, None], positive, 0.0).max(1, initial=0.0)
    return np.where(_last(negative) > 0, _ratio(best, _last(positive)), np.nan)


class ClassScores:
    """Numbers of class probabilities against true classes, for any weighting of the members.

    Parameters
    ----------
    probability : float array (N, K)
        Rows sum to 1.
    true : int array (N,)
        Below K.
    """

    def __init__(self, probability: Values, true: NDArray[np.integer]) -> None:
        self.probability = np.asarray(probability, np.float64)
        self.true = np.asarray(true)
        self.n, self.n_class = self.probability.shape
        self.is_true = self.true[:, None] == np.arange(self.n_class)

    @cached_property
    def rankings(self) -> tuple[Ranking, ...]:
        """Of the upper of two classes; of each of more, against the rest."""
        looked_at = range(1, 2) if self.n_class == 2 else range(self.n_class)
        return tuple(Ranking(self.probability[:, k], self.is_true[:, k]) for k in looked_at)

    @cached_property
    def right(self) -> Floats:
        """1 where the likeliest class is the true one (N,)."""
        return np.asarray(self.probability.argmax(1) == self.true, np.float64)

    @cached_property
    def claimed(self) -> tuple[Floats, Floats]:
        """Probability that was claimed and what came of it (1 or 0), (N,) each.

        Of two classes that of the upper one; of more that of the likeliest (C. Guo et al., ICML 2017, section 2).
        """
        if self.n_class == 2:
            return self.probability[:, 1], self.is_true[:, 1].astype(np.float64)
        return self.probability.max(1), self.right

    @cached_property
    def bins(self) -> NDArray[np.int64]:
        """Bin of the claimed probability (N,): `N_BINS` of equal width, the last one holds 1."""
        return np.minimum((self.claimed[0] * N_BINS).astype(np.int64), N_BINS - 1)

    @cached_property
    def losses(self) -> Floats:
        """Accuracy, Brier score and log-loss of each member (N, 3)."""
        brier = np.square(self.probability - self.is_true).sum(1) / 2
        p_true = np.take_along_axis(self.probability, self.true[:, None], 1)[:, 0]
        return np.stack([self.right, brier, -np.log(np.maximum(p_true, LEAST_PROBABILITY))], 1)

    def metrics(self, weights: Values | None = None) -> dict[str, Floats]:
        """Numbers (R,) for rows of weights (R, N); None = one row of ones. NaN where a number is not defined.

        `accuracy`; `auc` (ROC), `auprc` and `recall_at_spec95` of the upper of two classes, of more the mean over the
        classes that occur, each against the rest; `brier` = mean of sum over classes of (p - [true])^2 / 2, for two
        classes (p_1 - [1])^2; `log_loss` = mean of -ln p of the true class, p at least 1e-7; `ece`, the expected
        calibration error: sum over 15 equal bins of |sum of (probability claimed - what came of it)| / N, see
        `claimed`.
        """
        rows = np.ones((1, self.n)) if weights is None else np.asarray(weights, np.float64)
        counts = [ranking.counts(rows) for ranking in self.rankings]
        total = rows.sum(1)
        means = _ratio(rows @ self.losses, total[:, None])
        off = np.zeros((self.n, N_BINS))
        off[np.arange(self.n), self.bins] = self.claimed[0] - self.claimed[1]
        return {
            "accuracy": means[:, 0],
            "auc": _mean([auc(each) for each in counts]),
            "auprc": _mean([average_precision(each) for each in counts]),
            "recall_at_spec95": _mean([recall_at(each) for each in counts]),
            "brier": means[:, 1],
            "log_loss": means[:, 2],
            "ece": _ratio(np.abs(rows @ off).sum(1), total),
        }


def class_metrics(probability: Values, true: NDArray[np.integer]) -> dict[str, float]:
    """`ClassScores.metrics` of members that count once each, as plain finite numbers to train by.

    All 0 for no members; where a class is missing `auc` is 0.5, what it is without any knowledge, and `auprc` and
    `recall_at_spec95` are 0.
    """
    if not len(true):
        return dict.fromkeys(NAMES, 0.0)
    found = {name: float(values[0]) for name, values in ClassScores(probability, true).metrics().items()}
    return {name: value if np.isfinite(value) else 0.5 * (name == "auc") for name, value in found.items()}


def _before(values: Floats) -> Floats:
    """Running sums (R, T) at the threshold before each."""
    return np.concatenate([np.zeros((len(values), 1)), values], 1)[:, : values.shape[1]]


def _steps(values: Floats) -> Floats:
    return values - _before(values)


def _last(values: Floats) -> Floats:
    return values[:, -1] if values.shape[1] else np.zeros(len(values))


def _mean(values: list[Floats]) -> Floats:
    """Mean (R,) over those that are defined."""
    each = np.stack(values)
    known = ~np.isnan(each)
    return _ratio(np.where(known, each, 0.0).sum(0), known.sum(0).astype(np.float64))


def _ratio(above: Floats, below: Floats) -> Floats:
    below = np.broadcast_to(below, above.shape)
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
