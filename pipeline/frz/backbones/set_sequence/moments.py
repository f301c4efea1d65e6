"""What `fit` measures, in one pass over the training stays: means and widths, of variables without their extremes.

Axes: n rows of a batch, C columns, N elements, V variables.
"""

import numpy as np
from numpy.typing import NDArray

TRIM = 0.01
"""Share of a variable's values left out on either side."""
MOST = 1 << 24
"""Values kept for that; of a larger data set every second, fourth ... one."""

Float = NDArray[np.float64]


class Moments:
    """Mean and standard deviation of columns, float64, from sums about the first batch's mean; NaN is no value."""

    def __init__(self, n_column: int) -> None:
        self._origin: Float | None = None
        self._count, self._sum, self._square = (np.zeros(n_column) for _ in range(3))

    def see(self, rows: NDArray[np.floating]) -> None:
        """Take rows (n, C) in."""
        known = ~np.isnan(rows)
        values = np.where(known, rows, 0.0).astype(np.float64)
        if self._origin is None:
            self._origin = values.sum(0) / np.maximum(known.sum(0), 1)
        shifted = np.where(known, values - self._origin, 0.0)
        self._count += known.sum(0)
        self._sum += shifted.sum(0)
        self._square += np.square(shifted).sum(0)

    def result(self) -> tuple[Float, Float]:
        """Mean and width (C,): 0 and 1 of a column without values, width 1 of one that does not vary."""
        count = np.maximum(self._count, 1)
        shift = self._sum / count
        mean = shift if self._origin is None else self._origin + shift
        return mean, _width(np.sqrt(np.maximum(self._square / count - shift**2, 0.0)), mean)


class TrimmedMoments:
    """Mean and standard deviation of each variable's values within its quantiles TRIM and 1 - TRIM."""

    def __init__(self, n_variable: int) -> None:
        self._n_variable = n_variable
        self._codes: list[NDArray[np.int64]] = []
        self._values: list[Float] = []
        self._every = 1

    def see(self, codes: NDArray[np.integer], values: NDArray[np.floating]) -> None:
        """Take elements in: codes (N,) and values (N,)."""
        self._codes.append(codes[:: self._every].astype(np.int64))
        self._values.append(values[:: self._every].astype(np.float64))
        if sum(map(len, self._codes)) > MOST:
            self._codes, self._values = [np.concatenate(self._codes)[::2]], [np.concatenate(self._values)[::2]]
            self._every *= 2

    def result(self) -> tuple[Float, Float]:
        """Mean and width (V,): 0 and 1 of a variable without values, width 1 of one that does not vary."""
        mean, width = np.zeros(self._n_variable), np.zeros(self._n_variable)
        for variable, values in enumerate(self._sorted()):
            cut = int(TRIM * len(values))
            inner = values[cut : len(values) - cut]
            if len(inner):
                mean[variable], width[variable] = inner.mean(), inner.std()
        return mean, _width(width, mean)

    def quantiles(self, at: Float) -> Float:
        """Quantiles (V, K) at probabilities (K,); zeros of a variable without values."""
        found = np.zeros((self._n_variable, len(at)))
        for variable, values in enumerate(self._sorted()):
            if len(values):
                found[variable] = np.quantile(values, at)
        return found

    def _sorted(self) -> list[Float]:
        """The values of each variable, in order."""
        codes, values = np.concatenate(self._codes), np.concatenate(self._values)
        order = np.lexsort((values, codes))
        bounds = np.searchsorted(codes[order], np.arange(1, self._n_variable))
        return np.split(values[order], bounds)


def _width(spread: Float, mean: Float) -> Float:
    # below the resolution of float32 a spread is rounding, not information
    return np.where(spread > 1e-6 * np.abs(mean), spread, 1.0)
