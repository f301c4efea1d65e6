"""Learning-rate schedules as pure functions of the step.

A schedule without state needs no saving and no catching up: step s of n has the same rate however often
the run was interrupted. The forms are those of torch's `OneCycleLR` (cosine annealing, momentum left
alone) and of `LinearLR` followed by `CosineAnnealingLR`, stepped after every optimiser step.
"""

from math import cos, pi
from typing import Literal

from pydantic import Field
from torch.optim import Optimizer

from frz.config import StrictModel


class ScheduleConfig(StrictModel):
    """How the learning rate runs from the first optimiser step to the last."""

    schedule: Literal["one_cycle", "cosine_warmup", "constant"] = "one_cycle"
    """`one_cycle`: cosine up to `lr`, cosine down; `cosine_warmup`: straight up, cosine down; `constant`: `lr`."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of all steps in which the rate rises to `lr`."""
    initial_lr_fraction: float = Field(default=0.1, gt=0, le=1)
    """Rate of the first step, in units of `lr`."""
    final_lr_fraction: float = Field(default=1e-2, ge=0, le=1)
    """Rate of the last step, in units of `lr`."""


def lr_factor(config: ScheduleConfig, step: int, n_steps: int) -> float:
    """Learning rate of optimiser step `step` (0 to `n_steps` - 1) in units of `lr`."""
    assert 0 <= step < n_steps, f"step {step} of {n_steps}"
    initial, final = config.initial_lr_fraction, config.final_lr_fraction
    last = n_steps - 1
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "one_cycle":
        peak = min(max(config.warmup * n_steps - 1.0, 0.0), last)  # a fraction of a step, as in torch
        if step < peak:
            return _cosine(initial, 1.0, step / peak)
    else:
        peak = min(float(round(config.warmup * n_steps)), last)
        if step < peak:
            return initial + (1.0 - initial) * step / peak
    return _cosine(1.0, final, (step - peak) / (last - peak)) if peak < last else 1.0


def set_lr(optimiser: Optimizer, lr: float) -> None:
    """Give every parameter group the rate `lr`."""
    for group in optimiser.param_groups:
        group["lr"] = lr


def _cosine(start: float, end: float, done: float) -> float:
    """Half a cosine from `start` to `end`."""
    return end + (start - end) / 2.0 * (1.0 + cos(pi * done))
