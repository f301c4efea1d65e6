"""Event arrays to a batch of tensors.

Positions that are local to their event (`refers_to`) become positions in the batch; everything else is
handed over as it lies, without a copy where numpy's memory can be shared.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from frz.store import ragged
from frz.store.schema import EventArrays, Schema, axis_of
from frz.training.source import Batch


def to_batch(arrays: EventArrays, schema: Schema) -> Batch:
    """Tensors of a batch of events.

    Parameters
    ----------
    arrays : EventArrays
        Flat arrays with the offsets of every ragged axis they touch or refer to.
    schema : Schema
        Tells axes and `refers_to`; arrays it does not list are handed over unchanged.

    Returns
    -------
    dict of Tensor
        On the CPU, dtypes kept, but `refers_to` positions, which are int64 and count in the whole batch;
        negative ones (no member) stay as they are.
    """
    batch: Batch = {}
    for name, values in arrays.items():
        spec = schema.arrays.get(name)
        if spec is not None and spec.refers_to is not None:
            values = _shifted(values, axis_of(name), spec.refers_to, arrays, schema)
        batch[name] = _tensor(values)
    return batch


def with_offsets(names: Iterable[str], schema: Schema) -> tuple[str, ...]:
    """The names, and the offsets of the ragged axes that they refer to."""
    chosen = dict.fromkeys(names)
    for name in list(chosen):
        spec = schema.arrays.get(name)
        if spec is not None and spec.refers_to is not None:
            steps = schema.lineage(spec.refers_to)
            chosen |= dict.fromkeys(f"{step}/offsets" for step in steps if schema.axes[step].length is None)
    return tuple(chosen)


def _shifted(
    values: NDArray[np.integer], axis: str, target: str, arrays: EventArrays, schema: Schema
) -> NDArray[np.int64]:
    """Positions local to the event as positions in the batch."""
    members = ragged.lengths(arrays, schema, axis)
    begins = ragged.edges(arrays, schema, target)[:-1]
    shift = np.repeat(begins, members).reshape(-1, *(1,) * (values.ndim - 1))
    return np.where(values < 0, values, values + shift).astype(np.int64, copy=False)


def _tensor(values: NDArray[np.generic]) -> torch.Tensor:
    # a mapped part is read-only, and torch has no read-only tensors
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))
