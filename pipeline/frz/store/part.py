"""A part: consecutive whole events, written once under a key, committed by one rename.

The commit record (`attributes.frz` of the part's own group `zarr.json`) is written last and lists every
file with size and CRC-32C. A folder without a valid record does not exist.
"""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from frz.config import StrictModel, digest_of
from frz.errors import DamageError, StoreError
from frz.store import atomic, bfloat16, codecs, lazy, ragged, shard
from frz.store.keys import content_digest, keys_digest
from frz.store.schema import KEY, Array, EventArrays, Schema, axis_of, count_events

FORMAT = 1
OFFSETS = Array(dtype="int64")


class ArrayRecord(StrictModel):
    """One array of a part as committed."""

    dtype: str
    """As the schema says it: `bfloat16` stands for uint16 in the file."""
    shape: tuple[int, ...]
    codec: codecs.Codec
    files: dict[str, tuple[int, int]]
    """Size and CRC-32C of every file, by path below the part."""


class CommitRecord(StrictModel):
    """What a committed part says of itself."""

    format: int
    key: str
    digest: str
    n_events: int
    events: str = ""
    """SHA-256 (hex) of the event keys in order, in groups that hold them."""
    counts: dict[str, int]
    """Members per axis."""
    largest: dict[str, int]
    """Largest number of members per axis in one event."""
    arrays: dict[str, ArrayRecord]


class PartRef(NamedTuple):
    """What a snapshot says of a committed part: where it is and what it must hold."""

    key: str
    digest: str


def part_name(group: str, key: str) -> str:
    """Folder of a part: its group and the first 32 hex digits of its key."""
    return f"{group}-{key[:32]}"


def write_part(root: Path, group: str, key: str, schema: Schema, arrays: EventArrays) -> CommitRecord:
    """Write a part and commit it; a part that another writer committed first is kept.

    Parameters
    ----------
    root : Path
        The store.
    group, key : str
        Where it belongs and what it was made from.
    schema : Schema
        Of exactly these arrays.
    arrays : EventArrays
        Whole events.

    Raises
    ------
    StoreError
        If the disk is full, or a part with this key and other content exists.
    """
    ragged.check(arrays, schema)
    place = root / "events.zarr" / part_name(group, key)
    digest = content_digest(arrays)
    folder = atomic.scratch(root / "tmp")
    try:
        with atomic.full_disk(root):
            record = _write_folder(folder, key, digest, schema, arrays)
        if not atomic.move_folder(folder, place):
            record = read_record(place)
            if record.digest != digest:
                raise StoreError(
                    f"holds other content (digest {record.digest[:12]}) than what was written now ({digest[:12]})",
                    where=str(place),
                    way_out="the same inputs gave different results; remove the part's folder and run again",
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return record


def replace_part(root: Path, group: str, key: str, schema: Schema, arrays: EventArrays) -> CommitRecord:
    """Write a part in the place of a damaged one, which is removed; see `write_part`.

    The new part is whole before the old one goes. A crash between the two leaves the part missing, never mixed.
    """
    ragged.check(arrays, schema)
    place = root / "events.zarr" / part_name(group, key)
    folder, old = atomic.scratch(root / "tmp"), atomic.scratch(root / "tmp")
    try:
        with atomic.full_disk(root):
            record = _write_folder(folder, key, content_digest(arrays), schema, arrays)
            atomic.fsync_tree(folder)
        if place.exists():
            place.rename(old)
        return record if atomic.move_folder(folder, place) else read_record(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _write_folder(folder: Path, key: str, digest: str, schema: Schema, arrays: EventArrays) -> CommitRecord:
    folder.mkdir(parents=True)
    records = {}
    for axis in sorted({axis_of(name) for name in arrays}):
        (folder / axis).mkdir()
        (folder / axis / "zarr.json").write_text(json.dumps(group_metadata({})))
    for name, values in sorted(arrays.items()):
        spec = schema.arrays.get(name, OFFSETS)
        stored = bfloat16.narrow(values) if spec.dtype == bfloat16.NAME else values
        shard.write(folder / name, stored, *labels(schema, name), spec.codec)
        files = sorted(path for path in (folder / name).rglob("*") if path.is_file())
        records[name] = ArrayRecord(
            dtype=spec.dtype,
            shape=values.shape,
            codec=spec.codec,
            files={str(path.relative_to(folder)): (path.stat().st_size, shard.crc32c(path)) for path in files},
        )
    axes = ragged.axes_in(arrays, schema)
    per_event = {axis: ragged.lengths(arrays, schema, axis) for axis in axes}
    record = CommitRecord(
        format=FORMAT,
        key=key,
        digest=digest,
        n_events=count_events(arrays, schema),
        events=keys_digest(arrays[KEY]) if KEY in arrays else "",
        counts={axis: int(n.sum()) for axis, n in per_event.items()},
        largest={axis: int(n.max(initial=0)) for axis, n in per_event.items()},
        arrays=records,
    )
    (folder / "zarr.json").write_text(json.dumps(group_metadata({"frz": seal(record.model_dump(mode="json"))})))
    return record


def labels(schema: Schema, name: str) -> tuple[list[str], dict[str, Any]]:
    """Names of the dimensions of an array, and its attributes, for its `zarr.json`."""
    axis, _, rest = name.partition("/")
    if rest == "offsets":
        return [f"{schema.axes[axis].parent}_edge"], {"description": f"first {axis} of each parent"}
    spec = schema.arrays[name]
    dimensions = [axis, *(f"{name.replace('/', '_')}_{i}" for i in range(len(spec.shape)))]
    attributes = spec.model_dump(mode="json", exclude_defaults=True, exclude={"dtype", "shape", "group", "codec"})
    return dimensions, attributes | ({"bfloat16": True} if spec.dtype == bfloat16.NAME else {})


def group_metadata(attributes: dict[str, Any]) -> dict[str, Any]:
    """The `zarr.json` of a Zarr v3 group."""
    return {"attributes": attributes, "zarr_format": 3, "node_type": "group"}


def seal(values: dict[str, Any]) -> dict[str, Any]:
    """`values` with a `checksum`: the SHA-256 of their canonical JSON."""
    return values | {"checksum": digest_of(values)}


def unseal(values: Any) -> dict[str, Any]:
    """The values that were sealed.

    Raises
    ------
    ValueError
        If anything in them has changed.
    """
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    bare = {key: value for key, value in values.items() if key != "checksum"}
    if values.get("checksum") != digest_of(bare):
        raise ValueError("the checksum does not fit")
    return bare


def find_part(root: Path, group: str, key: str) -> CommitRecord | None:
    """The record of a committed part, or None if there is none."""
    place = root / "events.zarr" / part_name(group, key)
    return read_record(place) if (place / "zarr.json").exists() else None


def open_part(root: Path, group: str, reference: CommitRecord | PartRef) -> "Part":
    """A committed part for reading."""
    return Part(root / "events.zarr" / part_name(group, reference.key), reference)


def read_record(place: Path) -> CommitRecord:
    """The commit record of a part.

    Raises
    ------
    DamageError
        If it is missing or damaged.
    StoreError
        If it is of another format.
    """
    try:
        metadata = json.loads((place / "zarr.json").read_bytes())
        record = unseal(metadata["attributes"]["frz"])
        if metadata != group_metadata({"frz": seal(record)}):
            raise ValueError("not the metadata of a group")
    except FileNotFoundError:
        raise DamageError("the part is missing", where=str(place), way_out=repair_of(place)) from None
    except OSError as error:
        what = f"the commit record cannot be read: {error.strerror}"
        raise DamageError(what, where=str(place / "zarr.json"), way_out=repair_of(place)) from None
    except (ValueError, KeyError, TypeError):
        raise DamageError("damaged commit record", where=str(place / "zarr.json"), way_out=repair_of(place)) from None
    if record["format"] != FORMAT:
        raise StoreError(f"format {record['format']}, this frz reads {FORMAT}", where=str(place))
    return CommitRecord.model_validate(record)


class Fault(NamedTuple):
    """A file that is not what was committed."""

    file: str
    what: str


def sizes_found(place: Path, record: ArrayRecord) -> Iterator[Fault]:
    """Files of an array that are missing or have another size than committed."""
    for file, (size, _) in record.files.items():
        try:
            found = (place / file).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            yield Fault(file, "is missing")
            continue
        except OSError as error:
            yield Fault(file, f"cannot be read: {error.strerror}")
            continue
        if found != size:
            yield Fault(file, f"has {found} bytes, {size} were committed")


def faults(place: Path, record: ArrayRecord) -> Iterator[Fault]:
    """Files of an array whose size or CRC-32C is not what was committed; every byte is read."""
    wrong = {fault.file: fault for fault in sizes_found(place, record)}
    for file, (_, crc) in record.files.items():
        try:
            if file in wrong:
                yield wrong[file]
            elif shard.crc32c(place / file) != crc:
                yield Fault(file, "the checksum does not fit")
        except StoreError as error:
            yield Fault(file, error.what)


def repair_of(place: Path) -> str:
    """The way out when the part at `place` is damaged."""
    return f"run 'frz repair {place.parents[1]}'"


class Part:
    """A committed part, opened for reading: arrays are mapped on first use."""

    def __init__(self, place: Path, expected: CommitRecord | PartRef) -> None:
        self.place, self.record = place, read_record(place)
        if (self.record.key, self.record.digest) != (expected.key, expected.digest):
            raise DamageError(
                f"holds {self.record.key[:12]} with digest {self.record.digest[:12]}, "
                f"the snapshot says digest {expected.digest[:12]}",
                where=str(place),
                way_out=repair_of(place),
            )
        self._open: EventArrays = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        """An array of the part: mapped read-only, offsets in memory.

        A packed array, or one of bfloat16, is an object that decodes the rows taken from it (see `lazy`).

        Raises
        ------
        DamageError
            If a file is missing or has another size than committed.
        """
        if name not in self._open:
            self._open[name] = self._read(name)
        return self._open[name]

    def _read(self, name: str) -> NDArray[Any]:
        record = self.record.arrays[name]
        self._check_sizes(name)
        if record.shape[0] == 0:
            return np.empty(record.shape, bfloat16.in_memory(record.dtype))
        values: Any = None
        if record.codec == codecs.FAST:
            path = self.place / name / "c" / "/".join("0" * len(record.shape))
            values = shard.map_shard(path, str(bfloat16.on_disk(record.dtype)), record.shape)
        if values is None:
            values = lazy.Encoded(self.place / name, partial(self._check_sizes, name), repair_of(self.place))
        if record.dtype == bfloat16.NAME:
            values = lazy.Widened(values)
        return np.array(values) if name.endswith("/offsets") else cast(NDArray[Any], values)

    def _check_sizes(self, name: str) -> None:
        self._refuse(name, sizes_found(self.place, self.record.arrays[name]))

    def check(self, name: str) -> None:
        """Read the files of an array once and compare their CRC-32C.

        Raises
        ------
        DamageError
            If a file is missing or is not what was committed.
        """
        self._refuse(name, faults(self.place, self.record.arrays[name]))

    def _refuse(self, name: str, found: Iterator[Fault]) -> None:
        for file, what in found:
            raise DamageError(f"array {name!r}: {what}", where=str(self.place / file), way_out=repair_of(self.place))
