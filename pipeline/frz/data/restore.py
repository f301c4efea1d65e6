"""Making lost parts of a data set again, from the source that they were read from.

A part's key says what it was made from: the unit of the source with its digest, the settings, the cutting. Where no
unit of the source as it is now gives that key, something has changed, and the part is not made from anything else.
"""

from collections.abc import Iterator
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frz.artifacts import versions
from frz.data.add import static_names
from frz.data.columns import Column, group_of, is_missing
from frz.data.source import Unit
from frz.data.units import EVENTS, cut_unit, open_source, part_key, stored_schema, unit_key
from frz.errors import DamageError, FrzError, SourceError, StoreError
from frz.store import repair as store_repair
from frz.store.cut import PartLimits
from frz.store.journal import Journal
from frz.store.keys import content_digest, event_keys
from frz.store.lost import in_order, open_checked, shares
from frz.store.mend import Outcome
from frz.store.reader import EventStore
from frz.store.repair import LostPart
from frz.store.schema import EVENT, ID, KEY, EventArrays
from frz.store.snapshot import Snapshot
from frz.store.verify import Report


def repair(root: Path, report: Report) -> tuple[list[Outcome], Snapshot | None]:
    """Mend a data set; see `frz.store.repair.repair`."""
    report.damages.sort(key=lambda damage: damage.group != EVENTS)  # added columns are found by the events' ids
    restore = Restore(root)
    return store_repair.repair(root, report, restore.remake, restore.static)


class Place(NamedTuple):
    """Where a part comes from."""

    unit: Unit
    number: int
    """Which of the unit's parts it is."""


class Origin:
    """The source of a version, as it is now.

    Raises
    ------
    FrzError
        If the version does not say where it comes from, or there is no such source any more.
    """

    def __init__(self, root: Path, made: Snapshot) -> None:
        self.root, self.made = root, made
        about = made.about
        where = f"{made.name}@{made.version}"
        if "limits" not in about:
            raise StoreError("nothing says what it was read from", where=where, way_out="bring back a copy of it")
        settings = {key: value for key, value in about["source"].items() if key != "version"}
        self.kind, self.source = open_source(settings, where)
        self.limits = PartLimits.model_validate(about["limits"])

    @cached_property
    def places(self) -> dict[str, Place]:
        """Every part that the source may give, by key."""
        journal = Journal(self.root / "journal")
        found: dict[str, Place] = {}
        for unit in self.source.units():
            key = unit_key(self.kind, self.source, unit, self.limits)
            record = journal.find(key)
            n_parts = len(record.entries) if record else len(self.made.parts)
            found |= {part_key(key, number): Place(unit, number) for number in range(n_parts)}
        return found

    def changed(self, key: str) -> FrzError:
        """Why the source does not give a part any more."""
        where, version = str(self.root), self.made.about["source"].get("version")
        way_out = "bring back what it was, or build a new version of the data set"
        if version != self.source.version:
            what = f"it was read by version {version} of the source {self.kind!r}, which is {self.source.version} now"
            return SourceError(what, where=where, way_out=way_out)
        schema = stored_schema(self.source)
        if differ := [n for n, spec in schema.arrays.items() if self.made.event_schema.arrays.get(n) != spec]:
            what = f"the source {self.kind!r} gives other arrays now ({', '.join(differ)})"
            return SourceError(what, where=where, way_out=way_out)
        name = _unit_of(Journal(self.root / "journal"), key)
        if name is None:
            return SourceError("no unit of the source gives it any more", where=where, way_out=way_out)
        here = any(unit.name == name for unit in self.source.units())
        what = "is not what it was when it was read" if here else "is no longer in the source"
        return SourceError(what, where=name, way_out=way_out)


def _unit_of(journal: Journal, key: str) -> str | None:
    """Name of the unit that gave a part, as far as the journal knows."""
    for record in journal.records():
        if any(piece.key == key for part in record.entries for piece in part.groups[EVENTS]):
            return record.name
    return None


class Restore:
    """Makes what a data set has lost.

    Parameters
    ----------
    root : Path
        The data set.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._version = cache(partial(open_checked, root))
        self._origins: dict[int, Origin] = {}
        self._unit = ""
        self._parts: Iterator[tuple[int, EventArrays]] = iter(())
        """Parts of the unit that is being read, from the one after the last one used."""

    def remake(self, lost: LostPart) -> EventArrays:
        """All arrays of a part.

        Raises
        ------
        FrzError
            If the source is gone or is not what it was, naming the file.
        """
        return self._of_source(lost) if lost.group == EVENTS else self._of_column(lost)

    def static(self, name: str, digest: str) -> NDArray[Any]:
        """A static array, by the begin of its digest: from the source, or of a column that was added.

        Raises
        ------
        FrzError
            If it cannot be told any more.
        """
        for version in reversed(versions(self.root)):
            store = self._version(version)
            if store is None or not store.snapshot.static.get(name, "").startswith(digest):
                continue
            if name in store.schema.static:
                return self._origin(store.snapshot).source.static()[name]
            try:
                found = _table_of(store, name, digest)
            except DamageError as error:
                raise _lost(self.root, f"so are values of its events ({error.what})", name) from None
            if found is not None:
                return found
        raise _lost(self.root, "the table that it was taken from had other events too", name)

    def _origin(self, made: Snapshot) -> Origin:
        if made.version not in self._origins:
            self._origins[made.version] = Origin(self.root, made)
        return self._origins[made.version]

    def _of_source(self, lost: LostPart) -> EventArrays:
        reason: FrzError | None = None
        for version in sorted({version for version, _, _ in lost.events}):
            if (store := self._version(version)) is None:
                continue
            try:
                origin = self._origin(store.snapshot)
                if place := origin.places.get(lost.part.key):
                    return self._read(origin, place)
                reason = reason or origin.changed(lost.part.key)
            except FrzError as error:
                reason = reason or error
        assert reason is not None, "a version points at the part"
        raise reason

    def _read(self, origin: Origin, place: Place) -> EventArrays:
        """A part of a unit; of parts that follow each other, each is read once."""
        unit = unit_key(origin.kind, origin.source, place.unit, origin.limits)
        for again in (False, True):
            if again or self._unit != unit:
                self._unit = unit
                self._parts = enumerate(cut_unit(origin.source, place.unit, origin.limits))
            for number, arrays in self._parts:
                if number == place.number:
                    return {**arrays, KEY: event_keys(arrays, stored_schema(origin.source))}
                if number > place.number:
                    break
        raise SourceError(f"holds {place.number} parts or less now", where=place.unit.name, way_out="build it again")

    def _of_column(self, lost: LostPart) -> EventArrays:
        """A part of an added column, from the table that is kept as static arrays."""
        name = lost.group.removeprefix(group_of(""))
        values, rows = [], []
        for store, chosen, positions in shares(lost, self._version):
            try:
                table = [store.static(key) for key in static_names(name)]
            except DamageError as error:
                raise _lost(self.root, error.what, lost.group) from None
            column = Column(name, store.schema.arrays[f"{EVENT}/{name}"], *table)
            values.append({column.array: column.of(store.events(positions, [ID])[ID])})
            rows.append(chosen)
        return in_order(values, rows, store.schema)


def _lost(root: Path, what: str, where: str) -> StoreError:
    """Neither a column's table nor its values are whole: only the table outside tells it again."""
    again = f"'frz data add {root} TABLE' with the table that the column came from, then 'frz repair {root}'"
    return StoreError(what, where=where, way_out=f"run {again}")


def _table_of(store: EventStore, static: str, digest: str) -> NDArray[Any] | None:
    """Ids or values of an added column, from the values of the events: all of them, or those that have one."""
    spec = store.schema.arrays
    name = next(array.partition("/")[2] for array in spec if static in static_names(array.partition("/")[2]))
    ids = store.array(ID)
    order = np.argsort(ids)
    values = store.array(f"{EVENT}/{name}")[order]
    chosen = ids[order] if static == static_names(name)[0] else values
    for kept in (chosen, chosen[~is_missing(values)]):
        if content_digest({static: kept}).startswith(digest):
            return kept
    return None
