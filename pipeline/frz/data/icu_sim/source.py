"""`icu_sim` as a source: blocks of 2,048 simulated stays."""

from collections.abc import Iterator
from typing import ClassVar, Final

import numpy as np

from frz.config import StrictModel, digest_of
from frz.data.icu_sim.settings import IcuSimConfig
from frz.data.icu_sim.stays import simulate
from frz.data.icu_sim.variables import VARIABLES
from frz.data.source import Source, Unit
from frz.data.stays import STATIC, codes, descriptors, stay_schema
from frz.store.schema import Array, EventArrays, Schema

BLOCK: Final = 2048
"""Stays of a unit; the last one may hold fewer."""
BATCH: Final = 512
"""Stays simulated at once."""

NAMES: Final = tuple(variable.name for variable in VARIABLES)
SCHEMA: Final = stay_schema(
    NAMES,
    {
        **descriptors(),
        "event/risk": Array(
            dtype="float32", role="target", description="true probability of death: the best that a classifier can say"
        ),
    },
    unit=", ".join(variable.unit for variable in VARIABLES),
)


class IcuSim(Source):
    """Stays in intensive care with a known risk of death; see the README of this folder."""

    Config: ClassVar[type[StrictModel]] = IcuSimConfig
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = "MIT, as the code"
    may_miss: ClassVar[frozenset[str]] = frozenset({STATIC})

    def __init__(self, config: IcuSimConfig) -> None:
        self.config = config

    @property
    def schema(self) -> Schema:
        return SCHEMA

    @property
    def n_events(self) -> int:
        return self.config.n_events

    def units(self) -> list[Unit]:
        settings = self.config.model_dump(mode="json", exclude={"n_events"})
        return [
            Unit(name=f"stays {start}-{stop - 1}", digest=digest_of([settings, self.version, start, stop]))
            for start, stop in self._ranges()
        ]

    def read(self, unit: Unit) -> Iterator[EventArrays]:
        start, stop = {f"stays {start}-{stop - 1}": (start, stop) for start, stop in self._ranges()}[unit.name]
        for begin in range(start, stop, BATCH):
            yield simulate(self.config, np.arange(begin, min(begin + BATCH, stop), dtype=np.int64))

    def static(self) -> EventArrays:
        return codes(NAMES)

    def _ranges(self) -> list[tuple[int, int]]:
        n = self.config.n_events
        return [(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
