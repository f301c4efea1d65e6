"""Is a store whole? Every byte that a version rests on is read and compared with what was committed.

An older version is trusted too, so by default all of them are checked; a part that several share is read once.
Where two versions expect different content under one key (a part was remade on another machine), the newer one
counts, and the older one is reported as superseded: no longer readable in these events, and no damage.
"""

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from frz.artifacts import versions
from frz.errors import DamageError, StoreError
from frz.location import children, is_remote
from frz.progress import progress
from frz.store import objects, snapshot
from frz.store.keys import content_digest
from frz.store.opened import Part
from frz.store.part import PartRef, faults, files_of, group_metadata, part_name, read_record, unseal
from frz.store.schema import axis_of
from frz.store.snapshot import Snapshot, copy_path, snapshot_path

Thing: TypeAlias = Literal[
    "store metadata",
    "snapshot",
    "snapshot copy",
    "static array",
    "journal record",
    "part",
    "commit record",
    "axis metadata",
    "array metadata",
    "shard",
]
"""What kind of file is damaged; `part` is the folder as a whole: missing, or another part's."""

GROUP_METADATA = json.dumps(group_metadata({})).encode()
THREADS = min(8, os.cpu_count() or 1)
_AT_ONCE = 1024


class Damage(NamedTuple):
    """Something that is not as it was committed."""

    thing: Thing
    what: str
    path: str
    """Below the store."""
    group: str = ""
    part: PartRef | None = None
    array: str = ""
    events: tuple[tuple[int, int, int], ...] = ()
    """What reads of it: version, and the events [first, last) of that version."""

    def __str__(self) -> str:
        where = [f"array {self.array}"] if self.array else []
        if self.part is not None:
            where.append(f"part {self.part.key[:12]} of group {self.group}")
        where += self._events()
        return f"{self.path}: {self.thing}: {self.what}" + (f" ({', '.join(where)})" if where else "")

    def _events(self) -> list[str]:
        """What reads of it, in words; versions that read it at the same events are named together."""
        of: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for version, first, last in self.events:
            of[version].append((first, last))
        alike: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
        for version, runs in of.items():
            alike[tuple(runs)].append(version)
        return [f"events {_ranges(runs)} of version{'s' * (len(v) > 1)} {_numbers(v)}" for runs, v in alike.items()]


def _ranges(runs: Iterable[tuple[int, int]]) -> str:
    return ", ".join(f"{first} to {last - 1}" for first, last in runs)


def _numbers(numbers: Sequence[int]) -> str:
    """`1 to 8, 10`."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        runs.append((runs.pop()[0] if runs and runs[-1][1] == number else number, number + 1))
    return ", ".join(str(first) if last == first + 1 else f"{first} to {last - 1}" for first, last in runs)


@dataclass
class Report:
    """What was checked and found."""

    root: Path
    versions: list[int]
    damages: list[Damage] = field(default_factory=list)
    warnings: list[Damage] = field(default_factory=list)
    """Nothing that a version needs: a journal record, a second copy, content that a newer version superseded."""
    n_parts: int = 0
    n_files: int = 0
    n_bytes: int = 0
    orphans: int = 0
    """Committed parts that no version points at, and folders that never became parts."""
    orphan_bytes: int = 0
    seconds: float = 0.0

    def add(
        self,
        thing: Thing,
        what: str,
        path: Path,
        group: str = "",
        part: PartRef | None = None,
        array: str = "",
        events: tuple[tuple[int, int, int], ...] = (),
        *,
        warning: bool = False,
    ) -> None:
        """Note something that is damaged."""
        damage = Damage(thing, what, str(path.relative_to(self.root)), group, part, array, events)
        (self.warnings if warning else self.damages).append(damage)

    def count(self, *sizes: int) -> None:
        """Note that files of these sizes were read."""
        self.n_files += len(sizes)
        self.n_bytes += sum(sizes)

    def as_json(self) -> dict[str, Any]:
        """All of it, for machines."""
        found = {name: [damage._asdict() for damage in getattr(self, name)] for name in ("damages", "warnings")}
        return {**vars(self), "root": str(self.root), "whole": not self.damages, **found}

    def parts(self) -> dict[tuple[str, PartRef], list[Damage]]:
        """Damages of parts, by group and part."""
        found: dict[tuple[str, PartRef], list[Damage]] = defaultdict(list)
        for damage in self.damages:
            if damage.part is not None:
                found[damage.group, damage.part].append(damage)
        return dict(found)


class _Finding(NamedTuple):
    thing: Thing
    what: str
    file: str
    """Below the part."""
    array: str = ""


class _Checked(NamedTuple):
    findings: list[_Finding]
    n_files: int
    n_bytes: int


def verify(root: Path, version: int | None = None, *, content: bool = False) -> Report:
    """Check a store.

    Parameters
    ----------
    root : Path
        The store.
    version : int, optional
        Default all versions, the journal and the sequence of versions as well.
    content : bool
        Also compute each part's content digest (SHA-256) from its arrays: finds what a wrong commit record hides.

    Raises
    ------
    StoreError
        If there is no store or no such version, or it is of another format.
    """
    start = time.monotonic()
    known = versions(root)
    if not (root / "snapshots").is_dir() or (version is None and not known):
        raise StoreError("no version of an event store here", where=str(root), way_out="build or extract it first")
    if version is not None and version not in known:
        raise StoreError(f"no version {version}", where=str(root), way_out=f"versions: {', '.join(map(str, known))}")
    report = Report(root, snapshot.expected_versions(root) if version is None else [version])
    top = root / "events.zarr" / "zarr.json"
    if what := wrong_group(top):
        report.add("store metadata", what, top)
    if version is None:
        _check_journal(report)

    expected: dict[tuple[str, str], str] = {}
    superseded: set[tuple[str, PartRef]] = set()
    static: set[tuple[str, str]] = set()
    for number in reversed(report.versions):  # the newest says what a part holds
        if (found := _snapshot(report, number)) is None:
            continue
        static |= set(found.static.items())
        for group, pieces in found.parts.groups.items():
            for part in pieces.parts():
                if expected.setdefault((group, part.key), part.digest) != part.digest:
                    superseded.add((group, part))
    for name, digest in sorted(static):
        _check_static(report, name, digest)

    parts = [(group, PartRef(key, digest)) for (group, key), digest in expected.items()]
    _name_events(report, _check_parts(report, parts, content), superseded)
    if version is None:
        _count_orphans(report, {part_name(group, key) for group, key in expected})
    report.seconds = time.monotonic() - start
    return report


def _snapshot(report: Report, version: int) -> Snapshot | None:
    """A snapshot, from its second copy if it must be."""
    path, copy = snapshot_path(report.root, version), copy_path(report.root, version)
    found = None
    try:
        found = snapshot.load(report.root, path)
    except DamageError as error:
        report.add("snapshot", error.what, path)
    if found is not None and not copy.exists():
        report.add("snapshot copy", "is missing", copy, warning=True)
    elif found is not None and (not copy.is_file() or copy.read_bytes() != path.read_bytes()):
        report.add("snapshot copy", "is not the snapshot", copy)
    elif found is None:
        try:
            found = snapshot.load(report.root, copy)
        except DamageError as error:
            report.add("snapshot copy", error.what, copy)
    report.count(*(file.stat().st_size for file in (path, copy) if file.exists()))
    return found


def _check_journal(report: Report) -> None:
    for file in sorted((report.root / "journal").glob("*.json")):
        try:
            whole = str(unseal(json.loads(file.read_bytes()))["key"])[:32] == file.stem
        except (OSError, ValueError, KeyError):
            whole = False
        report.count(file.stat().st_size)
        if not whole:
            report.add("journal record", "is damaged: its unit is read again by the next build", file, warning=True)


def _check_static(report: Report, name: str, digest: str) -> None:
    place = snapshot.static_path(report.root, name, digest)
    try:
        values = snapshot.read_static(report.root, name, digest)
    except DamageError as error:
        report.add("static array", error.what, place, array=name)
        return
    if (place / "zarr.json").read_bytes() != snapshot.static_metadata(name, values):
        report.add("static array", "its metadata is damaged", place, array=name)
    report.count(*(file.stat().st_size for file in place.rglob("*") if file.is_file()))


def _check_parts(
    report: Report, parts: list[tuple[str, PartRef]], content: bool
) -> Iterator[tuple[str, PartRef, _Finding]]:
    """What is wrong with each part."""
    ahead = iter(parts)
    with ThreadPoolExecutor(THREADS) as threads, progress(f"verify {report.root.name}", len(parts), "part") as bar:
        # not all at once: a hundred thousand waiting calls are hundreds of megabytes
        while some := list(islice(ahead, _AT_ONCE)):
            checked = threads.map(lambda item: _check_part(report.root, item[0], item[1], content), some)
            for (group, part), (findings, n_files, n_bytes) in zip(some, checked, strict=True):
                report.n_parts += 1
                report.n_files += n_files
                report.n_bytes += n_bytes
                bar.advance(GB=report.n_bytes / 1e9)
                for finding in findings:
                    yield group, part, finding


def _check_part(root: Path, group: str, part: PartRef, content: bool) -> _Checked:
    place = root / "events.zarr" / part_name(group, part.key)
    if not place.is_dir():
        return _Checked([_Finding("part", "is missing", "")], 0, 0)
    try:
        record = read_record(place)
    except DamageError as error:
        return _Checked([_Finding("commit record", error.what, "zarr.json")], 1, 0)
    if (record.key, record.digest) != part:
        what = f"holds {record.key[:12]} with digest {record.digest[:12]}, committed was digest {part.digest[:12]}"
        return _Checked([_Finding("part", what, "")], 1, 0)
    findings = []
    files, below = files_of(place, record), f"{record.attempt}/" if record.attempt else ""
    for axis in sorted({axis_of(name) for name in record.arrays}):
        if wrong := wrong_group(files / axis / "zarr.json"):
            findings.append(_Finding("axis metadata", wrong, f"{below}{axis}/zarr.json"))
    for name, array in record.arrays.items():
        for fault in faults(files, array):
            thing: Thing = "array metadata" if fault.file == f"{name}/zarr.json" else "shard"
            findings.append(_Finding(thing, fault.what, below + fault.file, name))
    if content and not findings and _content(Part(place, part)) != part.digest:
        findings.append(_Finding("part", "its arrays are not what was committed", ""))
    sizes = [size for array in record.arrays.values() for size, _ in array.files.values()]
    return _Checked(findings, len(sizes), sum(sizes))


def _content(part: Part) -> str:
    """Content digest of a part ('' if an array cannot be decoded)."""
    try:
        return content_digest({name: np.asarray(part[name]) for name in part.record.arrays})
    except DamageError:
        return ""


def wrong_group(path: Path) -> str | None:
    """What is wrong with the `zarr.json` of a group without attributes; None if nothing."""
    try:
        return None if json.loads(path.read_bytes()) == group_metadata({}) else "is damaged"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError:
        return "is damaged"


def _name_events(
    report: Report, findings: Iterable[tuple[str, PartRef, _Finding]], superseded: set[tuple[str, PartRef]]
) -> None:
    """Add findings to the report with the events that they touch, version by version."""
    found = list(findings)
    wanted = {(group, part) for group, part, _ in found} | superseded
    events: dict[tuple[str, PartRef], list[tuple[int, int, int]]] = defaultdict(list)
    for version in report.versions if wanted else ():
        if (snap := readable(report.root, version)) is None:
            continue
        for group, pieces in snap.parts.groups.items():
            for stored, part in enumerate(pieces.parts()):
                if (group, part) in wanted:
                    events[group, part] += [(version, first, last) for first, last in pieces.events_of(stored)]
    for group, part, (thing, what, file, array) in found:
        path = report.root / "events.zarr" / part_name(group, part.key) / file
        report.add(thing, what, path, group, part, array, tuple(events[group, part]))
    for group, part in sorted(superseded):
        path = report.root / "events.zarr" / part_name(group, part.key)
        what = "was remade with other content, which newer versions read; these events of older ones cannot be read"
        report.add("part", what, path, group, part, events=tuple(events[group, part]), warning=True)


def readable(root: Path, version: int) -> Snapshot | None:
    """A snapshot, from its second copy if it must be; None if both are damaged."""
    for path in (snapshot_path(root, version), copy_path(root, version)):
        with suppress(DamageError):
            return snapshot.load(root, path)
    return None


def _count_orphans(report: Report, held: set[str]) -> None:
    if is_remote(report.root):
        lost: dict[str, int] = defaultdict(int)
        for name, size in objects.sizes(report.root / "events.zarr").items():
            if "/" in name and (part := name.partition("/")[0]) not in held:
                lost[part] += size
        report.orphans, report.orphan_bytes = len(lost), sum(lost.values())
        return
    for folder in children(report.root / "events.zarr"):
        if folder.is_dir() and folder.name not in held:
            report.orphans += 1
            report.orphan_bytes += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
