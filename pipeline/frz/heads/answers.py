"""What a head answers, apart from how: goals, loss, predictions and metrics of the members of a batch.

Two kinds of answers are known: fields of numbers and flags (`Targets`), and one of several classes (`Classes`). A
head holds one of them as `targets` and never asks which.
"""

# Axes: N members (slots or events), F fields, O raw outputs.

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Floats = NDArray[np.floating]


class Answers(nn.Module, ABC):
    """Goals, loss, way back and metrics of F fields; constants measured on the training split are buffers."""

    labels: tuple[str, ...]
    """Names of the fields in predictions and metrics (F)."""
    n_output: int
    """Raw outputs O that a net has to give."""

    @abstractmethod
    def goals(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """What physical values (N, F) are trained as, (N, F)."""

    @abstractmethod
    def measure(self, values: NDArray[np.float32]) -> None:
        """Take constants from the physical values (N, F) of the training split."""

    @abstractmethod
    def losses(self, raw: Tensor, goals: Tensor, counts: Tensor) -> Tensor:
        """Mean loss of each field (..., F) over the members that count; 0 with gradient 0 where none does.

        Raw outputs (..., N, O) of several heads are compared with the same goals (N, F).
        """

    @abstractmethod
    def predictions(self, raw: Tensor, shift: Tensor | None = None) -> dict[str, Tensor]:
        """Physical values (N,) by label, and what else is known, from raw outputs (N, O) and a shift (N, F)."""

    @abstractmethod
    def mean_outputs(self, n_member: int) -> Tensor:
        """Raw outputs (n_member, O) of someone who knows the training split and no features."""

    @abstractmethod
    def metrics(self, found: dict[str, Floats], truth: Floats) -> dict[str, float]:
        """Metrics `label/name` of predictions against physical truth (N, F)."""
