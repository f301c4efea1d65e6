"""PhysioNet 2012 as a source: an archive of stays and a file of outcomes per set, as they are published.

Particular: a value below 0 is a missing one, so a minute in which nothing else stands is no set; a stay without
observations stays in, with no sets.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from frz.config import StrictModel, digest_of
from frz.data.physionet2012.outcomes import WHERE_FROM, read_outcomes
from frz.data.physionet2012.records import UNITS, VARIABLES, parse
from frz.data.source import Source, Unit
from frz.data.stays import LABEL, STATIC, codes, descriptors, stay_schema
from frz.data.tarball import digest_of_files, members
from frz.errors import SourceError
from frz.store.schema import GROUP, ID, Array, EventArrays, Schema
from frz.store.split import Split

BATCH = 256
"""Stays that are parsed at once."""


class PhysioNet2012Config(StrictModel):
    """Where the files are."""

    path: str
    """Folder with `set-<x>.tar.gz` and `Outcomes-<x>.txt`, relative to the working directory."""
    sets: list[Literal["a", "b", "c"]] = Field(default=["a", "b"], min_length=1)
    """Sets to read, in this order."""


def _outcome(description: str, unit: str = "1") -> Array:
    return Array(dtype="int16", role="target", unit=unit, description=f"{description}; -1 = not known")


SCHEMA = stay_schema(
    VARIABLES,
    {
        **descriptors(),
        "event/saps": _outcome("SAPS-I score"),
        "event/sofa": _outcome("SOFA score"),
        "event/length_of_stay": _outcome("time in hospital", "d"),
        "event/survival": _outcome("time from admission to death, as far as followed up", "d"),
    },
    unit=UNITS,
)


class PhysioNet2012(Source):
    """Stays of 48 hours in intensive care, and what became of them. `event/id` is the RecordID."""

    Config: ClassVar[type[StrictModel]] = PhysioNet2012Config
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = "ODC-By 1.0; cite Silva et al., Computing in Cardiology 39 (2012) 245"
    split: ClassVar[Split] = Split(fractions={"train": 0.85, "val": 0.15, "test": 0.0}, published={"set-b": "test"})
    may_miss: ClassVar[frozenset[str]] = frozenset({STATIC})

    def __init__(self, config: PhysioNet2012Config) -> None:
        self.config = config
        if len(set(config.sets)) != len(config.sets):
            raise SourceError(f"sets {config.sets} names one twice", where="source.sets", way_out="name each once")
        self._counts: Counter[str] = Counter()

    @property
    def schema(self) -> Schema:
        return SCHEMA

    @property
    def n_events(self) -> int:
        return sum(len(stays) for stays in self.parts().values())

    def units(self) -> list[Unit]:
        """One unit per set; its digest covers the bytes of the archive and of the outcomes.

        Raises
        ------
        SourceError
            If a file is missing.
        """
        settings = digest_of([self.version])
        return [
            Unit(name=f"set-{x}", digest=digest_of_files([self._archive(x), self._outcomes(x)], settings, WHERE_FROM))
            for x in self.config.sets
        ]

    def parts(self) -> Mapping[str, NDArray[np.int64]]:
        return {f"set-{x}": read_outcomes(self._outcomes(x))[0] for x in self.config.sets}

    def read(self, unit: Unit) -> Iterator[EventArrays]:
        """Yield the stays of a set in the order of the archive.

        Raises
        ------
        SourceError
            If a file is missing or damaged, a row cannot be read, or archive and outcomes do not name the same stays:
            names file, stay and row.
        """
        x = unit.name.removeprefix("set-")
        archive, outcomes = self._archive(x), self._outcomes(x)
        stays, table = read_outcomes(outcomes)
        self._counts = Counter()
        left = set(stays.tolist())
        names: list[str] = []
        texts: list[bytes] = []
        for member, text in members(archive, ".txt", WHERE_FROM):
            name = PurePosixPath(member).stem
            if not name.isdecimal() or int(name) not in left:
                why = "stands twice" if name.isdecimal() and int(name) in stays else f"is not in {outcomes.name}"
                way_out = "archive and outcomes must be of one set, each stay once"
                raise SourceError(f"stay {name} {why}", where=str(archive), way_out=way_out)
            left.remove(int(name))
            names.append(name)
            texts.append(text)
            if len(names) == BATCH:
                yield self._batch(archive, names, texts, stays, table)
                names, texts = [], []
        if names:
            yield self._batch(archive, names, texts, stays, table)
        if left:
            what = f"holds no stay {min(left)}, which {outcomes.name} names ({len(left)} such stays)"
            raise SourceError(what, where=str(archive), way_out="fetch a fresh copy of both")

    def counted(self) -> Mapping[str, int]:
        return self._counts

    def static(self) -> EventArrays:
        return codes(VARIABLES)

    def _batch(
        self,
        archive: Path,
        names: list[str],
        texts: list[bytes],
        stays: NDArray[Any],
        table: Mapping[str, NDArray[Any]],
    ) -> EventArrays:
        try:
            arrays = parse(names, texts, self._counts)
        except SourceError as error:
            raise SourceError(error.what, where=f"{archive}: {error.where}", way_out="mend the file") from None
        ids = np.array([int(name) for name in names], np.int64)
        rows = np.searchsorted(stays, ids)
        arrays |= {name: values[rows].astype(SCHEMA.arrays[name].dtype) for name, values in table.items()}
        self._counts["stays of unknown outcome"] += int((arrays[LABEL] == -1).sum())
        return arrays | {ID: ids, GROUP: ids}

    def _archive(self, x: str) -> Path:
        return Path(self.config.path) / f"set-{x}.tar.gz"

    def _outcomes(self, x: str) -> Path:
        return Path(self.config.path) / f"Outcomes-{x}.txt"
