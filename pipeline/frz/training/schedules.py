"""Learning-rate schedules: the rate of an optimiser step as a pure function of its number.

A pure function needs no saving and no catching up: step s has the same rate however often the run was interrupted.
`plateau` alone has a memory, three numbers. The curves are those of torch's schedulers, in units of `lr`. With t the
optimiser step of n in the run (`schedule_per: epoch`: the epoch of n epochs), both from 0, a = `initial_lr_fraction`,
z = `final_lr_fraction`, and c(x) = (1 + cos pi x) / 2, which falls from 1 to 0:

  onecycle         `OneCycleLR`, cosine annealing, momentum left alone; p = warmup n - 1:
                   1 + (a - 1) c(t / p) for t < p, then z + (1 - z) c((t - p) / (n - 1 - p))
  warm-up          `LinearLR`, of all that follow but `none`; w = round(warmup n): a + (1 - a) t / w for t < w
  cosine           `CosineAnnealingLR`: z + (1 - z) c((t - w) / (n - 1 - w))
  cosine_restarts  `CosineAnnealingWarmRestarts`: z + (1 - z) c(u / T), u steps into a cycle of T; the first cycle has
                   T = `restart_epochs`, each next one `restart_growth` times the one before
  plateau          `ReduceLROnPlateau`: 1 at first; times `plateau_factor`, but never below z, when more than
                   `plateau_patience` validations in a row were no better than the best by `plateau_threshold`
  schedule_free    1: the optimiser averages its weights instead (`frz.training.optimisers`)
  none             1, without a warm-up
"""

from collections.abc import Mapping
from math import cos, pi
from typing import Any, Literal

from pydantic import Field
from torch.optim import Optimizer

from frz.config import StrictModel
from frz.training.optimisers import LR_FACTOR


class ScheduleConfig(StrictModel):
    """How the learning rate runs from the first optimiser step to the last."""

    schedule: Literal["onecycle", "cosine", "cosine_restarts", "plateau", "schedule_free", "none"] = "onecycle"
    """Cosine up and down; warm-up and cosine down; the same again and again; down when validation no longer gets
    better; `lr` with averaged weights (adamw and sgd); `lr`."""
    schedule_per: Literal["step", "epoch"] = "step"
    """Whether the rate moves with every optimiser step or stays as it is within an epoch."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of all steps (of all epochs with `schedule_per: epoch`) in which the rate rises to `lr`."""
    initial_lr_fraction: float = Field(default=0.1, gt=0, le=1)
    """Rate of the first step of a warm-up, in units of `lr`."""
    final_lr_fraction: float = Field(default=1e-2, ge=0, le=1)
    """Lowest rate after the warm-up, in units of `lr`; `onecycle` and `cosine` reach it in the last step."""
    restart_epochs: int = Field(default=10, ge=1)
    """`cosine_restarts`: epochs of the first cycle."""
    restart_growth: int = Field(default=2, ge=1)
    """`cosine_restarts`: length of a cycle, in units of the one before."""
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    """`plateau`: what the rate is multiplied by."""
    plateau_patience: int = Field(default=5, ge=0)
    """`plateau`: validations in a row that may pass without a better one."""
    plateau_threshold: float = Field(default=1e-4, ge=0)
    """`plateau`: least relative change that counts as better."""


class Schedule:
    """The schedule of one run.

    Parameters
    ----------
    config : ScheduleConfig
        Which one.
    n_epochs, steps_per_epoch : int
        Length of the run; steps are those of the optimiser.
    """

    def __init__(self, config: ScheduleConfig, n_epochs: int, steps_per_epoch: int) -> None:
        self._config, self._n_epochs, self._steps_per_epoch = config, n_epochs, steps_per_epoch
        self._level = 1.0
        self._best: float | None = None
        self._stale = 0

    def factor(self, step: int) -> float:
        """Learning rate of optimiser step `step`, counted from 0 over the whole run, in units of `lr`."""
        per_epoch = self._steps_per_epoch
        assert 0 <= step < self._n_epochs * per_epoch, f"step {step} of {self._n_epochs} x {per_epoch}"
        if self._config.schedule_per == "epoch":
            return self._level * _curve(self._config, step // per_epoch, self._n_epochs, 1)
        return self._level * _curve(self._config, step, self._n_epochs * per_epoch, per_epoch)

    def validated(self, value: float) -> None:
        """Hear of a validation; lower is better, so a metric that should rise comes with its sign turned.

        `plateau` lowers the rate of the next step where that is due; the others do not listen. The threshold is
        relative to the size of the best value: torch's own rule takes a standstill for progress where a loss is
        negative, and is the same where it is positive.
        """
        config = self._config
        if config.schedule != "plateau":
            return
        if self._best is None or value < self._best - config.plateau_threshold * abs(self._best):
            self._best, self._stale = value, 0
        else:
            self._stale += 1
        if self._stale > config.plateau_patience:
            self._level = max(self._level * config.plateau_factor, config.final_lr_fraction)
            self._stale = 0

    def state(self) -> dict[str, Any]:
        """What `restore` needs; JSON."""
        return {"level": self._level, "best": self._best, "stale": self._stale}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Undo `state`."""
        self._level, self._best, self._stale = state["level"], state["best"], state["stale"]


def set_lr(optimiser: Optimizer, lr: float) -> None:
    """Give every parameter group the rate `lr`, or its own share of it."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group.get(LR_FACTOR, 1.0)


def _curve(config: ScheduleConfig, t: int, n: int, epoch: int) -> float:
    """Rate at time t of n in units of `lr`, with `epoch` units of time in an epoch; `plateau` at its first level."""
    initial, final, last = config.initial_lr_fraction, config.final_lr_fraction, n - 1
    if config.schedule == "none":
        return 1.0
    if config.schedule == "onecycle":
        peak = min(max(config.warmup * n - 1.0, 0.0), last)  # a fraction of a step, as in torch
        if t < peak:
            return _cosine(initial, 1.0, t / peak)
    else:
        peak = min(float(round(config.warmup * n)), last)
        if t < peak:
            return initial + (1.0 - initial) * t / peak
    match config.schedule:
        case "onecycle" | "cosine":
            return _cosine(1.0, final, (t - peak) / (last - peak)) if peak < last else 1.0
        case "cosine_restarts":
            into, cycle = t - int(peak), config.restart_epochs * epoch
            while into >= cycle:
                into, cycle = into - cycle, cycle * config.restart_growth
            return _cosine(1.0, final, into / cycle)
        case _:
            return 1.0


def _cosine(start: float, end: float, done: float) -> float:
    """Half a cosine from `start` to `end`."""
    return end + (start - end) / 2.0 * (1.0 + cos(pi * done))
