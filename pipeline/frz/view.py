"""What `frz.open` gives: a store with torch, pandas and dask views for notebooks."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frz.store import ragged
from frz.store.reader import EventStore
from frz.store.schema import EVENT, ID, axis_of

if TYPE_CHECKING:
    import dask.array
    import pandas
    import torch


class StoreView(EventStore):
    """An event store for reading; `store["hit/embedding"]` is a whole array."""

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A whole array, or the offsets of a ragged axis, as numpy."""
        return self.array(name)

    def torch(self, name: str) -> "torch.Tensor":
        """A whole array as a torch tensor."""
        import torch

        return torch.from_numpy(self.array(name))

    def dask(self, name: str) -> "dask.array.Array":
        """An array as a lazy dask array, one chunk per part."""
        import dask
        import dask.array

        spec = self.schema.arrays[name]
        read = dask.delayed(lambda index: np.asarray(self.part(index, [name])[name]), pure=True)
        axis = axis_of(name)
        rows = self.snapshot.parts.n_events if axis == EVENT else self.snapshot.parts.counts[axis]
        pieces = [
            dask.array.from_delayed(read(index), shape=(n, *spec.shape), dtype=spec.dtype)
            for index, n in enumerate(rows)
        ]
        return dask.array.concatenate(pieces)

    def pandas(self, axis: str, first: int = 0, last: int | None = None) -> "pandas.DataFrame":
        """The arrays of an axis as columns of a data frame, with `event/id` as index.

        Parameters
        ----------
        axis : str
            `event`, `hit`, `track` …
        first, last : int
            Range of events; default all.
        """
        import pandas

        last = self.n_events if last is None else last
        names = [name for name in self.schema.arrays if axis_of(name) == axis]
        arrays = self.range(first, last, [ID, *names])
        columns: dict[str, NDArray[Any]] = {}
        for name in names:
            short, spec = name.partition("/")[2], self.schema.arrays[name]
            values = arrays[name].reshape(len(arrays[name]), -1)
            labels = spec.columns or [str(i) for i in range(values.shape[1])]
            for label, column in zip(labels, values.T, strict=False):
                columns[f"{short}.{label}" if spec.shape else short] = column
        ids = arrays[ID]
        index = ids if axis == EVENT else np.repeat(ids, ragged.lengths(arrays, self.schema, axis))
        return pandas.DataFrame(columns, index=pandas.Index(index, name=ID))
