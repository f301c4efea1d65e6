"""Successive halving: after which epochs heads are dropped, and which."""

from collections.abc import Hashable, Mapping, Sequence
from math import ceil, inf
from statistics import fmean

from frz.sweep.space import HalvingConfig
from frz.training.config import TrainerConfig
from frz.training.monitor import Side, better_side
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


def side_of(metric: str, trainer: TrainerConfig) -> Side | float:
    """Which values of the metric are better: as `monitor_mode` says of the monitored one, else as its name tells.

    Small ones where neither does.
    """
    if metric == trainer.monitor and trainer.monitor_mode != "auto":
        return trainer.monitor_mode
    side = better_side(metric)
    return "min" if side is None else side


def score_at(lines: Sequence[Metrics], epoch: int, metric: str, side: Side | float = "min") -> float:
    """The metric at an epoch, or at the last one before that has it, turned so that smaller is better.

    Infinite where no line has it.
    """
    for line in reversed(lines):  # a head trained alone may have several in an epoch
        value, at = line.get(metric), line["epoch"]
        if value is not None and at is not None and at <= epoch:
            return abs(value - side) if isinstance(side, float) else -value if side == "max" else value
    return inf
