"""Doing the jobs of an extraction in worker processes: some on this machine, or those of a running dask cluster.

A task is one job. It goes out as positions and keys; the worker commits its parts and sends their records back. The
store is the truth, so a process that dies takes with it what was under way and nothing else. Leases are the client's:
several clients share the work like processes that work alone, and workers know nothing of it.
"""

import asyncio
import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import dask
import torch
from dask.system import CPU_COUNT

from frz.errors import ClusterError, ConfigError, FrzError
from frz.extract import pipeline
from frz.extract.identity import workplace
from frz.extract.jobs import Job
from frz.extract.order import Order, open_work, order_for
from frz.extract.work import Work
from frz.store.part import CommitRecord

if TYPE_CHECKING:
    from distributed import Client, Future

JOBS_AHEAD = 2
"""Jobs that are handed out per thread of the workers, the one under way among them."""
RETRIES = 2
"""Times a job is tried again after an error that is not the user's; a worker that died is another matter."""
LEAVE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""A terminal sends it to workers as well, but it is the client that ends them."""

Records = dict[str, CommitRecord]


@dataclass
class Workers:
    """Who does the jobs of an extraction.

    Parameters
    ----------
    n : int
        Processes on this machine; 1 = this one. With GPUs they are dealt to the processes in turn.
    threads : int, optional
        Of torch in each process, on which the last bits of features depend. Default: with several processes the
        cores of this machine divided among them, else what torch is set to.
    scheduler : str, optional
        Address of a running dask cluster, which is taken instead of processes on this machine.

    Raises
    ------
    ConfigError
        If numbers make no sense, or `distributed` is needed and not installed.
    """

    n: int = 1
    threads: int | None = None
    scheduler: str | None = None
    made_with: dict[str, str] = field(default_factory=dict, init=False)
    """After `do`, what other processes worked with; see `workplace`."""

    def __post_init__(self) -> None:
        if self.n < 1 or (self.threads is not None and self.threads < 1):
            raise ConfigError(
                f"{self.n} workers with {'default' if self.threads is None else self.threads} threads",
                way_out="give at least 1",
            )
        if self.n > 1 and self.scheduler:
            raise ConfigError("both workers and a scheduler are given", way_out="give one of them")
        if self.n > 1 and self.threads is None:
            self.threads = max(1, CPU_COUNT // self.n)
        if self.elsewhere:
            try:
                import distributed  # noqa: F401
            except ImportError:
                way_out = "pip install 'frz[distributed]'"
                raise ConfigError("several processes need dask.distributed", way_out=way_out) from None

    @property
    def elsewhere(self) -> bool:
        """Whether other processes do the work."""
        return self.n > 1 or self.scheduler is not None

    def begin(self) -> None:
        """Give this process, which may do the work and looks at results in any case, the threads that workers have."""
        if self.threads:
            torch.set_num_threads(self.threads)

    def do(self, work: Work, jobs: Iterable[Job], n_events: int) -> Iterator[tuple[Job, Records]]:
        """Do jobs of about so many events, as `pipeline.do`; processes are started when there is a first job.

        Raises
        ------
        ClusterError
            If workers cannot be reached, do not fit together, or keep dying.
        """
        if not self.elsewhere:
            yield from pipeline.do(work, jobs, apart=pipeline.pays_apart(work, n_events))
            return
        jobs = iter(jobs)
        for first in jobs:
            with self._client(work) as client, order_for(work, self.threads) as order:
                self.made_with = _check(client, order)
                yield from _hand_out(client, order, chain([first], jobs))

    @contextmanager
    def _client(self, work: Work) -> Iterator["Client"]:
        from distributed import Client, Nanny, Scheduler, SpecCluster

        if self.scheduler:
            try:
                client = Client(self.scheduler, set_as_default=False)
            except (OSError, ValueError) as error:
                way_out = "start one with 'dask scheduler', or give --workers"
                raise ClusterError(f"no scheduler answers ({error})", where=self.scheduler, way_out=way_out) from None
            with client:
                client.wait_for_workers(1)
                yield client
            return
        # No memory limit: pages of mapped files would count, and workers would be stopped for them.
        options = {"nthreads": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL, "preload": LEAVE_CTRL_C}
        workers = {
            number: {"cls": Nanny, "options": {**options, "host": "127.0.0.1", "env": env}}
            for number, env in enumerate(_environments(self.n, work.frozen.device))
        }
        # dask has an HTTP server even without a dashboard; on a free port, because its usual one may be taken.
        pages = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
        scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", **pages}}
        with (
            # Among what dask would set is a threshold at which memory goes back to the system after every batch.
            dask.config.set({"distributed.nanny.pre-spawn-environ": {}}),
            SpecCluster(workers, scheduler, silence_logs=logging.CRITICAL) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client


def _environments(n: int, device: torch.device) -> list[dict[str, str]]:
    """What each process on this machine finds in its environment: on GPUs, the one that it may use."""
    if device.type != "cuda":
        return [{}] * n
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    devices = visible.split(",")
    return [{"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} for number in range(n)]


def _hand_out(client: "Client", order: Order, jobs: Iterable[Job]) -> Iterator[tuple[Job, Records]]:
    """Send jobs to the workers, never many more than they can take on; yield each when it is done."""
    from distributed import as_completed

    running, job_of = as_completed(loop=client.loop), dict[str, Job]()
    for job in jobs:
        try:
            future = client.submit(_do, order, job, pure=False, retries=RETRIES)
            threads = sum(client.nthreads().values())  # workers come and go
        except OSError:
            raise _gone() from None
        job_of[future.key] = job
        running.add(future)
        while len(job_of) >= max(1, JOBS_AHEAD * threads):
            done = next(running)
            yield job_of.pop(done.key), _records(done)
    for done in running:
        yield job_of.pop(done.key), _records(done)


def _gone() -> ClusterError:
    return ClusterError("the scheduler went away", way_out="the same command continues with another")


def _records(done: "Future") -> Records:
    """What a worker sent back.

    Raises
    ------
    FrzError
        What went wrong there.
    ClusterError
        If job after job took its worker down, or the scheduler went away.
    """
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    try:
        result: Records | FrzError = done.result()
    except KilledWorker:
        way_out = "give them more memory, or each batch fewer events (--set batch_size); what is done is kept"
        raise ClusterError("several workers died of one job", way_out=way_out) from None
    except (CancelledError, CommClosedError):
        raise _gone() from None
    if isinstance(result, FrzError):
        raise result
    return result


def _check(client: "Client", order: Order) -> dict[str, str]:
    """Open everything in all workers; what they will work with.

    Raises
    ------
    ClusterError
        If one cannot do the work, or would do other work.
    """
    found: dict[str, set[str]] = {}
    for address, answer in client.run(_introduce, order, on_error="return").items():
        if isinstance(answer, FrzError):
            raise answer
        if isinstance(answer, OSError):  # it died; whoever takes its place looks for itself at its first job
            continue
        if isinstance(answer, Exception):
            way_out = "give its environment the same frz as this one"
            raise ClusterError(f"cannot work: {answer!r}", where=f"worker {address}", way_out=way_out)
        for name, value in answer.items():
            found.setdefault(name, set()).add(value)
    return {name: ", ".join(sorted(values)) for name, values in found.items()}


async def _introduce(order: Order) -> dict[str, str] | FrzError:
    """(In a worker) what it works with, in a thread so that it stays in touch meanwhile."""
    try:
        return workplace((await asyncio.to_thread(open_work, order)).frozen)
    except FrzError as error:
        return error


def _do(order: Order, job: Job) -> Records | FrzError:
    """(In a worker) one job. Errors that a user can mend are sent back, not raised: trying again is of no use."""
    try:
        ((_, records),) = pipeline.do(open_work(order), [job])
    except FrzError as error:
        return error
    return records
