"""The spread of a number over other samples of the same size: events drawn anew, with replacement.

Efron, Ann. Statist. 7 (1979) 1; intervals are the percentiles of the drawn values. Particular: events of one group
(wedges of a collision) are not independent, so groups are drawn and their events come along.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from frz.store import ragged

Floats = NDArray[np.float64]

ROWS = 64
"""Samples that are weighted at once: 4 MB for 8,000 events, which a processor keeps near."""


def resamples(groups: NDArray[np.int64], n: int, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """`n` times the positions of the events of as many groups as there are, drawn with replacement.

    Parameters
    ----------
    groups : int64 array (n_events,)
        The group of each event.
    n : int
        Samples to draw.
    seed : int
        The same seed and groups give the same samples: numbers from equal samples are paired.
    """
    _, index = np.unique(groups, return_inverse=True)
    order, edges = np.argsort(index, kind="stable"), ragged.offsets_of(np.bincount(index))
    for drawn in _drawn(len(edges) - 1, n, seed):
        yield order[ragged.spread(edges[drawn], edges[drawn + 1])[0]]


def weights(groups: NDArray[np.int64], n: int, seed: int = 0) -> Iterator[Floats]:
    """How often each event is in the samples of `resamples`: blocks (rows, n_events) of `n` rows in all."""
    _, index = np.unique(groups, return_inverse=True)
    n_groups = int(index.max()) + 1 if len(index) else 0
    samples = _drawn(n_groups, n, seed)
    while block := [np.bincount(drawn, minlength=n_groups) for drawn in islice(samples, ROWS)]:
        yield np.stack(block)[:, index].astype(np.float64)


def _drawn(n_groups: int, n: int, seed: int) -> Iterator[NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    for _ in range(n):
        yield generator.integers(0, n_groups, n_groups)


def around(name: str, value: float | Floats, drawn: Floats) -> Floats:
    """Drawn values of a metric as its intervals take them.

    As they were drawn, but for a calibration error: bins of a drawn sample are off by more, whichever way they are
    off, so its values are mirrored at `value` (the basic bootstrap).
    """
    return 2 * value - drawn if name.rpartition("/")[2] == "ece" else drawn


def interval(name: str, value: float, drawn: Floats, level: float) -> tuple[float, float] | None:
    """The interval of a metric from its drawn values (R,); None if one of these is not finite."""
    mirrored = around(name, value, drawn)
    return percentiles(mirrored if mirrored is drawn else np.maximum(mirrored, 0), level)


def percentiles(values: Floats, level: float) -> tuple[float, float] | None:
    """Where the central share `level` of the values lies; None if a value is not finite."""
    if not len(values) or not np.isfinite(values).all():
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
