"""Prepared events from every place where they can lie while a head trains, to compare the places.

Mapped events are written to a scratch folder first. They are read again soon, so what is measured there is a disk
whose pages are still in memory.
"""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from frz.config import digest_of
from frz.errors import TrainingError
from frz.heads.prefix import GROUP, PREPARE_EVENTS, storable
from frz.loading.blocks import BlockSource, PreparedEvents
from frz.loading.order import OrderConfig
from frz.loading.residency import Residency, plan_residency
from frz.store import snapshot
from frz.store.catalogue import Catalogue, entry
from frz.store.part import write_part
from frz.store.reader import EventStore
from frz.store.snapshot import Snapshot
from frz.store.split import Split
from frz.store.table import EventTable, Reader


def cached(
    table: EventTable, order: OrderConfig, batch_size: int, seed: int, device: torch.device, scratch: Path
) -> tuple[dict[str, BlockSource], dict[str, str]]:
    """A source for each place, nearest to the arithmetic first, and why the others are left out.

    Parameters
    ----------
    table : EventTable
        Prepared events.
    order : OrderConfig
        How they are shuffled.
    batch_size, seed : int
        As for training.
    device : torch.device
        Where the head trains.
    scratch : Path
        A folder that is free, for mapped events.

    Raises
    ------
    TrainingError
        If the events fit nowhere.
    """
    found: dict[str, BlockSource] = {}
    left_out: dict[str, str] = {}
    modes: tuple[Residency, ...] = get_args(Residency)
    n_bytes = sum(values.nbytes for values in table.arrays.values())
    settings: dict[str, Any] = {"order": order, "seed": seed}
    for mode in modes:
        if mode == "device" and device.type == "cpu":
            continue  # the same as ram
        try:
            plan_residency(n_bytes, n_bytes * order.window // max(table.n_events, 1), device, mode)
        except TrainingError as error:
            left_out[mode] = str(error)
            if mode == modes[-1] and not found:
                raise
            continue
        reader: Reader = stored(table, scratch) if mode == "mapped" else table
        events = PreparedEvents(reader, table.schema.arrays, mode, device, order.window)
        found[mode] = BlockSource(events, batch_size, np.arange(table.n_events), **settings)
    return found, left_out


def stored(table: EventTable, root: Path) -> EventStore:
    """The events of a table as a store, in parts like those that are kept for training."""
    schema = storable(table.schema)
    snapshot.prepare_root(root)
    entries = []
    for first in range(0, table.n_events, PREPARE_EVENTS):
        part = table.range(first, min(first + PREPARE_EVENTS, table.n_events))
        entries.append(entry({GROUP: write_part(root, GROUP, digest_of(first), schema, part)}))
    parts = Catalogue.of(entries)
    snapshot.commit(root, lambda _: Snapshot(name="scratch", event_schema=schema, split=Split(), parts=parts))
    return EventStore(root)
