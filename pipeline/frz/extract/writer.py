"""Putting parts together and committing them in a process of its own, so that the forward pass never waits for it.

Threads would do, were it not for the interpreter's lock: a forward pass of many small operations takes the lock for
each, and waits whenever another thread runs Python. Features go over in shared memory, which belongs to no name and is
gone with the processes; jobs and records go over pipes.
"""

import mmap
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor

import frz
from frz.errors import FrzError, StoreError
from frz.extract import engine
from frz.extract.jobs import Job
from frz.extract.order import Order, open_work, order_for
from frz.extract.work import Work
from frz.store.part import CommitRecord
from frz.store.ragged import Index
from frz.training.source import Batch

ALIGNMENT = 64
"""Tensors begin at multiples of this in shared memory, as vector units like it."""


class Place(NamedTuple):
    """Where a tensor lies in shared memory."""

    offset: int
    dtype: torch.dtype
    shape: torch.Size


class Shared:
    """Memory that two processes see: one writes a job's features there, the other one reads them."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._mapped: mmap.mmap | None = None

    def put(self, batches: Sequence[Batch]) -> list[dict[str, Place]]:
        """Copy tensors there; the memory grows as it must."""
        places: list[dict[str, Place]] = []
        end = 0
        for batch in batches:
            places.append({})
            for name, values in batch.items():
                places[-1][name] = Place(end, values.dtype, values.shape)
                end += -(-values.nbytes // ALIGNMENT) * ALIGNMENT
        if os.fstat(self.descriptor).st_size < end:
            os.ftruncate(self.descriptor, end)
        for batch, held in zip(batches, self.get(places), strict=True):
            for name, values in batch.items():
                held[name].copy_(values)
        return places

    def get(self, places: Sequence[dict[str, Place]]) -> list[Batch]:
        """The tensors that lie there, not copied."""
        size = os.fstat(self.descriptor).st_size
        if size and (self._mapped is None or len(self._mapped) < size):
            self._mapped = mmap.mmap(self.descriptor, size)
        return [{name: self._tensor(place) for name, place in held.items()} for held in places]

    def _tensor(self, place: Place) -> Tensor:
        if self._mapped is None or place.shape.numel() == 0:
            return torch.empty(place.shape, dtype=place.dtype)
        count = place.shape.numel()
        return torch.frombuffer(self._mapped, dtype=place.dtype, count=count, offset=place.offset).view(place.shape)


class Writer:
    """The process, as the one that computes sees it.

    Parameters
    ----------
    work : Work
        What the jobs belong to.

    Raises
    ------
    FrzError
        If it cannot do the work.
    """

    def __init__(self, work: Work) -> None:
        with ExitStack() as held:
            order = held.enter_context(order_for(work, threads=1, device="cpu"))
            descriptor = os.memfd_create("frz-features")
            held.callback(os.close, descriptor)
            self._memory = Shared(descriptor)
            answers, answer = os.pipe()
            paths = [str(Path(frz.__file__).parents[1]), *filter(None, sys.path)]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "frz.extract.writer", str(descriptor), str(answer)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=(descriptor, answer),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))},
            )
            os.close(answer)
            self._answers = held.enter_context(os.fdopen(answers, "rb"))
            assert self._process.stdin is not None
            self._orders: IO[bytes] = self._process.stdin
            held.callback(self._end)
            self._send(order)
            self._held = held.pop_all()

    def commit(self, job: Job, plan: list[Index], made: list[Batch]) -> dict[str, CommitRecord]:
        """Have the missing groups of a job written, from what the backbone said of each batch of its plan.

        Raises
        ------
        FrzError
            What went wrong there.
        """
        self._send((job, plan, self._memory.put(made)))
        try:
            found = pickle.load(self._answers)
        except EOFError:
            raise _died() from None
        if isinstance(found, FrzError):
            raise found
        records: dict[str, CommitRecord] = found
        return records

    def close(self) -> None:
        """End the process; what it has not committed is lost."""
        self._held.close()

    def _end(self) -> None:
        with suppress(BrokenPipeError):
            self._orders.close()
        self._process.kill()
        self._process.wait()

    def _send(self, message: object) -> None:
        try:
            pickle.dump(message, self._orders)
            self._orders.flush()
        except BrokenPipeError:
            raise _died() from None


def _died() -> StoreError:
    return StoreError("the process that writes parts has died", way_out="the same command continues")


def serve(memory: Shared, orders: IO[bytes], answers: IO[bytes]) -> None:
    """(In the process) commit job after job until the other side closes or is gone."""
    from frz.extract.pipeline import commit, together

    order: Order = pickle.load(orders)
    while True:
        try:
            job, plan, places = pickle.load(orders)
        except EOFError:
            return
        answer: Any
        try:
            work = open_work(order)
            made = [engine.to_numpy(batch, engine.computed(work.out)) for batch in memory.get(places)]
            answer = commit(work, job, together(work, job, plan, made))
        except FrzError as error:
            answer = error
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both; the other side ends this one
    with os.fdopen(int(sys.argv[2]), "wb") as to_answer:
        serve(Shared(int(sys.argv[1])), sys.stdin.buffer, to_answer)
