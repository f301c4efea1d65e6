"""A snapshot: one version of a store, an ordered list of parts with schema and split.

`snapshots/<n>.json` is created exclusively by a hard link, so of two writers exactly one makes version n
and the other sees what it made before trying n + 1. A second copy, `copies/<n>.json`, follows: a snapshot is
the one thing of a store that nothing else could restore.
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
from frz.config import StrictModel, canonical_json, digest_of
from frz.errors import DamageError, StoreError
from frz.location import is_remote, read_bytes
from frz.store import atomic, objects, shard
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
        found = self.parts.largest
        axes = sorted(found, key=lambda axis: (len(self.event_schema.lineage(axis)), axis))  # not as a file has them
        return {axis: max(found[axis], default=0) for axis in axes}

    def content_hash(self) -> str:
        """SHA-256 (hex) of what the snapshot holds."""
        schema, split = self.event_schema.content(), self.split.content()
        return digest_of([schema, split, self.static, self.parts.content()])


def prepare_root(root: Path) -> None:
    """Make the folders of a store and clear away what dead writers of this host left.

    Raises
    ------
    StoreError
        If the disk is full, or the object store has no put-if-absent.
    """
    if is_remote(root):
        objects.refuse_without_put_if_absent(root / "tmp")
    with atomic.full_disk(root):
        for folder in (root / "events.zarr", root / "snapshots", root / "tmp"):
            atomic.make_folder(folder)
        top = root / "events.zarr" / "zarr.json"
        atomic.create(top, json.dumps(group_metadata({})).encode(), root / "tmp")
    atomic.sweep(root / "tmp")


def snapshot_path(root: Path, version: int) -> Path:
    """File of a snapshot."""
    return root / "snapshots" / f"{version}.json"


def copy_path(root: Path, version: int) -> Path:
    """Second copy of a snapshot, for repair."""
    return root / "copies" / f"{version}.json"


def dropped_path(root: Path, version: int) -> Path:
    """File that says that a version was dropped on purpose; its number is not used again."""
    return root / "snapshots" / f"{version}.dropped"


def expected_versions(root: Path) -> list[int]:
    """Versions that a whole store has: all up to the newest, but those that were dropped."""
    newest = max(versions(root), default=0)
    return [version for version in range(1, newest + 1) if not dropped_path(root, version).exists()]


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
    if version not in known:
        raise StoreError(f"no version {version}", where=str(root), way_out=f"versions: {', '.join(map(str, known))}")
    return load(root, snapshot_path(root, version))


def load(root: Path, path: Path) -> Snapshot:
    """The snapshot in a file, which is called after its version.

    Raises
    ------
    DamageError
        If the file is missing or damaged.
    StoreError
        If it is of another format.
    """
    try:
        values = unseal(json.loads(read_bytes(path)))
        if values["version"] != int(path.stem):
            raise ValueError("another version's")
    except FileNotFoundError:
        raise DamageError("the snapshot is missing", where=str(path), way_out=f"run 'frz repair {root}'") from None
    except OSError as error:
        what = f"the snapshot cannot be read: {error.strerror}"
        raise DamageError(what, where=str(path), way_out=f"run 'frz repair {root}'") from None
    except (ValueError, KeyError):
        raise DamageError("the snapshot is damaged", where=str(path), way_out=f"run 'frz repair {root}'") from None
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
            if not copy_path(root, latest.version).exists():  # killed between the two
                _copy(root, latest.version, read_bytes(snapshot_path(root, latest.version)))
            return latest
        version = (latest.version if latest else 0) + 1
        now = datetime.now(UTC).isoformat(timespec="seconds")
        made = made.model_copy(update={"version": version, "hash": content, "created": now})
        text = canonical_json(seal(made.model_dump(mode="json"))).encode()
        if atomic.create(snapshot_path(root, version), text, root / "tmp"):
            _copy(root, version, text)
            return made


def _copy(root: Path, version: int, text: bytes) -> None:
    copy = copy_path(root, version)
    atomic.make_folder(copy.parent)
    atomic.create(copy, text, root / "tmp")


def static_path(root: Path, name: str, digest: str) -> Path:
    """Folder of a static array."""
    return root / "static.zarr" / f"{name}-{digest[:32]}"


def write_static(root: Path, name: str, values: NDArray[Any]) -> str:
    """Keep a static array under its digest, which is returned; one that is there already is left alone."""
    digest = content_digest({name: values})
    place = static_path(root, name, digest)
    if (place / "zarr.json").exists():
        return digest
    with atomic.full_disk(root):
        atomic.make_folder(place.parent)
        folder = atomic.scratch(root / "tmp")
        try:
            shard.write(folder, values, _static_dimensions(name, values), {})
            atomic.move_folder(folder, place)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return digest


def _static_dimensions(name: str, values: NDArray[Any]) -> list[str]:
    return [f"{name}_{i}" for i in range(values.ndim)]


def static_metadata(name: str, values: NDArray[Any]) -> bytes:
    """The `zarr.json` of a static array."""
    return shard.metadata_bytes(values, _static_dimensions(name, values), {})


def read_static(root: Path, name: str, digest: str) -> NDArray[Any]:
    """A static array of a snapshot.

    Raises
    ------
    DamageError
        If it is missing or damaged.
    """
    import zarr  # slow to import, and few stores have static arrays

    place, way_out = static_path(root, name, digest), f"run 'frz repair {root}'"
    if not place.exists():
        raise DamageError(f"static array {name!r} is missing", where=str(place), way_out=way_out)
    try:
        values = np.asarray(zarr.open_array(zarr_files(place), mode="r")[...])
    except Exception:  # damaged metadata can bring zarr to raise anything
        values = np.empty(0)
    if content_digest({name: values}) != digest:
        raise DamageError(f"static array {name!r} is damaged", where=str(place), way_out=way_out)
    return values


def zarr_files(place: Path) -> Any:
    """An array as zarr opens it: from an object store, with which zarr has no session of ours, by its files."""
    return objects.zarr_store(objects.fetch_below(place)) if is_remote(place) else place
