"""Training steps by a clock: how long a loop over batches waits for them, brings them to the device, and computes.

Particular: what a head costs behind its backbone is part of "the next batch" there, so reading is timed where it
happens (`TimedReader`), and the rest of the wait is the backbone's own arithmetic.
"""

import ctypes
import time
from collections.abc import Iterable
from contextlib import closing
from typing import Any, NamedTuple, Protocol

import torch
from numpy.typing import NDArray
from torch import nn

from frz.extract.memory import Peak, anonymous
from frz.store.reader import EventStore
from frz.store.schema import EventArrays
from frz.training.config import TrainerConfig
from frz.training.distributed import World
from frz.training.loop import DRAIN_STEPS
from frz.training.optimisers import build_optimiser
from frz.training.source import Batch, BatchSource
from frz.training.step import Stepper
from frz.training.steplog import StepLog

WARM_UP = 4
"""Batches."""


class Spent(NamedTuple):
    """What some steps took, in seconds."""

    events: int
    """Counted for each head that was trained on them."""
    reading: float
    """Waiting for the next batch."""
    copies: float
    """Bringing it to the device."""
    compute: float
    """Forward, backward, optimiser; of a head behind its backbone also the backbone and the head's prefix."""

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.reading + self.copies + self.compute


class TimedReader:
    """An event store that counts the seconds spent in reading events."""

    def __init__(self, store: EventStore) -> None:
        self.store, self.seconds = store, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def events(self, positions: NDArray[Any], names: Iterable[str] | None = None) -> EventArrays:
        """The events at `positions`, in that order."""
        begin = time.perf_counter()
        found = self.store.events(positions, names)
        self.seconds += time.perf_counter() - begin
        return found


class Steps(Protocol):
    """What is done with a batch."""

    device: torch.device
    """Where the batch has to lie."""
    n_heads: int
    """Modules that are trained at once."""

    def __call__(self, batch: Batch, n_events: int) -> None:
        """Train on it."""
        ...


class Step:
    """A step of the training loop, without its record: one batch, whatever `accumulate` says, and no average."""

    def __init__(self, module: nn.Module, trainer: TrainerConfig, device: torch.device) -> None:
        self.trainer, self.device, self.n_heads = trainer, device, 1
        module.to(device).train()
        optimiser = build_optimiser(trainer, module, schedule_free=trainer.schedule == "schedule_free")
        self._stepper, self._log, self._n = Stepper(module, optimiser, trainer, device, World()), StepLog(), 0

    def __call__(self, batch: Batch, n_events: int) -> None:
        """Loss, gradient, clipping, step."""
        self._stepper.take([(self._n, n_events, batch)], n_events, self._log)
        self._n += 1
        if self._n % DRAIN_STEPS[self.device.type] == 0:
            self._log.drain()


class Loop:
    """Steps on the batches of a source.

    Parameters
    ----------
    source : BatchSource
        Where batches come from.
    step : Steps
        What is done with them.
    reader : TimedReader, optional
        Under a source that makes its batches by running a backbone: tells how much of the wait is reading.
    """

    def __init__(self, source: BatchSource, step: Steps, reader: TimedReader | None = None) -> None:
        self.source, self.step, self._reader = source, step, reader
        self._plan = source.plan(0)
        self.memory: int | None = None
        """Most anonymous memory of the process, and (`device_memory`) of the device, while this warmed up; bytes."""
        self.device_memory: int | None = None
        self.batch_seconds = 0.0

    @property
    def n_batches(self) -> int:
        """Batches of an epoch."""
        return len(self._plan)

    def warm_up(self) -> None:
        """Take some steps, to see what memory they need and about how long they take."""
        device = self.step.device
        give_back()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        with Peak() as memory:
            self.run(1)
            spent = self.run(WARM_UP)
        self.memory, self.batch_seconds = memory.bytes, spent.seconds / min(WARM_UP, self.n_batches)
        if device.type == "cuda":
            self.device_memory = torch.cuda.max_memory_allocated(device)

    def run(self, n_batches: int, *, apart: bool = False) -> Spent:
        """Some steps from the beginning of an epoch.

        Parameters
        ----------
        n_batches : int
            How many; at most an epoch.
        apart : bool
            Wait for the device after each part, so that the parts are told apart. Without this a device works while
            the next batch is made, and only the sum means something.
        """
        step, gpu = self.step, self.step.device.type == "cuda"
        plan = self._plan[:n_batches]
        reading = copies = compute = 0.0
        with closing(self.source.batches(plan)) as batches:
            begun, read_before = time.perf_counter(), self._reader.seconds if self._reader else 0.0
            for positions, batch in zip(plan, batches, strict=True):
                made = time.perf_counter()
                if gpu:
                    batch = {name: values.to(step.device, non_blocking=True) for name, values in batch.items()}
                if gpu and apart:
                    torch.cuda.synchronize(step.device)
                copied = time.perf_counter() if gpu else made
                step(batch, len(positions))
                if gpu and apart:
                    torch.cuda.synchronize(step.device)
                done = time.perf_counter()
                reading, copies, compute = reading + made - begun, copies + copied - made, compute + done - copied
                begun = done
            if gpu:
                torch.cuda.synchronize(step.device)
                compute += time.perf_counter() - begun
        if self._reader:
            read = self._reader.seconds - read_before
            reading, compute = read, compute + reading - read
        return Spent(sum(map(len, plan)) * step.n_heads, reading, copies, compute)


def give_back() -> None:
    """Return freed memory to the system where the C library can, or it would count for whatever runs next."""
    if anonymous() is not None and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
