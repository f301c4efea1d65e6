"""`frz extract --fidelity`: what each float type saves in bytes, and costs in exactness and to a head.

Particular: a reference head trained on exact features reads the same events rounded, so that a change is that of the
types alone. Truth and its matching to the features stay those of the exact features.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from frz import artifacts as names
from frz.config import StrictModel, parse, read_yaml
from frz.errors import StoreError
from frz.extract import engine
from frz.extract.opening import open_both, root_of
from frz.extract.settings import ANNOTATION, Settings, feature_schema
from frz.inventory import FIDELITY, fidelity_key
from frz.joint.reference import Reference, reference
from frz.loading.frozen import FrozenBackbone
from frz.store import atomic, snapshot
from frz.store.reader import EventStore
from frz.store.schema import EventArrays, Schema, axis_of
from frz.store.table import EventTable

TYPES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Types compared, with their bytes; `float32` is the exact one."""
MAIN = ("accuracy", "auc", "width", "relative_width", "r2")
"""Last words of the metrics that people are shown; a head that has none of them shows all."""
SAMPLE_BYTES = 1 << 30
"""The sample is made smaller where its exact features would pass this."""


class FidelityConfig(StrictModel):
    """Settings of the comparison."""

    head: Path | None = None
    """Config of the reference head; default a short training of the plain regression head, or a linear probe."""
    train_events: int = Field(default=2000, ge=1)
    """Events of the training split that the reference head learns from."""
    val_events: int = Field(default=1000, ge=1)
    """Events of the validation split that it is judged on."""
    seeds: int = Field(default=3, ge=2)
    """Versions of the head; their spread is the yardstick of a change."""


class _Beside(StrictModel):
    """The key that stands beside those of an extraction."""

    fidelity: FidelityConfig = FidelityConfig()


def fidelity(
    ckpt: str, artifacts: Path, data: str | None = None, settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Measure on a sample what each type would do to the features of a backbone.

    Parameters
    ----------
    ckpt, artifacts, data, settings
        As for `extract`; `settings` may have a key `fidelity`, see `FidelityConfig`.

    Returns
    -------
    dict
        `arrays`: per float array and type, `bytes_per_event` (float), `bytes` of the whole data set, `error` (RMS error
        relative to the RMS of the array) and `largest_error` over values that fit, `unfit` (values beyond the type) and
        `head`: change of each metric if this array alone is rounded (None where values do not fit: extraction refuses
        them). `together`: bytes and `head` with all arrays in one type, and in the types that `settings` ask for
        (`asked`). `head`: what it is, its metrics on exact features (mean over seeds), `spread` (standard deviation
        over seeds), and which of them are `main` ones. It is None where no head fits. The report is kept beside the
        snapshots of the feature store, and shown by `frz show`.

    Raises
    ------
    FrzError
        If checkpoint, data set and head do not fit together, or there is no event.
    """
    values = dict(settings or {})
    asked = parse(_Beside, {"fidelity": values.pop("fidelity", {})}, "extract").fidelity
    options = parse(Settings, values, "extract")
    frozen, source = open_both(names.weights(ckpt, artifacts), artifacts, data, options.device)
    out = feature_schema(frozen.module, source.schema, options)
    floats = {name: out.arrays[name].dtype for name in frozen.module.outputs if out.arrays[name].dtype in TYPES}
    exact = _exact(out, floats)
    train, val = _samples(source, asked, _bytes_per_event(source, exact, floats, None))
    table = EventTable(exact, features_of(frozen, source, np.concatenate((train, val)), exact, options))
    judge = None
    if len(train) and len(val):
        head = read_yaml(asked.head) if asked.head else None
        judge = reference(head, EventTable(exact, table.range(0, len(train))), asked.seeds)
    report = {
        "backbone": frozen.card.name,
        "fingerprint": frozen.fingerprint.value,
        "data": f"{source.snapshot.name}@{source.snapshot.version}",
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "train_events": len(train),
        "val_events": len(val),
        "asked": floats,
        **compare(table, len(train), floats, judge, _bytes_per_event(source, exact, floats, table), source.n_events),
    }
    root = root_of(options, frozen, source, artifacts)
    _keep(root, fidelity_key(frozen.fingerprint.value, options.recipe(), source.snapshot.static), report)
    return {"path": str(root / FIDELITY), **report}


def compare(
    table: EventTable,
    n_train: int,
    asked: Mapping[str, str],
    judge: Reference | None,
    per_event: Mapping[str, float],
    n_events: int,
) -> dict[str, Any]:
    """The numbers of the report.

    Parameters
    ----------
    table : EventTable
        Exact features; the head learned from the first `n_train` events and is judged on the others.
    asked : mapping
        Type asked for, by float array.
    judge : Reference, optional
        The trained head.
    per_event : mapping
        Bytes of each array per event in float32.
    n_events : int
        Events of the data set.
    """
    val = table.range(n_train, table.n_events)
    base = judge.metrics(val) if judge else []

    def size(types: Mapping[str, str]) -> dict[str, float]:
        total = sum(per_event[name] * TYPES[dtype] / TYPES["float32"] for name, dtype in types.items())
        return {"bytes_per_event": total, "bytes": round(total * n_events)}

    def change(types: Mapping[str, str]) -> dict[str, float] | None:
        """Mean change of each metric over the seeds."""
        if not all(fits[name, dtype] for name, dtype in types.items()):
            return None
        read = [name for name in types if judge and name in judge.needs and types[name] != "float32"]
        if not judge or not read:
            return _means([dict.fromkeys(metrics, 0.0) for metrics in base])
        found = judge.metrics(val | {name: rounded(val[name], types[name]) for name in read})
        return _means([{k: new[k] - old[k] for k in old} for new, old in zip(found, base, strict=True)])

    errors = {(name, dtype): rounding(table.array(name), dtype) for name in asked for dtype in TYPES}
    fits = {key: error["unfit"] == 0 for key, error in errors.items()}
    arrays = {
        name: {t: {**size({name: t}), **errors[name, t], "head": change({name: t})} for t in TYPES} for name in asked
    }
    mixes = {dtype: dict.fromkeys(asked, dtype) for dtype in TYPES} | {"asked": dict(asked)}
    together = {mix: {"types": types, **size(types), "head": change(types)} for mix, types in mixes.items()}
    return {"arrays": arrays, "together": together, "head": _head(judge, base) if judge else None}


def rounded(values: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    """Values as they come back from a store of that type: rounded to nearest even, beyond its range infinite."""
    return np.asarray(torch.from_numpy(np.require(values, requirements=["C", "W"])).to(getattr(torch, dtype)).float())


def rounding(values: NDArray[np.float32], dtype: str) -> dict[str, float]:
    """`error`, `largest_error` and `unfit` of a type; see `fidelity`."""
    found = rounded(values, dtype)
    fits = np.isfinite(found)
    difference, kept = np.where(fits, found - values, 0), np.where(fits, values, 0)
    scale, error = (float(np.sqrt(np.sum(np.square(x, dtype=np.float64)))) for x in (kept, difference))
    return {
        "error": error / scale if scale else 0.0,
        "largest_error": float(np.abs(difference).max(initial=0)),
        "unfit": int(fits.size - np.count_nonzero(fits)),
    }


def features_of(
    frozen: FrozenBackbone, source: EventStore, positions: NDArray[np.int64], out: Schema, settings: Settings
) -> EventArrays:
    """Arrays of schema `out` for the events at `positions`, as extraction makes them."""
    module, device = frozen.module, frozen.device
    made = engine.features_of(module, source, positions, out, settings, device)
    carried = [name for name, spec in out.arrays.items() if name not in made and spec.group != ANNOTATION]
    if module.annotations:
        made |= engine.annotate(module, source, positions, made, out, settings, device)
    return made | source.events(positions, carried)


def _exact(out: Schema, floats: Mapping[str, str]) -> Schema:
    """The schema with the float features in float32."""
    exact = {name: out.arrays[name].model_copy(update={"dtype": "float32"}) for name in floats}
    return out.model_copy(update={"arrays": {**out.arrays, **exact}})


def _samples(
    source: EventStore, asked: FidelityConfig, per_event: Mapping[str, float]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions to learn from and to judge on, ascending; of any events, to judge on, where one of the splits is empty.

    Raises
    ------
    StoreError
        If the data set has no event.
    """
    if not source.n_events:
        raise StoreError("the data set has no event", where=str(source.root), way_out="take another one with --data")
    splits = source.snapshot.split.fractions
    train, val = (source.split(name) if name in splits else np.zeros(0, np.int64) for name in ("train", "val"))
    if not len(train) or not len(val):
        train, val = np.zeros(0, np.int64), np.arange(source.n_events)
    share = min(1.0, SAMPLE_BYTES / (sum(per_event.values()) * (asked.train_events + asked.val_events) + 1))
    draw = np.random.default_rng(0)
    wanted = ((train, asked.train_events), (val, asked.val_events))
    first, second = (
        np.sort(draw.choice(there, min(len(there), max(1, int(share * n))), replace=False)) if len(there) else there
        for there, n in wanted
    )
    return first, second


def _bytes_per_event(
    source: EventStore, schema: Schema, floats: Mapping[str, str], sample: EventTable | None
) -> dict[str, float]:
    """Mean bytes of each array in float32 over all events; axes that only the features have as in the sample."""
    counts = source.snapshot.parts.counts
    found = {}
    for name in floats:
        members = 1.0
        for axis in schema.lineage(axis_of(name)):
            if (length := schema.axes[axis].length) is not None:
                members *= length
            elif axis in counts:
                members = sum(counts[axis]) / source.n_events
            elif sample is not None:
                members = float(sample.lengths(axis).mean())
        found[name] = members * prod(schema.arrays[name].shape) * TYPES["float32"]
    return found


def _means(values: list[dict[str, float]]) -> dict[str, float]:
    """Mean over seeds of each metric."""
    return {key: float(np.mean([metrics[key] for metrics in values])) for key in (values[0] if values else {})}


def _head(judge: Reference, base: list[dict[str, float]]) -> dict[str, Any]:
    """What the reference head is, and how it does on exact features."""
    spread = {key: float(np.std([metrics[key] for metrics in base], ddof=1)) for key in base[0]}
    main = [key for key in base[0] if key.rpartition("/")[2] in MAIN]
    return {**judge.about, "metrics": _means(base), "spread": spread, "main": main or list(base[0])}


def _keep(root: Path, key: str, report: dict[str, Any]) -> None:
    """Put the report beside the snapshots of the feature store; reports of other recipes stay."""
    snapshot.prepare_root(root)
    file = root / FIDELITY
    there = names.read_json(file) if file.is_file() else {}
    atomic.write_json(file, {**there, key: report})
