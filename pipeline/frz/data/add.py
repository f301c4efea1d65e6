"""New targets for a data set from a table, beside what is written.

A column of the table becomes an array of its own group: its parts are added, all others are left alone, and the
events keep their keys, so features stay valid. The column is kept in the store as two static arrays (ids, values),
and later builds fill it in for their new parts.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.artifacts import dataset
from frz.artifacts import versions as versions_of
from frz.config import digest_of
from frz.data.columns import Column, group_of, n_missing, read_table
from frz.errors import ConfigError, SourceError
from frz.store import snapshot
from frz.store.catalogue import Catalogue, PartEntry, Piece
from frz.store.lease import Leases
from frz.store.part import find_part, write_part
from frz.store.ragged import offsets_of
from frz.store.reader import EventStore
from frz.store.schema import EVENT, ID, Array, Schema
from frz.store.snapshot import Snapshot

PART_EVENTS = 1 << 20
"""Most events in a part of an added array: the parts of the data set point at ranges of it."""


def add(
    name: str,
    table: Path,
    artifacts: Path,
    on: str = "id",
    columns: Iterable[str] | None = None,
    replace: bool = False,
) -> dict[str, Any]:
    """Add columns of a table to a data set as targets `event/<column>`, in a new version.

    Parameters
    ----------
    name : str
        A data set; its newest version is extended.
    table : Path
        Parquet or CSV file with one row per event. Events without a row or value get NaN (floats) or -1.
    artifacts : Path
        Where artifacts lie.
    on : str
        The column with the event ids.
    columns : iterable of str, optional
        Default all others. Floats are stored as float32, whole numbers as int64, booleans as int8.
    replace : bool
        Replace columns that were added before.

    Returns
    -------
    dict
        Name, version, whether it is new, hash, events; per array its `dtype` and the number of events `without_value`;
        `rows_without_event`: rows whose id is not in the data set, which are kept for events that a later build brings.

    Raises
    ------
    ConfigError, SourceError, StoreError
        If the table cannot be used, a column exists, or the disk is full.
    """
    place = dataset(name, artifacts)
    newest = versions_of(place.path)[-1]
    if place.version != newest:
        raise ConfigError(f"{name} is not the newest version", where=str(place.path), way_out=f"add to @{newest}")
    read = read_table(table, on, columns)
    store = EventStore(place.path)
    ids = store.array(ID)
    n_known = int(np.isin(read[0].ids, ids).sum())
    if n_known == 0:
        what = f"none of its {len(read[0].ids)} ids in column {on!r} is in {store.snapshot.name}"
        raise SourceError(what, where=str(table), way_out=f"give the column of event ids with --on; ids: {_some(ids)}")
    snapshot.prepare_root(place.path)

    def make(latest: Snapshot | None) -> Snapshot:
        assert latest is not None
        for column, static in zip(read, digests, strict=True):
            if latest.static.items() >= static.items() and latest.event_schema.arrays.get(column.array) == column.spec:
                continue
            _refuse_taken(latest, column, replace)
            latest = _fill(place.path, latest, column.name, column.spec, static, {})[0]
        return latest

    with Leases(place.path).hold() as leases:
        digests = [_keep(place.path, column) for column in read]
        leases.refuse_lost()
        done = snapshot.commit(place.path, make)
    return {
        "name": done.name,
        "version": done.version,
        "new": done.version != newest,
        "hash": done.hash,
        "events": done.n_events,
        "added": {c.array: {"dtype": c.spec.dtype, "without_value": n_missing(c.of(ids))} for c in read},
        "rows_without_event": len(read[0].ids) - n_known,
    }


def carry_over(root: Path, made: Snapshot, before: Snapshot | None) -> tuple[Snapshot, dict[str, dict[str, int]]]:
    """A version that is being built, with the columns that were added to the version before.

    Parts that hold the same events as before keep their rows. A column whose name the source now has is dropped.

    Returns
    -------
    Snapshot
        With the added arrays.
    dict
        Per added array, the number of `new_events` that were filled in and how many of them are `without_value`.
    """
    report = {}
    for array, spec in before.event_schema.arrays.items() if before else ():
        name = array.partition("/")[2]
        if before is None or spec.group != group_of(name) or array in made.event_schema.arrays:
            continue
        known = {part.events: part.groups[spec.group] for part in before.parts}
        static = {key: before.static[key] for key in static_names(name)}
        made, values = _fill(root, made, name, spec, static, known)
        report[array] = {"new_events": len(values), "without_value": n_missing(values)}
    return made, report


def _fill(
    root: Path,
    base: Snapshot,
    name: str,
    spec: Array,
    static: Mapping[str, str],
    known: Mapping[str, tuple[Piece, ...]],
) -> tuple[Snapshot, NDArray[Any]]:
    """The snapshot with one column more, and the values that had to be written for it.

    `known` tells where the rows of a part are, by its events.
    """
    array, written = f"{EVENT}/{name}", [np.empty(0, spec.dtype)]
    pieces = dict(known)
    lacking = [index for index, part in enumerate(base.parts) if part.events not in known]
    if lacking:
        store = EventStore.of(root, base)
        column = Column(name, spec, *(snapshot.read_static(root, key, static[key]) for key in static_names(name)))
        for run in _runs(lacking, base.parts.n_events):
            parts = [base.parts[index] for index in run]
            bounds = offsets_of(np.array([part.n_events for part in parts]))
            rows = [np.arange(*store.part_bounds[index : index + 2]) for index in run]
            values = column.of(store.events(np.concatenate(rows), [ID])[ID])
            key = digest_of([spec.model_dump(mode="json"), static, [part.events for part in parts]])
            made = find_part(root, spec.group, key)
            made = made or write_part(root, spec.group, key, Schema(arrays={array: spec}), {array: values})
            ranges = zip(bounds.tolist(), bounds[1:].tolist(), strict=False)
            pieces |= {
                part.events: (Piece(made.key, made.digest, first, last),)
                for part, (first, last) in zip(parts, ranges, strict=True)
            }
            written.append(values)

    def with_column(part: PartEntry) -> PartEntry:
        return part._replace(groups={**part.groups, spec.group: pieces[part.events]})

    schema = base.event_schema.model_copy(update={"arrays": {**base.event_schema.arrays, array: spec}})
    catalogue = Catalogue.of(with_column(part) for part in base.parts)
    changes = {"event_schema": schema, "parts": catalogue, "static": {**base.static, **static}}
    return base.model_copy(update=changes), np.concatenate(written)


def _runs(parts: list[int], n_events: list[int]) -> list[list[int]]:
    """The parts in runs that one part of an added array can hold."""
    runs: list[list[int]] = []
    size = PART_EVENTS
    for index in parts:
        if size + n_events[index] > PART_EVENTS:
            runs.append([])
            size = 0
        runs[-1].append(index)
        size += n_events[index]
    return runs


def static_names(name: str) -> tuple[str, str]:
    """The static arrays that keep an added column: ids and values."""
    return f"added.{name}.id", f"added.{name}.value"


def _keep(root: Path, column: Column) -> dict[str, str]:
    """Keep a column in the store; digests of its static arrays."""
    values = zip(static_names(column.name), (column.ids, column.values), strict=True)
    return {key: snapshot.write_static(root, key, array) for key, array in values}


def _refuse_taken(latest: Snapshot, column: Column, replace: bool) -> None:
    found = latest.event_schema.arrays.get(column.array)
    if found is None or (replace and found.group == column.spec.group):
        return
    added = found.group == column.spec.group
    raise ConfigError(
        f"{column.array} exists" + ("" if added else ": it comes from the source"),
        where=f"{latest.name}@{latest.version}",
        way_out="replace it with --replace" if added else "rename the column, or choose others with --columns",
    )


def _some(ids: NDArray[np.int64]) -> str:
    return ", ".join(map(str, ids[:3].tolist())) + ("..." if len(ids) > 3 else "")
