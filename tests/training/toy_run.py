"""A small run that uses everything a state must hold: weights, buffers, moments, dropout, an odd last batch.

As a program (`python toy_run.py FOLDER [STEP]`) it kills itself, as `kill -9` does, in the loss of that step.
"""

import os
import signal
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frz.loading.plan import plan_epoch
from frz.training.config import TrainerConfig
from frz.training.loop import fit
from frz.training.result import Result
from frz.training.source import Batch, Plan

CONFIG: dict[str, Any] = {"max_epochs": 3, "batch_size": 8, "lr": 1e-2, "window": 2, "device": "cpu"}
N_TRAIN, N_VAL = 29, 11
STEPS = 4  # per epoch: 8 + 8 + 8 + 5 events


class ToySource:
    """Events in memory; `batches` takes rows."""

    def __init__(self, n_events: int, seed: int, *, shuffle: bool = True, ids: bool = True) -> None:
        rng = np.random.default_rng(seed)
        self.x = torch.tensor(rng.normal(size=(n_events, 3)), dtype=torch.float32)
        self.y = self.x.sin().sum(1)
        self.ids, self.shuffle = ids, shuffle

    @property
    def n_events(self) -> int:
        return len(self.x)

    def plan(self, epoch: int) -> Plan:
        return plan_epoch(np.zeros(len(self.x)), 8, seed=5, epoch=epoch if self.shuffle else 0)

    def batches(self, plan: Plan, start: int = 0) -> Generator[Batch, None, None]:
        for positions in plan[start:]:
            rows = torch.from_numpy(positions)
            batch = {"event/x": self.x[rows], "event/y": self.y[rows]}
            yield batch | ({"event/id": rows + 1000} if self.ids else {})


class Toy(nn.Module):
    """Dropout draws random numbers, BatchNorm keeps buffers, one part of the loss comes in some batches only.

    Validation draws random numbers too, which must not move those of the training.

    `before` is called with the number of the loss, training and validation counted alike, from 1.
    """

    def __init__(self, before: Callable[[int], None] = lambda call: None) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))
        self.before, self.calls = before, 0

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        self.calls += 1
        self.before(self.calls)
        difference = self.net(batch["event/x"])[:, 0] - batch["event/y"]
        parts = {"abs": difference.abs().mean()}
        if len(difference) < 8:
            parts["rest"] = difference.mean()
        if not self.training:
            parts["noise"] = torch.rand(())
        return difference.square().mean(), parts


def run(folder: Path, before: Callable[[int], None] = lambda call: None, **changes: Any) -> Result:
    """Start the run, or go on with it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        module = Toy(before)
    train, val = ToySource(N_TRAIN, 1), ToySource(N_VAL, 2, shuffle=False)
    config = TrainerConfig.model_validate(CONFIG | changes)
    return fit(module, train, val, config, folder, meta=lambda weights: {"n_weights": len(weights)})


def main(folder: str, step: str = "0") -> None:
    """Run with a save after every step; in the loss of `step` the process dies."""

    def die(call: int) -> None:
        if call == int(step):
            os.kill(os.getpid(), signal.SIGKILL)

    run(Path(folder), die, checkpoint_minutes=0)


if __name__ == "__main__":
    main(*sys.argv[1:])
