"""Jobs: events whose missing arrays are made and committed together, and the keys they are found by.

A job's parts are named by what they are made from, so whoever does a job again, after a crash or beside another
process, finds or makes the same parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from frz.extract.settings import ANNOTATION, CARRIED, FEATURES
from frz.store.keys import keys_digest
from frz.store.part import PartRef, part_name
from frz.store.ragged import Index
from frz.store.reader import EventStore
from frz.store.schema import KEY


class Job(NamedTuple):
    """Events of which some groups of arrays are missing; each group becomes one committed part."""

    number: int
    """Its place in the plan."""
    positions: range | Index
    """Events of the data set, ascending within each of its parts."""
    stored: Index | None
    """Where earlier versions have the features of each (position in `Plan.earlier`), -1 = nowhere; None = of none."""
    keys: dict[str, str]
    """Key of the part of each missing group."""
    features: PartRef | None = None
    """Its features, where an attempt that was broken off has committed them."""

    def without(self, committed: Mapping[str, PartRef]) -> "Job":
        """What is left to do when some of its parts are there."""
        keys = {group: key for group, key in self.keys.items() if group not in committed}
        return self._replace(keys=keys, features=committed.get(FEATURES))

    @property
    def lease(self) -> str:
        """Name of the lease on this work."""
        return part_name(*min(self.keys.items()))

    @property
    def n_forward(self) -> int:
        """Events that run through the backbone."""
        if FEATURES not in self.keys:
            return 0
        return len(self.positions) if self.stored is None else int((self.stored < 0).sum())


class Share(NamedTuple):
    """Some events of a part of the data set, given to a job."""

    part: int
    rows: Index | None
    """Which of the part's events; None = all."""
    stored: Index | None


@dataclass
class _Open:
    """A job that still takes events."""

    number: int
    shares: list[Share] = field(default_factory=list)
    n_events: int = 0


class JobList:
    """Deals events, in the order of the data set, to jobs of limited size.

    A part of the data set that fits is never torn: in a first extraction jobs are the parts themselves.

    Parameters
    ----------
    source : EventStore
        The data set.
    origins : list of str
        Content of each of its parts.
    identity : mapping
        See `make_plan`.
    most : int
        Most events in a job.
    """

    def __init__(self, source: EventStore, origins: list[str], identity: Mapping[str, str], most: int) -> None:
        self.source, self.origins, self.identity, self.most = source, origins, identity, most
        self._open: dict[tuple[str, ...], _Open] = {}
        self._done: dict[int, Job] = {}
        self._count = 0

    def add(
        self, groups: tuple[str, ...], part: int, rows: Index | None, stored: Index | None
    ) -> list[tuple[int, int, int]]:
        """Give events of a part to jobs that make `groups`.

        Returns
        -------
        list of (job, first, last)
            Which jobs took them, in order, and which of each job's events they are.
        """
        n_events = self.source.snapshot.parts.n_events[part] if rows is None else len(rows)
        if n_events > self.most and rows is None:
            rows = np.arange(n_events)
        placed = []
        for begin in range(0, n_events, self.most):
            size = min(n_events - begin, self.most)
            taking = self._open.get(groups)
            if taking is None or taking.n_events + size > self.most:
                self._close(groups)
                taking = self._open[groups] = _Open(self._count)
                self._count += 1
            placed.append((taking.number, taking.n_events, taking.n_events + size))
            end = begin + size
            taking.shares.append(
                Share(part, None if rows is None else rows[begin:end], None if stored is None else stored[begin:end])
            )
            taking.n_events += size
        return placed

    def finish(self) -> list[Job]:
        """All jobs by number."""
        for groups in list(self._open):
            self._close(groups)
        return [self._done[number] for number in range(self._count)]

    def _close(self, groups: tuple[str, ...]) -> None:
        if (full := self._open.pop(groups, None)) is None:
            return
        bounds, parts = self.source.part_bounds, self.source.snapshot.parts
        first = full.shares[0]
        positions: range | Index
        if len(full.shares) == 1 and first.rows is None:
            positions = range(int(bounds[first.part]), int(bounds[first.part + 1]))
            events = parts.events[first.part]
        else:
            rows = [np.arange(parts.n_events[s.part]) if s.rows is None else s.rows for s in full.shares]
            positions = np.concatenate([bounds[s.part] + r for s, r in zip(full.shares, rows, strict=True)])
            events = keys_digest(self.source.events(positions, [KEY])[KEY])
        stored = None
        if any(share.stored is not None for share in full.shares):
            none = [np.full(len(positions), -1) if s.stored is None else s.stored for s in full.shares]
            stored = np.concatenate(none)
        origin = sha256()
        for share in full.shares:
            origin.update(self.origins[share.part].encode())
            origin.update(b"all" if share.rows is None else np.asarray(share.rows, "<i8").tobytes())
        made_from = {
            FEATURES: events,
            CARRIED: origin.hexdigest(),
            ANNOTATION: f"{events}:{origin.hexdigest()}",
        }
        keys = {g: sha256(f"{self.identity[g]}:{made_from[g]}".encode()).hexdigest() for g in groups}
        self._done[full.number] = Job(full.number, positions, stored, keys)
