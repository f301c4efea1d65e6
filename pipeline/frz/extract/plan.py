"""What an extraction has to do: which stored rows stay valid, and jobs for all the others.

Identity is per event. A part of the data set that an earlier version already had is taken with all that is known of
it, unread. In a part that is new, events are looked up by key: features that are stored are pointed at, whatever
else changed around them, and only the rest is computed. The plan is a function of the data set and of committed
snapshots alone, so an interrupted extraction plans the same jobs again.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from frz.extract.earlier import Earlier
from frz.extract.jobs import Job, JobList
from frz.extract.settings import FEATURES
from frz.store.part import PartRef, part_name
from frz.store.ragged import Index
from frz.store.reader import EventStore
from frz.store.schema import Schema
from frz.store.snapshot import Snapshot

MOST_PIECES = 64
"""A part that would lie in more pieces is written anew (its known features are copied): reading stays fast."""


class Stretch(NamedTuple):
    """Consecutive events of a part: where one group of their arrays is, or will be."""

    holder: PartRef | int
    """A committed part, or the number of the job that makes it."""
    first: int
    last: int


@dataclass
class Plan:
    """An extraction: what is taken and what is to do."""

    origins: list[str]
    """What each part of the data set is (`PartEntry.content`)."""
    taken: dict[int, tuple[Snapshot, int]]
    """Parts that an earlier snapshot covers: which snapshot, and with which of its parts."""
    made: dict[int, dict[str, list[Stretch]]]
    """All other parts: per group, the stretches that make it up."""
    jobs: list[Job]
    earlier: Earlier | None
    """What `Job.stored` points into."""

    @property
    def n_forward(self) -> int:
        """Events that run through the backbone."""
        return sum(job.n_forward for job in self.jobs)


def make_plan(
    source: EventStore,
    root: Path,
    there: Container[str],
    history: Iterable[Snapshot],
    out: Schema,
    identity: Mapping[str, str],
    targets: Sequence[str],
    most: int,
) -> Plan:
    """Plan the extraction of a data set.

    Parameters
    ----------
    source : EventStore
        The data set.
    root : Path
        The feature store.
    there : container of str
        Names of the committed parts that are in place: what a snapshot says of others is not used.
    history : iterable of Snapshot
        Its snapshots, newest first.
    out : Schema
        Of the features.
    identity : mapping
        Per group of arrays of `out`: digest of what its rows depend on beside the event. Snapshots keep it in
        `about["identity"]`; rows of another identity are not used.
    targets : sequence of str
        Arrays that annotations read.
    most : int
        Most events in a job.
    """
    origins = [part.content() for part in source.snapshot.parts]
    wanted = set(origins)
    whole: dict[str, tuple[Snapshot, int]] = {}
    rest: dict[str, tuple[Snapshot, int]] = {}
    for snapshot in history:
        theirs = snapshot.about["identity"]
        if theirs[FEATURES] != identity[FEATURES]:
            continue
        gone = _gone(snapshot, there)
        for index, origin in enumerate(snapshot.parts.origin):
            if index not in gone:
                (whole if origin in wanted and theirs == identity else rest).setdefault(origin, (snapshot, index))
        if len(whole) == len(wanted):
            break
    taken = {part: whole[origin] for part, origin in enumerate(origins) if origin in whole}
    held = [place for origin, place in rest.items() if origin not in whole]
    earlier = Earlier(root, held, identity, out, targets) if held and len(taken) < len(origins) else None

    jobs = JobList(source, origins, identity, most)
    made: dict[int, dict[str, list[Stretch]]] = {}
    for part in range(len(origins)):
        if part in taken:
            continue
        if earlier is None:
            placed = [Stretch(*place) for place in jobs.add(tuple(identity), part, None, None)]
            made[part] = dict.fromkeys(identity, placed)
        else:
            made[part] = _assemble(source, part, earlier, jobs, tuple(identity))
    return Plan(origins, taken, made, jobs.finish(), earlier)


def _gone(snapshot: Snapshot, there: Container[str]) -> set[int]:
    """Parts of a snapshot of which a committed part is not in place."""
    found: set[int] = set()
    for group, pieces in snapshot.parts.groups.items():
        lost = [n for n, key in enumerate(pieces.key) if part_name(group, key) not in there]
        if lost:
            lost_pieces = np.flatnonzero(np.isin(pieces.stored, lost))
            found.update((np.searchsorted(pieces.edges, lost_pieces, side="right") - 1).tolist())
    return found


def _assemble(
    source: EventStore, part: int, earlier: Earlier, jobs: JobList, groups: tuple[str, ...]
) -> dict[str, list[Stretch]]:
    """Point at what is stored of a part; give the rest to jobs."""
    n_events = source.snapshot.parts.n_events[part]
    stored = earlier.store.snapshot.parts.groups
    found, valid = earlier.find(source, part)
    # holder of each event: a committed part (>= 0) or a job (-1 - number); row: which of the holder's events
    holder = {group: np.full(n_events, -1, np.int64) for group in groups}
    row = {group: np.zeros(n_events, np.int64) for group in groups}
    missing = np.zeros(n_events, np.int64)  # one bit per group
    for bit, group in enumerate(groups):
        rows = np.flatnonzero(valid[group])
        if len(rows):
            holder[group][rows], row[group][rows] = stored[group].locate(found[rows])
        missing[~valid[group]] |= 1 << bit
    if any(len(_runs(holder[group], row[group])) > MOST_PIECES for group in groups):
        missing[:] = (1 << len(groups)) - 1
    for mask in np.unique(missing[missing > 0]).tolist():
        lacking = tuple(group for bit, group in enumerate(groups) if mask >> bit & 1)
        rows = np.flatnonzero(missing == mask)
        begin = 0
        for number, first, last in jobs.add(lacking, part, None if len(rows) == n_events else rows, found[rows]):
            share = rows[begin : begin + last - first]
            begin += last - first
            for group in lacking:
                holder[group][share], row[group][share] = -1 - number, np.arange(first, last)
    return {
        group: [
            Stretch(stored[group].part(held) if held >= 0 else -1 - held, first, last)
            for held, first, last in _runs(holder[group], row[group])
        ]
        for group in groups
    }


def _runs(holder: Index, row: Index) -> list[tuple[int, int, int]]:
    """Runs of events that follow each other in one holder: the holder, its first row, its row after the last."""
    begins = np.flatnonzero(np.append(True, (np.diff(holder) != 0) | (np.diff(row) != 1)))
    sizes = np.diff(np.append(begins, len(holder)))
    return list(zip(holder[begins].tolist(), row[begins].tolist(), (row[begins] + sizes).tolist(), strict=True))
