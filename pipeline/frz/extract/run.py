"""`frz extract`: a version of a feature store for a version of a data set.

Everything that earlier versions hold of it is pointed at; the rest is dealt to jobs. A job's parts are found by what
they are made from, so running again does only what is missing, whatever happened before.
"""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from frz import artifacts as names
from frz import seen
from frz.artifacts.places import MADE_WITH
from frz.config import parse
from frz.extract import canary, estimate
from frz.extract.cluster import Workers
from frz.extract.identity import identity_of, refuse_other, static_inputs
from frz.extract.memory import Peak
from frz.extract.opening import open_both, root_of
from frz.extract.plan import Plan, make_plan
from frz.extract.settings import FEATURES, Settings, feature_schema, group_of
from frz.extract.share import is_done, share_jobs
from frz.extract.work import Work
from frz.lineage import soft_differences
from frz.loading.frozen import FrozenBackbone
from frz.progress import note
from frz.store import atomic, snapshot
from frz.store.catalogue import Catalogue, PartEntry, Piece
from frz.store.codecs import FAST
from frz.store.lease import Leases
from frz.store.packed import packed
from frz.store.part import PartRef, committed
from frz.store.reader import EventStore
from frz.store.schema import EVENT, Schema, axis_of
from frz.store.snapshot import Snapshot

PART_BYTES = 256 << 20
"""A job ends before its features pass this."""


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
        Path, version, fingerprint, events, events run and taken, bytes in all (of values) and, where any is packed, as
        stored, seconds, and predicted against actual where there was a dry run; see `estimate.predict` for that.

    Raises
    ------
    FrzError
        If the checkpoint, the data set and the store do not belong together, or the disk is full.
    """
    began = time.monotonic()
    options, workers = parse(Settings, settings or {}, "extract"), workers or Workers()
    workers.begin()
    frozen, source = open_both(names.weights(ckpt, artifacts), artifacts, data, options.device)
    if frozen.report.left_out:
        note(f"{frozen.path}: {frozen.report}")
    _tell_other_data(frozen, source, artifacts)
    out = feature_schema(frozen.module, source.schema, options)
    root = root_of(options, frozen, source, artifacts)
    newest = snapshot.read(root)
    if newest is not None:
        refuse_other(newest, root, frozen, source, out, options)

    if dry_run:
        return _extract(frozen, source, out, options, root, newest, workers, None, began)
    snapshot.prepare_root(root)
    with Leases(root).hold() as leases:
        return _extract(frozen, source, out, options, root, newest, workers, leases, began)


def _extract(
    frozen: FrozenBackbone,
    source: EventStore,
    out: Schema,
    options: Settings,
    root: Path,
    newest: Snapshot | None,
    workers: Workers,
    leases: Leases | None,
    began: float,
) -> dict[str, Any]:
    """See `extract`; without leases a dry run."""
    identity = identity_of(frozen, source, out, options)
    history = (found for n in reversed(names.versions(root)) if (found := snapshot.read(root, n)) is not None)
    there = committed(root)
    work = Work(frozen, source, None, root, out, options)
    most = max(1, min(max(source.snapshot.parts.n_events), int(PART_BYTES // max(work.event_bytes, 1))))
    plan = make_plan(source, root, there, history, out, identity, frozen.module.targets, most)
    work = replace(work, earlier=plan.earlier.store if plan.earlier else None)
    receipts: list[dict[str, PartRef]] = [{} for _ in plan.jobs]
    missing = [job for job in plan.jobs if not is_done(job, root, receipts, there)]
    left = [job.without(receipts[job.number]) for job in missing]
    if any(job.n_forward for job in left):
        _settle(work, newest, plan, receipts)
    if newest is not None and (options.codec or left):
        _note_codecs(newest, out)
    if leases is None:
        if workers.elsewhere:
            note("predicted is the work of one process, not that of the workers")
        predicted = estimate.predict(work, left, identity, began)
        whole = {"path": str(root), "checkpoint": str(frozen.path), "data": _version(source), "events": source.n_events}
        return whole | predicted
    if any(job.n_forward for job in left):
        atomic.write_json(root / MADE_WITH, canary.made_with(frozen))
    with Peak() as memory:
        n_run = share_jobs(work, plan, missing, receipts, workers, leases)
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
            "backbone": {"name": frozen.card.name, "checkpoint": str(frozen.path), "data": frozen.card.data},
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
    leases.refuse_lost()
    done = snapshot.commit(root, lambda latest: made)
    compared = None  # what was predicted is one process, and of others neither time nor memory is seen
    if not workers.elsewhere:
        compared = estimate.compare(work, left, receipts, identity, n_run, time.monotonic() - began, memory.bytes)
    store = EventStore(root, done.version)
    any_packed = any(spec.codec != FAST for spec in out.arrays.values())  # it takes a look at every part
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
        **({"stored_bytes": sum(array.bytes for array in packed(store).values())} if any_packed else {}),
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
    root = root_of(options, frozen, source, artifacts)
    store = EventStore(root)
    refuse_other(store.snapshot, root, frozen, source, out, options)
    work = Work(frozen, source, None, root, out, options)
    differs = soft_differences(store.snapshot.about["made_with"], canary.made_with(frozen))
    found = {"path": str(root), "version": store.snapshot.version, "differs": differs}
    return found | canary.rerun(work, store, store.snapshot)


def _tell_other_data(frozen: FrozenBackbone, source: EventStore, artifacts: Path) -> None:
    """A line if this is not the data that the backbone was trained on: a warning if held-out events were."""
    card, data = frozen.card, frozen.card.data
    this = f"{_version(source)} ({source.snapshot.hash[:8]}, {source.n_events:,} events)"
    other = f"backbone {card.name} was trained on {data['name']}@{data['version']} ({data['hash'][:8]})"
    if warning := seen.warning(source, artifacts, {**data, "backbone": card.name}):
        note(warning)
    elif source.snapshot.hash != data["hash"]:
        note(f"this is {this}; {other}")


def _settle(work: Work, newest: Snapshot | None, plan: Plan, receipts: list[dict[str, PartRef]]) -> None:
    """Let canaries decide on what is there: the newest version, and what a run that was broken off has committed."""
    if newest is not None:
        canary.settle(work, newest.about["made_with"], EventStore.of(work.root, newest), newest)
    if any(FEATURES in held for held in receipts) and (work.root / MADE_WITH).is_file():
        begun = canary.committed(work.root, work.out, plan.jobs, receipts)
        canary.settle(work, names.read_json(work.root / MADE_WITH), begun, newest)


def _note_codecs(newest: Snapshot, out: Schema) -> None:
    """Say that another codec is for what is written from now on."""
    before = newest.event_schema.arrays
    if other := [name for name, spec in out.arrays.items() if name in before and before[name].codec != spec.codec]:
        some = f"{len(other)} arrays" if len(other) > 3 else ", ".join(other)
        note(f"{some}: another codec than before is for new parts; to pack all anew, give --set out=DIR")


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
