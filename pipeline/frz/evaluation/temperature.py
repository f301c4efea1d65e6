"""Temperature scaling: one number that makes the probabilities of a trained classifier honest.

C. Guo et al., On calibration of modern neural networks, ICML 2017: softmax(z / T), T chosen by the log-loss on events
that are neither trained nor evaluated on. Particular: ln p stands for z, from which it differs by a constant of each
member, so that probabilities from anywhere can be scaled. T changes no ranking: AUROC and AUPRC stay.
"""

# Axes: N members, K classes.

import numpy as np
from numpy.typing import NDArray

from frz.evaluation.bootstrap import Floats
from frz.heads.scores import LEAST_PROBABILITY

LARGEST = 100.0
"""T lies between 1 / 100 and 100: of a perfect or a useless ranking the best T is 0 or infinite."""
STEPS, NEAR = 100, 1e-10


def scaled(probability: Floats, temperature: float) -> Floats:
    """Probabilities (N, K) at another temperature: softmax(ln p / T); p below 1e-7 counts as that."""
    return _softmax(_logits(probability) / temperature)


def bound(temperature: float) -> str:
    """What to say of a fitted temperature that lies at an end of its interval; '' of any other."""
    for end, ranking in ((LARGEST, "useless"), (1 / LARGEST, "perfect")):
        if np.isclose(temperature, end):
            return f"{end:g} is the bound: of a {ranking} ranking there is no best temperature"
    return ""


def fit(probability: Floats, true: NDArray[np.int64]) -> float:
    """The temperature with the least log-loss on these members.

    Newton's method on b = 1 / T, in which the log-loss is convex (its second derivative is the variance of ln p under
    the scaled probabilities); where a step leaves the interval that holds the minimum, the interval is halved.

    Parameters
    ----------
    probability : float64 array (N, K)
        At T = 1; N at least 1.
    true : int64 array (N,)
        True classes.
    """
    logits = _logits(probability)
    of_true = np.take_along_axis(logits, true[:, None], 1)[:, 0]
    low, high, b = 1 / LARGEST, LARGEST, 1.0
    for _ in range(STEPS):
        p = _softmax(b * logits)
        expected = (p * logits).sum(1)
        slope = float((expected - of_true).mean())
        curvature = float((p * np.square(logits - expected[:, None])).sum(1).mean())
        low, high = (b, high) if slope < 0 else (low, b)
        newton = b - slope / curvature if curvature > 0 else low
        step = newton if low <= newton <= high else (low + high) / 2
        if abs(step - b) <= NEAR * b:
            break
        b = step
    return 1 / b


def _logits(probability: Floats) -> Floats:
    return np.log(np.maximum(probability, LEAST_PROBABILITY))


def _softmax(logits: Floats) -> Floats:
    exact = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(exact / exact.sum(1, keepdims=True))
