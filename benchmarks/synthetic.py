"""Made-up features of ragged events, and a store of them, for measuring how fast they are written and read."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from frz.config import digest_of
from frz.store import Array, Axis, EventArrays, EventStore, Schema, Snapshot, Split, ragged, snapshot, write_part
from frz.store.catalogue import Catalogue, PartEntry, Piece, entry
from frz.store.schema import axis_of

PART = 1024
"""Events per part."""


def schema_of(width: int) -> Schema:
    """Hits with an embedding of `width` values, two queries, and some true tracks in every event."""
    return Schema(
        axes={"hit": Axis(), "query": Axis(length=2), "track": Axis()},
        arrays={
            "event/id": Array(dtype="int64", role="meta"),
            "hit/embedding": Array(dtype="float16", shape=(width,), role="feature"),
            "hit/scaled": Array(dtype="float32", shape=(10,), role="feature"),
            "query/embedding": Array(dtype="float16", shape=(width,), role="feature"),
            "track/parameters": Array(dtype="float32", shape=(4,), role="target"),
        },
    )


def events(schema: Schema, n_events: int, hits: float, seed: int = 0) -> Iterator[EventArrays]:
    """Random events, a part at a time; numbers of hits (mean `hits`, at least 1) and of tracks are Poisson's."""
    rng = np.random.default_rng(seed)
    for first in range(0, n_events, PART):
        n = min(PART, n_events - first)
        arrays: EventArrays = {"event/id": np.arange(first, first + n)}
        counts = {"event": n, "query": 2 * n}
        for axis, mean, least in (("hit", hits, 1), ("track", 1.5, 0)):
            if axis in schema.axes:
                arrays[f"{axis}/offsets"] = ragged.offsets_of(np.maximum(rng.poisson(mean, n), least))
                counts[axis] = int(arrays[f"{axis}/offsets"][-1])
        for name, spec in schema.arrays.items():
            if name != "event/id":
                shape = (counts[axis_of(name)], *spec.shape)
                arrays[name] = rng.standard_normal(shape, np.float32).astype(spec.dtype)
        yield arrays


def write(root: Path, schema: Schema, parts: Iterable[EventArrays]) -> EventStore:
    """An event store of the given parts."""
    snapshot.prepare_root(root)
    entries = Catalogue.of(
        entry({"events": write_part(root, "events", digest_of(index), schema, arrays)})
        for index, arrays in enumerate(parts)
    )
    snapshot.commit(root, lambda _: Snapshot(name="made", event_schema=schema, split=Split(), parts=entries))
    return EventStore(root)


def fragment(store: EventStore, share: float, seed: int = 0) -> EventStore:
    """The same events, a random `share` of them written anew: pieces of old parts with single new events between."""
    chosen = np.sort(np.random.default_rng(seed).choice(store.n_events, int(share * store.n_events), replace=False))
    record = write_part(store.root, "events", digest_of("new"), store.schema, store.events(chosen))
    new = {event: Piece(record.key, record.digest, i, i + 1) for i, event in enumerate(chosen.tolist())}
    entries = []
    for index, part in enumerate(store.snapshot.parts):
        begin, end = store.part_bounds[index : index + 2].tolist()
        (whole,) = part.groups["events"]
        pieces, at = [], begin
        for event in chosen[(chosen >= begin) & (chosen < end)].tolist():
            pieces += [whole._replace(first=at - begin, last=event - begin), new[event]]
            at = event + 1
        pieces.append(whole._replace(first=at - begin, last=end - begin))
        kept = tuple(piece for piece in pieces if piece.first < piece.last)
        entries.append(PartEntry(part.n_events, {"events": kept}, part.counts, part.largest))
    made = store.snapshot.model_copy(update={"parts": Catalogue.of(entries)})
    return EventStore.of(store.root, made)
