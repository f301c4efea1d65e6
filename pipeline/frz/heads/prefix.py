"""What a head's parameter-free prefix leaves of the events of a feature store, made once and kept.

Kept in memory, or as a store of its own beside the features, `<features>/derived/<identity>`. The identity covers the
version of the features, the head, the settings that its prefix looks at and the code of its modules, so what is
stale has another name. Parts are committed one by one: a run that was interrupted goes on, one that finds a damaged
part makes that part again.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from frz.artifacts import versions
from frz.config import digest_of
from frz.errors import ConfigError, DamageError, StoreError
from frz.heads.contract import Head
from frz.lineage import code_digests, imported
from frz.loading.config import LoadingConfig
from frz.loading.residency import ResidencyPlan, fits_in_memory, plan_residency
from frz.location import is_remote
from frz.progress import Bar, note, progress
from frz.store import atomic, bfloat16, ragged, snapshot
from frz.store.catalogue import Catalogue, entry
from frz.store.codecs import FAST
from frz.store.lease import Leases
from frz.store.opened import open_part
from frz.store.part import CommitRecord, find_part, replace_part, write_part
from frz.store.reader import EventStore
from frz.store.schema import Array, EventArrays, Schema
from frz.store.snapshot import Snapshot
from frz.store.split import Split
from frz.store.table import EventTable, Reader

PREPARE_EVENTS = 4096
"""Events at once, and of a part."""
SAMPLE = 512
"""Events, evenly spread, from which sizes are judged before all are prepared."""
GROUP = "events"


class Prefix(NamedTuple):
    """Prepared events: where to read them, and where they shall lie for training."""

    reader: Reader
    residency: ResidencyPlan


def prepared(
    head: Head, store: EventStore, model: Mapping[str, Any], loading: LoadingConfig, device: torch.device
) -> Prefix:
    """Prepare all events of a store, or take what an earlier run left.

    Parameters
    ----------
    head : Head
        Whose prefix.
    store : EventStore
        The features.
    model : mapping
        The head's validated settings.
    loading : LoadingConfig
        Where prepared events are kept, and lie for training.
    device : torch.device
        Where the head trains.

    Raises
    ------
    ConfigError
        If events are to be mapped but kept in memory.
    TrainingError
        If they do not fit where they are asked to lie.
    StoreError
        If the folder of the features cannot be written to.
    """
    about = identity(head, store, model)
    root = store.root / "derived" / digest_of(about)[:32]
    stored = versions(root) != []
    per_event = _event_bytes(head, store)
    n_bytes, asked = int(per_event * store.n_events), None if loading.residency == "auto" else loading.residency
    residency = plan_residency(n_bytes, int(per_event * loading.window), device, asked)
    if loading.prefix == "memory" and residency.mode == "mapped":
        way_out = "set loading.prefix to store or auto"
        raise ConfigError("mapped events have to lie on disk", where="loading.prefix = memory", way_out=way_out)
    if loading.prefix == "memory" or not (
        stored or loading.prefix == "store" or residency.mode == "mapped" or not fits_in_memory(n_bytes)
    ):
        return Prefix(prepare(head, store), residency)
    return Prefix(keep(head, store, root, about, thorough=residency.mode != "mapped"), residency)


def identity(head: Head, store: EventStore, model: Mapping[str, Any]) -> dict[str, Any]:
    """What decides what the prefix leaves; JSON."""
    kind = type(head)
    return {
        "features": store.snapshot.hash,
        "head": f"{kind.__module__}:{kind.__qualname__}",
        "settings": {key: value for key, value in model.items() if key not in kind.not_in_prefix},
        "schema": head.prepared.model_dump(mode="json"),
        "code": code_digests(imported([kind.__module__], inside=("frz.heads",))),
    }


def prepare(head: Head, store: Reader, positions: NDArray[np.int64] | None = None) -> EventTable:
    """What the head's parameter-free prefix leaves of the events at `positions` (default all), in memory."""
    chosen = np.arange(store.n_events) if positions is None else positions

    def pieces(bar: Bar) -> Iterator[EventArrays]:
        for begin in range(0, max(len(chosen), 1), PREPARE_EVENTS):
            block = chosen[begin : begin + PREPARE_EVENTS]
            yield head.prepare(store.events(block, head.needs))
            bar.advance(len(block))

    with progress("prepare", total=len(chosen), unit="event") as bar:
        return EventTable(head.prepared, ragged.collect(pieces(bar)))


def keep(head: Head, store: EventStore, root: Path, about: Mapping[str, Any], *, thorough: bool) -> EventStore:
    """Prepared events in a store of their own: parts that are missing or damaged are made, the others taken.

    Parameters
    ----------
    head, store
        Whose prefix, of which features.
    root : Path
        Of the store.
    about : mapping
        What `identity` says.
    thorough : bool
        Compare checksums of what is there, not sizes alone.
    """
    schema = storable(head.prepared)
    try:
        snapshot.prepare_root(root)
    except PermissionError as error:
        way_out = "set loading.prefix to memory"
        raise StoreError(f"cannot be written to ({error.strerror})", where=str(root), way_out=way_out) from None
    entries = []
    # held so that `frz gc` leaves the store alone while no version of it is there
    with Leases(root).hold(), progress("prepare", total=store.n_events, unit="event") as bar:
        for first in range(0, store.n_events, PREPARE_EVENTS):
            last = min(first + PREPARE_EVENTS, store.n_events)
            key = digest_of([about, first, last])
            try:
                record = _intact(root, key, schema, thorough)
            except DamageError as error:
                note(f"prepared events {first} to {last - 1} are made again: {error.where}: {error.what}")
                record = replace_part(root, GROUP, key, schema, head.prepare(store.range(first, last, head.needs)))
            if record is None:
                record = write_part(root, GROUP, key, schema, head.prepare(store.range(first, last, head.needs)))
            entries.append(entry({GROUP: record}))
            bar.advance(last - first)
        made = Snapshot(
            name=store.snapshot.name, event_schema=schema, split=Split(), parts=Catalogue.of(entries), about=dict(about)
        )
        try:
            snapshot.commit(root, lambda _: made)
        except DamageError as error:
            note(f"prepared events: {error.where} is made again: {error.what}")
            for folder in ("snapshots", "copies"):
                atomic.remove(root / folder)
            snapshot.prepare_root(root)
            snapshot.commit(root, lambda _: made)
    return EventStore(root)


def _intact(root: Path, key: str, schema: Schema, thorough: bool) -> CommitRecord | None:
    """The record of a part that is whole; None if there is none."""
    record = find_part(root, GROUP, key)
    if record is not None and not is_remote(root):
        part = open_part(root, GROUP, record)
        part.load(record.arrays)
        for name in record.arrays if thorough else ():
            part.check(name)
    return record


def storable(schema: Schema) -> Schema:
    """The schema with all arrays in one group, as they are in memory: to be mapped, not decoded."""

    def plain(spec: Array) -> Array:
        dtype = "float32" if spec.dtype == bfloat16.NAME else spec.dtype
        return spec.model_copy(update={"group": GROUP, "codec": FAST, "dtype": dtype})

    return schema.model_copy(update={"arrays": {name: plain(spec) for name, spec in schema.arrays.items()}})


def _event_bytes(head: Head, store: EventStore) -> float:
    """Bytes that an event takes after the prefix, from some that are prepared."""
    chosen = np.unique(np.linspace(0, max(store.n_events - 1, 0), min(SAMPLE, store.n_events)).astype(np.int64))
    made = head.prepare(store.events(chosen, head.needs))
    return sum(values.nbytes for values in made.values()) / max(len(chosen), 1)
