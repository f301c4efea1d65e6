"""Mending what `verify` found, with the least work that does it.

What can be told from the rest of the store is written anew: metadata from schema and commit record, a commit record
from the arrays (if their digest is the one that the snapshot names), a snapshot from its second copy. Values that are
lost must be made again by the caller. A part is never changed in place: a whole one takes the place of the damaged
one. If it holds other content than the one lost (another machine rounds differently), the newest version is followed
by one that points at it, and older versions refuse to read it.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from frz.artifacts import versions
from frz.errors import FrzError
from frz.location import children, read_bytes
from frz.progress import progress
from frz.store import ragged, snapshot
from frz.store.keys import content_digest, keys_digest
from frz.store.mend import Outcome, Static, committed, mend_file, own_arrays, rewrite, set_aside
from frz.store.part import CommitRecord, PartRef, part_name, replace_part
from frz.store.reader import EventStore
from frz.store.schema import KEY, EventArrays, Schema, axis_of
from frz.store.snapshot import Snapshot
from frz.store.verify import Damage, Report, readable


class LostPart(NamedTuple):
    """A part whose arrays must be made again."""

    group: str
    part: PartRef
    events: tuple[tuple[int, int, int], ...]
    """Version, and the events [first, last) of that version, which point at it; a version may use some events only."""
    record: CommitRecord | None
    """What was committed, if that is whole: number of events, digest of their keys."""

    @property
    def written_for(self) -> int:
        """The oldest version that points at it."""
        return min(version for version, _, _ in self.events)


Remake: TypeAlias = Callable[[LostPart], EventArrays]
"""Makes all arrays of a lost part; raises FrzError if it cannot."""

Follow: TypeAlias = Callable[[Collection[PartRef]], Mapping[LostPart, EventArrays]]
"""Makes again what was made from parts that came out with other content now, where it does not fit them any more;
raises FrzError if it cannot."""


def repair(
    root: Path,
    report: Report,
    remake: Remake | None = None,
    static: Static | None = None,
    follow: Follow | None = None,
) -> tuple[list[Outcome], Snapshot | None]:
    """Mend a store. What a crash interrupts, the same call on a new report finishes.

    Parameters
    ----------
    root : Path
        The store.
    report : Report
        Of `verify` over all versions; parts are mended in the order of its damages.
    remake : callable, optional
        Makes the arrays of a part that is lost; without it, such a part stays as it is.
    static : callable, optional
        Makes static arrays; called again after the parts where it could not.
    follow : callable, optional
        Makes whole parts again that do not fit any more because others came out with other content.

    Returns
    -------
    list of Outcome
        What became of each damage.
    Snapshot or None
        The version that was added because a part came out with other content.

    Raises
    ------
    StoreError
        If the disk is full.
    """
    parts = report.parts()
    files = [damage for damage in [*report.damages, *report.warnings] if damage.part is None]
    outcomes = [mend_file(root, damage, static) for damage in files]
    changed: dict[tuple[str, PartRef], CommitRecord] = {}

    @cache
    def schema(version: int) -> Schema:
        found = readable(root, version)
        assert found is not None, "the report names it"
        return found.event_schema

    def note(lost: LostPart, outcome: Outcome, record: CommitRecord | None) -> None:
        outcomes.append(outcome)
        if record is not None and record.digest != lost.part.digest:
            changed[lost.group, lost.part] = record

    with progress(f"repair {root.name}", len(parts), "part") as bar:
        for (group, part), damages in parts.items():
            place = root / "events.zarr" / part_name(group, part.key)
            lost = LostPart(group, part, damages[0].events, committed(place, part))
            note(lost, *_repair_part(root, lost, damages, schema(lost.written_for), remake))
            bar.advance()
    for index, damage in enumerate(files):  # a static array may be made of parts that were lost until now
        if parts and damage.thing == "static array" and not outcomes[index].repaired:
            outcomes[index] = mend_file(root, damage, static)
    if not changed:
        return outcomes, None
    try:
        stale = follow([part for _, part in changed]) if follow else {}
    except FrzError as error:  # the store stays damaged, so that the next repair tries all of it again
        waits = f"made again with other content; what was made from it cannot follow: {error}"
        return [o if o.same else o._replace(repaired=False, how=waits) for o in outcomes], None
    for lost, arrays in stale.items():
        note(lost, *_put(root, lost, schema(lost.written_for), arrays, "made again from other parts that changed"))
    for file in children(root / "journal"):  # the next build must not take the old digests from it
        text = read_bytes(file).decode(errors="replace")
        if any(part.digest in text for _, part in changed):
            file.unlink()

    def make(latest: Snapshot | None) -> Snapshot:
        assert latest is not None
        return _repointed(root, latest, changed)

    return outcomes, snapshot.commit(root, make)


def _repair_part(
    root: Path, lost: LostPart, damages: list[Damage], schema: Schema, remake: Remake | None
) -> tuple[Outcome, CommitRecord | None]:
    """Mend a part; its commit record where it was written anew."""
    place = root / "events.zarr" / part_name(lost.group, lost.part.key)
    if all(rewrite(root, place, schema, damage) for damage in damages):
        return Outcome(str(place.relative_to(root)), True, "metadata written anew"), None
    if (arrays := own_arrays(place, lost.part)) is not None:
        return _put(root, lost, schema, arrays, "written anew from its own arrays")
    if remake is None:
        return Outcome(str(place.relative_to(root)), False, "its values are lost and nothing makes them again"), None
    try:
        arrays = remake(lost)
    except FrzError as error:
        return Outcome(str(place.relative_to(root)), False, str(error)), None
    return _put(root, lost, schema, arrays, "made again")


def _put(
    root: Path, lost: LostPart, schema: Schema, arrays: EventArrays, how: str
) -> tuple[Outcome, CommitRecord | None]:
    """Put a part with these arrays into the place of the damaged one."""
    group, part, events, _ = lost
    place = root / "events.zarr" / part_name(group, part.key)
    path = str(place.relative_to(root))
    same = content_digest(arrays) == part.digest
    if not same:
        newest = versions(root)[-1]
        if all(version != newest for version, _, _ in events):
            how = "made again, it holds other content, and the newest version does not use it"
            return Outcome(path, False, how, same=False), None
        # What is whole in it may be the only copy of numbers that were used.
        set_aside(root, place)
        older = sorted({version for version, _, _ in events} - {newest})
        how += ", with other content: a new version points at it"
        how += f"; versions {older} cannot read these events any more" if older else ""
    schema = schema.select(name for name in arrays if not name.endswith("/offsets"))
    return Outcome(path, True, how, same), replace_part(root, group, part.key, schema, arrays)


def _repointed(root: Path, latest: Snapshot, changed: Mapping[tuple[str, PartRef], CommitRecord]) -> Snapshot:
    """The newest version with digests, counts and events of parts that came out with other content."""
    groups = dict(latest.parts.groups)
    touched: dict[int, set[str]] = defaultdict(set)
    for (group, part), record in changed.items():
        pieces = groups[group]
        if part not in pieces.parts():  # another process committed meanwhile
            continue
        stored = pieces.parts().index(part)
        digest = [*pieces.digest[:stored], record.digest, *pieces.digest[stored + 1 :]]
        groups[group] = replace(pieces, digest=digest)
        used = np.flatnonzero(np.array(pieces.stored) == stored)
        for index in (np.searchsorted(pieces.edges, used, side="right") - 1).tolist():
            touched[index].add(group)
    made = latest.model_copy(update={"parts": replace(latest.parts, groups=groups)})
    store, schema = EventStore.of(root, made), made.event_schema
    counts = {axis: list(column) for axis, column in made.parts.counts.items()}
    largest = {axis: list(column) for axis, column in made.parts.largest.items()}
    events = list(made.parts.events)
    for index, remade in touched.items():
        # one array of each axis is enough, and only what was made again is sure to be whole
        names = {axis_of(name): name for name, spec in schema.arrays.items() if spec.group in remade}
        keys = {KEY} if KEY in schema.arrays and schema.arrays[KEY].group in remade else set()
        arrays = store.part(index, {*names.values(), *keys})
        for axis in counts.keys() & set(ragged.axes_in(arrays, schema)):
            lengths = ragged.lengths(arrays, schema, axis)
            counts[axis][index], largest[axis][index] = int(lengths.sum()), int(lengths.max(initial=0))
        if KEY in arrays:
            events[index] = keys_digest(arrays[KEY])
    parts = replace(made.parts, counts=counts, largest=largest, events=events)
    return made.model_copy(update={"parts": parts})
