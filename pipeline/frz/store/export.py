"""A version of a store as plain Zarr, Parquet or safetensors, for people who go on with other tools.

One array over all events where the store has one per part; offsets over all events. A part is in memory at a time. The
export is written beside its place and renamed, so a name never stands for half of it; an existing one is never touched.
"""

import json
import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from frz.config import import_extra
from frz.errors import ConfigError, nearest
from frz.location import refuse_remote
from frz.progress import Bar, progress
from frz.store import atomic, bfloat16, ragged
from frz.store.part import labels
from frz.store.reader import EventStore
from frz.store.schema import EVENT, ID, Array, EventArrays, Schema, axis_of

Index: TypeAlias = NDArray[np.int64]

ASIDE = ".frz-export"
"""Folder beside the place of an export; what a killed one left there goes with the next export beside it."""
ZARR_CHUNK = 1 << 22
"""Bytes per chunk at most."""

SAFETENSORS: Mapping[str, str] = {
    **{"bool": "BOOL", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "int8": "I8"},
    **{"int16": "I16", "int32": "I32", "int64": "I64", "float16": "F16", "float32": "F32", "float64": "F64"},
    bfloat16.NAME: "BF16",
}


def export(
    store: EventStore, out: Path, to: str, names: Iterable[str] | None = None, split: str | None = None
) -> dict[str, Any]:
    """Write the events of a store in another format.

    Parameters
    ----------
    store : EventStore
        The version to export.
    out : Path
        Local folder (Zarr, Parquet) or file (safetensors) to make.
    to : str
        `zarr`: a group per axis, arrays and `offsets` (int64, n_parent + 1) over all events, provenance in the
        attributes. `parquet`: a file per axis, one row per member, `event/id` as the first column; values of several
        columns are lists, and `columns` in the metadata of the field is the JSON of their names. `safetensors`:
        tensors and offsets under their names here, provenance in the metadata.
    names : iterable of str, optional
        Arrays, default all; `event/id` always comes along.
    split : str, optional
        Export the events of this split alone, in store order.

    Returns
    -------
    dict
        `path`, `format`, `events`, `arrays` and `bytes` on disk.

    Raises
    ------
    ConfigError
        If something is at `out` already, or it is of an object store, or there is no such format, array or split.
    StoreError
        If a part is damaged or the disk is full.
    """
    if to not in WRITERS:
        raise ConfigError(f"no format {to!r}", way_out=nearest(to, WRITERS))
    refuse_remote(out)
    _sweep(out.parent / ASIDE)
    if out.exists():
        raise ConfigError("is there already", where=str(out), way_out="give another place, or remove it")
    chosen = _Chosen(store, names, split)
    with atomic.full_disk(out):
        aside = atomic.scratch(out.parent / ASIDE)
        try:
            with progress("export", chosen.n_events) as bar:
                WRITERS[to](chosen, aside, bar)
            if not (atomic.move_folder(aside, out) if aside.is_dir() else _link(aside, out)):
                raise ConfigError("is there already", where=str(out), way_out="give another place, or remove it")
        finally:
            atomic.remove(aside)
            _sweep(aside.parent)
    files = [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out]
    size = sum(path.stat().st_size for path in files)
    return {"path": str(out), "format": to, "events": chosen.n_events, "arrays": chosen.names, "bytes": size}


def _link(file: Path, out: Path) -> bool:
    """Give a finished file its name; False if the name is taken."""
    atomic.fsync(file)
    try:
        out.hardlink_to(file)
    except FileExistsError:
        return False
    atomic.fsync(out.parent)
    return True


def _sweep(aside: Path) -> None:
    """Remove what exports that were killed have left, and the folder itself unless another one works in it."""
    atomic.sweep(aside)
    with suppress(OSError):
        aside.rmdir()


class _Chosen:
    """The arrays and events to export, part by part, with positions counted over all of them."""

    def __init__(self, store: EventStore, names: Iterable[str] | None, split: str | None) -> None:
        wanted = store.schema.arrays if names is None else [names] if isinstance(names, str) else names
        self.store, self.names = store, list(dict.fromkeys([ID, *wanted]))
        if unknown := [name for name in self.names if name not in store.schema.arrays]:
            where, way_out = str(store.root), nearest(unknown[0], store.schema.arrays)
            raise ConfigError(f"no array {unknown[0]!r}", where=where, way_out=way_out)
        self.schema = store.schema.select(self.names)
        self.axes = self.schema.ordered_axes(self.names)
        self.ragged = [axis for axis in self.axes if self.schema.axes[axis].length is None]
        self.split = None if split is None else store.split(split)
        self.n_events = store.n_events if self.split is None else len(self.split)
        snapshot = store.snapshot
        self.provenance = {
            "store": snapshot.name,
            "version": snapshot.version,
            "hash": snapshot.hash,
            "created": snapshot.created,
            "split": split,
            "about": snapshot.about,
            "axes": {axis: self.schema.axes[axis].model_dump() for axis in self.axes},
        }

    def parts(self, names: Iterable[str] | None = None) -> Iterator[EventArrays]:
        """Arrays (default all) of the chosen events of each part."""
        names = self.names if names is None else list(names)
        bounds = self.store.part_bounds
        for first, last in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            if self.split is None:
                yield self.store.range(first, last, names)
            else:
                begin, end = np.searchsorted(self.split, (first, last))
                if begin < end:
                    yield self.store.events(self.split[begin:end], names)

    def counts(self) -> dict[str, int]:
        """Members of each axis over all chosen events."""
        total = dict.fromkeys([EVENT, *self.axes], 0)
        wanted = [f"{axis}/offsets" for axis in self.ragged]
        for arrays in self.parts([ID, *wanted]):
            for axis, (_, end) in ragged.bounds(arrays | self._empty(), self.schema, 0, len(arrays[ID])).items():
                total[axis] += end
        return total

    def _empty(self) -> EventArrays:
        """An array on every axis, so that axes of fixed length are counted as well."""
        return {name: np.empty(0) for name in self.names if name != ID}


def _zarr(chosen: _Chosen, folder: Path, bar: Bar) -> None:
    import zarr  # slow to import

    schema, counts = chosen.schema, chosen.counts()
    root = zarr.create_group(folder, attributes={"frz": chosen.provenance})
    made = {}
    for name in [*chosen.names, *(f"{axis}/offsets" for axis in chosen.ragged)]:
        dimensions, attributes = labels(schema, name)
        spec = schema.arrays.get(name)
        dtype = np.dtype(np.int64) if spec is None else spec.in_memory
        shape = () if spec is None else spec.shape
        axis = axis_of(name)
        length = counts[axis] if spec else counts[schema.axes[axis].parent] + 1
        row = max(dtype.itemsize * int(np.prod(shape)), 1)
        made[name] = root.create_array(
            name,
            shape=(length, *shape),
            chunks=(max(min(ZARR_CHUNK // row, length), 1), *(max(n, 1) for n in shape)),
            dtype=dtype,
            compressors=None,
            dimension_names=dimensions,
            attributes={key: value for key, value in attributes.items() if key != "bfloat16"},
        )
    writers = {name: _Whole(array) for name, array in made.items()}
    total = dict.fromkeys(chosen.ragged, 0)
    for axis in chosen.ragged:
        writers[f"{axis}/offsets"].add(np.zeros(1, np.int64))
    for arrays in chosen.parts():
        for name, values in arrays.items():
            axis, _, rest = name.partition("/")
            if rest == "offsets":
                writers[name].add(values[1:] + total[axis])
                total[axis] += int(values[-1])
            else:
                writers[name].add(values)
        bar.advance(len(arrays[ID]))
    for writer in writers.values():
        writer.flush()
    with warnings.catch_warnings():  # readers that do not know it open the same tree without
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(folder)


class _Whole:
    """Writes an array from front to back in whole chunks: a chunk that is begun is never read again."""

    def __init__(self, array: Any) -> None:
        self._array, self._chunk = array, int(array.chunks[0])
        self._held: list[NDArray[Any]] = []
        self._n_held = self._written = 0

    def add(self, values: NDArray[Any]) -> None:
        """Append rows."""
        self._held.append(values)
        self._n_held += len(values)
        if self._n_held >= self._chunk:
            joined = np.concatenate(self._held)
            whole = len(joined) // self._chunk * self._chunk
            self._write(joined[:whole])
            self._held, self._n_held = [joined[whole:].copy()], len(joined) - whole

    def flush(self) -> None:
        """Write what is left."""
        if self._n_held:
            self._write(np.concatenate(self._held))

    def _write(self, values: NDArray[Any]) -> None:
        self._array[self._written : self._written + len(values)] = values
        self._written += len(values)


def _parquet(chosen: _Chosen, folder: Path, bar: Bar) -> None:
    pa, pq = import_extra("pyarrow", "parquet"), import_extra("pyarrow.parquet", "parquet")
    folder.mkdir(parents=True)
    schema, store = chosen.schema, json.dumps(chosen.provenance)
    on_axis = {a: [name for name in chosen.names if axis_of(name) == a and name != ID] for a in [EVENT, *chosen.axes]}
    writers: dict[str, Any] = {}
    try:
        for arrays in chosen.parts():
            ids = arrays[ID]
            for axis, names in on_axis.items():
                index = ids if axis == EVENT else np.repeat(ids, ragged.lengths(arrays, schema, axis))
                columns = {ID: pa.array(index)}
                if axis != EVENT and (parent := schema.axes[axis].parent) != EVENT:
                    columns[parent] = pa.array(_parents(arrays, schema, axis))
                columns |= {name.partition("/")[2]: _column(pa, arrays[name]) for name in names}
                table = pa.table(columns)
                if axis not in writers:
                    notes = {name: labels(schema, name)[1] for name in names}
                    about = pa.schema(
                        [_labelled(field, schema.arrays.get(f"{axis}/{field.name}")) for field in table.schema],
                        metadata={"frz": store, "arrays": json.dumps(notes)},
                    )
                    writers[axis] = pq.ParquetWriter(folder / f"{axis}.parquet", about)
                writers[axis].write_table(table.cast(writers[axis].schema))
            bar.advance(len(ids))
    finally:
        for writer in writers.values():
            writer.close()


def _labelled(field: Any, spec: Array | None) -> Any:
    """A Parquet field with the names of what its lists hold."""
    return field.with_metadata({"columns": json.dumps(spec.columns)}) if spec and spec.columns else field


def _parents(arrays: EventArrays, schema: Schema, axis: str) -> Index:
    """Of each member of `axis` the position of its parent in the event."""
    parent, length = schema.axes[axis].parent, schema.axes[axis].length
    events = ragged.edges(arrays, schema, parent)
    local = np.arange(events[-1]) - np.repeat(events[:-1], np.diff(events))
    return np.repeat(local, np.diff(arrays[f"{axis}/offsets"]) if length is None else length)


def _column(pa: Any, values: NDArray[Any]) -> Any:
    """Values (n, ...) as a column of nested lists of fixed size."""
    column = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in reversed(values.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column


def _safetensors(chosen: _Chosen, file: Path, bar: Bar) -> None:
    counts, schema = chosen.counts(), chosen.schema
    header: dict[str, Any] = {"__metadata__": {"frz": json.dumps(chosen.provenance)}}
    begin: dict[str, int] = {}
    end = 0
    names = [*chosen.names, *(f"{axis}/offsets" for axis in chosen.ragged)]
    # Readers want tensors aligned: widest values first.
    for name in sorted(names, key=lambda name: (-_stored(chosen, name).itemsize, name)):
        spec, axis = schema.arrays.get(name), axis_of(name)
        shape = (counts[axis], *spec.shape) if spec else (counts[schema.axes[axis].parent] + 1,)
        begin[name], end = end, end + int(np.prod(shape)) * _stored(chosen, name).itemsize
        dtype = SAFETENSORS[spec.dtype if spec else "int64"]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin[name], end]}
        if spec:
            header["__metadata__"][name] = json.dumps(labels(schema, name)[1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        start = stream.tell()
        stream.truncate(start + end)
        put = partial(_put, stream)
        at = {name: start + offset for name, offset in begin.items()}
        total = dict.fromkeys(chosen.ragged, 0)
        for axis in chosen.ragged:
            at[f"{axis}/offsets"] = put(at[f"{axis}/offsets"], np.zeros(1, np.int64))
        for arrays in chosen.parts():
            for name, values in arrays.items():
                axis, _, rest = name.partition("/")
                if rest == "offsets":
                    at[name] = put(at[name], values[1:] + total[axis])
                    total[axis] += int(values[-1])
                else:
                    narrow = schema.arrays[name].dtype == bfloat16.NAME
                    at[name] = put(at[name], bfloat16.narrow(values) if narrow else values)
            bar.advance(len(arrays[ID]))


def _stored(chosen: _Chosen, name: str) -> np.dtype[Any]:
    spec = chosen.schema.arrays.get(name)
    return bfloat16.on_disk(spec.dtype) if spec else np.dtype(np.int64)


def _put(stream: IO[bytes], at: int, values: NDArray[Any]) -> int:
    """Write values at a place of the file; the place after them."""
    stream.seek(at)
    stream.write(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data)
    return stream.tell()


WRITERS: Mapping[str, Callable[[_Chosen, Path, Bar], None]] = {
    "zarr": _zarr,
    "parquet": _parquet,
    "safetensors": _safetensors,
}
