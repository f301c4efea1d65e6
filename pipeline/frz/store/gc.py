"""What a store holds that nothing needs any more, and its removal.

Particular: nothing that is committed goes while anyone works on the store, for a part that no snapshot names
may be one that a worker is about to name. What goes is first moved into `tmp/` and only then taken apart, so a
half-removed part is never seen as a part (of an object store the commit record goes first); a version is dropped
before what it names goes.
"""

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from frz.errors import StoreError
from frz.location import is_remote
from frz.store import atomic, objects, snapshot
from frz.store.lease import Leases, Survey
from frz.store.part import part_name, read_record, seal
from frz.store.snapshot import dropped_path, snapshot_path

GRACE = 24 * 3600.0
"""Seconds for which what nobody seems to need is kept."""

What: TypeAlias = Literal["temporary", "lease", "snapshot", "part", "attempt", "static", "derived", "damaged"]
_DIGESTED = re.compile(r".+-[0-9a-f]{32}")


class Garbage(NamedTuple):
    """A file or folder that can go."""

    what: What
    path: Path
    bytes: int
    why: str


class Report(NamedTuple):
    """What can go, or has gone."""

    garbage: list[Garbage]
    live: list[str]
    """Who works on the store; then only what is left of the dead can go."""


def collect(
    root: Path,
    *,
    grace: float = GRACE,
    drop: Sequence[int] = (),
    referred: Mapping[int, Sequence[str]] | None = None,
    delete: bool = False,
    now: float | None = None,
    leases: Leases | None = None,
) -> Report:
    """Find what can go, and remove it if asked to.

    These can go: temporaries and leases of processes that are gone; and, while nobody works on the store, versions that
    are dropped, and parts, static arrays, damaged parts and temporaries of other machines which no version
    names, and what was derived from versions that are gone, all if older than `grace`.

    Parameters
    ----------
    root : Path
        The store.
    grace : float
        Seconds since the last change of a file after which it is old.
    drop : sequence of int
        Versions to drop. Their numbers are not used again.
    referred : mapping, optional
        By version, the names of what was made from it; such a version is not dropped.
    delete : bool
        Remove what can go; otherwise nothing is changed.
    now : float, optional
        Seconds since the epoch.
    leases : Leases, optional
        Of the store, if not with the usual times.

    Raises
    ------
    StoreError
        If a version cannot be dropped, or a snapshot is damaged; nothing is removed then.
    """
    leases = leases or Leases(root)
    before = (time.time() if now is None else now) - grace
    _refuse(root, drop, referred or {})
    if not delete:
        survey = leases.survey()
        return Report(_find(root, survey, drop, before), survey.live)
    with leases.alone() as survey:
        garbage = _find(root, survey, drop, before)
        _remove(root, garbage, drop, leases)
    return Report(garbage, survey.live)


def _refuse(root: Path, drop: Sequence[int], referred: Mapping[int, Sequence[str]]) -> None:
    known = snapshot.expected_versions(root)
    for version in drop:
        where = f"{root}@{version}"
        if dropped_path(root, version).exists():
            continue  # by a call that was killed before all of it had gone
        if version not in known:
            have = ", ".join(map(str, known)) or "none"
            raise StoreError("no such version", where=where, way_out=f"versions: {have}")
        if version == known[-1]:
            raise StoreError("the newest version is not dropped", where=where, way_out="remove the whole folder")
        if names := referred.get(version):
            raise StoreError(f"{', '.join(names)} refer to it", where=where, way_out="remove these first")


def _find(root: Path, survey: Survey, drop: Sequence[int], before: float) -> list[Garbage]:
    garbage = [temporary(path) for path in atomic.left_in(root / "tmp")]
    stale = [root / "leases" / f"{name}.json" for name in survey.stale]
    garbage += [_garbage("lease", path, "its process is gone") for path in stale]
    if survey.live:
        if drop:
            way_out = "run the same command when that has ended"
            raise StoreError(f"{survey.live[0]} works on the store", where=str(root), way_out=way_out)
        return garbage
    files = [path for folder in ("snapshots", "copies") for path in sorted((root / folder).glob("*.json"))]
    numbered = [(path, int(path.stem)) for path in files if path.stem.isdigit()]
    gone = [path for path, version in numbered if version in drop or dropped_path(root, version).exists()]
    garbage += [_garbage("snapshot", path, "the version is dropped") for path in gone]
    others = [
        path for path in (root / "tmp").glob("*") if (owner := atomic.writer(path)) is None or owner.runs() is None
    ]
    garbage += _old("temporary", others, before, "nothing is known of its process")

    kept = [version for version in snapshot.expected_versions(root) if version not in drop]
    snapshots = [snapshot.load(root, snapshot_path(root, version)) for version in kept]
    parts = {
        part_name(group, part.key)
        for found in snapshots
        for group, pieces in found.parts.groups.items()
        for part in pieces.parts()
    }
    static = {snapshot.static_path(root, *item).name for found in snapshots for item in found.static.items()}
    garbage += _old("part", _unnamed(root / "events.zarr", parts), before, "no version names it")
    garbage += _old("attempt", _lost_attempts(root, parts), before, "another attempt to write the part was faster")
    garbage += _old("static", _unnamed(root / "static.zarr", static), before, "no version names it")
    hashes = {found.hash for found in snapshots}
    unused = (path for path in (root / "derived").glob("*") if _derived_from(path) not in hashes)
    derived = _old("derived", unused, before, "made from no version that is left, or never finished")
    garbage += [item for item in derived if not Leases(item.path).survey().live]  # a head may be preparing its events
    garbage += _old("damaged", (root / "damaged").glob("*"), before, "set aside as damaged")
    return garbage


def _derived_from(folder: Path) -> str | None:
    """Hash of the version from which a store below `derived/` was made; None if it has no whole snapshot."""
    try:
        found = snapshot.read(folder)
    except StoreError:
        return None
    return found.about.get("features") if found else None


def _unnamed(folder: Path, named: set[str]) -> Iterator[Path]:
    return (path for path in folder.glob("*") if path.name not in named and _DIGESTED.fullmatch(path.name))


def _lost_attempts(root: Path, parts: set[str]) -> Iterator[Path]:
    """Prefixes on an object store below parts that count, which their commit records do not name."""
    attempts: dict[str, set[str]] = {}
    for name in objects.sizes(root / "events.zarr") if is_remote(root) else ():
        part, _, below = name.partition("/")
        if part in parts and "/" in below:
            attempts.setdefault(part, set()).add(below.partition("/")[0])
    for part, found in attempts.items():
        if len(found) > 1:
            place = root / "events.zarr" / part
            yield from (place / attempt for attempt in sorted(found - {read_record(place).attempt}))


def _old(what: What, paths: Iterable[Path], before: float, why: str) -> list[Garbage]:
    """Those of the paths in which nothing has changed since `before`."""
    measured = [(path, *atomic.measure(path)) for path in paths]
    return [Garbage(what, path, n_bytes, why) for path, n_bytes, changed in measured if changed <= before]


def temporary(path: Path) -> Garbage:
    """What a process that is gone has left."""
    return _garbage("temporary", path, "its process is gone")


def _garbage(what: What, path: Path, why: str) -> Garbage:
    return Garbage(what, path, atomic.measure(path)[0], why)


def _remove(root: Path, garbage: Sequence[Garbage], drop: Sequence[int], leases: Leases) -> None:
    def paths(*what: What) -> list[Path]:
        return [item.path for item in garbage if item.what in what]

    for path in paths("lease"):
        leases.vacant(path.stem)
    for version in drop:
        text = json.dumps(seal({"version": version, "dropped": datetime.now(UTC).isoformat(timespec="seconds")}))
        atomic.create(dropped_path(root, version), text.encode(), root / "tmp")
    committed = paths("snapshot", "part", "attempt", "static", "derived", "damaged")
    for path in (*paths("temporary"), *(committed if is_remote(root) else _set_aside(root, committed))):
        atomic.remove(path)


def _set_aside(root: Path, paths: Sequence[Path]) -> list[Path]:
    """Move files and folders into `tmp/`, for good, before anything in them is removed."""
    moved = []
    for path in paths:
        moved.append(atomic.scratch(root / "tmp"))
        os.rename(path, moved[-1])
    for folder in {path.parent for path in paths}:
        atomic.fsync(folder)
    return moved
