"""Cutting a stream of events into parts, holding no more than one part in memory.

Where a part ends depends on the events alone, not on how they arrive in batches.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from frz.config import StrictModel
from frz.store import ragged
from frz.store.schema import EventArrays, Schema, count_events


class PartLimits(StrictModel):
    """A part ends at the first of these."""

    events: int = 2048
    bytes: int = 64 << 20

    @classmethod
    def for_source(cls, n_events: int | None, before: "PartLimits | None" = None) -> "PartLimits":
        """Limits for a source of known size: at least 64 parts, but at least 16 events in each.

        A power of two, and that of the version `before` while that is at most a factor of two off, so that a source
        that grows or shrinks a little is cut where it was cut before.
        """
        if n_events is None:
            return cls()
        fresh = cls(events=min(2048, max(16, 1 << max(0, (n_events // 64).bit_length() - 1))))
        near = before is not None and before.events in (fresh.events // 2, fresh.events * 2)
        return before if before is not None and near else fresh


def cut(stream: Iterable[EventArrays], schema: Schema, limits: PartLimits) -> Iterator[EventArrays]:
    """Yield the events of the stream part by part."""
    held: list[EventArrays] = []
    n_held = bytes_held = 0
    for batch in stream:
        sizes = ragged.event_bytes(batch, schema)
        begin, n_batch = 0, count_events(batch, schema)
        while begin < n_batch:
            filled = bytes_held + np.cumsum(sizes[begin:])
            # an event belongs to the part in which it crosses the limit of bytes
            end = begin + min(int(np.searchsorted(filled, limits.bytes)) + 1, limits.events - n_held, n_batch - begin)
            held.append(ragged.slice_events(batch, schema, begin, end))
            n_held += end - begin
            bytes_held = int(filled[end - begin - 1])
            begin = end
            if n_held == limits.events or bytes_held >= limits.bytes:
                yield ragged.concat(held)
                held, n_held, bytes_held = [], 0, 0
    if held:
        yield ragged.concat(held)
