"""Which split an event belongs to: a pure function of its group, so that no group is torn apart.

Data that are published in parts (a training and a test set) keep them: a part is one split as a whole, and only the
groups of the other parts are dealt by hash.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from frz.config import StrictModel
from frz.errors import ConfigError, SourceError


class Split(StrictModel):
    """Shares of the groups that go to each split, by hash of `event/group`, and parts that are a split as they are."""

    seed: int = 0
    """Another seed deals the groups anew."""
    fractions: dict[str, float] = Field(default={"train": 0.8, "val": 0.1, "test": 0.1}, min_length=1)
    """Share of each split; they sum to 1."""
    published: dict[str, str] = {}
    """The split that a part of the source is as a whole, by the part's name; groups of other parts are dealt."""
    runs: dict[str, tuple[tuple[int, int], ...]] = {}
    """Groups of these parts: first and last of each run without a group of another part between. The build fills it."""

    @model_validator(mode="after")
    def _check(self) -> "Split":
        if min(self.fractions.values()) < 0 or abs(sum(self.fractions.values()) - 1) > 1e-9:
            raise ValueError("fractions must not be negative and must sum to 1")
        if unknown := set(self.published.values()) - set(self.fractions):
            raise ValueError(f"published: fractions has no {sorted(unknown)[0]!r} (a share of 0 will do)")
        return self

    def with_groups(self, parts: Mapping[str, NDArray[np.int64]], where: str) -> "Split":
        """The split with the groups of its published parts.

        Parameters
        ----------
        parts : mapping
            Groups of each part that the source is published in, in any order.
        where : str
            What errors call the source.

        Raises
        ------
        ConfigError
            If the source has no part that `published` names.
        SourceError
            If a group stands in two parts.
        """
        for part in self.published:
            if part not in parts:
                known = f"parts: {', '.join(parts)}" if parts else "this source is published in one piece"
                raise ConfigError(f"split.published: no part {part!r}", where=where, way_out=known)
        if not self.published:
            return self.model_copy(update={"runs": {}})
        names, each = list(parts), [np.unique(groups) for groups in parts.values()]
        groups = np.concatenate(each)
        owner = np.repeat(np.arange(len(names)), [len(members) for members in each])
        order = np.argsort(groups, kind="stable")
        groups, owner = groups[order], owner[order]
        if len(twice := np.flatnonzero(groups[1:] == groups[:-1])):
            both = " and ".join(names[place] for place in owner[twice[0] : twice[0] + 2].tolist())
            what = f"group {groups[twice[0]]} is published in {both} ({len(twice)} such groups)"
            raise SourceError(what, where=where, way_out="remove it from all parts but one")
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        last = np.append(first[1:], len(owner)) - 1
        runs = {}
        for part in self.published:
            own = owner[first] == names.index(part)
            runs[part] = tuple(zip(groups[first[own]].tolist(), groups[last[own]].tolist(), strict=True))
        return self.model_copy(update={"runs": runs})

    def content(self) -> dict[str, Any]:
        """All that tells where an event belongs, as JSON."""
        return self.model_dump(mode="json", exclude=set() if self.published else {"published", "runs"})

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
        found = np.searchsorted(edges, uniform(groups, self.seed), side="right")
        for part, runs in self.runs.items():
            if not runs:
                continue
            first, last = np.array(runs, np.int64).T
            run = np.searchsorted(first, groups, side="right") - 1
            found[(run >= 0) & (groups <= last[run])] = self.names.index(self.published[part])
        return found


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
