"""`frz extract`: a version of a feature store for a version of a data set.

Everything that earlier versions hold of it is pointed at; the rest is dealt to jobs. A job's parts are found by what
they are made from, so running again does only what is missing, whatever happened before.
"""

import time
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

from frz import artifacts as names
from frz.config import parse
from frz.errors import ConfigError, IdentityError
from frz.extract import canary, estimate, pipeline
from frz.extract.cluster import Workers
from frz.extract.identity import identity_of, refuse_other, static_inputs
from frz.extract.jobs import Job
from frz.extract.memory import Peak
from frz.extract.plan import Plan, make_plan
from frz.extract.settings import FEATURES, Settings, feature_schema, group_of
from frz.lineage import soft_differences
from frz.loading.frozen import FrozenBackbone
from frz.progress import progress
from frz.store import atomic, snapshot
from frz.store.catalogue import Catalogue, PartEntry, Piece
from frz.store.lease import Leases
from frz.store.part import CommitRecord, PartRef, find_part, part_name
from frz.store.reader import EventStore
from frz.store.schema import EVENT, Schema, axis_of
from frz.store.snapshot import Snapshot
from frz.training.config import pick_device

PART_BYTES = 256 << 20
"""A job ends before its features pass this."""
MADE_WITH = "made_with.json"
"""Beside the snapshots: what parts that no snapshot holds yet are made with."""


def extract(
    ckpt: str,
    artifacts: Path,
    data: str | None = None,
    settings: dict[str, Any] | None = None,
    workers: Workers | None = None,
    dry_run: bool = False,
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
    workers : Workers, optional
        Who does the work; default this process.
    dry_run : bool
        Only predict what it will cost, from a few of its batches.

    Returns
    -------
    dict
        Path, version, fingerprint, events, events run and taken, bytes in all, seconds, and predicted against actual
        where there was a dry run; see `estimate.predict` for the dry run itself.

    Raises
    ------
    FrzError
        If the checkpoint, the data set and the store do not belong together, or the disk is full.
    """
    began = time.monotonic()
    options, workers = parse(Settings, settings or {}, "extract"), workers or Workers()
    workers.begin()
    frozen, source = open_both(names.weights(ckpt, artifacts), artifacts, data, options.device)
    out = feature_schema(frozen.module, source.schema, options)
    root = options.out or default_root(frozen, source, artifacts)
    newest = snapshot.read(root)
    if newest is not None:
        refuse_other(newest, root, frozen, source, out, options)

    if not dry_run:
        snapshot.prepare_root(root)
    identity = identity_of(frozen, source, out, options)
    history = (found for n in reversed(names.versions(root)) if (found := snapshot.read(root, n)) is not None)
    there = {path.name for path in (root / "events.zarr").glob("*")}
    targets, most = frozen.module.targets, _most_events(source, out)
    plan = make_plan(source, root, there, history, out, identity, targets, most)
    work = pipeline.Work(frozen, source, plan.earlier.store if plan.earlier else None, root, out, options)
    receipts: list[dict[str, PartRef]] = [{} for _ in plan.jobs]
    missing = [job for job in plan.jobs if not _is_done(job, root, receipts, there)]
    left = [job.without(receipts[job.number]) for job in missing]
    if any(job.n_forward for job in left):
        _settle(work, newest, plan, receipts)
    if dry_run:
        predicted = estimate.predict(work, left, identity, began)
        whole = {"path": str(root), "checkpoint": str(frozen.path), "data": _version(source), "events": source.n_events}
        return whole | predicted
    if any(job.n_forward for job in left):
        atomic.write_json(root / MADE_WITH, canary.made_with(frozen))
    with Peak() as memory:
        n_run = share_jobs(work, plan, missing, receipts, workers)
    seconds = time.monotonic() - began
    parts = Catalogue.of(entries(plan, receipts, source, root, out))
    canaries = dict(newest.about.get("canaries", {})) if newest else {}
    if n_run or newest is None:
        store = EventStore.of(root, Snapshot.model_construct(event_schema=out, parts=parts))
        canaries = canary.measure(work, plan.jobs, store, canaries)
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
            "made_with": canary.made_with(frozen) | workers.made_with,
            "canaries": canaries,
            "cost": _cost(newest, n_run, seconds, parts, out),
        },
    )
    done = snapshot.commit(root, lambda latest: made)
    compared = estimate.compare(work, left, receipts, identity, n_run, time.monotonic() - began, memory.bytes)
    store = EventStore(root, done.version)
    return {
        "path": str(root),
        "version": done.version,
        "checkpoint": str(frozen.path),
        "fingerprint": frozen.fingerprint.value,
        "data": _version(source),
        "events": store.n_events,
        "events_run": n_run,
        "events_taken": store.n_events - n_run,
        "parts": store.n_parts,
        "bytes": sum(store.nbytes(name) for name in out.arrays),
        "seconds": seconds,
        **({"prediction": compared} if compared else {}),
    }


def check(
    ckpt: str, artifacts: Path, data: str | None = None, settings: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Run the canaries of a feature store on this machine, with this code and these versions.

    Returns
    -------
    dict
        Path, version, how this machine `differs` from what made the store, and what `canary.rerun` says.

    Raises
    ------
    FrzError
        See `extract`; also if there are no features yet.
    """
    options = parse(Settings, settings or {}, "extract")
    frozen, source = open_both(names.weights(ckpt, artifacts), artifacts, data, options.device)
    out = feature_schema(frozen.module, source.schema, options)
    root = options.out or default_root(frozen, source, artifacts)
    store = EventStore(root)
    refuse_other(store.snapshot, root, frozen, source, out, options)
    work = pipeline.Work(frozen, source, None, root, out, options)
    differs = soft_differences(store.snapshot.about["made_with"], canary.made_with(frozen))
    found = {"path": str(root), "version": store.snapshot.version, "differs": differs}
    return found | canary.rerun(work, store, store.snapshot)


def _settle(work: pipeline.Work, newest: Snapshot | None, plan: Plan, receipts: list[dict[str, PartRef]]) -> None:
    """Let canaries decide on what is there: the newest version, and what a run that was broken off has committed."""
    if newest is not None:
        canary.settle(work, newest.about["made_with"], EventStore.of(work.root, newest), newest)
    if any(FEATURES in held for held in receipts) and (work.root / MADE_WITH).is_file():
        begun = canary.committed(work.root, work.out, plan.jobs, receipts)
        canary.settle(work, names.read_json(work.root / MADE_WITH), begun, newest)


def share_jobs(
    work: pipeline.Work, plan: Plan, missing: list[Job], receipts: list[dict[str, PartRef]], workers: Workers
) -> int:
    """Do what is missing together with whoever else is doing it; returns when all jobs are done.

    Parameters
    ----------
    receipts : list of dict
        Per job of the plan and group, the part that holds it; filled.

    Returns
    -------
    int
        Events that ran through the backbone here.
    """
    total, n_run = sum(job.without(receipts[job.number]).n_forward for job in missing), 0
    with (
        Leases(work.root).hold() as leases,
        progress(f"extract {work.frozen.card.name}", total=total, unit="event") as bar,
    ):
        for job, records in workers.do(work, _claim(missing, work.root, receipts, leases)):
            receipts[job.number] |= {group: reference(record) for group, record in records.items()}
            leases.release(plan.jobs[job.number].lease)
            n_run += job.n_forward
            bar.advance(job.n_forward)
    return n_run


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


def _version(source: EventStore) -> str:
    return f"{source.snapshot.name}@{source.snapshot.version}"


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


def default_root(frozen: FrozenBackbone, source: EventStore, artifacts: Path) -> Path:
    """Where the features of a backbone on a data set lie, unless the settings say otherwise."""
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
