"""`frz extract`: a version of a feature store for a version of a data set.

Everything that earlier versions hold of it is pointed at; the rest is dealt to jobs. A job's parts are found by what
they are made from, so running again does only what is missing, whatever happened before.
"""

import time
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import torch

from frz import artifacts as names
from frz.config import parse
from frz.errors import ConfigError, IdentityError
from frz.extract import pipeline
from frz.extract.identity import identity_of, refuse_other, static_inputs
from frz.extract.jobs import Job
from frz.extract.plan import Plan, make_plan
from frz.extract.settings import FEATURES, Settings, feature_schema, group_of
from frz.lineage import versions
from frz.loading.frozen import FrozenBackbone
from frz.progress import progress
from frz.store import snapshot
from frz.store.catalogue import Catalogue, PartEntry, Piece
from frz.store.lease import Leases
from frz.store.part import CommitRecord, PartRef, committed, find_part, part_name
from frz.store.reader import EventStore
from frz.store.schema import EVENT, Schema, axis_of
from frz.store.snapshot import Snapshot
from frz.training.config import pick_device

PART_BYTES = 256 << 20
"""A job ends before its features pass this."""


def extract(
    ckpt: str, artifacts: Path, data: str | None = None, settings: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Run a frozen backbone over a data set and commit a version of its feature store.

    Parameters
    ----------
    ckpt : str
        A backbone: name, run or file.
    artifacts : Path
        Where artifacts lie.
    data : str, optional
        A data set (`name@version`); default the newest version of the one the backbone was trained on.
    settings : dict, optional
        See `Settings`.

    Returns
    -------
    dict
        Path, version, fingerprint, events, events run and taken, bytes in all and written, seconds.

    Raises
    ------
    FrzError
        If the checkpoint, the data set and the store do not belong together, or the disk is full.
    """
    began = time.monotonic()
    options = parse(Settings, settings or {}, "extract")
    frozen, source = open_both(names.weights(ckpt, artifacts), artifacts, data, options.device)
    out = feature_schema(frozen.module, source.schema, options)
    root = options.out or _default_root(frozen, source, artifacts)
    newest = snapshot.read(root)
    if newest is not None:
        refuse_other(newest, root, frozen, source, out, options)

    snapshot.prepare_root(root)
    identity = identity_of(frozen, source, out, options)
    history = (found for n in reversed(names.versions(root)) if (found := snapshot.read(root, n)) is not None)
    there = committed(root)
    targets, most = frozen.module.targets, _most_events(source, out)
    plan = make_plan(source, root, there, history, out, identity, targets, most)
    work = pipeline.Work(frozen, source, plan.earlier.store if plan.earlier else None, root, out, options)
    n_run, receipts = share_jobs(work, plan, there)
    seconds = time.monotonic() - began
    parts = Catalogue.of(entries(plan, receipts, source, root, out))
    made = Snapshot(
        name=root.name,
        event_schema=out,
        split=source.snapshot.split,
        parts=parts,
        about={
            "identity": identity,
            "fingerprint": frozen.fingerprint.model_dump(mode="json"),
            "backbone": {"name": frozen.card.name, "checkpoint": str(frozen.path)},
            "data": {
                "name": source.snapshot.name,
                "version": source.snapshot.version,
                "hash": source.snapshot.hash,
            },
            "static": static_inputs(source),
            "recipe": options.recipe(),
            "made_with": versions() | {"device": str(frozen.device), "threads": str(torch.get_num_threads())},
            "cost": _cost(newest, n_run, seconds, parts, out),
        },
    )
    done = snapshot.commit(root, lambda latest: made)
    store = EventStore(root, done.version)
    return {
        "path": str(root),
        "version": done.version,
        "checkpoint": str(frozen.path),
        "fingerprint": frozen.fingerprint.value,
        "data": f"{source.snapshot.name}@{source.snapshot.version}",
        "events": store.n_events,
        "events_run": n_run,
        "events_taken": store.n_events - n_run,
        "parts": store.n_parts,
        "bytes": sum(store.nbytes(name) for name in out.arrays),
        "seconds": seconds,
    }


def share_jobs(work: pipeline.Work, plan: Plan, there: set[str]) -> tuple[int, list[dict[str, PartRef]]]:
    """Do the jobs of a plan together with whoever else is doing them; returns when all are done.

    Returns
    -------
    n_run : int
        Events that ran through the backbone here.
    receipts : list of dict
        Per job and group, the part that holds it.
    """
    receipts: list[dict[str, PartRef]] = [{} for _ in plan.jobs]
    missing = [job for job in plan.jobs if not _is_done(job, work.root, receipts, there)]
    total = sum(job.without(receipts[job.number]).n_forward for job in missing)
    n_run = 0
    with (
        Leases(work.root).hold() as leases,
        progress(f"extract {work.frozen.card.name}", total=total, unit="event") as bar,
    ):
        for job, records in pipeline.do(work, _claim(missing, work.root, receipts, leases)):
            receipts[job.number] |= {group: reference(record) for group, record in records.items()}
            leases.release(plan.jobs[job.number].lease)
            n_run += job.n_forward
            bar.advance(job.n_forward)
    return n_run, receipts


def _claim(jobs: list[Job], root: Path, receipts: list[dict[str, PartRef]], leases: Leases) -> Iterator[Job]:
    """Jobs that nobody else has, until every job is done or ours; what others do is waited for."""
    while jobs:
        others = []
        for job in jobs:
            if not leases.take(job.lease):
                others.append(job)
            elif _is_done(job, root, receipts):  # by another, before we had the lease
                leases.release(job.lease)
            else:
                yield job.without(receipts[job.number])
        jobs = [job for job in others if not _is_done(job, root, receipts)]
        if len(jobs) == len(others) and jobs:
            leases.pause()


def _is_done(job: Job, root: Path, receipts: list[dict[str, PartRef]], there: Container[str] | None = None) -> bool:
    """Note which parts of a job are committed (`there`: names of those in place, to spare a look at each)."""
    for group, key in job.keys.items():
        if there is None or part_name(group, key) in there:
            record = find_part(root, group, key)
            if record is not None:
                receipts[job.number][group] = reference(record)
    return len(receipts[job.number]) == len(job.keys)


def reference(record: CommitRecord) -> PartRef:
    """How a snapshot refers to a part."""
    return PartRef(record.key, record.digest)


def entries(
    plan: Plan, receipts: list[dict[str, PartRef]], source: EventStore, root: Path, out: Schema
) -> Iterator[PartEntry]:
    """The parts of the new version, in the order of the data set."""
    for part, origin in enumerate(plan.origins):
        if part in plan.taken:
            earlier, index = plan.taken[part]
            yield earlier.parts[index]
            continue
        groups = {}
        for group, stretches in plan.made[part].items():
            held = [receipts[s.holder][group] if isinstance(s.holder, int) else s.holder for s in stretches]
            groups[group] = tuple(Piece(*ref, s.first, s.last) for ref, s in zip(held, stretches, strict=True))
        of_data = source.snapshot.parts[part]
        bare = PartEntry(of_data.n_events, groups, {}, {}, of_data.events, origin)
        counts, largest = _counts(bare, of_data, root, out)
        yield bare._replace(counts=counts, largest=largest)


def _counts(bare: PartEntry, of_data: PartEntry, root: Path, out: Schema) -> tuple[dict[str, int], dict[str, int]]:
    """Members per axis of a part, and the most in one event; offsets that only features have are read."""
    counts, largest = {}, {}
    store: EventStore | None = None
    for axis in out.ordered_axes():
        if axis in of_data.counts:
            counts[axis], largest[axis] = of_data.counts[axis], of_data.largest[axis]
            continue
        if store is None:
            one = Snapshot.model_construct(event_schema=out, parts=Catalogue.of([bare]))
            store = EventStore.of(root, one)
        lengths = store.lengths(axis)
        counts[axis], largest[axis] = int(lengths.sum()), int(lengths.max(initial=0))
    return counts, largest


def _cost(newest: Snapshot | None, n_run: int, seconds: float, parts: Catalogue, out: Schema) -> dict[str, float]:
    """What an event costs, for people who are about to do all again; measured when something ran."""
    if newest is not None and n_run < sum(parts.n_events) // 2:
        return dict(newest.about["cost"])
    n_events = sum(parts.n_events)
    n_bytes = sum(
        (n_events if axis_of(name) == EVENT else sum(parts.counts[axis_of(name)])) * spec.row_bytes
        for name, spec in group_of(out, FEATURES).arrays.items()
    )
    return {"seconds_per_event": seconds / max(n_run, 1), "bytes_per_event": n_bytes / n_events}


def open_both(
    checkpoint: Path, artifacts: Path, data: str | None = None, device: str = "auto"
) -> tuple[FrozenBackbone, EventStore]:
    """A frozen backbone and a data set that it can read (default: the newest version of its training data).

    The backbone is built for this data set: where it has no truth, nothing is annotated.

    Raises
    ------
    FrzError
        See `FrozenBackbone` and `check_inputs`.
    """
    frozen = FrozenBackbone(checkpoint, pick_device(device))
    place = names.dataset(data or frozen.card.data["name"], artifacts)
    source = EventStore(place.path, place.version)
    check_inputs(frozen, source.schema)
    if source.schema != frozen.card.event_schema:
        frozen = FrozenBackbone(checkpoint, frozen.device, source.schema)
    return frozen, source


def check_inputs(frozen: FrozenBackbone, schema: Schema) -> None:
    """Refuse a data set whose inputs are not those the backbone was trained on.

    Raises
    ------
    ConfigError
        If an array is missing.
    IdentityError
        If an array has another dtype, shape or other columns.
    """
    for name in frozen.module.inputs:
        trained = frozen.card.event_schema.arrays[name]
        if name not in schema.arrays:
            raise ConfigError(f"the data set has no {name!r}, which backbone {frozen.card.name} reads")
        found = schema.arrays[name]
        if (found.dtype, found.shape, found.columns) != (trained.dtype, trained.shape, trained.columns):
            raise IdentityError(
                f"{name} is {found.dtype}{list(found.shape)} with columns {list(found.columns)}, backbone "
                f"{frozen.card.name} was trained on {trained.dtype}{list(trained.shape)}, {list(trained.columns)}",
                way_out="extract from a data set of the same layout, or train a backbone on this one",
            )


def _default_root(frozen: FrozenBackbone, source: EventStore, artifacts: Path) -> Path:
    name = names.features_name(frozen.card.name, frozen.fingerprint.value)
    if source.snapshot.name != frozen.card.data["name"]:
        name += f"-{source.snapshot.name}"
    return names.store_path(artifacts, "features", name)


def _most_events(source: EventStore, out: Schema) -> int:
    """Most events in a job: a part of the data set, or less where its features would pass 256 MB."""
    return max(1, min(max(source.snapshot.parts.n_events), int(PART_BYTES // max(_feature_bytes(source, out), 1))))


def _feature_bytes(source: EventStore, out: Schema) -> float:
    """Mean bytes of features per event (axes that only the backbone fills count as one member each)."""
    total = 0.0
    for name, spec in group_of(out, FEATURES).arrays.items():
        members = 1.0
        for axis in out.lineage(name.partition("/")[0]):
            length = out.axes[axis].length
            if length is not None:
                members *= length
            elif axis in source.schema.axes:
                members = sum(source.snapshot.parts.counts[axis]) / max(source.n_events, 1)
        total += members * spec.row_bytes
    return total
