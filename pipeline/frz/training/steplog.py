"""What each optimiser step said, fetched from the device rarely and averaged once per epoch.

A GPU must not wait for Python at every step, so values stay tensors until `drain`. The values of all steps
of an epoch are kept, not their sum: the mean of a run that was interrupted has the same bits.
"""

import math
from array import array
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


class StepLog:
    """Named scalars of the steps of one epoch, each with the weight of its batch."""

    def __init__(self) -> None:
        self.n_steps = 0
        self._waiting: list[tuple[float, dict[str, Tensor]]] = []
        self._values: dict[str, array[float]] = {}
        self._weights: dict[str, array[float]] = {}

    def add(self, weight: float, values: Mapping[str, Tensor]) -> None:
        """Note the scalars of the next step; a name may be absent from some steps."""
        self._waiting.append((weight, {name: value.detach() for name, value in values.items()}))

    def drain(self, checked: tuple[str, ...] = ()) -> tuple[int, str] | None:
        """Fetch what is waiting.

        Returns
        -------
        (int, str) or None
            Step in the epoch and name of the first value among `checked` that is not finite.
        """
        bad: tuple[int, str] | None = None
        numbers = iter(_fetch([value for _, tensors in self._waiting for value in tensors.values()]))
        for weight, tensors in self._waiting:
            for name in tensors:
                number = next(numbers)
                self._values.setdefault(name, array("d")).append(number)
                self._weights.setdefault(name, array("d")).append(weight)
                if bad is None and name in checked and not math.isfinite(number):
                    bad = self.n_steps, name
            self.n_steps += 1
        self._waiting.clear()
        return bad

    def latest(self, name: str) -> float:
        """Value of the last step that was drained (NaN before the first)."""
        values = self._values.get(name)
        return values[-1] if values else math.nan

    def means(self, prefix: str) -> dict[str, float | None]:
        """Weighted means over the epoch by `prefix/name`; None where one is not finite (JSON has no NaN)."""
        found: dict[str, float | None] = {}
        for name in sorted(self._values):
            values, weights = np.array(self._values[name]), np.array(self._weights[name])
            mean = float((values * weights).sum() / weights.sum())
            found[f"{prefix}/{name}"] = mean if math.isfinite(mean) else None
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Everything drained, (2, n) float64 by name: values, weights."""
        return {
            name: torch.tensor([self._values[name].tolist(), self._weights[name].tolist()], dtype=torch.float64)
            for name in self._values
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], n_steps: int) -> "StepLog":
        """Undo `tensors`."""
        log = cls()
        log.n_steps = n_steps
        for name, (values, weights) in tensors.items():
            log._values[name], log._weights[name] = array("d", values.tolist()), array("d", weights.tolist())
        return log


def _fetch(values: list[Tensor]) -> list[float]:
    """Scalars as numbers, with one wait for the device."""
    if not values:
        return []
    device = values[0].device
    if device.type == "cpu":
        return [value.item() for value in values]
    numbers: list[float] = torch.stack([value.reshape(()).to(device, torch.float32) for value in values]).tolist()
    return numbers
