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

from frz.config import StrictModel, canonical_json, digest_of
from frz.errors import StoreError
from frz.store import atomic, shard
from frz.store.catalogue import Catalogue
from frz.store.keys import content_digest
from frz.store.part import FORMAT, group_metadata, seal, unseal
from frz.store.schema import Schema
from frz.store.split import Split


class Snapshot(StrictModel):
    """One version of a store. `hash` covers schema, split, static arrays, keys and digests: not times or counts."""

    format: int = FORMAT
    version: int = 0
    """Given by `commit`."""
    name: str
    event_schema: Schema
    split: Split
    parts: Catalogue
    static: dict[str, str] = {}
    """Digest of each static array."""
    about: dict[str, Any] = {}
    """Where it comes from: source and settings, or weights and data set; for people and for `show`."""
    created: str = ""
    hash: str = ""

    @property
    def n_events(self) -> int:
        """Number of events."""
        return sum(self.parts.n_events)

    def largest(self) -> dict[str, int]:
        """Largest number of members per axis in one event of the store."""
        return {axis: max(column, default=0) for axis, column in self.parts.largest.items()}

    def content_hash(self) -> str:
        """SHA-256 (hex) of what the snapshot holds."""
        schema, split = self.event_schema.model_dump(mode="json"), self.split.model_dump(mode="json")
        return digest_of([schema, split, self.static, self.parts.content()])


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


def versions(root: Path) -> list[int]:
    """Versions of a store, oldest first."""
    return sorted(int(path.stem) for path in (root / "snapshots").glob("*.json") if path.stem.isdigit())


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
        values = unseal(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise StoreError(f"no version {version}", where=str(root), way_out=f"versions: {known}") from None
    except ValueError:
        raise StoreError("the snapshot is damaged", where=str(path), way_out="run 'frz repair' on the store") from None
    if values["format"] != FORMAT:
        raise StoreError(f"format {values['format']}, this frz reads {FORMAT}", where=str(path))
    return Snapshot.model_validate(values)


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
        text = canonical_json(seal(made.model_dump(mode="json")))
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
