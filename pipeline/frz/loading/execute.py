"""Doing what a plan says: batches are read and built one or two ahead by a thread.

A thread, never a forked process: the codecs of a store run threads of their own, and a fork of those hangs.
Most of the work (mapped reads, copies) releases the interpreter, so one thread hides it behind the step.
"""

import threading
from collections.abc import Callable, Generator, Iterable
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from frz.loading.batch import to_batch, with_offsets
from frz.store.table import Reader
from frz.training.source import Batch, Plan

AHEAD = 2
"""Batches that are made before they are asked for."""

Work = TypeVar("Work")
Made = TypeVar("Made")


def iterate(reader: Reader, plan: Plan, names: Iterable[str], *, pin: bool = False) -> Generator[Batch, None, None]:
    """Batches of a plan, in its order.

    Parameters
    ----------
    reader : Reader
        Where the events lie.
    plan : sequence of int64 arrays
        Positions of the events of each batch, in the reader.
    names : iterable of str
        Arrays to read; the offsets that `refers_to` needs are added.
    pin : bool
        Put batches into page-locked memory, from which a GPU copies on its own.
    """
    wanted = with_offsets(names, reader.schema)

    def make(positions: NDArray[np.int64]) -> Batch:
        batch = to_batch(reader.events(positions, wanted), reader.schema)
        return {name: value.pin_memory() for name, value in batch.items()} if pin else batch

    return ahead(plan, make)


def ahead(work: Iterable[Work], make: Callable[[Work], Made], n: int = AHEAD) -> Generator[Made, None, None]:
    """`map(make, work)`, done by a thread that stays at most `n` items ahead.

    What the thread raises is raised here in its place. Closing the generator (or dropping it) ends the
    thread after the item under way.
    """
    free, done = threading.Semaphore(n), threading.Event()
    ready: SimpleQueue[tuple[Made] | BaseException | None] = SimpleQueue()

    def run() -> None:
        try:
            for item in work:
                free.acquire()
                if done.is_set():
                    return
                ready.put((make(item),))
            ready.put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
            ready.put(error)

    thread = threading.Thread(target=run, name="frz-ahead", daemon=True)
    thread.start()
    try:
        while (made := ready.get()) is not None:
            if isinstance(made, BaseException):
                raise made
            free.release()
            yield made[0]
    finally:
        done.set()
        free.release()
        thread.join()
