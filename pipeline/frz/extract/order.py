"""An order: all that another process needs to know to work on an extraction, small and in plain values.

The process opens backbone and stores itself, once, and refuses if it would do other work than was ordered.
"""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock
from typing import NamedTuple

import torch

from frz.errors import ClusterError
from frz.extract.settings import Settings, feature_schema
from frz.extract.work import Work
from frz.lineage import versions
from frz.loading.frozen import FrozenBackbone
from frz.location import location, read_bytes
from frz.store import atomic
from frz.store.reader import EventStore
from frz.store.snapshot import Snapshot
from frz.training.config import pick_device


class Order(NamedTuple):
    """What a worker needs to know of an extraction, small and in plain values."""

    checkpoint: str
    fingerprint: str
    data: str
    version: int
    hash: str
    root: str
    settings: str
    threads: int | None
    note: str
    """A file in the store: who sees it sees the store. It holds the snapshot of `Work.earlier`, if there is one."""
    libraries: tuple[tuple[str, str], ...]
    """Versions that must be the same everywhere."""
    folder: str
    """Where the client runs: a family named by import path may lie there."""


@contextmanager
def order_for(work: Work, threads: int | None, device: str | None = None) -> Iterator[Order]:
    """The order for other processes; valid within the context.

    Parameters
    ----------
    work : Work
        What they shall work on.
    threads : int, optional
        Of torch in each.
    device : str, optional
        Default that of the settings.
    """
    settings = work.settings if device is None else work.settings.model_copy(update={"device": device})
    note = atomic.shared_scratch(work.root.absolute() / "tmp")
    atomic.write_file(note, work.earlier.snapshot.model_dump_json().encode() if work.earlier else b"")
    try:
        yield Order(
            checkpoint=str(work.frozen.path.absolute()),
            fingerprint=work.frozen.fingerprint.value,
            data=str(work.source.root.absolute()),
            version=work.source.snapshot.version,
            hash=work.source.snapshot.hash,
            root=str(work.root.absolute()),
            settings=settings.model_dump_json(),
            threads=threads,
            note=str(note),
            libraries=libraries(),
            folder=os.getcwd(),
        )
    finally:
        atomic.remove(note)


def libraries() -> tuple[tuple[str, str], ...]:
    """Versions that must be the same in all processes."""
    return tuple((name, version) for name, version in versions().items() if name in ("frz", "torch"))


_opening = Lock()


def open_work(order: Order) -> Work:
    """(In a worker) backbone and stores, once per process.

    Raises
    ------
    FrzError
        If this process would do other work than the one that gave the order.
    """
    with _opening:
        return _opened(order)


@lru_cache(2)
def _opened(order: Order) -> Work:
    here = f"worker on {socket.gethostname()}"
    if libraries() != order.libraries:
        theirs, ours = (", ".join(f"{n} {v}" for n, v in found) for found in (libraries(), order.libraries))
        raise ClusterError(f"has {theirs}; this command {ours}", where=here, way_out="use the same versions everywhere")
    try:
        earlier = read_bytes(location(order.note))
    except FileNotFoundError:
        way_out = "workers must find the artifacts folder under the same path"
        raise ClusterError(f"does not see {order.root}", where=here, way_out=way_out) from None
    if order.folder not in sys.path:
        sys.path.append(order.folder)  # last, so that it shadows nothing
    if order.threads:
        torch.set_num_threads(order.threads)
    settings = Settings.model_validate_json(order.settings)
    source = EventStore(order.data, order.version)
    frozen = FrozenBackbone(location(order.checkpoint), pick_device(settings.device), source.schema)
    if (frozen.fingerprint.value, source.snapshot.hash) != (order.fingerprint, order.hash):
        what = f"finds another backbone or data set in {order.checkpoint} and {order.data}"
        raise ClusterError(what, where=here, way_out="workers must share one artifacts folder")
    root = location(order.root)
    return Work(
        frozen=frozen,
        source=source,
        earlier=EventStore.of(root, Snapshot.model_validate_json(earlier)) if earlier else None,
        root=root,
        out=feature_schema(frozen.module, source.schema, settings),
        settings=settings,
    )
