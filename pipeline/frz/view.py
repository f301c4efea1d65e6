"""What `frz.open` gives: a store with torch, pandas, dask and xarray views for notebooks."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frz.config import import_extra
from frz.store import ragged
from frz.store.part import labels
from frz.store.reader import EventStore
from frz.store.schema import EVENT, ID, axis_of

if TYPE_CHECKING:
    import dask.array
    import pandas
    import torch
    import xarray


class StoreView(EventStore):
    """An event store for reading; `store["hit/embedding"]` is a whole array.

    Like a data frame it has the number of its rows (events) as length and its columns (`keys()`) as members. A name
    that it does not hold is a ConfigError with the nearest.
    """

    def __repr__(self) -> str:
        lines = [f"{self.snapshot.name}@{self.snapshot.version}: {self.n_events} events in {self.root}"]
        for name, spec in sorted(self.schema.arrays.items()):
            lines.append(f"  {name:<26} {spec.dtype:<8} {(sum(self._rows(name)), *spec.shape)}")
        return "\n".join(lines)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def _rows(self, name: str) -> list[int]:
        """Members that an array counts in each part."""
        axis = axis_of(name)
        parts = self.snapshot.parts
        return parts.n_events if axis == EVENT else parts.counts[axis]

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A whole array, or the offsets of a ragged axis, as numpy."""
        return self.array(name)

    def torch(self, name: str) -> "torch.Tensor":
        """A whole array as a torch tensor."""
        import torch

        return torch.from_numpy(self.array(name))

    def dask(self, name: str) -> "dask.array.Array":
        """An array as a lazy dask array, (members of the axis, *trailing shape).

        One chunk per part, read when it is computed, from as many threads as dask uses. Offsets (n_parent + 1,) are
        counted over all events and come in one piece. Sums and means of float16 overflow: `.astype("float32")` first.
        """
        import dask
        import dask.array

        if name not in self.schema.arrays:
            return dask.array.from_array(self.array(name))
        spec, token = self.schema.arrays[name], f"{name}-{self.root}-{self.snapshot.hash}"
        pieces = []
        for index, n in enumerate(self._rows(name)):
            read = dask.delayed(self._rows_of)(name, index, dask_key_name=f"{token}-{index}")
            pieces.append(dask.array.from_delayed(read, shape=(n, *spec.shape), dtype=spec.in_memory))
        return dask.array.concatenate(pieces)

    def _rows_of(self, name: str, index: int) -> NDArray[Any]:
        return np.asarray(self.part(index, [name])[name])

    def xarray(self) -> "xarray.Dataset":
        """All arrays as variables of a lazy Dataset, under the names they have here.

        The first dimension of a variable is its axis (`hit`), those of a trailing shape are `hit_embedding_0` and so
        on, with the names of columns as coordinates. `event/id` (event,) and the offsets of ragged axes, dimension
        `<parent>_edge` (n_parent + 1,), are coordinates too: the hits of event i are
        `isel(hit=slice(*offsets[i : i + 2]))` with `offsets = dataset["hit/offsets"].values`.

        Raises
        ------
        ConfigError
            If xarray is not installed.
        """
        xr = import_extra("xarray", "xarray")
        variables: dict[str, Any] = {}
        coordinates: dict[str, Any] = {}
        for name in self.keys():
            dimensions, attributes = labels(self.schema, name)
            made = (dimensions, self.dask(name) if name != ID else self.array(name), attributes)
            (variables if name in self.schema.arrays and name != ID else coordinates)[name] = made
            if "columns" in attributes:
                coordinates[dimensions[-1]] = ([dimensions[-1]], attributes["columns"], {})
        about = {"name": self.snapshot.name, "version": self.snapshot.version, "hash": self.snapshot.hash}
        dataset: xarray.Dataset = xr.Dataset(variables, coordinates, about)
        return dataset

    def pandas(self, axis: str, first: int = 0, last: int | None = None) -> "pandas.DataFrame":
        """The arrays of an axis as columns of a data frame, with `event/id` as index.

        Columns stored as float16 come as float32, in which sums and means do not overflow.

        Parameters
        ----------
        axis : str
            `event`, `hit`, `track` …
        first, last : int
            Range of events; default all.

        Raises
        ------
        ConfigError
            If there is no such axis, or pandas is not installed.
        """
        pd = import_extra("pandas", "parquet")
        self._check_axis(axis)
        last = self.n_events if last is None else last
        names = [name for name in self.schema.arrays if axis_of(name) == axis]
        arrays = self.range(first, last, [ID, *names])
        columns: dict[str, NDArray[Any]] = {}
        for name in names:
            short, spec = name.partition("/")[2], self.schema.arrays[name]
            values = arrays[name].reshape(len(arrays[name]), -1)
            values = values.astype(np.float32) if values.dtype == np.float16 else values
            labels = spec.columns or [str(i) for i in range(values.shape[1])]
            for label, column in zip(labels, values.T, strict=False):
                columns[f"{short}.{label}" if spec.shape else short] = column
        ids = arrays[ID]
        index = ids if axis == EVENT else np.repeat(ids, ragged.lengths(arrays, self.schema, axis))
        frame: pandas.DataFrame = pd.DataFrame(columns, index=pd.Index(index, name=ID))
        return frame
