"""A part: consecutive whole events, written once under a key, committed by one rename.

The commit record (`attributes.frz` of the part's own group `zarr.json`) is written last and lists every
file with size and CRC-32C. A folder without a valid record does not exist. On an object store each attempt to write
the part has a prefix of its own, and the record, created once, names the one that counts.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c

from frz.config import StrictModel, digest_of
from frz.errors import DamageError, StoreError
from frz.location import is_remote, read_bytes
from frz.store import atomic, bfloat16, codecs, objects, ragged, shard
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
    attempt: str = ""
    """On an object store, the prefix of the files below the part."""
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
    attempt = secrets.token_hex(8) if is_remote(root) else ""
    try:
        with atomic.full_disk(root):
            record = _write_folder(folder, key, digest, schema, arrays, attempt)
        if not atomic.move_folder(folder, place, attempt):
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
    folder = atomic.scratch(root / "tmp")
    attempt = secrets.token_hex(8) if is_remote(root) else ""
    try:
        with atomic.full_disk(root):
            record = _write_folder(folder, key, content_digest(arrays), schema, arrays, attempt)
            atomic.fsync_tree(folder)
        atomic.discard(place, root / "tmp")
        return record if atomic.move_folder(folder, place, attempt) else read_record(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_folder(
    folder: Path, key: str, digest: str, schema: Schema, arrays: EventArrays, attempt: str = ""
) -> CommitRecord:
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
        attempt=attempt,
        n_events=count_events(arrays, schema),
        events=keys_digest(arrays[KEY]) if KEY in arrays else "",
        counts={axis: int(n.sum()) for axis, n in per_event.items()},
        largest={axis: int(n.max(initial=0)) for axis, n in per_event.items()},
        arrays=records,
    )
    said = record.model_dump(mode="json", exclude=None if attempt else {"attempt"})
    (folder / "zarr.json").write_text(json.dumps(group_metadata({"frz": seal(said)})))
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
    try:
        return _parse(place, _read(place))
    except FileNotFoundError:
        return None


def committed(root: Path) -> set[str]:
    """Folders of all committed parts of a store (see `part_name`), by listing and without a look at each."""
    folder = root / "events.zarr"
    if not is_remote(folder):
        # they appear by a rename, so what has its name is whole
        return set(os.listdir(folder)) if folder.is_dir() else set()
    split = (name.split("/") for name in objects.sizes(folder))
    return {name[0] for name in split if name[1:] == ["zarr.json"]}


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
        return _parse(place, _read(place))
    except FileNotFoundError:
        raise DamageError("the part is missing", where=str(place), way_out=repair_of(place)) from None


def read_records(places: Sequence[Path]) -> list[CommitRecord | None]:
    """The commit records of parts, those of an object store at once; None where there is none that is whole."""
    found = objects.fetch([place / "zarr.json" for place in places], 0) if places and is_remote(places[0]) else None
    made: list[CommitRecord | None] = []
    for index, place in enumerate(places):
        try:
            data = _read(place) if found is None else found[index]
            made.append(None if data is None else _parse(place, data))
        except (FileNotFoundError, DamageError):
            made.append(None)
    return made


def _read(place: Path) -> bytes:
    """The bytes of a commit record; FileNotFoundError if there is none."""
    try:
        return read_bytes(place / "zarr.json")
    except FileNotFoundError:
        raise
    except OSError as error:
        what = f"the commit record cannot be read: {error.strerror}"
        raise DamageError(what, where=str(place / "zarr.json"), way_out=repair_of(place)) from None


def _parse(place: Path, data: bytes) -> CommitRecord:
    try:
        metadata = json.loads(data)
        record = unseal(metadata["attributes"]["frz"])
        if metadata != group_metadata({"frz": seal(record)}):
            raise ValueError("not the metadata of a group")
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
    for file in record.files:
        found: int | None = None
        try:
            found = (place / file).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            yield Fault(file, f"cannot be read: {error.strerror}")
            continue
        if fault := wrong_size(file, found, record):
            yield fault


def wrong_size(file: str, found: int | None, record: ArrayRecord) -> Fault | None:
    """What is wrong with a file of `found` bytes (None = it is missing)."""
    size, _ = record.files[file]
    if found is None:
        return Fault(file, "is missing")
    return Fault(file, f"has {found} bytes, {size} were committed") if found != size else None


def faults(place: Path, record: ArrayRecord) -> Iterator[Fault]:
    """Files of an array whose size or CRC-32C is not what was committed; every byte is read."""
    if is_remote(place):
        largest = max((size for size, _ in record.files.values()), default=0)
        found = objects.fetch([place / file for file in record.files], largest)
        for (file, (_, crc)), data in zip(record.files.items(), found, strict=True):
            if fault := wrong_size(file, None if data is None else len(data), record):
                yield fault
            elif google_crc32c.value(data) != crc:
                yield Fault(file, "the checksum does not fit")
        return
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


def files_of(place: Path, record: CommitRecord) -> Path:
    """What the paths of files in a commit record are below."""
    return place / record.attempt if record.attempt else place
