"""A part: consecutive whole events, written once under a key, committed by one rename.

The commit record (`attributes.frz` of the part's own group `zarr.json`) is written last and lists every
file with size and CRC-32C. A folder without a valid record does not exist.
"""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frz.config import StrictModel, digest_of
from frz.errors import StoreError
from frz.store import atomic, ragged, shard
from frz.store.keys import content_digest, keys_digest
from frz.store.schema import KEY, EventArrays, Schema, axis_of, count_events

FORMAT = 1


class ArrayRecord(StrictModel):
    """One array of a part as committed."""

    dtype: str
    shape: tuple[int, ...]
    codec: str
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


def _write_folder(folder: Path, key: str, digest: str, schema: Schema, arrays: EventArrays) -> CommitRecord:
    folder.mkdir(parents=True)
    records = {}
    for axis in sorted({axis_of(name) for name in arrays}):
        (folder / axis).mkdir()
        (folder / axis / "zarr.json").write_text(json.dumps(group_metadata({})))
    for name, values in arrays.items():
        axis, _, rest = name.partition("/")
        if rest == "offsets":
            dimensions, attributes = (
                [f"{schema.axes[axis].parent}_edge"],
                {"description": f"first {axis} of each parent"},
            )
        else:
            spec = schema.arrays[name]
            dimensions = [axis, *(f"{name.replace('/', '_')}_{i}" for i in range(len(spec.shape)))]
            attributes = spec.model_dump(mode="json", exclude_defaults=True, exclude={"dtype", "shape", "group"})
        shard.write(folder / name, values, dimensions, attributes)
        files = sorted(path for path in (folder / name).rglob("*") if path.is_file())
        records[name] = ArrayRecord(
            dtype=str(values.dtype),
            shape=values.shape,
            codec="raw",
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
    StoreError
        If it is missing or damaged.
    """
    try:
        metadata = json.loads((place / "zarr.json").read_bytes())
        record = unseal(metadata["attributes"]["frz"])
        if metadata != group_metadata({"frz": seal(record)}):
            raise ValueError("not the metadata of a group")
    except FileNotFoundError:
        raise StoreError("the part is missing", where=str(place), way_out="run 'frz repair' on the store") from None
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            "damaged commit record", where=str(place / "zarr.json"), way_out="run 'frz repair' on the store"
        ) from None
    if record["format"] != FORMAT:
        raise StoreError(f"format {record['format']}, this frz reads {FORMAT}", where=str(place))
    return CommitRecord.model_validate(record)


class Part:
    """A committed part, opened for reading: arrays are mapped on first use."""

    def __init__(self, place: Path, expected: CommitRecord | PartRef) -> None:
        self.place, self.record = place, read_record(place)
        if self.record.digest != expected.digest:
            raise StoreError(
                f"digest {self.record.digest[:12]}, the snapshot says {expected.digest[:12]}", where=str(place)
            )
        self._open: EventArrays = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        """An array of the part, mapped read-only (offsets and other codecs: in memory).

        Raises
        ------
        StoreError
            If a file is missing or has another size than committed.
        """
        if name not in self._open:
            self._open[name] = self._read(name)
        return self._open[name]

    def _read(self, name: str) -> NDArray[Any]:
        record = self.record.arrays[name]
        for file, (size, _) in record.files.items():
            path = self.place / file
            found = path.stat().st_size if path.exists() else None
            if found != size:
                state = "is missing" if found is None else f"has {found} bytes, {size} were committed"
                way_out = f"remove the folder {self.place} and run the command that made it again"
                raise StoreError(state, where=str(path), way_out=way_out)
        if record.shape[0] == 0:
            return np.empty(record.shape, record.dtype)
        mapped = None
        if record.codec == "raw":
            path = self.place / name / "c" / "/".join("0" * len(record.shape))
            mapped = shard.map_shard(path, record.dtype, record.shape)
        values = self._through_zarr(name) if mapped is None else mapped
        return np.array(values) if name.endswith("/offsets") else values

    def _through_zarr(self, name: str) -> NDArray[Any]:
        import zarr  # slow to import, and needed for other codecs only

        return np.asarray(zarr.open_array(self.place / name, mode="r")[...])

    def verify(self) -> list[str]:
        """Names of files whose size or CRC-32C is not what was committed."""
        return [
            file
            for record in self.record.arrays.values()
            for file, (size, crc) in record.files.items()
            if not (path := self.place / file).exists() or path.stat().st_size != size or shard.crc32c(path) != crc
        ]
