"""Numbers with an error: a proportion with its Wilson interval, a mean with its standard error.

Particular: a mean of per-track ratios is not a proportion of hits. Its spread is that of the tracks.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Proportion:
    """`successes` of `total`, both counts.

    The interval is the score interval of E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209: all p for which
    the observed count is within z standard deviations sqrt(p (1 - p) / n) of its expectation. It stays
    inside [0, 1] and has a width at 0 of n and n of n.
    """

    successes: int
    total: int

    def __post_init__(self) -> None:
        assert 0 <= self.successes <= self.total, f"{self.successes} of {self.total}"

    @classmethod
    def of(cls, flags: NDArray[np.bool_], missing: int = 0) -> "Proportion":
        """How many flags are set, with `missing` further failures."""
        return cls(int(np.count_nonzero(flags)), flags.size + missing)

    @property
    def value(self) -> float:
        """The observed proportion; NaN when there is nothing to count."""
        return self.successes / self.total if self.total else float("nan")

    def interval(self, z: float = 1.0) -> tuple[float, float]:
        """Wilson interval at z standard deviations; (0, 1) when there is nothing to count."""
        n = self.total
        if n == 0:
            return 0.0, 1.0
        centre = (self.successes + z * z / 2) / (n + z * z)
        half = z / (n + z * z) * sqrt(self.successes * (n - self.successes) / n + z * z / 4)
        # At the ends the interval touches 0 or 1 exactly; rounding must not push it past the value.
        low = 0.0 if self.successes == 0 else max(0.0, centre - half)
        return low, 1.0 if self.successes == n else min(1.0, centre + half)

    @property
    def low(self) -> float:
        """Lower end of the 68.3 % interval."""
        return self.interval()[0]

    @property
    def high(self) -> float:
        """Upper end of the 68.3 % interval."""
        return self.interval()[1]

    def to_json(self) -> dict[str, Any]:
        """Counts, value (null when there is nothing to count) and the 68.3 % interval."""
        value = self.value if self.total else None
        counts = {"successes": self.successes, "total": self.total}
        return counts | {"value": value, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        if not self.total:
            return "none of 0"
        low, high = self.interval()
        return f"{self.value:.4f} (+{high - self.value:.4f} -{self.value - low:.4f}, {self.successes}/{self.total})"


@dataclass(frozen=True)
class Mean:
    """A mean over `count` values and its standard error (NaN where there are too few values)."""

    value: float
    error: float
    count: int

    @classmethod
    def of(cls, values: NDArray[np.float64], missing: int = 0) -> "Mean":
        """Mean of the values and of `missing` further zeros."""
        count = values.size + missing
        if count == 0:
            return cls(float("nan"), float("nan"), 0)
        value = float(values.sum()) / count
        squares = float(((values - value) ** 2).sum()) + missing * value * value
        return cls(value, sqrt(squares / (count - 1) / count) if count > 1 else float("nan"), count)

    def to_json(self) -> dict[str, Any]:
        """Value, error (null where undefined) and count."""
        value, error = (None if np.isnan(x) else x for x in (self.value, self.error))
        return {"value": value, "error": error, "count": self.count}

    def __str__(self) -> str:
        return f"{self.value:.4f} +- {self.error:.4f} ({self.count})" if self.count else "none of 0"
