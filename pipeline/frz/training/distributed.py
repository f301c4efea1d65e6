"""Several processes that train one module, as `torchrun` starts them.

Every process has the whole module and reads the same plan. A batch of the plan is split over the processes
(process r of n takes events r, r + n, ...: equal shares, of equal lengths where a batch is sorted by length), so
`batch_size` means the same for one process and for many, and no process can run out of batches before another,
whatever the sizes. The gradients of the shares are summed with the weights of their events once per optimiser
step, a parameter without a gradient counting as zero where another process has one. So the step is

    mean over the events of the means over the shares:  sum_r n_r grad(loss_r) / sum_r n_r

which is the step of one process, up to rounding, where the loss is a mean over events. It is not quite where the
loss is a mean over something else (hits, tracks), or looks at the whole batch (BatchNorm sees the share; its
running statistics are those of process 0, for all), and dropout draws other masks.

Why not `DistributedDataParallel`: it wraps `forward`, which the loop does not call, hangs where control flow
depends on the data, and its early start of the sums gains nothing for modules this small.
"""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from frz.errors import FrzError, TrainingError
from frz.training.config import pick_device
from frz.training.source import Batch, BatchSource, Plan

WAIT = timedelta(hours=6)
"""Longest wait for the other processes: process 0 may measure or write meanwhile. One that died is noticed at once."""
USER_ERROR, INTERRUPTED = 2, 130
"""Exit codes of processes that leave the last word to another one."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """The processes of a run; by default this one alone, for which nothing here does anything."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, measures and speaks."""
        return self.rank == 0

    def batches(self, source: BatchSource, plan: Plan, start: int = 0) -> Generator[Batch | None, None, None]:
        """This process's part of each batch of a plan from number `start` on; None where it has none."""
        if self.size == 1:
            yield from source.batches(plan, start)
            return
        parts = [positions[self.rank :: self.size] for positions in plan]
        begun = sum(1 for part in parts[:start] if len(part))
        with closing(source.batches([part for part in parts if len(part)], begun)) as batches:
            for part in parts[start:]:
                yield next(batches) if len(part) else None

    def count(self, n_events: int) -> int:
        """Events in its part of a batch of so many."""
        return len(range(self.rank, n_events, self.size))

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        return self.anys([flag])[0]

    def anys(self, flags: Sequence[bool]) -> list[bool]:
        """Whether any process says so, for several questions at once."""
        return list(flags) if self.size == 1 else [number > 0 for number in self._sums(flags)]

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes, in their order."""
        found: list[Any] = [value]
        if self.size > 1:
            found = [None] * self.size
            with _together():
                dist.all_gather_object(found, value)
        return found

    def once(self, make: Callable[[], Value]) -> Value:
        """What process 0 makes, for all."""
        found: list[Any] = [make() if self.first else None]
        if self.size > 1:
            with _together():
                dist.broadcast_object_list(found, src=0)
        return cast(Value, found[0])

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes the tensors of process 0."""
        if self.size > 1:
            self._flat(list(tensors), lambda flat: dist.broadcast(flat, src=0))

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Add up the gradients; a parameter keeps none only where no process has one."""
        if self.size == 1:
            return
        holders = self._sums([parameter.grad is not None for parameter in parameters])
        used = [parameter for parameter, n in zip(parameters, holders, strict=True) if n]
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._flat([cast(Tensor, parameter.grad) for parameter in used], dist.all_reduce)

    def _sums(self, numbers: Sequence[float]) -> list[float]:
        sums = torch.tensor(numbers, dtype=torch.float64)
        with _together():
            dist.all_reduce(sums)
        found: list[float] = sums.tolist()
        return found

    @torch.no_grad()
    def _flat(self, tensors: list[Tensor], act: Callable[[Tensor], Any]) -> None:
        """Do something in place to tensors, as one message per dtype and device."""
        alike: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in tensors:
            alike.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        for group in alike.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            with _together():
                act(flat)
            for tensor, part in zip(group, torch.split(flat, [tensor.numel() for tensor in group]), strict=True):
                tensor.copy_(part.view_as(tensor))


ALONE = World()


def first_process() -> bool:
    """Whether this process is alone, or the first that `torchrun` started."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


@contextmanager
def joined(device: str) -> Iterator[World]:
    """The processes that `torchrun` started, or this one alone; one GPU each where `device` says so.

    Within the block the processes talk to each other: by nccl on GPUs, by gloo on CPUs. Where all end for
    one reason, only one says which; the others leave silently (`SystemExit`).

    Raises
    ------
    TrainingError
        If there are more processes than GPUs on this machine, or another process has ended.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    # Its functions have the group of the moment as a default. Imported later, as an optimiser does, they would keep
    # the group and its threads alive, and these abort the interpreter at its end every now and then.
    import_module("torch.distributed.nn.functional")
    store, rank, size = next(rendezvous("env://", timeout=WAIT))
    whole = on_gpu = False
    try:
        on_gpu = _take_gpu(device)
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=WAIT)
        yield World(rank, size)
        whole = True
    except (FrzError, KeyboardInterrupt) as error:
        if not _is_spokesman(store):
            raise SystemExit(INTERRUPTED if isinstance(error, KeyboardInterrupt) else USER_ERROR) from None
        raise
    except BaseException:
        _is_spokesman(store)  # a bug of ours has its traceback; the others need not speak of its consequences
        raise
    finally:
        if dist.is_initialized() and (whole or not on_gpu):  # nccl would wait for processes that have gone
            dist.destroy_process_group()


def _take_gpu(device: str) -> bool:
    """Choose this process's GPU; False on CPUs."""
    if pick_device(device).type == "cpu":
        return False
    local, n_gpu = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= n_gpu:
        way_out = f"start {n_gpu} (--nproc_per_node {n_gpu}), or set trainer.device to cpu"
        raise TrainingError(f"more processes than GPUs on this machine ({n_gpu})", way_out=way_out)
    torch.cuda.set_device(local)
    return True


def _is_spokesman(store: Any) -> bool:
    """Whether this process is the first that has something to say at the end."""
    try:
        return bool(store.add("frz/spoken", 1) == 1)
    except RuntimeError:  # the store has gone with what started it
        return True


@contextmanager
def _together() -> Iterator[None]:
    """Turn the loss of another process into an error for people."""
    try:
        yield
    except RuntimeError:
        way_out = "its message may stand above; the same command goes on from the last save"
        raise TrainingError("another process of this run has ended", way_out=way_out) from None
