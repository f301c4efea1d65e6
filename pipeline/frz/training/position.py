"""Where a run stands in its epochs, and where in an epoch its lines of metrics end."""

from dataclasses import dataclass, field
from math import ceil

from frz.training.record import Metrics


@dataclass
class Position:
    """Where a run stands, beside its tensors; JSON."""

    epoch: int = 0
    """Epochs finished."""
    batch: int = 0
    """Batches done of the next one: whole optimiser steps."""
    line: int = 0
    """Batches of it that the last line of metrics knows of."""
    seconds: float = 0.0
    """Spent since that line."""
    last: Metrics = field(default_factory=dict)
    skipped: int = 0
    """Batches left out because they were not finite."""


def line_ends(n_batches: int, accumulate: int, val_every: float) -> list[int]:
    """Batches of an epoch after which it is validated, as far as that is within the epoch, and its last one.

    A part of an epoch counts in optimiser steps and ends with the step that completes it.
    """
    if val_every >= 1:
        return [n_batches]
    n_steps = ceil(n_batches / accumulate)
    n_lines = ceil(1 / val_every - 1e-9)
    steps = {min(ceil(number * val_every * n_steps - 1e-9), n_steps) for number in range(1, n_lines + 1)}
    return [min(step * accumulate, n_batches) for step in sorted(steps)]
