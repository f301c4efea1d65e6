"""A snapshot: one version of a store, an ordered list of parts with schema and split.

`snapshots/<n>.json` is created exclusively by a hard link, so of two writers exactly one makes version n
and the other sees what it made before trying n + 1.
"""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.artifacts import versions
from frz.config import StrictModel, digest_of
from frz.errors import StoreError
from frz.store import atomic, shard
from frz.store.keys import content_digest
from frz.store.part import FORMAT, CommitRecord, PartRef, group_metadata
from frz.store.schema import Schema
from frz.store.split import Split


class PartEntry(StrictModel):
    """A run of events of a snapshot: one committed part per group of arrays, all of the same events."""

    n_events: int
    groups: dict[str, PartRef]
    counts: dict[str, int]
    """Members per axis; for planning."""
    largest: dict[str, int]
    """Largest number of members per axis in one event; for planning."""


def entry(records: dict[str, CommitRecord]) -> PartEntry:
    """The entry of a run of events, from the records of its groups."""
    numbers = {record.n_events for record in records.values()}
    assert len(numbers) == 1, f"groups hold different numbers of events: {numbers}"
    return PartEntry(
        n_events=numbers.pop(),
        groups={group: PartRef(key=record.key, digest=record.digest) for group, record in records.items()},
        counts={axis: n for record in records.values() for axis, n in record.counts.items()},
        largest={axis: n for record in records.values() for axis, n in record.largest.items()},
    )


class Snapshot(StrictModel):
    """One version of a store. `hash` covers schema, split, static arrays, keys and digests: not times or counts."""

    format: int = FORMAT
    version: int = 0
    """Given by `commit`."""
    name: str
    event_schema: Schema
    split: Split
    parts: tuple[PartEntry, ...]
    static: dict[str, str] = {}
    """Digest of each static array."""
    about: dict[str, Any] = {}
    """Where it comes from: source and settings, or weights and data set; for people and for `show`."""
    created: str = ""
    hash: str = ""

    @property
    def n_events(self) -> int:
        """Number of events."""
        return sum(part.n_events for part in self.parts)

    def largest(self) -> dict[str, int]:
        """Largest number of members per axis in one event of the store."""
        result: dict[str, int] = {}
        for part in self.parts:
            for axis, n in part.largest.items():
                result[axis] = max(result.get(axis, 0), n)
        return result

    def content_hash(self) -> str:
        """SHA-256 (hex) of what the snapshot holds."""
        parts = [[p.n_events, {g: [r.key, r.digest] for g, r in p.groups.items()}] for p in self.parts]
        schema, split = self.event_schema.model_dump(mode="json"), self.split.model_dump(mode="json")
        return digest_of([schema, split, self.static, parts])


def prepare_root(root: Path) -> None:
    """Make the folders of a store and clear away what dead writers of this host left.

    Raises
    ------
    StoreError
        If the disk is full.
    """
    with atomic.full_disk(root):
        for folder in (root / "events.zarr", root / "snapshots", root / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        top = root / "events.zarr" / "zarr.json"
        atomic.create(top, json.dumps(group_metadata({})).encode(), root / "tmp")
    atomic.sweep(root / "tmp")


def read(root: Path, version: int | None = None) -> Snapshot | None:
    """A snapshot (default the newest); None if the store has none.

    Raises
    ------
    StoreError
        If the version does not exist or its file is damaged.
    """
    known = versions(root)
    if version is None:
        if not known:
            return None
        version = known[-1]
    path = root / "snapshots" / f"{version}.json"
    try:
        snapshot = Snapshot.model_validate(json.loads(path.read_text()))
    except FileNotFoundError:
        raise StoreError(f"no version {version}", where=str(root), way_out=f"versions: {known}") from None
    except ValueError as error:
        raise StoreError(f"damaged snapshot ({type(error).__name__})", where=str(path)) from None
    if snapshot.format != FORMAT:
        raise StoreError(f"format {snapshot.format}, this frz reads {FORMAT}", where=str(path))
    if snapshot.hash != snapshot.content_hash():
        raise StoreError("damaged snapshot: its hash does not fit its content", where=str(path))
    return snapshot


def commit(root: Path, make: Callable[[Snapshot | None], Snapshot]) -> Snapshot:
    """Add a version to the store.

    Parameters
    ----------
    root : Path
        The store.
    make : callable
        Gets the newest snapshot (or None) and returns the one to add; called again if another process
        was faster, so that nothing of what that one added is lost.

    Returns
    -------
    Snapshot
        As committed; the newest one itself if `make` changed nothing.
    """
    while True:
        latest = read(root)
        made = make(latest)
        content = made.content_hash()
        if latest is not None and latest.hash == content:
            return latest
        version = (latest.version if latest else 0) + 1
        now = datetime.now(UTC).isoformat(timespec="seconds")
        made = made.model_copy(update={"version": version, "hash": content, "created": now})
        text = json.dumps(made.model_dump(mode="json"), sort_keys=True, indent=1)
        if atomic.create(root / "snapshots" / f"{version}.json", text.encode(), root / "tmp"):
            return made


def write_static(root: Path, name: str, values: NDArray[Any]) -> str:
    """Keep a static array under its digest, which is returned; one that is there already is left alone."""
    digest = content_digest({name: values})
    place = root / "static.zarr" / f"{name}-{digest[:32]}"
    if place.exists():
        return digest
    with atomic.full_disk(root):
        place.parent.mkdir(exist_ok=True)
        folder = atomic.scratch(root / "tmp")
        try:
            shard.write(folder, values, [f"{name}_{i}" for i in range(values.ndim)], {})
            atomic.move_folder(folder, place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return digest


def read_static(root: Path, name: str, digest: str) -> NDArray[Any]:
    """A static array of a snapshot.

    Raises
    ------
    StoreError
        If it is missing or damaged.
    """
    import zarr  # slow to import, and few stores have static arrays

    place = root / "static.zarr" / f"{name}-{digest[:32]}"
    if not place.exists():
        raise StoreError(f"static array {name!r} is missing", where=str(place))
    values = np.asarray(zarr.open_array(place, mode="r")[...])
    if content_digest({name: values}) != digest:
        raise StoreError(f"static array {name!r} is damaged", where=str(place))
    return values
