"""`frz extract`: which runs of events lack features, and the run over them.

A feature part is found by what it was made from (event keys, fingerprint, recipe), so running again does
only what is missing, whatever happened before.
"""

from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from frz import artifacts as names
from frz.config import digest_of, parse
from frz.errors import ConfigError, IdentityError
from frz.extract import engine
from frz.extract.settings import ANNOTATION, CARRIED, FEATURES, Settings, feature_schema, group_of
from frz.lineage import Fingerprint, differences, versions
from frz.loading.frozen import FrozenBackbone
from frz.progress import progress
from frz.store import snapshot
from frz.store.part import CommitRecord, find_part, open_part, write_part
from frz.store.reader import EventStore
from frz.store.schema import KEY, EventArrays, Schema
from frz.store.snapshot import Snapshot, entry
from frz.training.config import pick_device

PART_BYTES = 256 << 20


class Run(NamedTuple):
    """Events [first, last) of the data set, and the keys of the parts that hold what is known of them."""

    first: int
    last: int
    keys: dict[str, str]


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
        Path, version, fingerprint, events, events run and taken, bytes, events per second.

    Raises
    ------
    FrzError
        If the checkpoint, the data set and the store do not belong together, or the disk is full.
    """
    options = parse(Settings, settings or {}, "extract")
    frozen, source = open_both(names.weights(ckpt, artifacts), artifacts, data, options.device)
    out = feature_schema(frozen.module, source.schema, options)
    root = options.out or _default_root(frozen, source, artifacts)
    refuse_other_weights(root, frozen.fingerprint)

    snapshot.prepare_root(root)
    plan = plan_runs(frozen, source, out, options)
    missing = sum(run.last - run.first for run in plan if find_part(root, FEATURES, run.keys[FEATURES]) is None)
    entries = []
    with progress(f"extract {frozen.card.name}", total=source.n_events, unit="event") as bar:
        for run in plan:
            entries.append(entry(_records(frozen, source, root, run, out, options)))
            bar.advance(run.last - run.first)
    about = {
        "fingerprint": frozen.fingerprint.model_dump(mode="json"),
        "backbone": {"name": frozen.card.name, "checkpoint": str(frozen.path)},
        "data": {"name": source.snapshot.name, "version": source.snapshot.version, "hash": source.snapshot.hash},
        "recipe": options.recipe(),
        "made_with": versions() | {"device": str(frozen.device), "threads": str(torch.get_num_threads())},
    }
    made = Snapshot(name=root.name, event_schema=out, split=source.snapshot.split, parts=tuple(entries), about=about)
    done = snapshot.commit(root, lambda latest: made)
    store = EventStore(root, done.version)
    return {
        "path": str(root),
        "version": done.version,
        "checkpoint": str(frozen.path),
        "fingerprint": frozen.fingerprint.value,
        "data": f"{source.snapshot.name}@{source.snapshot.version}",
        "events": store.n_events,
        "events_run": missing,
        "events_taken": store.n_events - missing,
        "parts": store.n_parts,
        "bytes": sum(store.nbytes(name) for name in out.arrays),
    }


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


def refuse_other_weights(root: Path, mine: Fingerprint) -> None:
    """Refuse to add features of other weights to a store.

    Raises
    ------
    IdentityError
        With both fingerprints and what differs, by name.
    """
    there = snapshot.read(root)
    if there is None:
        return
    theirs = Fingerprint.model_validate(there.about["fingerprint"])
    if theirs.value != mine.value:
        raise IdentityError(
            f"this store was written by weights {theirs.value[:12]}, asked for are {mine.value[:12]}: "
            f"{differences(theirs, mine)} ({there.n_events} events would have to run again)",
            where=str(root),
            way_out="leave out 'out' to get a store of their own, or give another folder",
        )


def _default_root(frozen: FrozenBackbone, source: EventStore, artifacts: Path) -> Path:
    name = names.features_name(frozen.card.name, frozen.fingerprint.value)
    if source.snapshot.name != frozen.card.data["name"]:
        name += f"-{source.snapshot.name}"
    return names.store_path(artifacts, "features", name)


def plan_runs(frozen: FrozenBackbone, source: EventStore, out: Schema, options: Settings) -> list[Run]:
    """Cut the data set into runs: its own parts, or less where features would pass 256 MB."""
    event_bytes = _feature_bytes(frozen, source, out)
    made_from = {"fingerprint": frozen.fingerprint.value, "recipe": options.recipe(), "static": source.snapshot.static}
    outputs = group_of(out, FEATURES).digest()
    carried = group_of(out, CARRIED)
    annotated = group_of(out, ANNOTATION).digest()
    runs = []
    for index, part in enumerate(source.snapshot.parts):
        begin, end = int(source.part_bounds[index]), int(source.part_bounds[index + 1])
        event_keys = np.ascontiguousarray(source.part(index, [KEY])[KEY])
        step = max(1, min(part.n_events, int(PART_BYTES // max(event_bytes, 1))))
        for first in range(begin, end, step):
            last = min(first + step, end)
            identity = sha256(event_keys[first - begin : last - begin].tobytes()).hexdigest()
            features = digest_of([made_from, outputs, identity])
            origin = [part.groups["events"].model_dump(), first - begin, last - begin]
            keys = {FEATURES: features, CARRIED: digest_of([origin, carried.digest()])}
            if frozen.module.annotations:
                keys[ANNOTATION] = digest_of([features, origin, annotated])
            runs.append(Run(first, last, keys))
    return runs


def _feature_bytes(frozen: FrozenBackbone, source: EventStore, out: Schema) -> float:
    """Mean bytes of features per event (axes that only the backbone fills count as one member each)."""
    total = 0.0
    for name, spec in group_of(out, FEATURES).arrays.items():
        members = 1.0
        for axis in out.lineage(name.partition("/")[0]):
            length = out.axes[axis].length
            if length is not None:
                members *= length
            elif axis in source.schema.axes:
                members = sum(part.counts.get(axis, 0) for part in source.snapshot.parts) / max(source.n_events, 1)
        total += members * np.dtype(spec.dtype).itemsize * float(np.prod(spec.shape))
    return total


def _records(
    frozen: FrozenBackbone, source: EventStore, root: Path, run: Run, out: Schema, options: Settings
) -> dict[str, CommitRecord]:
    """Commit records of every group of a run; what is missing is made now."""
    found = {group: find_part(root, group, key) for group, key in run.keys.items()}

    def write(group: str, arrays: EventArrays) -> None:
        found[group] = write_part(root, group, run.keys[group], group_of(out, group), arrays)

    if found[CARRIED] is None:
        write(CARRIED, source.range(run.first, run.last, group_of(out, CARRIED).arrays))
    if (committed := found[FEATURES]) is None:
        features = engine.run_of(frozen.module, source, run.first, run.last, out, options, frozen.device)
        write(FEATURES, features)
    elif ANNOTATION in found and found[ANNOTATION] is None:
        part = open_part(root, FEATURES, committed)
        features = {name: part[name] for name in part.record.arrays}
    if ANNOTATION in found and found[ANNOTATION] is None:
        write(ANNOTATION, engine.annotate(frozen.module, source, run.first, run.last, features, out, options))
    return {group: record for group, record in found.items() if record is not None}
