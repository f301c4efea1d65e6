"""Canaries: a few stored events are run again, and how far they come out from what is stored decides.

Code, library versions and devices do not say whether they change a result; running does. What batch composition alone
changes is measured when features are made, so the tolerance is a property of the backbone and its machine, not a guess.
Differences are counted in units: the last place of the stored type at the array's root mean square.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.backbones.contract import BACKBONES
from frz.errors import IdentityError
from frz.extract import engine
from frz.extract.identity import to_redo, workplace
from frz.extract.jobs import Job
from frz.extract.pipeline import to_run
from frz.extract.settings import FEATURES
from frz.extract.work import Work
from frz.lineage import code_digests, imported, soft_differences, versions
from frz.loading.frozen import FrozenBackbone
from frz.progress import note
from frz.store import ragged
from frz.store.catalogue import Catalogue, PartEntry, Piece
from frz.store.part import PartRef
from frz.store.ragged import Index
from frz.store.reader import EventStore
from frz.store.schema import KEY, EventArrays, Schema, axis_of
from frz.store.snapshot import Snapshot

N_CANARIES = 16
MOST_JOBS = 256
"""Canaries of an extraction are chosen among the events of at most so many of its jobs."""
LEAST_UNITS, SAFETY = 4.0, 4.0
"""Tolerance of an array: so many units, or so many times what batch composition changed."""
MANTISSA_BITS = {"bfloat16": 7, "float16": 10, "float32": 23, "float64": 52}


def made_with(frozen: FrozenBackbone) -> dict[str, Any]:
    """What features depend on softly: versions, device, threads, and digests of the code of a forward pass."""
    module = BACKBONES.get(frozen.card.family, frozen.card.family).partition(":")[0]
    inside = ("frz.backbones", "frz.extract", "frz.loading")
    return versions() | workplace(frozen) | {"code": code_digests(imported([module, engine.__name__], inside))}


def measure(work: Work, jobs: Sequence[Job], stored: EventStore, before: Mapping[str, Any]) -> dict[str, Any]:
    """What batch composition alone changes: canaries of events that were just made, run in a batch of their own.

    Parameters
    ----------
    jobs : sequence of Job
        That ran.
    stored : EventStore
        All events of the data set, in its order.
    before : mapping
        What was measured when earlier versions were made: of each array the larger counts.

    Returns
    -------
    dict
        `events` (ids), and `units` and `absolute` per array; see `compare`.
    """
    ran = [job for job in jobs if job.n_forward]
    some = [ran[i] for i in np.unique(np.linspace(0, len(ran) - 1, min(len(ran), MOST_JOBS)).astype(int))]
    positions = np.concatenate([np.zeros(0, np.int64), *(np.asarray(to_run(job)) for job in some)])
    report = _rerun(work, stored, positions, positions, {})

    def largest(key: str) -> dict[str, float]:
        return {name: max(row[key], before.get(key, {}).get(name, 0.0)) for name, row in report["arrays"].items()}

    return {"events": report["events"], "units": largest("units"), "absolute": largest("absolute")}


def settle(work: Work, there: Mapping[str, Any], stored: EventStore, about: Snapshot | None) -> None:
    """Let canaries decide whether what is made here may stand beside what is stored.

    Parameters
    ----------
    there : mapping
        `made_with` of what is stored.
    stored : EventStore
        Features of the same identity.
    about : Snapshot, optional
        Has measured what batch composition changes, and what an event costs.

    Raises
    ------
    IdentityError
        If they come out differently: what differs, how far, and what doing all again would cost.
    """
    differs = soft_differences(there, made_with(work.frozen))
    if not differs:
        return
    report = rerun(work, stored, about)
    words = "; ".join(differs)
    if not report["events"]:  # nothing that is stored will stand in the new version
        return
    if report["within"]:
        worst = max((row["units"] for row in report["arrays"].values()), default=0.0)
        note(
            f"made with other {words}: {len(report['events'])} canaries agree, largest difference "
            f"{worst:.3g} units in the last place"
        )
        return
    rows = report["arrays"].items()
    far = [f"{n} {r['units']:.3g} units (at most {r['tolerance']:.3g})" for n, r in rows if r["units"] > r["tolerance"]]
    far += [f"members of {axis} in {n} canaries" for axis, n in report["members_differ"].items() if n]
    raise IdentityError(
        f"features come out differently here: {', '.join(far)}, in {len(report['events'])} canaries. Made with other "
        f"{words}. {to_redo(about) if about else f'To redo: {stored.n_events} events'}",
        where=str(work.root),
        way_out="go back to what they were made with, or give new features a store of their own with --set out=DIR",
    )


def rerun(work: Work, stored: EventStore, about: Snapshot | None) -> dict[str, Any]:
    """Run canaries among the stored events that the data set has too, and compare.

    Returns
    -------
    dict
        `events` (ids of the canaries); per array `units`, `tolerance` (units) and `absolute`; `members_differ`: per
        axis, canaries that have other members; `within`: whether all that is within tolerance.
    """
    ours, theirs = (np.ascontiguousarray(store.array(KEY)).view(np.uint64) for store in (work.source, stored))
    _, at, where = np.intersect1d(ours[:, 0], theirs[:, 0], return_indices=True)
    same = ours[at, 1] == theirs[where, 1]
    measured = about.about.get("canaries", {}).get("units", {}) if about else {}
    return _rerun(work, stored, at[same], where[same], measured)


def committed(root: Path, out: Schema, jobs: Sequence[Job], receipts: Sequence[Mapping[str, PartRef]]) -> EventStore:
    """Features of jobs that an extraction which was broken off has committed."""
    made = [
        PartEntry(len(job.positions), {FEATURES: (Piece(*held[FEATURES], 0, len(job.positions)),)}, {}, {})
        for job, held in zip(jobs, receipts, strict=True)
        if FEATURES in held
    ]
    return EventStore.of(root, Snapshot.model_construct(event_schema=out, parts=Catalogue.of(made)))


def choose(lengths: Index, keys: NDArray[np.uint64]) -> Index:
    """The longest event, the shortest, and those of the smallest keys (n,): at most `N_CANARIES` positions."""
    if not len(keys):
        return np.zeros(0, np.int64)
    longest, shortest = np.lexsort((keys, -lengths))[0], np.lexsort((keys, lengths))[0]
    return np.array(list(dict.fromkeys([longest, shortest, *np.argsort(keys, kind="stable")]))[:N_CANARIES])


def _rerun(work: Work, stored: EventStore, at: Index, where: Index, measured: Mapping[str, float]) -> dict[str, Any]:
    """Compare canaries among the events at `at` in the data set, which are at `where` in the store."""
    source, frozen = work.source, work.frozen
    keys = np.ascontiguousarray(source.events(at, [KEY])[KEY]).view(np.uint64)[:, 0]
    chosen = choose(engine.lengths_of(frozen.module, source, at), keys)
    at, where, schema = at[chosen], where[chosen], engine.computed(work.out)
    rows: dict[str, dict[str, float]] = {}
    apart: dict[str, int] = {}
    if len(at):
        again = engine.features_of(frozen.module, source, at, work.out, work.settings, frozen.device)
        rows, apart = compare(stored.events(where, schema.arrays), again, schema)
    for name, row in rows.items():
        row["tolerance"] = max(SAFETY * measured.get(name, 0.0), LEAST_UNITS)
    return {
        "events": source.events(at, ["event/id"])["event/id"].tolist(),
        "arrays": rows,
        "members_differ": apart,
        "within": all(row["units"] <= row["tolerance"] for row in rows.values())
        and all(4 * n <= len(at) for n in apart.values()),
    }


def compare(
    stored: EventArrays, again: EventArrays, schema: Schema
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """How far features of the same events are from each other.

    A backbone may keep members by a threshold, so their number may change by rounding. Where an event has other
    members, or other whole numbers, its floats on that axis have no counterparts and are left out.

    Returns
    -------
    rows : dict
        Per float array, its largest difference: `units` and `absolute`.
    apart : dict
        Per axis on which features bring members or whole numbers of their own, the events with others.
    """
    rows: dict[str, dict[str, float]] = {}
    apart: dict[str, int] = {}
    for axis in dict.fromkeys(axis_of(name) for name in schema.arrays):
        names = [name for name in schema.arrays if axis_of(name) == axis]
        floats = [name for name in names if schema.arrays[name].dtype in MANTISSA_BITS]
        whole = [name for name in names if name not in floats]
        steps = [f"{step}/offsets" for step in schema.lineage(axis) if schema.axes[step].length is None]
        same = ragged.equal_events(stored, again, schema, whole)
        for step in steps:
            name = step.partition("/")[0]
            same &= ragged.lengths(stored, schema, name) == ragged.lengths(again, schema, name)
        if whole or not same.all():
            apart[axis] = int((~same).sum())
        alike = np.flatnonzero(same)
        one, other = (
            ragged.take({n: arrays[n] for n in [*steps, *floats]}, schema, alike) for arrays in (stored, again)
        )
        for name in floats:
            x, y = one[name].astype(np.float64), other[name].astype(np.float64)
            across = 0 if schema.arrays[name].columns else None  # columns have scales of their own
            unit = _unit(np.sqrt(np.mean(x**2, axis=across)) if x.size else np.zeros(1), schema.arrays[name].dtype)
            difference = np.abs(x - y)
            rows[name] = {
                "units": float((difference / unit).max(initial=0)),
                "absolute": float(difference.max(initial=0)),
            }
    return rows, apart


def _unit(scale: NDArray[np.float64], dtype: str) -> NDArray[np.float64]:
    """The last place of a float type at some size; where all is zero, that of the smallest float32."""
    exponent = np.floor(np.log2(np.maximum(scale, np.finfo(np.float32).tiny)))
    return np.asarray(2.0 ** (exponent - MANTISSA_BITS[dtype]))
