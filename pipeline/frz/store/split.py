"""Which split an event belongs to: a pure function of its group, so that no group is torn apart."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from frz.config import StrictModel
from frz.errors import ConfigError


class Split(StrictModel):
    """Shares of the groups that go to each split, by hash of `event/group`."""

    seed: int = 0
    """Another seed deals the groups anew."""
    fractions: dict[str, float] = Field(default={"train": 0.8, "val": 0.1, "test": 0.1}, min_length=1)
    """Share of each split; they sum to 1."""

    @model_validator(mode="after")
    def _check(self) -> "Split":
        if min(self.fractions.values()) < 0 or abs(sum(self.fractions.values()) - 1) > 1e-9:
            raise ValueError("fractions must not be negative and must sum to 1")
        return self

    def members(self, name: str, groups: NDArray[Any]) -> NDArray[np.int64]:
        """Positions of the events of one split.

        Parameters
        ----------
        name : str
            A split.
        groups : int64 array (n_event,)
            `event/group`.

        Raises
        ------
        ConfigError
            If there is no such split.
        """
        if name not in self.fractions:
            raise ConfigError(f"no split {name!r}", way_out=f"splits: {', '.join(self.fractions)}")
        return np.flatnonzero(self.which(groups) == self.names.index(name))

    @property
    def names(self) -> list[str]:
        """The splits, sorted: the order of keys in a file must not matter."""
        return sorted(self.fractions)

    def which(self, groups: NDArray[Any]) -> NDArray[np.int64]:
        """Position in `names` of the split of each event (n_event,), from `event/group`."""
        edges = np.cumsum([self.fractions[name] for name in self.names])
        edges[-1] = 1.0
        return np.searchsorted(edges, uniform(groups, self.seed), side="right")


def uniform(values: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each int64 value: two rounds of SplitMix64 (Steele et al. 2014) keyed by the seed."""
    mixed = _splitmix(values.astype(np.int64).view(np.uint64) ^ _splitmix(np.array([seed], np.int64).view(np.uint64)))
    return (_splitmix(mixed) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _splitmix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
