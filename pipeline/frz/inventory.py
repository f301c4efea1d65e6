"""What lies in the artifacts folder: one row per artifact, or all that is recorded about one.

Reads snapshots, cards, commit records and headers, never values, so it answers soon however large the arrays are.
"""

import json
import struct
from collections.abc import Mapping
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import Any

from frz import artifacts
from frz.config import digest_of
from frz.errors import CheckpointError, ConfigError, DamageError
from frz.store.codecs import Codec
from frz.store.packed import packed
from frz.store.part import committed, part_name
from frz.store.reader import EventStore

DEFAULT = Path("artifacts")
"""The folder that need not be there yet."""

FIDELITY = "fidelity.json"
"""Beside the snapshots of a feature store: reports of `frz extract --fidelity`, by what the features depend on."""


def listing(folder: Path, pattern: str = "") -> list[dict[str, Any]]:
    """One row per data set, feature store and run below the artifacts folder.

    Parameters
    ----------
    folder : Path
        The artifacts.
    pattern : str
        Text that is part of `kind/name@run`, or with wildcards (`*`, `?`, `[…]`) fits all of it, with or without kind.

    Returns
    -------
    list of dict
        By kind, oldest run first. Always kind, name, created (UTC, to the minute) and state (`finished`, `unfinished`:
        the command that makes it goes on with it, `empty`). Of stores: versions, and events of the newest version,
        which is the one named (None before there is one); of features the version of the data set. Of runs: newest
        (whether it is the finished run that the bare name means) and, None where a card has none, epochs, score (best
        value of the metric that decides), monitor (that metric and its better side) and the first eight digits of a
        backbone's fingerprint.

    Raises
    ------
    ConfigError
        If the folder is a file, or does not exist and is not the default.
    StoreError
        If a card or a snapshot is damaged.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError("is a file", where=str(folder), way_out="give the folder of the artifacts")
    if not folder.exists() and folder != DEFAULT:
        raise ConfigError("no such folder", where=str(folder), way_out="check the path, or make something in it first")
    rows: list[dict[str, Any]] = []
    for kind in artifacts.KINDS:
        for path in artifacts.entries(folder, kind):
            rows += [_of_store(kind, path)] if kind in ("datasets", "features") else _of_runs(kind, path)
    return [row for row in rows if _fits(f"{row['kind']}/{row['name']}", pattern)]


def _fits(name: str, pattern: str) -> bool:
    if not set("*?[") & set(pattern):
        return pattern in name
    return fnmatchcase(name, pattern) or fnmatchcase(name.partition("/")[2], pattern)


def _of_store(kind: str, path: Path) -> dict[str, Any]:
    numbers, newest = artifacts.versions(path), artifacts.latest_snapshot(path)
    data = newest["about"]["data"] if newest and kind == "features" else None
    return {
        "kind": kind,
        "name": f"{path.name}@{numbers[-1]}" if numbers else path.name,
        "created": _minute(newest),
        "state": "finished" if numbers else "unfinished" if committed(path) - {"zarr.json"} else "empty",
        "versions": len(numbers),
        "events": sum(newest["parts"]["n_events"]) if newest else None,
        **({"data": f"{data['name']}@{data['version']}" if data else None} if kind == "features" else {}),
    }


def _of_runs(kind: str, path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for run in artifacts.runs(path):
        card = artifacts.card(run)
        row = {
            "kind": kind,
            "name": f"{path.name}@{run.name}",
            "created": _minute(card),
            "state": "finished" if card.get("finished") else "unfinished",
            "newest": False,
            "epochs": card.get("epochs"),
            "score": card.get("score"),
            "monitor": _monitor(card),
        }
        rows.append(row | ({"fingerprint": card.get("fingerprint", "")[:8] or None} if kind == "backbones" else {}))
    if finished := [row for row in rows if row["state"] == "finished"]:
        finished[-1]["newest"] = True
    return rows


def _monitor(card: dict[str, Any]) -> str | None:
    """`val/q/auc (max)`: the metric that a score is of, and which of its values are better."""
    if card.get("score") is None:
        return None
    return f"{card.get('monitor', 'val/loss')} ({card.get('monitor_mode', 'min')})"


def _minute(record: dict[str, Any]) -> str | None:
    """`2026-01-31 12:59`."""
    return str(record.get("created", ""))[:16].replace("T", " ") or None


def describe(spec: str, folder: Path) -> dict[str, Any]:
    """All that is recorded about what `spec` names.

    Raises
    ------
    FrzError
        If nothing or several things have the name, or what it names is damaged.
    """
    found = artifacts.find(spec, folder)
    if found.version is not None:
        return describe_store(found.path, found.version)
    return describe_run(found.path)


def describe_store(path: Path, version: int) -> dict[str, Any]:
    """Sizes, arrays, splits and provenance of one version of an event store, and what its types cost if measured.

    `bytes` are those of the values, `stored_bytes` those of the files that hold them, offsets with them; `codec` is
    what the stored parts have, a list of them where they differ.

    Raises
    ------
    StoreError
        If the snapshot is missing or damaged.
    """
    store = EventStore(path, version)
    snapshot, schema = store.snapshot, store.schema
    counts = {axis: sum(column) for axis, column in snapshot.parts.counts.items()}
    largest, stored = snapshot.largest(), packed(store)
    arrays = {
        name: {
            "dtype": array.dtype,
            "shape": ["n", *array.shape],
            "role": array.role,
            "unit": array.unit,
            "codec": _one_or_all(stored[name].codecs) if name in stored else array.codec,
            "bytes": store.nbytes(name),
            "stored_bytes": stored[name].bytes if name in stored else 0,
            "description": array.description,
        }
        for name, array in sorted(schema.arrays.items())
    }
    return {
        "name": snapshot.name,
        "path": str(path),
        "version": snapshot.version,
        "versions": artifacts.versions(path),
        "created": snapshot.created,
        "hash": snapshot.hash,
        "events": store.n_events,
        "parts": store.n_parts,
        "parts_in_place": _in_place(store),
        "bytes": sum(array["bytes"] for array in arrays.values()),
        "stored_bytes": sum(array.bytes for array in stored.values()),
        "splits": {name: _n_events(store, name) for name in snapshot.split.fractions},
        "axes": {
            name: {
                "parent": axis.parent,
                "members": counts.get(name) if axis.length is None else f"{axis.length} each",
                "largest": largest.get(name),
            }
            for name, axis in schema.axes.items()
        },
        "arrays": arrays,
        "static": sorted(schema.static),
        "about": snapshot.about,
        **_fidelity(store),
    }


def fidelity_key(fingerprint: str, recipe: Mapping[str, Any], static: Mapping[str, str]) -> str:
    """What features depend on beside the event, before they are rounded to the types they are stored in."""
    return digest_of([fingerprint, recipe, static])


def _fidelity(store: EventStore) -> dict[str, Any]:
    """What the types of a feature store were measured to cost ({} if they were not)."""
    file, about = store.root / FIDELITY, store.snapshot.about
    if not file.is_file():
        return {}
    key = fidelity_key(about["fingerprint"]["value"], about["recipe"], about["static"])
    if (report := artifacts.read_json(file).get(key)) is None:
        return {}
    types = {name: store.schema.arrays[name].dtype for name in report["arrays"]}
    numbers = ("error", "largest_error", "unfit")
    rows = {name: {"dtype": t, **{n: report["arrays"][name][t][n] for n in numbers}} for name, t in types.items()}
    found: dict[str, Any] = {
        **{k: report[k] for k in ("data", "measured", "train_events", "val_events")},
        "arrays": rows,
    }
    head, change = report["head"], next((m["head"] for m in report["together"].values() if m["types"] == types), None)
    if head and change:
        found["head"] = {
            k: {"exact": v, "stored": v + change[k], "spread": head["spread"][k]}
            for k, v in head["metrics"].items()
            if k in head["main"]
        }
    return {"fidelity": found}


def _in_place(store: EventStore) -> str:
    """Whether all committed parts are there; what is in them is not looked at."""
    named = _named(store)
    missing = len(named - committed(store.root))
    return f"{missing} of {len(named)} missing: run 'frz verify {store.root}'" if missing else "all"


def is_complete(store: EventStore) -> bool:
    """Whether all parts of a version are there; what is in them is not looked at."""
    return _named(store) <= committed(store.root)


def _named(store: EventStore) -> set[str]:
    return {part_name(group, key) for group, pieces in store.snapshot.parts.groups.items() for key in pieces.key}


def _one_or_all(codecs: list[Codec]) -> Codec | list[Codec]:
    return codecs[0] if len(codecs) == 1 else codecs


def _n_events(store: EventStore, split: str) -> int | None:
    """Events of a split; None if they cannot be read."""
    try:
        return len(store.split(split))
    except DamageError:
        return None


def describe_run(path: Path) -> dict[str, Any]:
    """Card, weights and files of a training run.

    Raises
    ------
    CheckpointError
        If a weight file is damaged.
    """
    files = sorted(file for file in path.iterdir() if file.is_file())
    return {
        "name": f"{path.parent.name}@{path.name}",
        "path": str(path),
        "weights": {file.stem: _weights(file) for file in files if file.suffix == ".safetensors"},
        "files": {file.name: file.stat().st_size for file in files},
        "card": artifacts.card(path),
    }


def _weights(file: Path) -> dict[str, Any]:
    """Tensors and numbers of a safetensors file, from its header: 8 bytes of length, then JSON."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > file.stat().st_size:
                raise ValueError("header longer than the file")
            header = json.loads(stream.read(length))
        tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
        return {
            "tensors": len(tensors),
            "numbers": sum(prod(tensor["shape"]) for tensor in tensors),
            "dtypes": sorted({tensor["dtype"] for tensor in tensors}),
        }
    except (ValueError, KeyError, TypeError, AttributeError, struct.error):
        raise CheckpointError(
            "not a whole safetensors file", where=str(file), way_out="put a copy back, or train again"
        ) from None


def referring(store: Path, version: int, folder: Path) -> list[str]:
    """Runs below the artifacts folder, finished or not, whose card or config holds the hash of a version of a store."""
    snapshot = store / "snapshots" / f"{version}.json"
    if not snapshot.exists():
        return []
    wanted = artifacts.read_json(snapshot)["hash"]
    found = []
    for kind in ("backbones", "heads"):
        for run in (run for path in artifacts.entries(folder, kind) for run in artifacts.runs(path)):
            files = [file for file in (run / "card.json", run / "config.yaml") if file.is_file()]
            if any(wanted in file.read_text(errors="replace") for file in files):
                found.append(f"{kind}/{run.parent.name}@{run.name}")
    return found
