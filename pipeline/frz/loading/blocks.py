"""Batches of prepared events for the training of a head, the same ones wherever the events lie.

On the device and in memory they are gathered from all events. Of a mapped store a thread reads the events that the
plan shuffles together, block by block in the order of the file, while batches are gathered from those before.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from frz.loading.balance import Draw
from frz.loading.buffer import EventBuffer
from frz.loading.execute import ahead
from frz.loading.held import HeldEvents, held_names
from frz.loading.order import OrderConfig
from frz.loading.residency import Residency
from frz.store import ragged
from frz.store.schema import EVENT, axis_of
from frz.store.table import Reader
from frz.training.source import Batch, Plan

HOST = torch.device("cpu")
READ_EVENTS = 1024
"""Events that are read at once into a shuffle buffer."""
TOGETHER, TOGETHER_BYTES = 16, 1 << 20
"""Small batches are gathered together, so many and so many bytes at most: what fits into a processor's cache."""
GAP = 4
"""Events of other splits that are read along, rather than left out, where they lie between two."""


class Window(NamedTuple):
    """Consecutive batches of a plan, and the events to read for them."""

    batches: Plan
    positions: NDArray[np.int64]
    """In the order of the store, each once; some of no batch may lie between."""
    rows: Plan
    """Where the events of each batch stand among `positions`."""


class PreparedEvents:
    """Prepared events, where they lie while a head trains.

    Parameters
    ----------
    reader : Reader
        A table in memory or a store.
    names : iterable of str
        Arrays that a batch holds.
    mode : {'device', 'ram', 'mapped'}
        Where the events shall lie.
    device : torch.device
        Where the head trains.
    window : int
        Events, about, that are in memory together while the store is mapped; twice, as the next ones are read ahead.
    """

    def __init__(
        self, reader: Reader, names: Iterable[str], mode: Residency, device: torch.device, window: int
    ) -> None:
        self._reader, self._names, self._window = reader, held_names(names, reader.schema), window
        self._pin = device.type == "cuda" and mode != "device"
        self._event_bytes = _event_bytes(reader, self._names)
        self._spare: list[tuple[EventBuffer, EventBuffer]] = []
        self._held: HeldEvents | None = None
        if mode != "mapped":
            whole = ((name, reader.array(name)) for name in self._names)
            self._held = HeldEvents(whole, reader.schema, device if mode == "device" else HOST)

    def batches(self, plan: Plan, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of `plan` from number `start` on; closing the generator ends its threads."""
        with closing(self._gathered(plan, start)) as made:
            if not self._pin:
                yield from made
                return
            with closing(ahead(made, _pinned)) as ready:
                yield from ready

    def _gathered(self, plan: Plan, start: int) -> Generator[Batch, None, None]:
        # always the same batches together: a kernel may round differently where its operands begin elsewhere in memory
        together = self._together(plan)
        skip = start % together
        with closing(self._held_rows(plan, start - skip, together)) as held:
            for events, rows in held:
                for first in range(0, len(rows), together):
                    batches = events.batches(rows[first : first + together])
                    yield from batches[skip:]
                    skip = 0

    def _together(self, plan: Plan) -> int:
        """Batches of a plan that are gathered together."""
        n_bytes = self._event_bytes * max((len(batch) for batch in plan), default=0)
        return max(1, min(TOGETHER, int(TOGETHER_BYTES / max(n_bytes, 1.0))))

    def _held_rows(self, plan: Plan, start: int, together: int) -> Generator[tuple[HeldEvents, Plan], None, None]:
        """Events that are held, and the rows of batches among them."""
        if self._held is not None:
            yield self._held, plan[start:]
            return
        # two buffers of its own: a validation may come while an epoch is under way
        buffers = self._spare.pop() if self._spare else (EventBuffer(), EventBuffer())

        def read(numbered: tuple[int, Window]) -> tuple[HeldEvents, Plan]:
            # the thread is one window ahead, so the window before the one in use is not needed any more
            number, window = numbered
            pieces = range(0, len(window.positions), READ_EVENTS)
            events = (self._reader.events(window.positions[i : i + READ_EVENTS], self._names) for i in pieces)
            arrays = buffers[number % 2].fill(events, len(pieces))
            return HeldEvents(arrays.items(), self._reader.schema, HOST), window.rows

        try:
            with closing(ahead(enumerate(windows(plan, start, self._window, together)), read, n=1)) as held:
                yield from held
        finally:
            self._spare.append(buffers)


class BlockSource:
    """Prepared events of one split for the training loop.

    Parameters
    ----------
    events : PreparedEvents
        Where they lie.
    batch_size : int
        Events per batch.
    positions : int64 array (n_events,)
        The split, in the order of the store.
    order : OrderConfig, optional
        Shuffle so, differently in each epoch; default the order of the store.
    seed : int
        Of the random order.
    draw : callable, optional
        Which events make an epoch (`frz.loading.balance`); default each once.
    """

    def __init__(
        self,
        events: PreparedEvents,
        batch_size: int,
        positions: NDArray[np.int64],
        *,
        order: OrderConfig | None = None,
        seed: int = 0,
        draw: Draw | None = None,
    ) -> None:
        self._events, self._batch_size, self._positions = events, batch_size, positions
        self._order, self._seed, self._draw = order, seed, draw

    @property
    def n_events(self) -> int:
        """Events in the source."""
        return len(self._positions)

    def plan(self, epoch: int) -> Plan:
        """Batches of an epoch, as positions in the store."""
        chosen = self._positions if self._draw is None else self._positions[self._draw(epoch)]
        if self._order is None:
            return [chosen[i : i + self._batch_size] for i in range(0, len(chosen), self._batch_size)]
        plan = self._order.plan(len(chosen), self._batch_size, self._seed, epoch)
        return [chosen[batch] for batch in plan]

    def batches(self, plan: Plan, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of `plan` from number `start` on."""
        return self._events.batches(plan, start)


def windows(plan: Plan, start: int, n_events: int, together: int = 1) -> Iterator[Window]:
    """Batches from number `start` on in runs of about `n_events`, cut at the same places whatever `start` is.

    Cuts are at multiples of `together` batches, and so is `start`.
    """
    begins = ragged.offsets_of(np.array([len(batch) for batch in plan], np.int64))[:-1:together]
    edges = together * np.flatnonzero(np.diff(begins // n_events, prepend=-1, append=-1))
    for first, last in zip(edges.tolist(), np.minimum(edges, len(plan)).tolist()[1:], strict=False):
        if last > start:
            batches = plan[max(first, start) : last]
            used, place = np.unique(np.concatenate(batches), return_inverse=True)
            steps = np.diff(used, prepend=used[:1])
            breaks = np.flatnonzero(steps > GAP + 1)
            begins, ends = used[np.append(0, breaks)], used[np.append(breaks - 1, -1)] + 1
            rows = np.cumsum(np.where(steps > GAP + 1, 1, steps))[place]
            cuts = np.cumsum([len(batch) for batch in batches])[:-1]
            yield Window(batches, ragged.spread(begins, ends)[0], np.split(rows, cuts))


def _event_bytes(reader: Reader, names: Iterable[str]) -> float:
    """Bytes of an event in memory, on the average."""
    total = 0.0
    for name in names:
        if not name.endswith("/offsets"):
            spec, axis = reader.schema.arrays[name], axis_of(name)
            n_rows = reader.n_events if axis == EVENT else int(reader.lengths(axis).sum())
            total += n_rows * spec.in_memory.itemsize * prod(spec.shape)
    return total / max(reader.n_events, 1)


def _pinned(batch: Batch) -> Batch:
    """In page-locked memory, from which a GPU copies on its own."""
    return {name: values.pin_memory() for name, values in batch.items()}
