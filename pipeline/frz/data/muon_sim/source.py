"""`muon_sim` as a source: blocks of 2,048 simulated events."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from frz.config import digest_of
from frz.data.muon_sim.events import simulate
from frz.data.muon_sim.fields import COLUMNS
from frz.data.muon_sim.settings import MuonSimConfig
from frz.data.source import Source, Unit
from frz.store.schema import Array, Axis, EventArrays, Schema

BLOCK: Final = 2048
"""Events of a unit; the last one may hold fewer."""
BATCH: Final = 1024
"""Events simulated at once."""
UNFILTERED_BATCH: Final = 64

SCHEMA: Final = Schema(
    axes={"hit": Axis(), "track": Axis(), "member": Axis(parent="track")},
    arrays={
        "event/id": Array(dtype="int64", role="meta", description="event number"),
        "event/group": Array(dtype="int64", role="meta", description="event number: events are independent"),
        "hit/raw": Array(
            dtype="float32", shape=(len(COLUMNS),), role="input", unit="mm, mm^2, ns", columns=COLUMNS,
            description="measurement of one channel, in read-out order",
        ),
        "hit/truthLink": Array(
            dtype="int32", role="target",
            description="track in the event that made the hit (the first one of a shared hit); -1 for noise",
        ),
        "track/parameters": Array(
            dtype="float32", shape=(4,), role="target", unit="GeV, 1, rad, e", columns=("pt", "eta", "phi", "q"),
            description="muon at the vertex, by increasing phi",
        ),
        "member/hit": Array(
            dtype="int32", role="target", refers_to="hit", description="hits of the track; hits may be shared"
        ),
    },
)  # fmt: skip


class MuonSim(Source):
    """Muons in a toroidal spectrometer; see the README of this folder."""

    Config = MuonSimConfig
    version = "1"
    licence = "MIT, as the code"

    def __init__(self, config: MuonSimConfig) -> None:
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
            Unit(name=f"events {start}-{stop - 1}", digest=digest_of([settings, self.version, start, stop]))
            for start, stop in self._ranges()
        ]

    def read(self, unit: Unit) -> Iterator[EventArrays]:
        ranges = {f"events {start}-{stop - 1}": (start, stop) for start, stop in self._ranges()}
        start, stop = ranges[unit.name]
        batch = BATCH if self.config.filtered else UNFILTERED_BATCH
        for begin in range(start, stop, batch):
            yield simulate(self.config, np.arange(begin, min(begin + batch, stop), dtype=np.int64))

    def _ranges(self) -> list[tuple[int, int]]:
        n = self.config.n_events
        return [(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
