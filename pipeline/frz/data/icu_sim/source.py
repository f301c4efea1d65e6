"""`icu_sim` as a source: simulated stays."""

from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from frz.config import StrictModel
from frz.data.icu_sim.settings import IcuSimConfig
from frz.data.icu_sim.stays import simulate
from frz.data.icu_sim.variables import VARIABLES
from frz.data.simulated import Simulated
from frz.data.stays import STATIC, codes, descriptors, stay_schema
from frz.store.schema import Array, EventArrays, Schema

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


class IcuSim(Simulated):
    """Stays in intensive care with a known risk of death; see the README of this folder."""

    Config: ClassVar[type[StrictModel]] = IcuSimConfig
    version: ClassVar[str] = "1"
    licence: ClassVar[str] = "MIT, as the code"
    may_miss: ClassVar[frozenset[str]] = frozenset({STATIC})

    config: IcuSimConfig
    batch = 512

    @property
    def schema(self) -> Schema:
        return SCHEMA

    def simulate(self, numbers: NDArray[np.int64]) -> EventArrays:
        return simulate(self.config, numbers)

    def static(self) -> EventArrays:
        return codes(NAMES)
