"""Events in memory, read in the same way as a store on disk."""

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from frz.store import ragged
from frz.store.schema import EventArrays, Schema, axis_of, count_events


class Reader(Protocol):
    """What loading needs of a set of events, wherever they lie."""

    @property
    def schema(self) -> Schema: ...

    @property
    def n_events(self) -> int: ...

    def events(self, positions: NDArray[Any], names: Iterable[str] | None = None) -> EventArrays:
        """The events at `positions`, in that order."""
        ...

    def range(self, first: int, last: int, names: Iterable[str] | None = None) -> EventArrays:
        """Events [first, last)."""
        ...

    def array(self, name: str) -> NDArray[Any]:
        """A whole array."""
        ...

    def lengths(self, axis: str) -> NDArray[np.int64]:
        """Members of `axis` in each event."""
        ...


class EventTable:
    """Events held in memory.

    Parameters
    ----------
    schema : Schema
        What the arrays are.
    arrays : EventArrays
        Every array of the schema and the offsets of its ragged axes.
    """

    def __init__(self, schema: Schema, arrays: EventArrays) -> None:
        ragged.check(arrays, schema)
        self.schema, self.arrays = schema, arrays
        self.n_events = count_events(arrays, schema)

    def __len__(self) -> int:
        return self.n_events

    def _named(self, names: Iterable[str] | None) -> EventArrays:
        return pick(self.arrays, self.schema, self.schema.arrays if names is None else names)

    def events(self, positions: NDArray[Any], names: Iterable[str] | None = None) -> EventArrays:
        """The events at `positions` (any order, repeats allowed)."""
        return ragged.take(self._named(names), self.schema, positions)

    def range(self, first: int, last: int, names: Iterable[str] | None = None) -> EventArrays:
        """Events [first, last); values are views."""
        return ragged.slice_events(self._named(names), self.schema, first, last)

    def array(self, name: str) -> NDArray[Any]:
        """A whole array, or the offsets of an axis."""
        return self.arrays[name]

    def lengths(self, axis: str) -> NDArray[np.int64]:
        """Members of `axis` in each event (n_event,)."""
        return ragged.lengths(self.arrays, self.schema, axis)


def pick(arrays: EventArrays, schema: Schema, names: Iterable[str]) -> EventArrays:
    """The named arrays and the offsets of every ragged axis above them."""
    chosen: EventArrays = {}
    for name in names:
        for axis in schema.lineage(axis_of(name)):
            if schema.axes[axis].length is None:
                chosen[f"{axis}/offsets"] = arrays[f"{axis}/offsets"]
        chosen[name] = arrays[name]
    return chosen
