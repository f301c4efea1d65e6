"""Events held as contiguous tensors on one device, and batches of them gathered by index there.

Nothing is done per event: rows of ragged axes are found by arithmetic on whole offsets. How many rows a batch has is
summed on the host, so that a GPU is never waited for. `batch.to_batch` of the same events gives the same tensors.
"""

# Axes: B events of a batch.

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frz.loading.batch import with_offsets
from frz.store import ragged
from frz.store.schema import EVENT, EventArrays, Schema, axis_of
from frz.training.source import Batch, Plan


class HeldEvents:
    """Arrays of events as tensors.

    Parameters
    ----------
    arrays : iterable of (str, array)
        Flat arrays, with the offsets of every ragged axis that they touch or refer to (`held_names`). On the CPU
        memory is shared where it is writable and contiguous.
    schema : Schema
        Tells axes and `refers_to`.
    device : torch.device
        Where the tensors lie, and the batches.
    """

    def __init__(self, arrays: Iterable[tuple[str, NDArray[np.generic]]], schema: Schema, device: torch.device) -> None:
        self._schema, self._device = schema, device
        self._values: dict[str, Tensor] = {}
        self._refers: dict[str, str] = {}
        self._negative: set[str] = set()
        offsets: EventArrays = {}
        for name, values in arrays:
            if name.endswith("/offsets"):
                offsets[name] = values
            elif (target := schema.arrays[name].refers_to) is not None:
                self._refers[name] = target
                if values.min(initial=0) < 0:
                    self._negative.add(name)
            # what is mapped is read-only, and torch has no read-only tensors
            self._values[name] = torch.from_numpy(np.require(values, requirements=["C", "W"])).to(device)
        self._axes = ragged.axes_in(self._values, schema)
        self._members = {
            axis: ragged.lengths(offsets, schema, axis) for axis in self._axes if f"{axis}/offsets" in offsets
        }

    def take(self, positions: NDArray[np.int64]) -> Batch:
        """The events at `positions` (B,), in that order, repeats allowed, as `to_batch` would make them."""
        return self.batches([positions])[0]

    def batches(self, plan: Plan) -> list[Batch]:
        """The batches of `plan`, gathered together: of small ones one costs what the others do."""
        positions = np.concatenate(plan)
        cuts = {EVENT: ragged.offsets_of(np.array([len(batch) for batch in plan]))}
        for axis in self._axes:
            length, above = self._schema.axes[axis].length, cuts[self._schema.axes[axis].parent]
            if length is None:
                cuts[axis] = ragged.offsets_of(self._members[axis][positions])[cuts[EVENT]]
            else:
                cuts[axis] = above * length
        edges = {axis: cut.tolist() for axis, cut in cuts.items()}
        whole = self._gather(positions, edges)
        return [self._cut(whole, edges, number) for number in range(len(plan))] if len(plan) > 1 else [whole]

    def _gather(self, positions: NDArray[np.int64], edges: dict[str, list[int]]) -> Batch:
        """All events of some batches, whose first rows on each axis `edges` gives."""
        index = {EVENT: torch.from_numpy(positions).to(self._device, non_blocking=True)}
        batch: Batch = {}
        for axis in self._axes:
            parents, length = index[self._schema.axes[axis].parent], self._schema.axes[axis].length
            if length is not None:
                index[axis] = (parents[:, None] * length + torch.arange(length, device=self._device)).reshape(-1)
                continue
            n_row = edges[axis][-1]
            offsets = self._values[f"{axis}/offsets"]
            begin = offsets.index_select(0, parents)
            lengths = offsets.index_select(0, parents + 1) - begin
            new = batch[f"{axis}/offsets"] = torch.zeros(len(parents) + 1, dtype=torch.int64, device=self._device)
            torch.cumsum(lengths, 0, out=new[1:])
            rows = torch.arange(n_row, device=self._device)
            index[axis] = rows.add_(torch.repeat_interleave(begin - new[:-1], lengths, output_size=n_row))
        for name, values in self._values.items():
            if name not in batch:
                batch[name] = values.index_select(0, index[axis_of(name)])
        for name, target in self._refers.items():
            batch[name] = self._in_batch(name, target, batch, edges)
        return batch

    def _in_batch(self, name: str, target: str, batch: Batch, edges: dict[str, list[int]]) -> Tensor:
        """Positions that are local to their event as positions in its batch; negative ones (no member) stay."""
        values, n_events = batch[name].long(), edges[EVENT][-1]
        begins = self._edges(target, batch, n_events)[:-1]
        if len(edges[EVENT]) > 2:
            first, events = (torch.tensor(cut, device=self._device) for cut in (edges[target][:-1], edges[EVENT]))
            begins = begins - torch.repeat_interleave(first, events.diff(), output_size=n_events)
        members = self._edges(axis_of(name), batch, n_events).diff()
        shift = torch.repeat_interleave(begins, members, output_size=len(values))
        shifted = values + shift.reshape(-1, *(1,) * (values.ndim - 1))
        return torch.where(values < 0, values, shifted) if name in self._negative else shifted

    def _cut(self, whole: Batch, edges: dict[str, list[int]], number: int) -> Batch:
        """One of the batches that were gathered together; values are views."""
        batch: Batch = {}
        for name, values in whole.items():
            axis = axis_of(name)
            if name.endswith("/offsets"):
                above = edges[self._schema.axes[axis].parent]
                batch[name] = values[above[number] : above[number + 1] + 1] - edges[axis][number]
            else:
                batch[name] = values[edges[axis][number] : edges[axis][number + 1]]
        return batch

    def _edges(self, axis: str, batch: Batch, n_events: int) -> Tensor:
        """Where the members of `axis` of each event of the batch begin and end, (B + 1,)."""
        found = torch.arange(n_events + 1, device=self._device)
        for step in self._schema.lineage(axis):
            length = self._schema.axes[step].length
            found = batch[f"{step}/offsets"].index_select(0, found) if length is None else found * length
        return found


def held_names(names: Iterable[str], schema: Schema) -> tuple[str, ...]:
    """The named arrays with the offsets of every ragged axis that they touch or refer to."""
    wanted: dict[str, None] = {}
    for name in with_offsets(names, schema):
        steps = [f"{step}/offsets" for step in schema.lineage(axis_of(name)) if schema.axes[step].length is None]
        wanted |= dict.fromkeys([*steps, name])
    return tuple(wanted)
