"""Numbers from residuals: bias and widths. Each is finite for no entries.

A robust width and a clipped root mean square stand beside the plain one: a few lost tracks decide the
latter alone.
"""

# Axes: N slots or other members.

import math

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]

CLIP = 3.0
"""Clipping of `clipped_rms`, in root mean squares."""


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
