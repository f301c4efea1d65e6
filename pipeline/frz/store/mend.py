"""Mending from the rest of a store: what belongs to no part, and the metadata of parts.

Nothing here computes: metadata follows from schema and commit record, a commit record from the arrays (if their digest
is the one that the snapshot names), a snapshot from its second copy.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from frz.artifacts import versions
from frz.errors import DamageError, FrzError
from frz.location import children, is_remote, read_bytes
from frz.store import atomic, bfloat16, codecs, objects, shard, snapshot
from frz.store.keys import content_digest
from frz.store.part import ArrayRecord, CommitRecord, PartRef, labels, read_record
from frz.store.schema import EventArrays, Schema
from frz.store.snapshot import copy_path, snapshot_path
from frz.store.verify import GROUP_METADATA, Damage, readable

Static: TypeAlias = Callable[[str, str], NDArray[Any]]
"""Makes the static array of a name whose digest begins so; raises FrzError if it cannot."""


class Outcome(NamedTuple):
    """What became of one damage, or of a damaged part."""

    path: str
    """Below the store."""
    repaired: bool
    how: str
    same: bool = True
    """Whether it holds what it held."""


def mend_file(root: Path, damage: Damage, static: Static | None) -> Outcome:
    """Mend what belongs to no part."""
    path = root / damage.path
    if damage.thing == "store metadata":
        atomic.make_folder(path.parent)
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
        atomic.make_folder(path.parent)
        atomic.write_file(path, read_bytes(other), root / "tmp")
        return Outcome(damage.path, True, "copied from the other copy")
    if version < max(known, default=0):
        how = f"is lost, and no other version needs it: 'frz gc --drop {root}@{version} --yes' gives it up"
        return Outcome(damage.path, False, f"version {version} {how}")
    # Nothing can be added to a store whose newest version is not readable.
    for file in (snapshot_path(root, version), copy_path(root, version)):
        set_aside(root, file)
    how = "is lost; the command that made it makes it again from its parts"
    return Outcome(damage.path, False, f"version {version} {how}")


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
            values, how = static(name, digest32), "made again"
        except FrzError as error:
            set_aside(root, place)  # in its place a writer can put it again
            return Outcome(damage.path, False, f"cannot be made again: {error}")
    if values is None or not fits(values):
        return Outcome(damage.path, False, "made again, it holds other content", same=False)
    atomic.discard(place, root / "tmp")
    snapshot.write_static(root, name, values)
    return Outcome(damage.path, True, how)


def rewrite(root: Path, place: Path, schema: Schema, damage: Damage) -> bool:
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
    atomic.make_folder(path.parent)
    atomic.write_file(path, data, root / "tmp")
    return True


def _array_metadata(schema: Schema, name: str, record: ArrayRecord) -> bytes:
    zeros = np.broadcast_to(np.zeros((), bfloat16.on_disk(record.dtype)), record.shape)
    return shard.metadata_bytes(zeros, *labels(schema, name), record.codec)


def committed(place: Path, part: PartRef) -> CommitRecord | None:
    try:
        record = read_record(place)
    except DamageError:
        return None
    return record if (record.key, record.digest) == part else None


def own_arrays(place: Path, part: PartRef) -> EventArrays | None:
    """All arrays of a part if they are what the snapshot says, whatever its commit record says."""
    for top in children(place) if is_remote(place) else [place]:  # on an object store each attempt has its own files
        arrays = {f"{file.parent.parent.name}/{file.parent.name}": _values(file.parent) for file in _metadata(top)}
        whole = {name: values for name, values in arrays.items() if values is not None}
        if whole and len(whole) == len(arrays) and content_digest(whole) == part.digest:
            return whole
    return None


def _metadata(top: Path) -> list[Path]:
    """The `zarr.json` of every array below a folder."""
    return [child / "zarr.json" for axis in children(top) for child in children(axis) if (child / "zarr.json").exists()]


def _values(folder: Path) -> NDArray[Any] | None:
    """The values of a Zarr array as far as its files can be read."""
    import zarr

    try:
        with codecs.quiet():
            array = zarr.open_array(snapshot.zarr_files(folder), mode="r")
            values = np.asarray(array[...])
            return bfloat16.widen(values) if array.attrs.get("bfloat16") else values
    except Exception:  # damaged files can bring zarr to raise anything
        return None


def set_aside(root: Path, path: Path) -> None:
    """Move a file or folder into `damaged/`, if it is there."""
    if not path.exists():
        return
    folder = root / "damaged"
    atomic.make_folder(folder)
    place = folder / f"{path.parent.name}-{path.name}"
    while place.exists():
        place = place.with_name(f"{place.name}-again")
    if is_remote(path):
        objects.move(path, place)
    else:
        path.rename(place)
