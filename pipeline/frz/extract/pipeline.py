"""Doing jobs with everything at once: read ahead, run, encode, write.

One thread reads the batches to come, this one runs the backbone, one turns results into stored types, one puts parts
together and commits them. All queues are bounded, so memory does not grow with the data set, and what is computed does
not depend on timing.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from frz.extract import engine
from frz.extract.jobs import Job
from frz.extract.settings import ANNOTATION, CARRIED, FEATURES, group_of
from frz.extract.work import Work
from frz.extract.writer import Writer
from frz.loading.batch import to_batch, with_offsets
from frz.loading.execute import ahead
from frz.store import ragged
from frz.store.opened import open_part
from frz.store.part import CommitRecord, write_part
from frz.store.ragged import Index
from frz.store.schema import KEY, EventArrays
from frz.training.source import Batch

JOBS_AHEAD = 2
"""Jobs whose parts may wait to be written while later ones run; more while they are small, see below."""
BYTES_AHEAD = 128 << 20
"""Features that may wait to be written."""
APART_BYTES = 64 << 20
"""Features from which on a process of its own for writing pays: it takes some seconds to start."""
BATCHES_AHEAD = 4
"""Batches whose results may wait to be encoded."""


class Step(NamedTuple):
    """A batch of a job."""

    job: Job
    plan: list[Index]
    """All batches of the job: indices into the positions of `events`."""
    events: range | Index
    """Those of the job's events that run through the backbone."""
    number: int


def do(work: Work, jobs: Iterable[Job], *, apart: bool = False) -> Iterator[tuple[Job, dict[str, CommitRecord]]]:
    """Do jobs; each is yielded, with the record of each of its groups, when its parts are committed.

    Parameters
    ----------
    work : Work
        What the jobs belong to.
    jobs : iterable of Job
        Drawn from in another thread, a few batches ahead of the work.
    apart : bool
        Commit in a process of its own. Results are the same; starting it takes some seconds.
    """
    inputs = with_offsets(work.frozen.module.inputs, work.source.schema)

    def steps() -> Iterator[Step]:
        for job in jobs:
            events = to_run(job)
            plan = engine.batches_of(work.frozen.module, work.source, events, work.settings) if len(events) else []
            yield from (Step(job, plan, events, number) for number in range(max(len(plan), 1)))

    def load(step: Step) -> tuple[Step, Batch | None]:
        if not step.plan:
            return step, None
        positions = np.asarray(step.events)[step.plan[step.number]]
        batch = to_batch(work.source.events(positions, inputs), work.source.schema)
        if work.frozen.device.type == "cuda":
            batch = {name: values.pin_memory() for name, values in batch.items()}
        return step, batch

    encoded: deque[Future[Any]] = deque()
    written: deque[tuple[Job, Future[dict[str, CommitRecord]]]] = deque()
    with (
        closing(Writer(work)) if apart else nullcontext() as process,
        ThreadPoolExecutor(1, "frz-encode") as encoder,
        ThreadPoolExecutor(1, "frz-write") as writer,
    ):
        encode = _to_cpu if process else partial(engine.to_numpy, out=engine.computed(work.out))
        finish = process.commit if process else partial(_put_together, work)
        for step, batch in ahead(steps(), load):
            if batch is not None:
                features = engine.forward(work.frozen.module, batch, work.settings, work.frozen.device)
                encoded.append(encoder.submit(encode, features))
                if len(encoded) > BATCHES_AHEAD:
                    encoded[-1 - BATCHES_AHEAD].result()
            if step.number == max(len(step.plan), 1) - 1:
                written.append((step.job, writer.submit(_after, list(encoded), finish, step.job, step.plan)))
                encoded.clear()
            while written and (_too_many(work, written) or written[0][1].done()):
                job, receipt = written.popleft()
                yield job, receipt.result()
        for job, receipt in written:
            yield job, receipt.result()


def pays_apart(work: Work, n_events: int) -> bool:
    """Whether a process of its own for writing pays for so many events, and this system can have one."""
    return n_events * work.event_bytes > APART_BYTES and hasattr(os, "memfd_create")


def _too_many(work: Work, waiting: Sequence[tuple[Job, Any]]) -> bool:
    held = sum(len(job.positions) for job, _ in waiting) * work.event_bytes
    return len(waiting) > JOBS_AHEAD and held > BYTES_AHEAD


def _after(made: list[Future[Any]], finish: Callable[..., dict[str, CommitRecord]], job: Job, plan: list[Index]) -> Any:
    return finish(job, plan, [future.result() for future in made])


def _to_cpu(features: Batch) -> Batch:
    return {name: values.cpu() for name, values in features.items()}


def _put_together(work: Work, job: Job, plan: list[Index], made: list[EventArrays]) -> dict[str, CommitRecord]:
    return commit(work, job, together(work, job, plan, made))


def to_run(job: Job) -> range | Index:
    """Events of a job that run through the backbone."""
    if FEATURES not in job.keys:
        return range(0)
    return job.positions if job.stored is None else np.asarray(job.positions)[job.stored < 0]


@torch.inference_mode()
def commit(work: Work, job: Job, features: EventArrays) -> dict[str, CommitRecord]:
    """Write what a job lacks, from the features of its events."""
    arrays: dict[str, EventArrays] = {}
    if FEATURES in job.keys:
        keys = engine.read(work.source, job.positions, [KEY])
        arrays[FEATURES] = features | keys
    if CARRIED in job.keys:
        arrays[CARRIED] = engine.read(work.source, job.positions, group_of(work.out, CARRIED).arrays)
    if ANNOTATION in job.keys:
        arrays[ANNOTATION] = engine.annotate(
            work.frozen.module, work.source, job.positions, features, work.out, work.settings, work.frozen.device
        )
    return {
        group: write_part(work.root, group, job.keys[group], group_of(work.out, group), values)
        for group, values in arrays.items()
    }


def together(work: Work, job: Job, plan: list[Index], made: list[EventArrays]) -> EventArrays:
    """Features of all events of a job, in their order: computed now, or copied from where they are stored."""
    if FEATURES not in job.keys and ANNOTATION not in job.keys:
        return {}
    schema = engine.computed(work.out)
    if job.features is not None:
        part = open_part(work.root, FEATURES, job.features)
        return {name: part[name] for name in part.record.arrays if name != KEY}
    if job.stored is None:
        return engine.in_order(made, plan, schema)
    taken = np.flatnonzero(job.stored >= 0)
    pieces, order = [], []
    if made:
        pieces.append(engine.in_order(made, plan, schema))
        order.append(np.flatnonzero(job.stored < 0))
    if len(taken):
        assert work.earlier is not None, "rows are taken from an earlier version that is not there"
        pieces.append(work.earlier.events(job.stored[taken], schema.arrays))
        order.append(taken)
    return ragged.take(ragged.concat(pieces), schema, np.argsort(np.concatenate(order)))
