"""Batches of a reader's events for the training loop."""

from collections.abc import Generator, Iterable

import numpy as np
from numpy.typing import NDArray

from frz.loading.balance import Draw
from frz.loading.execute import iterate
from frz.loading.plan import plan_epoch, plan_part
from frz.store.schema import EVENT, Schema, axis_of
from frz.store.table import Reader
from frz.training.source import Batch, Plan


class ReaderSource:
    """Events of a reader, or of one split of it, in batches of similar length.

    Parameters
    ----------
    reader : Reader
        A store or a table.
    names : iterable of str
        Arrays that a batch holds.
    batch_size : int
        Events per batch.
    positions : int64 array, optional
        Events to use (a split); default all.
    shuffle : bool
        Random order, another in each epoch; else the same batches every time, the longest events first.
    seed : int
        Of the random order.
    window : int
        Batches sorted by length together (`plan_epoch`).
    draw : callable, optional
        Which events make an epoch (`frz.loading.balance`); default each once.
    pin : bool
        Page-locked memory, for a GPU.
    """

    def __init__(
        self,
        reader: Reader,
        names: Iterable[str],
        batch_size: int,
        *,
        positions: NDArray[np.int64] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        window: int = 16,
        draw: Draw | None = None,
        pin: bool = False,
    ) -> None:
        self._reader, self._names, self._batch_size = reader, tuple(names), batch_size
        self._positions = np.arange(reader.n_events) if positions is None else np.asarray(positions, np.int64)
        self._shuffle, self._seed, self._window = shuffle, seed, window
        self._draw, self._pin = draw, pin
        self._lengths = event_lengths(reader, self._names)[self._positions]

    @property
    def n_events(self) -> int:
        """Events in the source."""
        return len(self._positions)

    def plan(self, epoch: int) -> Plan:
        """Batches of an epoch, as positions in the reader."""
        if self._shuffle:
            drawn = np.arange(self.n_events) if self._draw is None else self._draw(epoch)
            lengths = self._lengths[drawn]
            plan = plan_epoch(lengths, self._batch_size, seed=self._seed, epoch=epoch, window=self._window)
            return [self._positions[drawn[batch]] for batch in plan]
        return [self._positions[batch] for batch in plan_part(self._lengths, self._batch_size)]

    def batches(self, plan: Plan, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of `plan` from number `start` on."""
        return iterate(self._reader, plan[start:], self._names, pin=self._pin)


def event_lengths(reader: Reader, names: Iterable[str]) -> NDArray[np.int64]:
    """Members per event of the fullest ragged axis among the named arrays (what padding depends on)."""
    axes = ragged_axes(reader.schema, names)
    lengths = [reader.lengths(axis) for axis in axes]
    return max(lengths, key=lambda n: int(n.sum()), default=np.zeros(reader.n_events, np.int64))


def ragged_axes(schema: Schema, names: Iterable[str]) -> list[str]:
    """Ragged axes straight below `event` on which a named array stands, sorted."""
    used = {axis_of(name) for name in names} - {EVENT}
    return sorted(a for a in used if schema.axes[a].parent == EVENT and schema.axes[a].length is None)
