"""The layout of SeqSetVAE as a source: a Parquet file per stay, in one folder for each published split.

Particular: raw values are stored; the means and standard deviations of `stats.csv` travel as a static array. A stay
that the labels do not name has the label -1, which is counted, and never 0.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frz.config import StrictModel, digest_of
from frz.data.seqset.files import read_stays
from frz.data.seqset.tables import WHERE_FROM, read_embedding, read_labels, read_stats
from frz.data.source import Source, Unit
from frz.data.stays import LABEL, codes, stay_schema
from frz.errors import SourceError
from frz.store.schema import GROUP, ID, Array, EventArrays, Schema
from frz.store.split import Split, uniform

BATCH = 256
"""Stays that are read at once."""
UNIT = 1024
"""Stays that a unit holds at most, about."""


class SeqSetConfig(StrictModel):
    """Where the files are."""

    path: str
    """Folder of the data, relative to the working directory; the other paths are relative to it."""
    stays: str = "patient_ehr"
    """Folder with a folder of `<stay>.parquet` for each published split: train, valid, test."""
    stats: str = "stats.csv"
    """Table of the variables: variable, mean, std."""
    labels: str = "oc.csv"
    """Table of the outcomes: ts_id, in_hospital_mortality."""
    embedding: str | None = None
    """Table of an embedding of each variable: Key and a column per dimension."""
    unknown: Literal["error", "drop"] = "error"
    """What is done with a variable that `stats` does not name."""


class Stay(NamedTuple):
    """A file."""

    number: int
    path: Path


class SeqSet(Source):
    """Stays of one Parquet file each. `event/id` is the number in the name of the file."""

    Config: ClassVar[type[StrictModel]] = SeqSetConfig
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = "of your copy: MIMIC data are for credentialed users and may not be passed on"
    split: ClassVar[Split] = Split(
        fractions={"train": 1.0, "val": 0.0, "test": 0.0}, published={"valid": "val", "test": "test"}
    )

    def __init__(self, config: SeqSetConfig) -> None:
        self.config = config
        self._root = Path(config.path)
        self._counts: Counter[str] = Counter()

    @property
    def schema(self) -> Schema:
        names, stats = self._variables
        static = {
            "variable/stats": Array(
                dtype="float32", shape=stats.shape, role="meta", columns=("mean", "std"),
                description="as stats.csv has them; 0 and 1 where it has none",
            )
        }  # fmt: skip
        if self._embedding is not None:
            static["variable/embedding"] = Array(
                dtype="float32", shape=self._embedding.shape, role="meta", description="of the name of the variable"
            )
        return stay_schema(names, {}, static)

    @property
    def n_events(self) -> int:
        return sum(len(stays) for stays in self._files.values())

    def units(self) -> list[Unit]:
        """About 1,024 stays of a folder each, by hash of their numbers: a new file changes one unit."""
        settings = digest_of([self.version, self._variables[0], self.config.unknown])
        return [Unit(name=name, digest=self._digest(stays, settings)) for name, stays in self._units.items()]

    def parts(self) -> Mapping[str, NDArray[np.int64]]:
        return {part: np.array([stay.number for stay in stays], np.int64) for part, stays in self._files.items()}

    def read(self, unit: Unit) -> Iterator[EventArrays]:
        """Yield the stays of a unit by their numbers.

        Raises
        ------
        SourceError
            If a file is missing, damaged or unsound: names file, row and column.
        """
        stays, (names, _) = self._units[unit.name], self._variables
        self._counts = Counter()
        for begin in range(0, len(stays), BATCH):
            batch = stays[begin : begin + BATCH]
            paths = [stay.path for stay in batch]
            arrays = read_stays(paths, names, self.config.unknown == "drop", self._counts)
            ids = np.array([stay.number for stay in batch], np.int64)
            label = self._label(ids)
            self._counts["stays of unknown outcome"] += int((label == -1).sum())
            yield arrays | {ID: ids, GROUP: ids, LABEL: label}

    def counted(self) -> Mapping[str, int]:
        return self._counts

    def static(self) -> EventArrays:
        names, stats = self._variables
        found = codes(names) | {"variable/stats": stats}
        return found if self._embedding is None else found | {"variable/embedding": self._embedding}

    @cached_property
    def _variables(self) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        """Names of the variables, and their means and standard deviations (V, 2)."""
        names, stats = read_stats(path := self._root / self.config.stats)
        if len(names) > np.iinfo(np.int16).max:
            raise SourceError(f"names {len(names)} variables", where=str(path), way_out="at most 32,767")
        return names, stats

    @cached_property
    def _embedding(self) -> NDArray[np.float32] | None:
        if self.config.embedding is None:
            return None
        return read_embedding(self._root / self.config.embedding, self._variables[0])

    @cached_property
    def _labels(self) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        return read_labels(self._root / self.config.labels)

    @cached_property
    def _files(self) -> dict[str, list[Stay]]:
        """The stays of each folder, by their numbers."""
        root = self._root / self.config.stays
        folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        if not folders:
            raise SourceError("no folder of stays (train, valid, test) in it", where=str(root), way_out=WHERE_FROM)
        return {folder.name: sorted(map(_stay, folder.glob("*.parquet"))) for folder in folders}

    @cached_property
    def _units(self) -> dict[str, list[Stay]]:
        """Stays of each unit."""
        found: dict[str, list[Stay]] = {}
        for part, stays in self._files.items():
            n_units = 1 << max(0, (len(stays) - 1) // UNIT).bit_length()
            unit = (uniform(np.array([stay.number for stay in stays], np.int64), 0) * n_units).astype(np.int64)
            for number in np.unique(unit).tolist():
                chosen = [stays[i] for i in np.flatnonzero(unit == number)]
                found[f"{part} {number + 1} of {n_units}"] = chosen
        return found

    def _label(self, ids: NDArray[np.int64]) -> NDArray[np.int8]:
        """Label of stays; -1 for one that the table does not name."""
        known, labels = self._labels
        at = np.searchsorted(known, ids)
        found = np.full(len(ids), -1, np.int8)
        there = np.append(known, -1)[at] == ids
        found[there] = labels[at[there]]
        return found

    def _digest(self, stays: list[Stay], settings: str) -> str:
        """SHA-256 (hex) over the settings, and the number, the label and the bytes of each stay."""
        digest = sha256(settings.encode())
        labels = self._label(np.array([stay.number for stay in stays], np.int64)).tolist()
        for stay, label in zip(stays, labels, strict=True):
            try:
                content = stay.path.read_bytes()
            except OSError as error:
                raise SourceError(f"cannot be opened: {error.strerror}", where=str(stay.path)) from None
            digest.update(f"{stay.number} {label} {len(content)} ".encode())
            digest.update(content)
        return digest.hexdigest()


def _stay(path: Path) -> Stay:
    try:
        number = float(path.stem)
        if number < 0 or not number.is_integer():
            raise ValueError
    except ValueError:
        way_out = "expected a name such as 200001.parquet"
        raise SourceError("is not called after the number of a stay", where=str(path), way_out=way_out) from None
    return Stay(int(number), path)
