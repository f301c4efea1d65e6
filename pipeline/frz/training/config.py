"""Everything a run's training can be told."""

from typing import Literal

import torch
from pydantic import Field, field_validator, model_validator

from frz.config import StrictModel
from frz.errors import TrainingError
from frz.training.optimisers import OptimiserConfig
from frz.training.schedules import ScheduleConfig


class BalanceConfig(StrictModel):
    """Draw training events by class, with replacement (`frz.loading.balance`)."""

    by: str
    """Array of class labels, whole numbers: one per event, or per member (then the event's rarest label counts)."""
    column: str | None = None
    """Column of it that holds the label, where it has columns."""
    mode: Literal["inverse", "sqrt"] = "inverse"
    """Weight of an event of a class of n events: 1 / n, which makes all classes equally frequent, or 1 / sqrt(n)."""


class TrainerConfig(OptimiserConfig, ScheduleConfig):
    """The keys of `trainer`, those of the optimiser and the schedule among them."""

    max_epochs: int = Field(default=30, ge=1)
    """Passes over the training events; the schedule ends with the last one."""
    batch_size: int = Field(default=64, ge=1)
    """Events of a batch."""
    accumulate: int = Field(default=1, ge=1)
    """Batches per optimiser step, whose gradient is their mean weighted by events; the last step of an epoch takes
    those that are left."""
    window: int = Field(default=16, ge=1)
    """Batches that are sorted by length together, so that padding is small; 1 leaves the order random."""
    clip_norm: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient of all parameters together; 0 leaves it as it is."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """`bf16` and `fp16` run the loss under autocast; weights and optimiser stay float32. `fp16` scales the loss so that
    small gradients survive, and takes no step where the scaled ones overflow."""
    skip_nonfinite: int = Field(default=0, ge=0)
    """Batches in the whole run that may be left out because their loss or gradient is not finite; one more, and the
    run stops. Each batch then waits for the device."""
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    """Average the weights over the steps, `average <- d average + (1 - d) weights`; validate and keep as best the
    average. 0 leaves it out; 0.999 is usual."""
    ema_warmup: bool = True
    """After step t, from 0, d is no larger than (1 + t) / (10 + t)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""
    seed: int = Field(default=0, ge=0)
    """Initial weights and dropout."""
    data_seed: int = Field(default=0, ge=0)
    """Order of the events."""
    balance: BalanceConfig | None = None
    """Draw the training events of each epoch by class; default every event once."""
    val_every: int | float = Field(default=1, gt=0)
    """Epochs from one validation to the next, or a part of an epoch (0.25); the last epoch is always validated."""
    monitor: str = "val/loss"
    """Metric that decides which weights are best: the loss, a part of it, or what a head measures on all validation
    events (`val/q/auc`; `val/auc` where one field alone has it)."""
    monitor_mode: Literal["auto", "min", "max"] = "auto"
    """Which values of it are better; `auto` knows by the name (loss, rmse, width: small; auc, accuracy: large)."""
    patience: int = Field(default=0, ge=0)
    """Stop after so many validations without a better value of `monitor`; 0 never stops early."""
    save_top_k: int = Field(default=1, ge=1)
    """Best weights to keep; beyond 1, each in a file named after step and value, beside `best.safetensors`."""
    checkpoint_minutes: float = Field(default=5.0, ge=0)
    """Longest time between two saves of the state within an epoch; 0 saves after every step."""
    tensorboard: bool = False
    """Write the metrics as TensorBoard event files too, into `tensorboard/` of the run (needs `frz[tensorboard]`)."""

    @field_validator("monitor")
    @classmethod
    def _of_a_split(cls, value: str) -> str:
        if not value.startswith(("val/", "train/")) or value.endswith("/"):
            raise ValueError("should begin with val/ or train/ and go on with a name, as in val/loss")
        return value

    @field_validator("val_every")
    @classmethod
    def _whole_epochs_or_a_part(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("should be a whole number of epochs, or a part of one below 1")
        return value

    @model_validator(mode="after")
    def _schedule_free_optimisers(self) -> "TrainerConfig":
        if self.schedule == "schedule_free":
            if self.optimiser not in ("adamw", "sgd"):
                raise ValueError(f"schedule_free is made for optimiser adamw or sgd, not {self.optimiser}")
            if self.betas is not None and not 0 < self.betas[0] < 1:
                raise ValueError("schedule_free needs a first number of betas between 0 and 1")
            if self.ema_decay:
                raise ValueError(
                    "schedule_free averages the weights itself: set ema_decay to 0, or take another schedule"
                )
        return self


TIMING = ("seconds", "events_per_s")
"""Entries of a line of metrics that differ from run to run."""

NOT_IDENTITY = ("device", "checkpoint_minutes", "tensorboard")
"""Keys that may differ between a run and its continuation."""


def pick_device(name: str) -> torch.device:
    """The device that a config names.

    Raises
    ------
    TrainingError
        If a GPU is asked for and there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        if not torch.cuda.is_available():
            raise TrainingError("no GPU is available", where="device = cuda", way_out="set device to auto or cpu")
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(name)
