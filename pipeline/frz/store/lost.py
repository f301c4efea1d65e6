"""Which events a lost part held, from the versions that point at it.

A version may point at some of a part's events only; what no version points at cannot be told.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from frz.errors import StoreError
from frz.store import ragged
from frz.store.part import part_name
from frz.store.ragged import Index
from frz.store.reader import EventStore
from frz.store.repair import LostPart
from frz.store.schema import EventArrays, Schema
from frz.store.verify import readable


class Share(NamedTuple):
    """Events of a lost part that a version has."""

    store: EventStore
    """That version; each file is checked when it is first read."""
    rows: Index
    """Which of the part's events."""
    positions: Index
    """Where they are in the version."""


def shares(lost: LostPart, version: Callable[[int], EventStore | None]) -> list[Share]:
    """Every event of a part once, from the newest version that has it.

    Parameters
    ----------
    version : callable
        `open_checked` of the store, which remembers.

    Raises
    ------
    StoreError
        If no version has some of them.
    """
    found: list[Share] = []
    taken = np.zeros(lost.record.n_events if lost.record else 0, bool)
    for number in sorted({number for number, _, _ in lost.events}, reverse=True):
        if (store := version(number)) is None:
            continue
        pieces = store.snapshot.parts.groups[lost.group]
        stored = pieces.parts().index(lost.part)
        rows, positions = map(np.concatenate, zip(*_pieces_of(store, lost.group, stored), strict=True))
        taken = np.append(taken, np.zeros(max(0, int(rows.max(initial=-1)) + 1 - len(taken)), bool))
        rows, first = np.unique(rows, return_index=True)
        new = ~taken[rows]
        taken[rows] = True
        if new.any():
            found.append(Share(store, rows[new], positions[first][new]))
    if not taken.all():
        what = f"{np.count_nonzero(~taken)} of its {len(taken)} events are in no version any more"
        raise StoreError(what, where=part_name(lost.group, lost.part.key), way_out="make the version again")
    return found


def _pieces_of(store: EventStore, group: str, stored: int) -> Iterator[tuple[Index, Index]]:
    """Rows of a committed part and where they are in the version, piece by piece."""
    pieces = store.snapshot.parts.groups[group]
    for piece in np.flatnonzero(np.array(pieces.stored) == stored).tolist():
        begin = int(pieces.bounds[piece])
        rows = np.arange(pieces.first[piece], pieces.last[piece])
        yield rows, begin + np.arange(len(rows))


def open_checked(root: Path, version: int) -> EventStore | None:
    """A version, from its second copy if it must be, that checks every file it reads; None if both are damaged."""
    if (found := readable(root, version)) is None:
        return None
    store = EventStore.of(root, found)
    store.verify = True
    return store


def in_order(pieces: list[EventArrays], rows: list[Index], schema: Schema) -> EventArrays:
    """Arrays of events put together in the order of the part's rows."""
    return ragged.take(ragged.concat(pieces), schema, np.argsort(np.concatenate(rows)))
