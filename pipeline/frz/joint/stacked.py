"""Several heads in one pass by the clock: the step of `frz sweep`, in the form that `Loop` takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from frz.config import parse
from frz.errors import TrainingError
from frz.heads.run import plan
from frz.store.reader import EventStore
from frz.store.table import EventTable
from frz.sweep.group import Member, alone_because
from frz.sweep.onepass import cut, difference
from frz.sweep.space import SweepConfig, expand
from frz.sweep.stack import stack_size
from frz.sweep.team import Team
from frz.training.source import Batch

ENDLESS = 1_000_000
"""Epochs of the schedule, of which the measurement takes the first few."""


class SweepStep:
    """A step of heads that differ in their seeds, stacked as a sweep would.

    Parameters
    ----------
    values : mapping
        Config of the head.
    n_heads : int
        How many.
    store : EventStore
        The features.
    table : EventTable
        Prepared events, to fit the heads on.
    batch : dict of Tensor
        One batch, to see whether and how the heads can be stacked.
    n_steps : int
        Optimiser steps of an epoch.
    device : torch.device
        Where to train.

    Raises
    ------
    TrainingError
        If a sweep trains such heads alone, and why.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        n_heads: int,
        store: EventStore,
        table: EventTable,
        batch: Batch,
        n_steps: int,
        device: torch.device,
    ) -> None:
        self.n_heads, self.device = n_heads, device
        base = {**values, "trainer": {**values.get("trainer", {}), "max_epochs": ENDLESS}}
        sweep = parse(SweepConfig, {"name": "bench", "base": base, "seeds": n_heads}, "bench")
        points = expand(sweep, base, "bench")
        members = [Member(point, plan(point.config, store, Path("nowhere"), "bench")) for point in points]
        for member in members:
            member.run.head.fit([table.arrays])
        heads = [member.run.head.to(device) for member in members]
        batch = {name: value.to(device) for name, value in batch.items()}
        if reason := alone_because(members[0]) or difference(heads[:2], batch, device):
            raise TrainingError(f"a sweep trains these heads one after the other: {reason}")
        self._teams = [
            Team(chosen, device, n_steps, has_val=False) for chosen in cut(members, stack_size(heads[0], batch))
        ]

    def __call__(self, batch: Batch, n_events: int) -> None:
        """Loss, gradient, clipping, step of every head."""
        for team in self._teams:
            team.step(batch, n_events, "the bench")
