"""What each batch said, fetched from the device rarely and averaged once per line of metrics.

A GPU must not wait for Python at every step, so values stay tensors until `drain`. The values of all batches
are kept, not their sum: the mean of a run that was interrupted has the same bits.
"""

import math
from array import array
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Row: TypeAlias = tuple[int, float, dict[str, float]]
"""Batch in the epoch, weight, named numbers."""


class StepLog:
    """Named scalars of the batches of an epoch or of a stretch of it, each with a weight."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, float, dict[str, Tensor]]] = []
        self._values: dict[str, array[float]] = {}
        self._weights: dict[str, array[float]] = {}

    def add(self, batch: int, weight: float, values: Mapping[str, Tensor]) -> None:
        """Note scalars of batch number `batch` of the epoch; a name may be absent from some batches."""
        self._waiting.append((batch, weight, {name: value.detach() for name, value in values.items()}))

    def drain(
        self, checked: tuple[str, ...] = (), gather: Callable[[list[Row]], list[list[Row]]] = lambda rows: [rows]
    ) -> tuple[int, str] | None:
        """Fetch what is waiting.

        Parameters
        ----------
        checked : tuple of str
            Names whose values must be finite.
        gather : callable
            Gives the rows of every process that works on the same batches; numbers of one batch and name are
            averaged with their weights, which add up.

        Returns
        -------
        (int, str) or None
            Batch in the epoch and name of the first value among `checked` that is not finite.
        """
        bad: tuple[int, str] | None = None
        numbers = iter(_fetch([value for *_, tensors in self._waiting for value in tensors.values()]))
        rows = [(batch, weight, {name: next(numbers) for name in named}) for batch, weight, named in self._waiting]
        self._waiting.clear()
        for batch, weight, named in _merged(gather(rows)):
            for name, number in named.items():
                self._values.setdefault(name, array("d")).append(number)
                self._weights.setdefault(name, array("d")).append(weight)
                if bad is None and name in checked and not math.isfinite(number):
                    bad = batch, name
        return bad

    def latest(self, name: str) -> dict[str, float]:
        """Value of the last batch that was drained, by its name; nothing before the first."""
        values = self._values.get(name)
        return {name: values[-1]} if values else {}

    def means(self, prefix: str) -> dict[str, float | None]:
        """Weighted means by `prefix/name`; None where one is not finite (JSON has no NaN)."""
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
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "StepLog":
        """Undo `tensors`."""
        log = cls()
        for name, (values, weights) in tensors.items():
            log._values[name], log._weights[name] = array("d", values.tolist()), array("d", weights.tolist())
        return log


def _merged(gathered: list[list[Row]]) -> list[Row]:
    """One row per batch and name, in the order of the batches; what a single process says stays as it is."""
    if len(gathered) == 1:
        return gathered[0]
    parts: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for batch, weight, named in (row for rows in gathered for row in rows):
        for name, number in named.items():
            parts.setdefault((batch, name), []).append((weight, number))
    merged: list[Row] = []
    for (batch, name), found in sorted(parts.items()):
        weight = sum(w for w, _ in found)
        merged.append((batch, weight, {name: sum(w * number for w, number in found) / weight}))
    return merged


def _fetch(values: list[Tensor]) -> list[float]:
    """Scalars as numbers, with one wait for the device."""
    if not values:
        return []
    device = values[0].device
    if device.type == "cpu":
        return [value.item() for value in values]
    numbers: list[float] = torch.stack([value.reshape(()).to(device, torch.float32) for value in values]).tolist()
    return numbers
