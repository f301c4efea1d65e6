"""Reading a store: by part, by range, by a list of events in any order, or a whole array.

Nothing is read before it is asked for. Local parts are mapped, so a random event costs its own bytes. Of an object
store whole arrays of a part are fetched and a few parts kept: read it part by part, a random event costs a part.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frz.errors import ConfigError, DamageError, StoreError, nearest
from frz.location import is_remote, location
from frz.store import ragged, snapshot
from frz.store.opened import Part, open_part
from frz.store.schema import EVENT, GROUP, ID, EventArrays, Schema, axis_of
from frz.store.snapshot import Snapshot

OPEN_PARTS = 1024
MEMORY = 1 << 29
"""Bytes of parts that are kept of a store on an object store, where nothing can be mapped: about, and at least two."""


class EventStore:
    """One version of an event store.

    Parameters
    ----------
    root : path
        Folder of the store.
    version : int, optional
        Default the newest.
    verify : bool
        Read each array of a part once on first use and compare its checksum, not its size alone.

    Raises
    ------
    StoreError
        If there is no store, no such version, or a file is damaged or missing.
    """

    def __init__(self, root: str | Path, version: int | None = None, verify: bool = False) -> None:
        place = location(root)
        found = snapshot.read(place, version)
        if found is None:
            raise StoreError("no event store here", where=str(root), way_out="build or extract it first")
        self._set(place, found)
        self.verify = verify

    @classmethod
    def of(cls, root: Path, found: Snapshot) -> "EventStore":
        """Read a snapshot that is not committed yet."""
        store = cls.__new__(cls)
        store._set(root, found)
        return store

    def _set(self, root: Path, found: Snapshot) -> None:
        self.root = root
        self.verify = False
        self._verified: set[tuple[str, int, str]] = set()
        self.snapshot: Snapshot = found
        self.schema: Schema = found.event_schema
        self.part_bounds = ragged.offsets_of(np.array(found.parts.n_events, np.int64))
        n_open = OPEN_PARTS if not is_remote(root) else max(2, min(OPEN_PARTS, MEMORY // max(self._largest_part(), 1)))
        self._stored = lru_cache(n_open)(self._open_stored)
        self._mapped = lru_cache(n_open)(self._map)

    def _largest_part(self) -> int:
        """Bytes of the largest part of the version."""
        catalogue = self.snapshot.parts
        counts = {EVENT: catalogue.n_events, **catalogue.counts}
        known = [(counts[axis_of(name)], spec) for name, spec in self.schema.arrays.items() if axis_of(name) in counts]
        return int(np.max(sum(np.array(rows, np.int64) * spec.row_bytes for rows, spec in known), initial=0))

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

    def _open_stored(self, group: str, stored: int) -> Part:
        return open_part(self.root, group, self.snapshot.parts.groups[group].part(stored))

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

    def _by_group(self, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The arrays asked for, with the offsets they need, by the group that holds them."""
        wanted: dict[str, list[str]] = {}
        for name in names:
            axis, _, rest = name.partition("/")
            group = self._group_with(axis) if rest == "offsets" else self.schema.arrays[name].group
            steps = [f"{step}/offsets" for step in self.schema.lineage(axis) if self.schema.axes[step].length is None]
            wanted.setdefault(group, []).extend(steps if rest == "offsets" else [*steps, name])
        return {group: tuple(dict.fromkeys(found)) for group, found in wanted.items()}

    def _group_with(self, axis: str) -> str:
        """A group that holds the offsets of an axis."""
        holds = (spec.group for name, spec in self.schema.arrays.items() if axis in self.schema.lineage(axis_of(name)))
        return next(holds)

    def _map(self, group: str, stored: int, names: tuple[str, ...]) -> tuple[EventArrays, dict[str, memoryview] | None]:
        """Arrays of a committed part as they lie on disk, and as buffers unless some are packed.

        Raises
        ------
        DamageError
            If a file is missing or damaged, naming the events that lie in it.
        """
        try:
            part = self._stored(group, stored)
            if self.verify:
                for name in names:
                    if (group, stored, name) not in self._verified:
                        part.check(name)
                        self._verified.add((group, stored, name))
            arrays = part.load(names)
            plain = all(isinstance(values, np.ndarray) for values in arrays.values())
            return arrays, {name: values.data for name, values in arrays.items()} if plain else None
        except DamageError as error:
            ranges = self.snapshot.parts.groups[group].events_of(stored)
            events = ", ".join(f"{first} to {last - 1}" for first, last in ranges)
            what = f"{error.what} (events {events} of version {self.snapshot.version})"
            raise DamageError(what, where=error.where, way_out=error.way_out) from None

    def part(self, index: int, names: Iterable[str] | None = None) -> EventArrays:
        """The events of one part; where they lie in one piece, values are mapped, not copied.

        Raises
        ------
        StoreError
            If there is no such part.
        """
        if not 0 <= index < self.n_parts:
            raise StoreError(f"no part {index}", where=str(self.root), way_out=f"give 0 <= index < {self.n_parts}")
        return self.range(int(self.part_bounds[index]), int(self.part_bounds[index + 1]), names)

    def parts(self, names: Iterable[str] | None = None) -> Iterator[EventArrays]:
        """All parts in order."""
        names = self._names(names)
        return (self.part(index, names) for index in range(self.n_parts))

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
        result: EventArrays = {}
        for group, wanted in self._by_group(names).items():
            result |= self._slice(group, wanted, first, last)
        return result

    def _slice(self, group: str, names: tuple[str, ...], first: int, last: int) -> EventArrays:
        """Events [first, last) of one group: views where they lie in one piece."""
        pieces = self.snapshot.parts.groups[group]
        begin = int(np.searchsorted(pieces.bounds, first, side="right")) - 1
        end = int(np.searchsorted(pieces.bounds, last, side="left"))
        edges = np.clip(pieces.bounds[begin : end + 1], first, last)
        stored, low = pieces.locate(edges[:-1])
        high = low + edges[1:] - edges[:-1]
        if len(low) == 1:
            arrays, _ = self._mapped(group, int(stored[0]), names)
            return ragged.slice_events(arrays, self.schema, int(low[0]), int(high[0]))
        return self._gather(group, names, stored, low, high)

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
        result: EventArrays = {}
        for group, wanted in self._by_group(names).items():
            stored, rows = self.snapshot.parts.groups[group].locate(positions)
            # events that follow each other are read in one go
            begins = np.flatnonzero(np.append(True, (np.diff(stored) != 0) | (np.diff(rows) != 1)))
            ends = np.append(begins[1:], len(rows)) - 1
            result |= self._gather(group, wanted, stored[begins], rows[begins], rows[ends] + 1)
        return result

    def _gather(
        self,
        group: str,
        names: tuple[str, ...],
        stored: NDArray[np.int64],
        first: NDArray[np.int64],
        last: NDArray[np.int64],
    ) -> EventArrays:
        """Runs of events [first, last) of committed parts, one after the other."""
        used, which = np.unique(stored, return_inverse=True)
        parts = []
        for index, part in enumerate(used.tolist()):
            arrays, found = self._mapped(group, part, names)
            if found is None:
                # What the runs of this part share is decoded once, not once for each.
                chosen = np.flatnonzero(which == index)
                events, edges = ragged.spread(first[chosen], last[chosen])
                taken = ragged.take(arrays, self.schema, events)
                found = {name: values.data for name, values in taken.items()}
                first[chosen], last[chosen] = edges[:-1], edges[1:]
            parts.append(found)
        return ragged.gather(parts, self.schema, which, first, last)

    def _positions(self, positions: NDArray[Any]) -> NDArray[np.int64]:
        """Positions as int64, each within the store."""
        allowed = f"positions are whole numbers from 0 to {self.n_events - 1}"
        if positions.ndim != 1 or (positions.dtype.kind not in "iu" and len(positions)):
            mask = "; np.flatnonzero(mask) makes them from a mask" if positions.dtype.kind == "b" else ""
            what = f"cannot take events at {positions.dtype} values of shape {positions.shape}"
            raise StoreError(what, where=str(self.root), way_out=allowed + mask)
        positions = positions.astype(np.int64, copy=False)
        if len(positions) and (positions.min() < 0 or positions.max() >= self.n_events):
            outside = positions[(positions < 0) | (positions >= self.n_events)][0]
            raise StoreError(f"no event at position {outside}", where=str(self.root), way_out=allowed)
        return positions

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
                arrays[name] = np.empty((0, *spec.shape), spec.in_memory)
        return arrays

    def positions(self, ids: ArrayLike) -> NDArray[np.int64]:
        """Positions of the events with these ids (n,), or with one, in that order; `events` takes them.

        Raises
        ------
        StoreError
            If there is no event of an id, naming some.
        """
        wanted, known = np.atleast_1d(ids), self.array(ID)
        order = np.argsort(known)
        at = np.searchsorted(known, wanted, sorter=order)
        found = order[np.minimum(at, len(known) - 1)] if len(known) else np.zeros(len(wanted), np.int64)
        absent = wanted[known[found] != wanted] if len(known) else wanted
        if len(absent):
            what = f"no event of id {', '.join(map(str, absent[:3].tolist()))}{' …' if len(absent) > 3 else ''}"
            raise StoreError(what, where=str(self.root), way_out="the ids are the array event/id")
        return found

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
        return ragged.lengths(self.range(0, self.n_events, names), self.schema, axis)

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
        """Bytes of the values of an array as stored, before any codec."""
        [name] = self._names(name)
        axis = axis_of(name)
        n = self.n_events if axis == EVENT else sum(self.snapshot.parts.counts[axis])
        return n * self.schema.arrays[name].row_bytes
