"""Reading a store: by part, by range, by a list of events in any order, or a whole array.

Nothing is read before it is asked for. Local parts are mapped, so a random event costs its own bytes.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frz.errors import ConfigError, StoreError, nearest
from frz.store import ragged, snapshot
from frz.store.part import Part, open_part
from frz.store.schema import EVENT, GROUP, EventArrays, Schema, axis_of
from frz.store.snapshot import Snapshot

OPEN_PARTS = 1024


class EventStore:
    """One version of an event store.

    Parameters
    ----------
    root : path
        Folder of the store.
    version : int, optional
        Default the newest.

    Raises
    ------
    StoreError
        If there is no store, no such version, or a file is damaged or missing.
    """

    def __init__(self, root: str | Path, version: int | None = None) -> None:
        found = snapshot.read(Path(root), version)
        if found is None:
            raise StoreError("no event store here", where=str(root), way_out="build or extract it first")
        self._set(Path(root), found)

    @classmethod
    def of(cls, root: Path, found: Snapshot) -> "EventStore":
        """Read a snapshot that is not committed yet."""
        store = cls.__new__(cls)
        store._set(root, found)
        return store

    def _set(self, root: Path, found: Snapshot) -> None:
        self.root = root
        self.snapshot: Snapshot = found
        self.schema: Schema = found.event_schema
        self.part_bounds = ragged.offsets_of(np.array([part.n_events for part in found.parts], np.int64))
        self._part = lru_cache(OPEN_PARTS)(self._open_part)

    def __len__(self) -> int:
        return self.n_events

    def __repr__(self) -> str:
        return f"EventStore({str(self.root)!r}, version={self.snapshot.version}, {self.n_events} events)"

    @property
    def n_events(self) -> int:
        """Number of events."""
        return int(self.part_bounds[-1])

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        return len(self.snapshot.parts)

    def _open_part(self, index: int, group: str) -> Part:
        return open_part(self.root, group, self.snapshot.parts[index].groups[group])

    def keys(self) -> list[str]:
        """Names of the arrays and of the offsets of the ragged axes, sorted."""
        ragged_axes = [name for name, axis in self.schema.axes.items() if axis.length is None]
        return sorted([*self.schema.arrays, *(f"{axis}/offsets" for axis in ragged_axes)])

    def _names(self, names: Iterable[str] | None) -> list[str]:
        """The arrays asked for, default all; a bare name is a list of one.

        Raises
        ------
        ConfigError
            If there is no array of that name.
        """
        if names is None:
            return list(self.schema.arrays)
        names = [names] if isinstance(names, str) else list(names)
        for name in names:
            if name not in self.schema.arrays and name not in self.keys():
                raise ConfigError(f"no array {name!r}", where=str(self.root), way_out=nearest(name, self.keys()))
        return names

    def _check_axis(self, axis: str) -> None:
        """Refuse an axis that the store does not have."""
        axes = [EVENT, *self.schema.axes]
        if axis not in axes:
            raise ConfigError(f"no axis {axis!r}", where=str(self.root), way_out=nearest(axis, axes))

    def _mapped(self, index: int, names: list[str]) -> EventArrays:
        """Arrays of a part as they lie on disk, with the offsets that they need."""
        arrays: EventArrays = {}
        for name in names:
            axis, _, rest = name.partition("/")
            for step in self.schema.lineage(axis):
                if self.schema.axes[step].length is None and f"{step}/offsets" not in arrays:
                    arrays[f"{step}/offsets"] = self._offsets(index, step)
            if rest != "offsets":
                arrays[name] = self._part(index, self.schema.arrays[name].group)[name]
        return arrays

    def _offsets(self, index: int, axis: str) -> NDArray[Any]:
        for group in self.snapshot.parts[index].groups:
            part = self._part(index, group)
            if f"{axis}/offsets" in part.record.arrays:
                return part[f"{axis}/offsets"]
        raise ConfigError(f"no ragged axis {axis!r}", where=str(self.root))

    def part(self, index: int, names: Iterable[str] | None = None) -> EventArrays:
        """The events of one part; values are mapped, not copied."""
        return self._mapped(index, self._names(names))

    def parts(self, names: Iterable[str] | None = None) -> Iterator[EventArrays]:
        """All parts in order."""
        names = self._names(names)
        return (self._mapped(index, names) for index in range(self.n_parts))

    def range(self, first: int, last: int, names: Iterable[str] | None = None) -> EventArrays:
        """Events [first, last).

        Raises
        ------
        StoreError
            If the range is not within the store.
        """
        if not 0 <= first <= last <= self.n_events:
            way_out = f"give 0 <= first <= last <= {self.n_events}"
            raise StoreError(f"no events [{first}, {last})", where=str(self.root), way_out=way_out)
        names = self._names(names)
        if first == last:
            return self._none(names)
        begin = int(np.searchsorted(self.part_bounds, first, side="right")) - 1
        end = int(np.searchsorted(self.part_bounds, last, side="left"))
        pieces = []
        for index in range(begin, end):
            offset, length = int(self.part_bounds[index]), self.snapshot.parts[index].n_events
            low, high = max(first - offset, 0), min(last - offset, length)
            pieces.append(ragged.slice_events(self._mapped(index, names), self.schema, low, high))
        return ragged.concat(pieces)

    def events(self, positions: ArrayLike, names: Iterable[str] | None = None) -> EventArrays:
        """The events at `positions` (n,) or at one position, in that order; repeats are allowed.

        Raises
        ------
        StoreError
            If a position is not a whole number, negative or beyond the last event.
        """
        positions = self._positions(np.atleast_1d(positions))
        names = self._names(names)
        if len(positions) == 0:
            return self._none(names)
        part_of = np.searchsorted(self.part_bounds, positions, side="right") - 1
        order = np.argsort(part_of, kind="stable")
        used, begins = np.unique(part_of[order], return_index=True)
        pieces = []
        for index, chosen in zip(used.tolist(), np.split(order, begins[1:]), strict=True):
            local = positions[chosen] - self.part_bounds[index]
            pieces.append(ragged.take(self._mapped(index, names), self.schema, local))
        joined = ragged.concat(pieces)
        if (order[1:] > order[:-1]).all():
            return joined
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return ragged.take(joined, self.schema, back)

    def _positions(self, positions: NDArray[Any]) -> NDArray[np.int64]:
        """Positions as int64, each within the store."""
        if positions.ndim == 1 and (positions.dtype.kind in "iu" or positions.size == 0):
            positions = positions.astype(np.int64, copy=False)
            if positions.size == 0 or (positions.min() >= 0 and positions.max() < self.n_events):
                return positions
            what = f"no event at position {positions[(positions < 0) | (positions >= self.n_events)][0]}"
        else:
            what = f"cannot take events at {positions.dtype} values of shape {positions.shape}"
        way_out = f"positions are whole numbers from 0 to {self.n_events - 1}"
        if positions.dtype.kind == "b":
            way_out += "; np.flatnonzero(mask) makes them from a mask"
        raise StoreError(what, where=str(self.root), way_out=way_out)

    def _none(self, names: list[str]) -> EventArrays:
        """No events, with the right dtypes and shapes."""
        arrays: EventArrays = {}
        for name in names:
            axis, _, rest = name.partition("/")
            for step in self.schema.lineage(axis):
                if self.schema.axes[step].length is None:
                    arrays[f"{step}/offsets"] = np.zeros(1, np.int64)
            if rest != "offsets":
                spec = self.schema.arrays[name]
                arrays[name] = np.empty((0, *spec.shape), spec.dtype)
        return arrays

    def array(self, name: str) -> NDArray[Any]:
        """A whole array (or the offsets of an axis) in memory."""
        return self.range(0, self.n_events, [name])[name]

    def lengths(self, axis: str) -> NDArray[np.int64]:
        """Members of `axis` in each event (n_event,)."""
        self._check_axis(axis)
        names = [f"{step}/offsets" for step in self.schema.lineage(axis) if self.schema.axes[step].length is None]
        if not names:
            fixed = [self.schema.axes[step].length or 0 for step in self.schema.lineage(axis)]
            return np.full(self.n_events, int(np.prod(fixed)), np.int64)
        pieces = [ragged.lengths(self._mapped(i, names), self.schema, axis) for i in range(self.n_parts)]
        return np.concatenate([np.empty(0, np.int64), *pieces])

    def split(self, name: str) -> NDArray[np.int64]:
        """Positions of the events of a split (`train`, `val`, `test`), in store order."""
        return self.snapshot.split.members(name, self.array(GROUP))

    def static(self, name: str) -> NDArray[Any]:
        """A static array.

        Raises
        ------
        ConfigError
            If there is none of that name.
        """
        if name not in self.snapshot.static:
            way_out = nearest(name, self.snapshot.static)
            raise ConfigError(f"no static array {name!r}", where=str(self.root), way_out=way_out)
        return snapshot.read_static(self.root, name, self.snapshot.static[name])

    def nbytes(self, name: str) -> int:
        """Bytes of the values of an array."""
        spec, axis = self.schema.arrays[name], axis_of(name)
        n = self.n_events if axis == "event" else sum(part.counts[axis] for part in self.snapshot.parts)
        return int(n * np.dtype(spec.dtype).itemsize * np.prod(spec.shape, dtype=np.int64))
