"""Mending what `verify` found, with the least work that does it.

What can be told from the rest of the store is written anew: metadata from schema and commit record, a commit record
from the arrays (if their digest is the one that the snapshot names), a snapshot from its second copy. Values that are
lost must be made again by the caller. A part is never changed in place: a whole one takes the place of the damaged
one. If it holds other content than the one lost (another machine rounds differently), the newest version is followed
by one that points at it, and older versions refuse to read it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from frz.artifacts import versions
from frz.errors import DamageError, FrzError, StoreError
from frz.location import is_remote
from frz.progress import progress
from frz.store import atomic, bfloat16, codecs, ragged, shard, snapshot
from frz.store.keys import content_digest
from frz.store.part import ArrayRecord, CommitRecord, PartRef, labels, part_name, read_record, replace_part
from frz.store.reader import EventStore
from frz.store.schema import EventArrays, Schema
from frz.store.snapshot import Snapshot, copy_path, snapshot_path
from frz.store.verify import GROUP_METADATA, Damage, Report, readable


class LostPart(NamedTuple):
    """A part whose arrays must be made again."""

    group: str
    part: PartRef
    events: tuple[tuple[int, int, int], ...]
    """Version, and the events [first, last) of that version, which point at it; a version may use some events only."""
    record: CommitRecord | None
    """What was committed, if that is whole: number of events, digest of their keys."""


Remake: TypeAlias = Callable[[LostPart], EventArrays]
"""Makes all arrays of a lost part; raises FrzError if it cannot."""

Static: TypeAlias = Callable[[], Mapping[str, NDArray[Any]]]
"""Makes the static arrays; raises FrzError if it cannot."""


class Outcome(NamedTuple):
    """What became of one damage, or of a damaged part."""

    path: str
    """Below the store."""
    repaired: bool
    how: str
    same: bool = True
    """Whether it holds what it held."""


def repair(
    root: Path, report: Report, remake: Remake | None = None, static: Static | None = None
) -> tuple[list[Outcome], Snapshot | None]:
    """Mend a store. What a crash interrupts, the same call on a new report finishes.

    Parameters
    ----------
    root : Path
        The store.
    report : Report
        Of `verify` over all versions.
    remake : callable, optional
        Makes the arrays of a part that is lost; without it, such a part stays as it is.
    static : callable, optional
        Makes static arrays.

    Returns
    -------
    list of Outcome
        What became of each damage.
    Snapshot or None
        The version that was added because a part came out with other content.

    Raises
    ------
    StoreError
        If the disk is full, or the store is on an object store.
    """
    if is_remote(root):
        way_out = "copy it to a disk, repair it there and copy it back"
        raise StoreError("a store on an object store is not repaired in place", where=str(root), way_out=way_out)
    parts = report.parts()
    outcomes = [
        _repair_file(root, damage, static) for damage in [*report.damages, *report.warnings] if damage.part is None
    ]
    changed: dict[tuple[str, PartRef], CommitRecord] = {}

    @cache
    def schema(version: int) -> Schema:
        found = readable(root, version)
        assert found is not None, "the report names it"
        return found.event_schema

    with progress(f"repair {root.name}", len(parts), "part") as bar:
        for (group, part), damages in parts.items():
            # the oldest version that points at a part is the one that it was written for
            of = schema(min(version for version, _, _ in damages[0].events))
            outcome, record = _repair_part(root, group, part, damages, of, remake)
            outcomes.append(outcome)
            if record is not None and record.digest != part.digest:
                changed[group, part] = record
            bar.advance()
    if not changed:
        return outcomes, None
    for file in (root / "journal").glob("*.json"):  # the next build must not take the old digests from it
        text = file.read_text()
        if any(part.digest in text for _, part in changed):
            file.unlink()

    def make(latest: Snapshot | None) -> Snapshot:
        assert latest is not None
        return _repointed(root, latest, changed)

    return outcomes, snapshot.commit(root, make)


def _repair_file(root: Path, damage: Damage, static: Static | None) -> Outcome:
    """Mend what belongs to no part."""
    path = root / damage.path
    if damage.thing == "store metadata":
        atomic.write_file(path, GROUP_METADATA, root / "tmp")
        return Outcome(damage.path, True, "written anew")
    if damage.thing == "journal record":
        path.unlink(missing_ok=True)
        return Outcome(damage.path, True, "removed; the next build reads its unit again")
    if damage.thing == "static array":
        return _repair_static(root, damage, static)
    return _repair_snapshot(root, damage)


def _repair_snapshot(root: Path, damage: Damage) -> Outcome:
    path, version = root / damage.path, int(Path(damage.path).stem)
    known = versions(root)
    if readable(root, version) is not None:
        other = copy_path(root, version) if damage.thing == "snapshot" else snapshot_path(root, version)
        path.parent.mkdir(exist_ok=True)
        atomic.write_file(path, other.read_bytes(), root / "tmp")
        return Outcome(damage.path, True, "copied from the other copy")
    if version in known and version == known[-1]:
        # Nothing can be added to a store whose newest version is not readable.
        for file in (snapshot_path(root, version), copy_path(root, version)):
            _set_aside(root, file)
    again = f"version {version} is lost; the command that made it makes it again from its parts"
    return Outcome(damage.path, False, again)


def _repair_static(root: Path, damage: Damage, static: Static | None) -> Outcome:
    name, place = damage.array, root / damage.path
    digest32 = place.name.removeprefix(f"{name}-")

    def fits(values: NDArray[Any] | None) -> bool:
        return values is not None and content_digest({name: values}).startswith(digest32)

    how = "its metadata written anew"
    if not fits(values := _values(place)):
        if static is None:
            return Outcome(damage.path, False, "its values are lost and nothing makes them again")
        try:
            values, how = static()[name], "made again"
        except (FrzError, KeyError) as error:
            return Outcome(damage.path, False, f"cannot be made again: {error}")
    if values is None or not fits(values):
        return Outcome(damage.path, False, "made again, it holds other content", same=False)
    if place.exists():
        old = atomic.scratch(root / "tmp")
        place.rename(old)
        atomic.remove(old)
    snapshot.write_static(root, name, values)
    return Outcome(damage.path, True, how)


def _repair_part(
    root: Path, group: str, part: PartRef, damages: list[Damage], schema: Schema, remake: Remake | None
) -> tuple[Outcome, CommitRecord | None]:
    """Mend a part; its commit record where it was written anew."""
    place = root / "events.zarr" / part_name(group, part.key)
    path = str(place.relative_to(root))
    events = damages[0].events
    if all(_rewrite(root, place, schema, damage) for damage in damages):
        return Outcome(path, True, "metadata written anew"), None
    arrays, how = _own_arrays(place, part), "written anew from its own arrays"
    if arrays is None:
        if remake is None:
            return Outcome(path, False, "its values are lost and nothing makes them again"), None
        try:
            arrays, how = remake(LostPart(group, part, events, _record(place, part))), "made again"
        except FrzError as error:
            return Outcome(path, False, str(error)), None
    same = content_digest(arrays) == part.digest
    if not same:
        newest = versions(root)[-1]
        if all(version != newest for version, _, _ in events):
            how = "made again, it holds other content, and the newest version does not use it"
            return Outcome(path, False, how, same=False), None
        # What is whole in it may be the only copy of numbers that were used.
        _set_aside(root, place)
        older = sorted({version for version, _, _ in events} - {newest})
        how += ", with other content: a new version points at it"
        how += f"; versions {older} cannot read these events any more" if older else ""
    schema = schema.select(name for name in arrays if not name.endswith("/offsets"))
    return Outcome(path, True, how, same), replace_part(root, group, part.key, schema, arrays)


def _rewrite(root: Path, place: Path, schema: Schema, damage: Damage) -> bool:
    """Write metadata anew if that is what is damaged; False if this cannot mend it."""
    if damage.thing == "axis metadata":
        data = GROUP_METADATA
    elif damage.thing == "array metadata":
        array = read_record(place).arrays[damage.array]
        data = _array_metadata(schema, damage.array, array)
        if (len(data), google_crc32c.value(data)) != array.files[f"{damage.array}/zarr.json"]:
            return False
    else:
        return False
    path = root / damage.path
    path.parent.mkdir(exist_ok=True)
    atomic.write_file(path, data, root / "tmp")
    return True


def _array_metadata(schema: Schema, name: str, record: ArrayRecord) -> bytes:
    zeros = np.broadcast_to(np.zeros((), bfloat16.on_disk(record.dtype)), record.shape)
    return shard.metadata_bytes(zeros, *labels(schema, name), record.codec)


def _record(place: Path, part: PartRef) -> CommitRecord | None:
    try:
        record = read_record(place)
    except DamageError:
        return None
    return record if (record.key, record.digest) == part else None


def _own_arrays(place: Path, part: PartRef) -> EventArrays | None:
    """All arrays of a part if they are what the snapshot says, whatever its commit record says."""
    arrays = {}
    for file in place.glob("*/*/zarr.json"):
        if (values := _values(file.parent)) is None:
            return None
        arrays[str(file.parent.relative_to(place))] = values
    return arrays if arrays and content_digest(arrays) == part.digest else None


def _values(folder: Path) -> NDArray[Any] | None:
    """The values of a Zarr array as far as its files can be read."""
    import zarr

    try:
        with codecs.quiet():
            array = zarr.open_array(folder, mode="r")
            values = np.asarray(array[...])
            return bfloat16.widen(values) if array.attrs.get("bfloat16") else values
    except Exception:  # damaged files can bring zarr to raise anything
        return None


def _set_aside(root: Path, path: Path) -> None:
    """Move a file or folder into `damaged/`, if it is there."""
    if not path.exists():
        return
    folder = root / "damaged"
    folder.mkdir(exist_ok=True)
    place = folder / f"{path.parent.name}-{path.name}"
    while place.exists():
        place = place.with_name(f"{place.name}-again")
    path.rename(place)


def _repointed(root: Path, latest: Snapshot, changed: Mapping[tuple[str, PartRef], CommitRecord]) -> Snapshot:
    """The newest version with the digests, and the counts, of parts that came out with other content."""
    groups = dict(latest.parts.groups)
    touched: set[int] = set()
    for (group, part), record in changed.items():
        pieces = groups[group]
        if part not in pieces.parts():  # another process committed meanwhile
            continue
        stored = pieces.parts().index(part)
        digest = [*pieces.digest[:stored], record.digest, *pieces.digest[stored + 1 :]]
        groups[group] = replace(pieces, digest=digest)
        used = np.flatnonzero(np.array(pieces.stored) == stored)
        touched |= set((np.searchsorted(pieces.edges, used, side="right") - 1).tolist())
    made = latest.model_copy(update={"parts": replace(latest.parts, groups=groups)})
    store = EventStore.of(root, made)
    counts = {axis: list(column) for axis, column in made.parts.counts.items()}
    largest = {axis: list(column) for axis, column in made.parts.largest.items()}
    for index in touched:
        arrays = store.part(index, [f"{axis}/offsets" for axis in counts if store.schema.axes[axis].length is None])
        for axis in counts:
            lengths = ragged.lengths(arrays, store.schema, axis)
            counts[axis][index], largest[axis][index] = int(lengths.sum()), int(lengths.max(initial=0))
    return made.model_copy(update={"parts": replace(made.parts, counts=counts, largest=largest)})
