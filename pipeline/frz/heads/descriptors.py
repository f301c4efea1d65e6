"""What is known of an event as a whole beside its features: age, height, kind of ward. Some of it may be unknown.

An array of axis `event` in which NaN means unknown is standardised with what the training split knows of each
column; an unknown value becomes 0, the mean, and a flag for each column says which ones are known.
"""

# Axes: R or N members (slots or events), V columns of all descriptors together.

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frz.config import StrictModel
from frz.errors import ConfigError, nearest
from frz.heads.nets import Standard
from frz.store.schema import EVENT, EventArrays, Schema, axis_of


class DescriptorSettings(StrictModel):
    """What a head is told beside features."""

    descriptors: tuple[str, ...] = ()
    """Arrays of the event itself (`event/static`) in which NaN means unknown; joined, with a flag for each column that
    says whether it is known, to what the net sees."""


class Descriptors(nn.Module):
    """Standardised descriptors and their flags.

    Parameters
    ----------
    names : sequence of str
        Arrays of axis `event`, numbers.
    schema : Schema
        Of the feature store.

    Raises
    ------
    ConfigError
        If one is missing, not of events, or the truth.
    """

    def __init__(self, names: Sequence[str], schema: Schema) -> None:
        super().__init__()
        self.names = tuple(names)
        columns: list[str] = []
        for name in names:
            if name not in schema.arrays:
                what = f"the features hold no array {name!r}"
                raise ConfigError(what, where="descriptors", way_out=nearest(name, schema.arrays))
            spec = schema.arrays[name]
            if axis_of(name) != EVENT or len(spec.shape) > 1:
                what = f"{name} does not hold one row of numbers per event"
                raise ConfigError(what, where="descriptors", way_out="take arrays event/...")
            if spec.role == "target":
                raise ConfigError(f"{name} is truth", where="descriptors", way_out="leave it out: it gives the answer")
            short = name.partition("/")[2]
            columns += spec.columns or [f"{short}_{place}" for place in range(spec.shape[0])] if spec.shape else [short]
        self.columns = tuple(columns)
        """Their names (V)."""
        self.standard = Standard(len(columns))

    @property
    def n_output(self) -> int:
        """Numbers that the net sees: V values, V flags."""
        return 2 * len(self.columns)

    def values(self, events: EventArrays, row: NDArray[np.int64]) -> NDArray[np.float32]:
        """Values (R, V) of the events `row` (R,), NaN where unknown."""
        pieces = [events[name][row].reshape(len(row), prod(events[name].shape[1:])) for name in self.names]
        return np.concatenate(pieces, 1, dtype=np.float32)

    def forward(self, values: Tensor) -> Tensor:
        """Values (N, V) as (N, 2 V): standardised ones, 0 where unknown; then flags, 1 where known."""
        known = values.isfinite()
        return torch.cat((torch.where(known, self.standard(values), 0.0), known.float()), 1)
