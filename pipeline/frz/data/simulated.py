"""A source that simulates: an event depends on its number and the settings alone, whatever is made beside it."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from frz.config import digest_of
from frz.data.source import Source, Unit
from frz.store.schema import EventArrays

BLOCK: Final = 2048
"""Events of a unit; the last one may hold fewer."""


class Simulated(Source):
    """Events 0 to `config.n_events` in units of `BLOCK`: a larger number keeps the units that there were.

    Parameters
    ----------
    config : StrictModel
        Its `n_events` is no part of the identity of an event; all its other settings are.
    """

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    @abstractmethod
    def batch(self) -> int:
        """Events simulated at once."""

    @abstractmethod
    def simulate(self, numbers: NDArray[np.int64]) -> EventArrays:
        """The events with these numbers."""

    @property
    def n_events(self) -> int:
        return int(self.config.n_events)

    def units(self) -> list[Unit]:
        settings = self.config.model_dump(mode="json", exclude={"n_events"})
        return [
            Unit(name=name, digest=digest_of([settings, self.version, start, stop]))
            for name, (start, stop) in self._ranges().items()
        ]

    def read(self, unit: Unit) -> Iterator[EventArrays]:
        start, stop = self._ranges()[unit.name]
        for begin in range(start, stop, self.batch):
            yield self.simulate(np.arange(begin, min(begin + self.batch, stop), dtype=np.int64))

    def _ranges(self) -> dict[str, tuple[int, int]]:
        """First event and the one behind the last of each unit, by its name."""
        n = self.n_events
        ranges = [(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
        return {f"events {start}-{stop - 1}": (start, stop) for start, stop in ranges}
