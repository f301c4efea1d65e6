"""`muon_sim` as a source: simulated events."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from frz.data.muon_sim.events import simulate
from frz.data.muon_sim.fields import COLUMNS
from frz.data.muon_sim.settings import MuonSimConfig
from frz.data.simulated import Simulated
from frz.store.schema import Array, Axis, EventArrays, Schema

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


class MuonSim(Simulated):
    """Muons in a toroidal spectrometer; see the README of this folder."""

    Config = MuonSimConfig
    version = "1"
    licence = "MIT, as the code"

    config: MuonSimConfig

    @property
    def schema(self) -> Schema:
        return SCHEMA

    @property
    def batch(self) -> int:
        return 1024 if self.config.filtered else 64

    def simulate(self, numbers: NDArray[np.int64]) -> EventArrays:
        return simulate(self.config, numbers)
