"""Successive halving: after which epochs heads are dropped, and which."""

from collections.abc import Hashable, Mapping, Sequence
from math import ceil, inf
from statistics import fmean

from frz.sweep.space import HalvingConfig
from frz.training.record import Metrics


def rungs(config: HalvingConfig, epochs: int) -> list[int]:
    """Epochs after which the worst leave: `first`, then `eta` times as many each, below `epochs`."""
    found, rung = [], config.first
    while rung < epochs:
        found.append(rung)
        rung *= config.eta
    return found


def survivors(scores: Mapping[Hashable, Sequence[float]], eta: int) -> set[Hashable]:
    """The best one in `eta` of the points (at least one), by the mean of their seeds; equal ones in their order."""
    ranked = sorted(scores, key=lambda point: fmean(scores[point]) if scores[point] else inf)
    return set(ranked[: max(1, ceil(len(ranked) / eta))])


def score_at(lines: Sequence[Metrics], epoch: int, metric: str) -> float:
    """The metric at an epoch, or at the last one before that has it; infinite without any."""
    for line in reversed(lines):  # a head trained alone may have several in an epoch
        value, at = line.get(metric), line["epoch"]
        if value is not None and at is not None and at <= epoch:
            return value
    return inf
