"""Where the loop gets its batches from.

Planning (which events, in which order: numbers only) is separate from making batches, so that a run that
was interrupted goes on at any batch of an epoch.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from frz.errors import Diverged

Batch: TypeAlias = dict[str, Tensor]
"""Flat tensors by `axis/name`, with `axis/offsets` for ragged axes."""

Plan: TypeAlias = Sequence[NDArray[np.int64]]
"""Positions of the events of each batch."""


class BatchSource(Protocol):
    """Events in batches, epoch after epoch."""

    @property
    def n_events(self) -> int:
        """Events in the source."""
        ...

    def plan(self, epoch: int) -> Plan:
        """Batches of an epoch: a pure function of the source's settings and `epoch`."""
        ...

    def batches(self, plan: Plan, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of `plan` from number `start` on; closing the generator frees what it holds."""
        ...


Blame: TypeAlias = Callable[[str, BatchSource, Plan, Sequence[int]], Diverged]
"""Makes the error for batches of a plan that are not finite, from what to say first."""


class Trainable(Protocol):
    """What the loop asks of a module beside being an `nn.Module`."""

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss (scalar, a mean over the batch) and named parts of it (scalars)."""
        ...


def describe(positions: NDArray[Any], limit: int = 6) -> str:
    """`3, 17, 4 and 29 more`."""
    shown = ", ".join(str(int(position)) for position in positions[:limit])
    return shown if len(positions) <= limit else f"{shown} and {len(positions) - limit} more"


def name_events(source: BatchSource, plan: Plan, batches: Sequence[int]) -> str:
    """Which events stand in some batches of a plan, by their ids where the source has them."""
    chosen = [plan[index] for index in batches]
    with closing(source.batches(chosen)) as made:
        ids = [batch["event/id"].cpu().numpy() for batch in made if "event/id" in batch]
    return f"with id {describe(np.concatenate(ids))}" if ids else f"at positions {describe(np.concatenate(chosen))}"
