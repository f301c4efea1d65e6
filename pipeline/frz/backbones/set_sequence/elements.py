"""The elements of a batch: in which set and stay each is, and which of them the model sees while it trains.

Axes: N elements, S sets, E stays, V variables.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from frz.backbones.set_sequence.settings import SetSequenceConfig


@dataclass(frozen=True)
class Elements:
    """Elements, set after set, as the model sees them."""

    variable: Tensor
    """(N,) codes, int64."""
    scaled: Tensor
    """(N,) standardised values."""
    owner: Tensor
    """(N,) set of each element."""
    offsets: Tensor
    """(S + 1)."""

    def where(self, keep: Tensor) -> "Elements":
        """Those of `keep` (N,), in the same sets."""
        counts = torch.cat((keep.new_zeros(1, dtype=torch.int64), keep.cumsum(0)))
        return Elements(self.variable[keep], self.scaled[keep], self.owner[keep], counts[self.offsets])


def hide(elements: Elements, stay: Tensor, config: SetSequenceConfig, n_variable: int) -> Elements:
    """Those that are seen when some elements, whole sets, and variables of whole stays are drawn to be hidden.

    Parameters
    ----------
    elements : Elements
    stay : Tensor
        (S,) stay of each set.
    config : SetSequenceConfig
        `element_dropout`, `set_dropout` and `variable_dropout` are looked at.
    n_variable : int
        Size V of the vocabulary.
    """
    keep = torch.rand(elements.variable.shape, device=elements.variable.device) >= config.element_dropout
    if config.set_dropout:
        sets = torch.rand(len(stay), device=keep.device) >= config.set_dropout
        keep &= sets[elements.owner]
    if config.variable_dropout and len(stay):
        known = torch.rand(int(stay[-1]) + 1, n_variable, device=keep.device) >= config.variable_dropout
        keep &= known[stay[elements.owner], elements.variable]
    return elements if bool(keep.all()) else elements.where(keep)


def owners(offsets: Tensor) -> Tensor:
    """Parent of each member: [0, 0, 1] for offsets [0, 2, 3]."""
    return torch.repeat_interleave(torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff())


def first_sets(offsets: Tensor) -> Tensor:
    """First set of the stay of each set, from offsets (E + 1)."""
    return torch.repeat_interleave(offsets[:-1], offsets.diff())
