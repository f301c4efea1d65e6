"""A dry run: what an extraction will write, take and need, from a few of its own batches; and how true that was.

Sizes follow from numbers of members, which the data set knows. Members that the backbone keeps by a threshold, and what
a codec makes of values, are measured on the sample. Batches are sampled over their padded size, on which time depends,
the largest among them.
"""

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from frz.artifacts import read_json
from frz.config import digest_of
from frz.errors import StoreError
from frz.extract import engine
from frz.extract.jobs import Job
from frz.extract.memory import Peak
from frz.extract.pipeline import BYTES_AHEAD, JOBS_AHEAD, commit, to_run
from frz.extract.work import Work
from frz.loading.batch import to_batch, with_offsets
from frz.loading.plan import plan_part
from frz.location import is_remote
from frz.progress import note
from frz.store import atomic, objects, ragged
from frz.store.part import CommitRecord, PartRef, part_name, read_records
from frz.store.ragged import Index
from frz.store.schema import EVENT, EventArrays

PREDICTION = "prediction.json"
"""Beside the snapshots of a feature store: the last dry run."""
RECORDS = "records"
"""What the files of a part that are not of an array are counted under."""
MOST_JOBS = 256
"""Batches are planned for at most so many jobs; the others are like them."""
SAMPLES, SECONDS = 64, 3.0
"""Most batches that are tried, and the time after which no further one is; three are in any case."""
GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it, modulo 1, fill the unit interval evenly from the first one on."""
PARTS = 3
"""Parts that are written in the trial, of the batches that were tried first."""


class Batch(NamedTuple):
    """A batch of the plan."""

    positions: Index
    padded: int
    """Members with padding, on which the time of a forward pass depends."""


class Trial(NamedTuple):
    """What the sample showed."""

    batches: list[Batch]
    seconds: dict[str, list[float]]
    """Of reading, of the forward pass and of encoding, per batch."""
    members: dict[str, list[int]]
    """Members of each axis that only features have, per batch."""
    records: dict[str, list[CommitRecord]]
    """Per group, the parts that were written."""
    extra: dict[str, float]
    """Per group, bytes of a part's files that belong to no array."""
    write_seconds: float
    share: float
    """Of the time of a thread of the forward pass, what it had a core: less than 1 where others use the machine."""
    memory: int | None
    """Anonymous memory of the process beside the sample itself."""


def predict(work: Work, jobs: Sequence[Job], identity: Mapping[str, str], began: float) -> dict[str, Any]:
    """Predict what doing some jobs will cost, from trying a little of it; keep the prediction beside the snapshots.

    Parameters
    ----------
    jobs : sequence of Job
        What is left to do.
    identity : mapping
        See `make_plan`.
    began : float
        When the command began, by `time.monotonic`.

    Returns
    -------
    dict
        `events_run`, `bytes` in all and by array (`arrays`), `seconds` and what they are made up of (`stages`),
        `peak_memory` (bytes; None where the system does not say), and what was `tried`.
    """
    opened = time.monotonic() - began
    n_forward = sum(job.n_forward for job in jobs)
    batches = _batches(work, jobs)
    sizes: dict[str, int] = {}
    stages = dict.fromkeys(("read", "forward", "encode", "write"), 0.0)
    trial = _try(work, batches, identity, _typical(jobs)) if jobs else None
    if trial is not None:
        here = sum(len(batch.positions) for batch in batches)
        for stage, each in trial.seconds.items():
            # time goes with padded members, at a rate that depends on how many there are
            by_size = _extrapolate(trial.batches, each, batches, lambda b: b.padded, lambda b: b.padded)
            stages[stage] = by_size * n_forward / here
        per_event = {  # members go with events, at a rate that depends on how long these are
            axis: _extrapolate(trial.batches, n, batches, lambda b: b.padded / len(b.positions), _n_events) / here
            for axis, n in trial.members.items()
        }
        sizes = _sizes(work, jobs, trial, per_event)
        written: float = sum(sum(_of_arrays(record).values()) for held in trial.records.values() for record in held)
        written += sum(trial.extra[group] * len(held) for group, held in trial.records.items())
        stages["write"] = trial.write_seconds * sum(sizes.values()) / max(written, 1)
    found: dict[str, Any] = {
        "events_run": n_forward,
        "bytes": sum(sizes.values()),
        "seconds": opened + _together(stages, work, trial.share if trial else 1.0),
        "peak_memory": _memory(trial, jobs, sizes),
        "stages": stages,
        "arrays": dict(sorted(sizes.items())),
        "tried": {"batches": len(trial.batches) if trial else 0, "seconds": time.monotonic() - began - opened},
    }
    try:
        atomic.make_folder(work.root)
        atomic.write_json(work.root / PREDICTION, found | {"of": _key(work, identity)})
    except StoreError as error:
        note(f"the prediction is not kept to be compared: {error}")
    return found


def compare(
    work: Work,
    jobs: Sequence[Job],
    receipts: Sequence[Mapping[str, PartRef]],
    identity: Mapping[str, str],
    n_run: int,
    seconds: float,
    memory: int | None,
) -> dict[str, Any] | None:
    """Predicted against actual, if there was a dry run of this very work.

    Parameters
    ----------
    jobs, receipts
        What was done, and the parts that hold it (by number of the job).
    n_run, seconds, memory
        Events that ran, seconds from the beginning, and peak of anonymous memory.
    """
    file = work.root / PREDICTION
    said = read_json(file) if file.is_file() else {}
    if said.get("of") != _key(work, identity) or said["events_run"] != n_run or not n_run:
        return None
    sizes: Counter[str] = Counter()
    parts = [(group, receipts[job.number][group].key) for job in jobs for group in job.keys]
    for record in read_records([work.root / "events.zarr" / part_name(*part) for part in parts]):
        assert record is not None, "a part of a receipt is committed"
        sizes.update(_of_arrays(record))
    whole = _in_folders(work.root, {part_name(*part) for part in parts})
    sizes[RECORDS] = whole - sum(sizes.values())
    actual = {"bytes_written": sum(sizes.values()), "seconds": seconds, "peak_memory": memory}
    return {
        **{name: _against(said[name.removesuffix("_written")], value) for name, value in actual.items()},
        "arrays": {name: _against(said["arrays"].get(name, 0), size) for name, size in sorted(sizes.items())},
    }


def _against(predicted: float | None, actual: float | None) -> dict[str, float | None]:
    error = predicted / actual - 1 if predicted is not None and actual else None
    return {"predicted": predicted, "actual": actual, "error": error}


def _key(work: Work, identity: Mapping[str, str]) -> str:
    return digest_of([dict(identity), work.source.snapshot.hash])


def _typical(jobs: Sequence[Job]) -> int:
    return int(np.median([len(job.positions) for job in jobs]))


def _batches(work: Work, jobs: Sequence[Job]) -> list[Batch]:
    """Batches of at most `MOST_JOBS` of the jobs, the largest first; where none runs, those they would run in."""
    ran = [to_run(job) for job in jobs if job.n_forward] or [job.positions for job in jobs]
    found = []
    for index in np.unique(np.linspace(0, len(ran) - 1, min(len(ran), MOST_JOBS)).astype(int)):
        positions = ran[index]
        lengths = engine.lengths_of(work.frozen.module, work.source, positions)
        for rows in plan_part(lengths, work.settings.batch_size, work.settings.max_members):
            found.append(Batch(np.asarray(positions)[rows], len(rows) * int(lengths[rows].max())))
    return sorted(found, key=lambda batch: -batch.padded)


def _sample(batches: list[Batch]) -> list[Batch]:
    """The largest batch, the smallest, and others spread evenly over all padded members, wherever one stops."""
    filled = np.cumsum([batch.padded for batch in batches])
    shares = np.arange(1, SAMPLES - 1) * GOLDEN % 1
    between = np.searchsorted(filled, shares * filled[-1])
    return [batches[i] for i in dict.fromkeys([0, len(batches) - 1, *between.tolist()])]


@torch.inference_mode()
def _try(work: Work, batches: list[Batch], identity: Mapping[str, str], typical: int) -> Trial:
    """Run a few batches and write what they give into parts of a usual size, aside."""
    module, device, source, schema = work.frozen.module, work.frozen.device, work.source, engine.computed(work.out)
    inputs = with_offsets(module.inputs, source.schema)
    tried: list[Batch] = []
    made: list[EventArrays] = []
    members: dict[str, list[int]] = defaultdict(list)
    new_axes = [axis for axis in schema.ordered_axes(schema.arrays) if axis not in source.schema.axes]
    seconds: dict[str, list[float]] = defaultdict(list)
    cpu_seconds: list[float] = []

    def run(batch: Batch) -> EventArrays:
        times = [time.perf_counter()]
        arrays = to_batch(source.events(batch.positions, inputs), source.schema)
        times.append(time.perf_counter())
        cpu = time.process_time()
        features = engine.forward(module, arrays, work.settings, device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        cpu_seconds.append(time.process_time() - cpu)
        times.append(time.perf_counter())
        encoded = engine.to_numpy(features, schema)
        times.append(time.perf_counter())
        for stage, took in zip(("read", "forward", "encode"), np.diff(times).tolist(), strict=True):
            seconds[stage].append(took)
        return encoded

    sample = _sample(batches)
    with Peak() as memory:
        run(sample[-1])  # the first pass of all is slow
        seconds.clear()
        cpu_seconds.clear()
        began = time.perf_counter()
        for batch in sample:
            if len(tried) >= 3 and time.perf_counter() - began > SECONDS:
                break
            features = run(batch)
            tried.append(batch)
            for axis in new_axes:
                members[axis].append(int(ragged.edges(features, schema, axis)[-1]))
            if sum(len(other.positions) for other in tried[: len(made)]) < PARTS * typical:
                made.append(features)
    held = sum(values.nbytes for arrays in made for values in arrays.values())
    records: dict[str, list[CommitRecord]] = defaultdict(list)
    extra: dict[str, list[int]] = defaultdict(list)
    positions, features = np.concatenate([batch.positions for batch in tried[: len(made)]]), ragged.concat(made)
    aside = atomic.shared_scratch(work.root / "tmp")
    atomic.make_folder(aside / "events.zarr")
    began = time.perf_counter()
    try:
        for number, begin in enumerate(range(0, len(positions), typical)[:PARTS]):
            some = positions[begin : begin + typical]
            job = Job(0, some, None, {group: digest_of([group, number]) for group in identity})
            given = ragged.slice_events(features, schema, begin, begin + len(some))
            for group, record in commit(replace(work, root=aside), job, given).items():
                records[group].append(record)
                extra[group].append(_extra(aside, group, record))
        write_seconds = time.perf_counter() - began
    finally:
        atomic.remove(aside)
    means = {group: float(np.mean(sizes)) for group, sizes in extra.items()}
    share = min(sum(cpu_seconds) / (sum(seconds["forward"]) * _threads(work)), 1.0)
    own = None if memory.bytes is None else memory.bytes - held
    return Trial(tried, seconds, members, records, means, write_seconds, share, own)


def _extrapolate(
    tried: Sequence[Batch],
    each: Sequence[float],
    planned: Sequence[Batch],
    at: Callable[[Batch], float],
    weight: Callable[[Batch], float],
) -> float:
    """The sum over planned batches of what was seen of some: by `weight`, at a rate interpolated between their `at`."""
    places, group = np.unique([at(batch) for batch in tried], return_inverse=True)
    rates = np.bincount(group, each) / np.bincount(group, [weight(batch) for batch in tried]).clip(min=1)
    return float(np.dot([weight(batch) for batch in planned], np.interp([at(b) for b in planned], places, rates)))


def _n_events(batch: Batch) -> int:
    return len(batch.positions)


def _together(stages: Mapping[str, float], work: Work, share: float) -> float:
    """Seconds of all stages at once: half way between the least there can be and one stage after the other.

    The least is the slowest stage, or what all compute together on the cores that are free. How near a machine comes
    to it depends on what its cores share, which a trial of seconds does not tell.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = sum(stages.values()) + stages["forward"] * (_threads(work) - 1)
    least = max(*stages.values(), busy / max(share * cores, 1.0))
    return (least + max(least, sum(stages.values()))) / 2


def _threads(work: Work) -> int:
    return torch.get_num_threads() if work.frozen.device.type == "cpu" else 1


def _sizes(work: Work, jobs: Sequence[Job], trial: Trial, per_event: Mapping[str, float]) -> dict[str, int]:
    """Bytes that the jobs will write, by array."""
    sizes: dict[str, float] = defaultdict(float)
    for group, records in trial.records.items():
        chosen = [job for job in jobs if group in job.keys]
        totals = _members(work, chosen, per_event)
        sizes[RECORDS] += trial.extra[group] * len(chosen)
        for name in records[0].arrays:
            axis, _, rest = name.partition("/")
            rows = totals[axis]
            if rest == "offsets":
                rows = totals[work.out.axes[axis].parent] + len(chosen)
            written = [record.arrays[name] for record in records]
            files = [item for array in written for item in array.files.items()]
            metadata = sum(size for file, (size, _) in files if file.endswith("zarr.json"))
            data = sum(size for file, (size, _) in files) - metadata
            row_bytes = _itemsize(written[0].dtype) * int(np.prod(written[0].shape[1:]))
            payload = row_bytes * sum(array.shape[0] for array in written)
            # what is not packed takes its payload and, per part, an index; a codec takes a share of the payload
            index, share = (data - payload, 1.0) if data >= payload else (0, data / payload)
            sizes[name] += rows * share * row_bytes + len(chosen) * (index + metadata) / len(records)
    return {name: round(size) for name, size in sizes.items()}


def _members(work: Work, jobs: Sequence[Job], per_event: Mapping[str, float]) -> dict[str, float]:
    """Members of each axis in all events of the jobs: counted where the data set has the axis, else as tried."""
    source, totals = work.source, defaultdict[str, float](float)
    known = [axis for axis in work.out.ordered_axes() if axis in source.schema.axes]
    for job in jobs:
        totals[EVENT] += len(job.positions)
        if isinstance(job.positions, range):  # a whole part of the data set
            part = int(np.searchsorted(source.part_bounds, job.positions.start, side="right")) - 1
            counts = {axis: source.snapshot.parts.counts[axis][part] for axis in known}
        else:
            counts = {axis: _count(work, job.positions, axis) for axis in known}
        for axis, n in counts.items():
            totals[axis] += n
    return totals | {axis: n * totals[EVENT] for axis, n in per_event.items()}


def _count(work: Work, positions: Index, axis: str) -> int:
    schema = work.source.schema
    steps = [f"{step}/offsets" for step in schema.lineage(axis) if schema.axes[step].length is None]
    if not steps:
        return len(positions) * int(np.prod([schema.axes[step].length or 0 for step in schema.lineage(axis)]))
    return int(ragged.edges(work.source.events(positions, steps), schema, axis)[-1])


def _memory(trial: Trial | None, jobs: Sequence[Job], sizes: Mapping[str, float]) -> int | None:
    """Most anonymous memory: what a pass takes, and all that may wait between the stages."""
    if trial is None or trial.memory is None:
        return None
    in_all = sum(sizes.values())
    job = in_all * max(len(job.positions) for job in jobs) / sum(len(job.positions) for job in jobs)
    # what waits to be written, the job that runs, and the copies in which one is put together
    return trial.memory + round(min(max(JOBS_AHEAD * job, BYTES_AHEAD), in_all) + 3 * job)


def _of_arrays(record: CommitRecord) -> Counter[str]:
    """Bytes of the files of each array of a part."""
    return Counter({name: sum(size for size, _ in array.files.values()) for name, array in record.arrays.items()})


def _extra(root: Path, group: str, record: CommitRecord) -> int:
    """Bytes of a part's files that belong to no array."""
    place = root / "events.zarr" / part_name(group, record.key)
    return atomic.measure(place)[0] - sum(_of_arrays(record).values())


def _in_folders(root: Path, parts: Collection[str]) -> int:
    """Bytes of all files of parts; on an object store by one listing."""
    if not is_remote(root):
        return sum(atomic.measure(root / "events.zarr" / part)[0] for part in parts)
    found = objects.sizes(root / "events.zarr").items()
    return sum(size for name, size in found if name.partition("/")[0] in parts)


def _itemsize(dtype: str) -> int:
    """Bytes of a stored value."""
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
