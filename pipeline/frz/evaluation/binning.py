"""Proportions in bins of a true quantity.

Particular: an empty bin stays in its place as 0 of 0, and what falls outside the edges is counted and told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.evaluation.intervals import Proportion


@dataclass(frozen=True)
class Binned:
    """One proportion per bin."""

    edges: tuple[float, ...]
    """n + 1 rising edges; bin i holds edge i <= value < edge i + 1, the last one its upper edge too."""
    bins: tuple[Proportion, ...]
    """n proportions, in the order of the bins."""
    outside: Proportion
    """What lies below the first edge, above the last or is NaN."""

    def to_json(self) -> dict[str, Any]:
        """Edges, one entry per bin, and what lies outside."""
        bins = [proportion.to_json() for proportion in self.bins]
        return {"edges": list(self.edges), "bins": bins, "outside": self.outside.to_json()}


def binned(
    values: NDArray[Any], success: NDArray[np.bool_], edges: Sequence[float], missing: NDArray[Any] | None = None
) -> Binned:
    """Fraction of successes in bins of a quantity.

    Parameters
    ----------
    values : array (T,)
        The quantity (true pt, eta, phi ...).
    success : bool array (T,)
        What is counted (`found` of `tracking`).
    edges : sequence of float
        Rising, at least two.
    missing : array, optional
        The quantity of further failures: particles of skipped events.
    """
    bounds = np.asarray(edges, np.float64)
    assert len(bounds) >= 2, "one bin needs two edges"
    assert (np.diff(bounds) > 0).all(), "edges must rise"
    failures = np.zeros(0) if missing is None else np.asarray(missing)
    everything = np.concatenate([values, failures]).astype(np.float64)
    flags = np.concatenate([success, np.zeros(len(failures), bool)])
    n_bins = len(bounds) - 1
    place = np.searchsorted(bounds, everything, side="right") - 1
    place[everything == bounds[-1]] = n_bins - 1
    place[~((everything >= bounds[0]) & (everything <= bounds[-1]))] = n_bins  # also NaN
    total = np.bincount(place, minlength=n_bins + 1)
    successes = np.bincount(place[flags], minlength=n_bins + 1)
    *bins, outside = (Proportion(int(k), int(n)) for k, n in zip(successes, total, strict=True))
    return Binned(tuple(bounds.tolist()), tuple(bins), outside)
