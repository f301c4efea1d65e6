"""The contract of a source: where events come from.

A source cuts its input into **units** (a file, a block of simulated events) whose digest says whether
they changed, and reads one unit at a time as a stream of small batches of whole events. Memory is bounded
by a batch. Every error names the file, the event and the field.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from frz.config import StrictModel
from frz.store.schema import EventArrays, Schema
from frz.store.split import Split

SOURCES: Mapping[str, str] = {
    "icu_sim": "frz.data.icu_sim.source:IcuSim",
    "muon_sim": "frz.data.muon_sim.source:MuonSim",
    "physionet2012": "frz.data.physionet2012.source:PhysioNet2012",
    "seqset": "frz.data.seqset.source:SeqSet",
    "velo": "frz.data.velo:Velo",
}
"""Known sources; a recipe may also give `package.module:Class`."""


class Unit(BaseModel):
    """A piece of a source that is read, and skipped when unchanged, as a whole."""

    model_config = ConfigDict(frozen=True)
    name: str
    """What a user would call it: a file name, an event range."""
    digest: str
    """Changes when the bytes behind the unit, or the code and settings that make it, change."""


class Source(ABC):
    """Yields events as flat arrays.

    Every batch holds `event/id` (int64, unique in the source) and `event/group` (int64: events of one
    group never stand in two splits) beside what the schema lists. `event/key` is added by the build.
    """

    Config: ClassVar[type[StrictModel]]
    version: ClassVar[str]
    """Raise it whenever the same settings and bytes give other events."""
    licence: ClassVar[str]
    """Licence of the data, one line."""
    split: ClassVar[Split] = Split()
    """How the events are split, as far as a recipe does not say."""
    may_miss: ClassVar[frozenset[str]] = frozenset()
    """Arrays in which NaN says that a value is not known; anywhere else it is an error."""

    @abstractmethod
    def __init__(self, config: Any) -> None:
        """Take a validated `Config`."""

    @property
    @abstractmethod
    def schema(self) -> Schema:
        """Axes and arrays with units and descriptions; `event/id` and `event/group` included."""

    @property
    def n_events(self) -> int | None:
        """Number of events where it is known beforehand."""
        return None

    @abstractmethod
    def units(self) -> list[Unit]:
        """The units in reading order.

        Raises
        ------
        SourceError
            If a file is missing.
        """

    @abstractmethod
    def read(self, unit: Unit) -> Iterator[EventArrays]:
        """Yield the events of a unit in order, a few hundred at a time.

        Raises
        ------
        SourceError
            If the input is damaged or lacks a field, naming file, event and field.
        """

    def parts(self) -> Mapping[str, NDArray[np.int64]]:
        """Groups of each part (training set, test set ...) that the data are published in; {} if in one piece.

        Every group stands in one of the parts, each once.

        Raises
        ------
        SourceError
            If a file is missing.
        """
        return {}

    def counted(self) -> Mapping[str, int]:
        """What was left out, merged or lacking in the unit that was read last, by name; the build adds units up."""
        return {}

    def static(self) -> EventArrays:
        """Arrays without events that `schema.static` lists."""
        return {}
