"""The parts of a snapshot as columns: a hundred thousand of them are read in the time of a few objects.

A **part** of a snapshot is a run of consecutive events. What a group of arrays says of it lies in one or more
**pieces**: ranges of events of committed parts. A new version points at what earlier ones wrote and adds only
what changed.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from frz.config import digest_of
from frz.store.part import CommitRecord, PartRef
from frz.store.ragged import Index, offsets_of


class Piece(NamedTuple):
    """Events [first, last) of a committed part."""

    key: str
    digest: str
    first: int
    last: int


class PartEntry(NamedTuple):
    """A run of events of a snapshot."""

    n_events: int
    groups: dict[str, tuple[Piece, ...]]
    """Per group of arrays, where its events lie, in order."""
    counts: dict[str, int]
    """Members per axis; for planning."""
    largest: dict[str, int]
    """Largest number of members per axis in one event; for planning."""
    events: str = ""
    """SHA-256 (hex) of the event keys in order."""
    origin: str = ""
    """What a part of a feature store was made from: `content` of the part of the data set."""

    def content(self) -> str:
        """SHA-256 (hex) of which events the part holds and where its arrays lie."""
        return digest_of([self.events, {group: [list(piece) for piece in p] for group, p in self.groups.items()}])


def entry(records: dict[str, CommitRecord], origin: str = "") -> PartEntry:
    """The entry of a run of events whose groups are one committed part each, from their records."""
    numbers = {record.n_events for record in records.values()}
    assert len(numbers) == 1, f"groups hold different numbers of events: {numbers}"
    n_events = numbers.pop()
    return PartEntry(
        n_events=n_events,
        groups={group: (Piece(record.key, record.digest, 0, n_events),) for group, record in records.items()},
        counts={axis: n for record in records.values() for axis, n in record.counts.items()},
        largest={axis: n for record in records.values() for axis, n in record.largest.items()},
        events=next((record.events for record in records.values() if record.events), ""),
        origin=origin,
    )


@dataclass
class Pieces:
    """Where the arrays of one group lie."""

    key: list[str] = field(default_factory=list)
    digest: list[str] = field(default_factory=list)
    """Key and digest of each committed part that is pointed at."""
    stored: list[int] = field(default_factory=list)
    """Per piece, which of them."""
    first: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    """Per piece, its events [first, last) of the committed part."""
    pieces: list[int] = field(default_factory=list)
    """Number of pieces of each part of the snapshot."""

    @cached_property
    def edges(self) -> Index:
        """First piece of each part of the snapshot, (n_part + 1,)."""
        return offsets_of(np.array(self.pieces, np.int64))

    @cached_property
    def bounds(self) -> Index:
        """First event of the snapshot in each piece, (n_piece + 1,)."""
        return offsets_of(np.array(self.last, np.int64) - np.array(self.first, np.int64))

    @cached_property
    def _begin(self) -> tuple[Index, Index]:
        return np.array(self.stored, np.int64), np.array(self.first, np.int64)

    def locate(self, positions: Index) -> tuple[Index, Index]:
        """Which committed part holds the event at each position of the snapshot, and at which of its events."""
        stored, first = self._begin
        piece = np.searchsorted(self.bounds, positions, side="right") - 1
        return stored[piece], positions - self.bounds[piece] + first[piece]

    def events_of(self, stored: int) -> list[tuple[int, int]]:
        """Ranges [first, last) of events of the snapshot that lie in a committed part."""
        found: list[tuple[int, int]] = []
        for piece in np.flatnonzero(self._begin[0] == stored).tolist():
            first, last = int(self.bounds[piece]), int(self.bounds[piece + 1])
            if found and found[-1][1] == first:
                first = found.pop()[0]
            found.append((first, last))
        return found

    def piece(self, index: int) -> Piece:
        """One piece."""
        return Piece(*self.part(self.stored[index]), self.first[index], self.last[index])

    def part(self, stored: int) -> PartRef:
        """A committed part that is pointed at."""
        return PartRef(self.key[stored], self.digest[stored])

    def parts(self) -> list[PartRef]:
        """Every committed part that is pointed at, once."""
        return [self.part(stored) for stored in range(len(self.key))]

    def content(self) -> list[list[Any]]:
        """The columns, as JSON."""
        return [self.key, self.digest, self.stored, self.first, self.last, self.pieces]


@dataclass
class Catalogue:
    """All parts of a snapshot, by column; iterating gives `PartEntry`."""

    n_events: list[int] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    origin: list[str] = field(default_factory=list)
    counts: dict[str, list[int]] = field(default_factory=dict)
    largest: dict[str, list[int]] = field(default_factory=dict)
    groups: dict[str, Pieces] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Iterable[PartEntry]) -> "Catalogue":
        """The columns of entries that have the same groups and axes."""
        made = cls()
        places: dict[str, dict[tuple[str, str], int]] = {}
        for part in entries:
            made.n_events.append(part.n_events)
            made.events.append(part.events)
            made.origin.append(part.origin)
            for columns, numbers in ((made.counts, part.counts), (made.largest, part.largest)):
                for axis, n in numbers.items():
                    columns.setdefault(axis, []).append(n)
            for group, pieces in part.groups.items():
                columns_of = made.groups.setdefault(group, Pieces())
                known = places.setdefault(group, {})
                columns_of.pieces.append(len(pieces))
                for piece in pieces:
                    at = known.setdefault((piece.key, piece.digest), len(known))
                    if at == len(columns_of.key):
                        columns_of.key.append(piece.key)
                        columns_of.digest.append(piece.digest)
                    columns_of.stored.append(at)
                    columns_of.first.append(piece.first)
                    columns_of.last.append(piece.last)
        columns_of_all = [*made.counts.values(), *made.largest.values(), *(p.pieces for p in made.groups.values())]
        assert all(len(column) == len(made) for column in columns_of_all), "parts differ in their groups or axes"
        return made

    def content(self) -> list[Any]:
        """What the snapshot holds, as JSON: counts, which are for planning, and origins are left out."""
        return [self.n_events, self.events, {group: pieces.content() for group, pieces in self.groups.items()}]

    def __len__(self) -> int:
        return len(self.n_events)

    def __iter__(self) -> Iterator[PartEntry]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> PartEntry:
        groups = {}
        index = range(len(self))[index]
        for group, pieces in self.groups.items():
            begin, end = pieces.edges[index : index + 2]
            groups[group] = tuple(pieces.piece(i) for i in range(int(begin), int(end)))
        return PartEntry(
            n_events=self.n_events[index],
            groups=groups,
            counts={axis: column[index] for axis, column in self.counts.items()},
            largest={axis: column[index] for axis, column in self.largest.items()},
            events=self.events[index],
            origin=self.origin[index],
        )
