"""A committed part, opened for reading: mapped where it lies on a disk, fetched from an object store.

Sizes are always compared with the commit record before anything is mapped: a mapped file that is too short would end
the process instead of raising.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from frz.errors import DamageError
from frz.location import is_remote
from frz.store import bfloat16, codecs, lazy, objects, shard
from frz.store.part import (
    CommitRecord,
    Fault,
    PartRef,
    faults,
    files_of,
    part_name,
    read_record,
    repair_of,
    sizes_found,
    wrong_size,
)
from frz.store.schema import EventArrays


def open_part(root: Path, group: str, reference: CommitRecord | PartRef) -> "Part":
    """A committed part for reading."""
    return Part(root / "events.zarr" / part_name(group, reference.key), reference)


class Part:
    """A committed part, opened for reading: arrays are mapped, or fetched from an object store, on first use."""

    def __init__(self, place: Path, expected: CommitRecord | PartRef) -> None:
        self.place, self.record = place, read_record(place)
        if (self.record.key, self.record.digest) != (expected.key, expected.digest):
            raise DamageError(
                f"holds {self.record.key[:12]} with digest {self.record.digest[:12]}, "
                f"the snapshot says digest {expected.digest[:12]}",
                where=str(place),
                way_out=repair_of(place),
            )
        self.files = files_of(place, self.record)
        self._open: EventArrays = {}

    def load(self, names: Iterable[str]) -> EventArrays:
        """Arrays of the part, as `part[name]` gives them; from an object store they come all at once.

        Raises
        ------
        DamageError
            If a file is missing or has another size than committed.
        """
        missing = [name for name in names if name not in self._open]
        content = self._fetch(missing) if is_remote(self.place) else {}
        for name in missing:
            self._open[name] = self._read(name, content.get(name))
        return {name: self._open[name] for name in names}

    def __getitem__(self, name: str) -> NDArray[Any]:
        """An array of the part: mapped read-only, offsets in memory.

        A packed array, or one of bfloat16, is an object that decodes the rows taken from it (see `lazy`).

        Raises
        ------
        DamageError
            If a file is missing or has another size than committed.
        """
        return self.load([name])[name]

    def _fetch(self, names: list[str]) -> dict[str, dict[str, bytes]]:
        """The files of arrays on an object store, by path below the array."""
        arrays = self.record.arrays
        files = [(name, file) for name in names for file in arrays[name].files]
        # metadata of a shard that holds the array as it is says nothing that the record does not
        files = [(n, f) for n, f in files if arrays[n].codec != codecs.FAST or f != f"{n}/zarr.json"]
        content: dict[str, dict[str, bytes]] = {name: {} for name in names}
        largest = max((arrays[name].files[file][0] for name, file in files), default=0)
        found = objects.fetch([self.files / file for _, file in files], largest)
        for (name, file), data in zip(files, found, strict=True):
            if fault := wrong_size(file, None if data is None else len(data), arrays[name]):
                self._refuse(name, iter([fault]))
            assert data is not None
            content[name][file.removeprefix(f"{name}/")] = data
        return content

    def _read(self, name: str, content: dict[str, bytes] | None) -> NDArray[Any]:
        """An array, from its files if these are in memory already."""
        record = self.record.arrays[name]
        if content is None:
            self._check_sizes(name)
        if record.shape[0] == 0:
            return np.empty(record.shape, bfloat16.in_memory(record.dtype))
        values: Any = None
        if record.codec == codecs.FAST:
            file, dtype = "c/" + "/".join("0" * len(record.shape)), str(bfloat16.on_disk(record.dtype))
            if content is None:
                values = shard.map_shard(self.files / name / file, dtype, record.shape)
            elif file in content:
                values = shard.view(content[file], dtype, record.shape)
        if values is None:
            check = partial(self._check_sizes, name) if content is None else _in_memory
            values = lazy.Encoded(self.files / name, check, repair_of(self.place), content)
        if record.dtype == bfloat16.NAME:
            values = lazy.Widened(values)
        return np.array(values) if name.endswith("/offsets") else cast(NDArray[Any], values)

    def _check_sizes(self, name: str) -> None:
        self._refuse(name, sizes_found(self.files, self.record.arrays[name]))

    def check(self, name: str) -> None:
        """Read the files of an array once and compare their CRC-32C.

        Raises
        ------
        DamageError
            If a file is missing or is not what was committed.
        """
        self._refuse(name, faults(self.files, self.record.arrays[name]))

    def _refuse(self, name: str, found: Iterator[Fault]) -> None:
        for file, what in found:
            raise DamageError(f"array {name!r}: {what}", where=str(self.files / file), way_out=repair_of(self.place))


def _in_memory() -> None:
    """Nothing to check: files that are in memory stay."""
