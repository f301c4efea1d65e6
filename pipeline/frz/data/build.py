"""From a recipe to a version of a data set.

Units that the journal knows are not read; parts that are there already, from a broken build or an earlier
version, are kept; a version appears only when everything in it is on disk.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from frz.artifacts import store_path
from frz.config import StrictModel, parse
from frz.data.add import carry_over
from frz.data.source import Source, Unit
from frz.data.units import EVENTS, cut_unit, open_source, part_key, stored_schema, unit_key
from frz.errors import SourceError, StoreError
from frz.progress import progress
from frz.store import snapshot
from frz.store.catalogue import Catalogue, PartEntry, entry
from frz.store.cut import PartLimits
from frz.store.journal import Journal, UnitRecord
from frz.store.keys import content_digest, event_keys, keys_digest
from frz.store.lease import Leases
from frz.store.part import committed, find_part, part_name, write_part
from frz.store.reader import EventStore
from frz.store.schema import ID, KEY, EventArrays, Schema
from frz.store.snapshot import Snapshot
from frz.store.split import Split


class Recipe(StrictModel):
    """A data set: which source, with which cuts, split how."""

    name: str
    source: dict[str, Any]
    """`kind` (a known source or `package.module:Class`) and the source's own settings."""
    split: Split = Split()
    """What it does not say is as the source has it."""


def build(values: Mapping[str, Any], artifacts: Path, where: str = "recipe") -> dict[str, Any]:
    """Build a data set, or the next version of it.

    Parameters
    ----------
    values : mapping
        A recipe, as read from YAML.
    artifacts : Path
        The data set goes to `datasets/<name>` below it.
    where : str
        What errors call the recipe.

    Returns
    -------
    dict
        Name, version, path, counts and events per split. A unit of the source is `units_read`, or `units_skipped`
        where the journal has it whole; a part of a unit read is `parts_written`, or `parts_found` where a broken build
        or an earlier version had committed it; `parts` is all parts of the version. `added`: see `carry_over`;
        `counted`: what the source left out, merged or lacked, where it tells.

    Raises
    ------
    ConfigError, SourceError, StoreError
        If the recipe, an input file or the disk does not allow it; what is committed stays.
    """
    recipe = parse(Recipe, values, where)
    kind, source = open_source(recipe.source, where)
    units = source.units()
    root = store_path(artifacts, "datasets", recipe.name)
    snapshot.prepare_root(root)
    with Leases(root).hold() as leases:
        return _build(recipe, kind, source, units, root, leases, where)


def _build(
    recipe: Recipe, kind: str, source: Source, units: list[Unit], root: Path, leases: Leases, where: str
) -> dict[str, Any]:
    schema = stored_schema(source)
    said = recipe.split.model_dump(exclude_unset=True)
    split = parse(Split, {**source.split.model_dump(), **said}, f"{where}: split").with_groups(source.parts(), where)
    before = snapshot.read(root)
    journal = Journal(root / "journal")
    limits = PartLimits.for_source(source.n_events, _limits(before))
    there = _There(root, schema, before)
    entries: list[PartEntry] = []
    places: list[tuple[str, int]] = []  # unit and number of events of each entry, for errors
    counted: Counter[str] = Counter()
    n_read = n_written = n_found = 0
    with progress(f"build {recipe.name}", total=source.n_events, unit="event") as bar:
        for unit in units:
            key = unit_key(kind, source, unit, limits)
            record = journal.find(key)
            if record is None or not there.has(record.entries):
                record, new = _read_unit(source, unit, key, limits, root, there, bar)
                journal.add(record)
                n_read += 1
                n_written += new
                n_found += len(record.entries) - new
            else:
                bar.advance(sum(part.n_events for part in record.entries))
            entries += record.entries
            counted.update(record.counted)
            places += [(unit.name, part.n_events) for part in record.entries]
    if not entries:
        raise SourceError("the source has no events", where=where, way_out="check its path and cuts")
    static = {name: snapshot.write_static(root, name, values) for name, values in source.static().items()}
    assert static.keys() == schema.static.keys(), "static arrays differ from those that the source's schema lists"
    about = {
        "source": {"version": source.version, **recipe.source},
        "licence": source.licence,
        "limits": limits.model_dump(),
        **({"counted": dict(counted)} if counted else {}),
    }
    made = Snapshot(
        name=recipe.name,
        event_schema=schema,
        split=split,
        parts=Catalogue.of(entries),
        static=static,
        about=about,
    )
    _refuse_duplicates(root, made, places)
    made, added = carry_over(root, made, before)

    def make(latest: Snapshot | None) -> Snapshot:
        if latest is not None and (before is None or latest.version != before.version) and latest.hash != content:
            raise StoreError(
                f"another build made version {latest.version} meanwhile",
                where=str(root),
                way_out="run again to build on it",
            )
        return made

    content = made.content_hash()
    leases.refuse_lost()
    done = snapshot.commit(root, make)
    store = EventStore(root, done.version)
    return {
        "name": recipe.name,
        "version": done.version,
        "new": before is None or before.version != done.version,
        "path": str(root),
        "hash": done.hash,
        "events": done.n_events,
        "parts": len(done.parts),
        "units_read": n_read,
        "units_skipped": len(units) - n_read,
        "parts_written": n_written,
        "parts_found": n_found,
        "added": added,
        "counts": {axis: sum(done.parts.counts.get(axis, [])) for axis in schema.ordered_axes()},
        "largest": done.largest(),
        "splits": {name: len(store.split(name)) for name in split.fractions},
        **({"counted": dict(counted)} if counted else {}),
    }


def _limits(before: Snapshot | None) -> PartLimits | None:
    """How the version before was cut."""
    return PartLimits.model_validate(before.about["limits"]) if before and "limits" in before.about else None


class _There:
    """What lies in the store already: committed parts, and which events the parts of the version before hold."""

    def __init__(self, root: Path, schema: Schema, before: Snapshot | None) -> None:
        self._before = before
        self._names = committed(root)
        alike = before is not None and all(
            before.event_schema.arrays.get(name) == spec for name, spec in schema.arrays.items()
        )
        self._by_events = {e: part for part, e in enumerate(before.parts.events)} if before and alike else {}

    def has(self, entries: Iterable[PartEntry]) -> bool:
        """Are all their parts in their places?"""
        groups = (group for part in entries for group in part.groups.items())
        return all(part_name(group, piece.key) in self._names for group, pieces in groups for piece in pieces)

    def find(self, arrays: EventArrays) -> PartEntry | None:
        """The part that holds exactly these events and no other values, whatever unit it came from."""
        index = self._by_events.get(keys_digest(arrays[KEY]))
        if index is None or self._before is None:
            return None
        part = self._before.parts[index]
        part = part._replace(groups={EVENTS: part.groups[EVENTS]})
        same = [piece.digest for piece in part.groups[EVENTS]] == [content_digest(arrays)]
        return part if same and self.has([part]) else None


def _read_unit(
    source: Source, unit: Unit, key: str, limits: PartLimits, root: Path, there: _There, bar: Any
) -> tuple[UnitRecord, int]:
    """The unit as parts, and how many of them were not there yet."""
    entries = []
    n_written = 0
    schema = stored_schema(source)
    for number, arrays in enumerate(cut_unit(source, unit, limits)):
        place = part_key(key, number)
        record = find_part(root, EVENTS, place)
        if record is None:
            arrays[KEY] = event_keys(arrays, schema)
            found = there.find(arrays)
            n_written += found is None
            part = found or entry({EVENTS: write_part(root, EVENTS, place, schema, arrays)})
        else:
            part = entry({EVENTS: record})
        entries.append(part)
        bar.advance(part.n_events)
    return UnitRecord(key=key, name=unit.name, entries=tuple(entries), counted=dict(source.counted())), n_written


def _refuse_duplicates(root: Path, made: Snapshot, places: list[tuple[str, int]]) -> None:
    """An id that occurs twice is an error that names both places."""
    ids = EventStore.of(root, made).array(ID)
    order = np.argsort(ids, kind="stable")
    twice = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if len(twice) == 0:
        return
    bounds = np.cumsum([n for _, n in places])
    first, second = (places[int(np.searchsorted(bounds, order[i], side="right"))][0] for i in (twice[0], twice[0] + 1))
    raise SourceError(
        f"event id {ids[order[twice[0]]]} occurs twice: in {first} and in {second} ({len(twice)} duplicates in all)",
        where=made.name,
        way_out="remove one of them from the source",
    )
