"""`frz evaluate`: what a backbone or a head is worth on a split, from stored features.

Tracking numbers come in two orders: by slot, as the truth matching orders them (what training sees), and in
inference order (what a user gets). Wedges are merged back to their collision first.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz import artifacts as names
from frz import seen
from frz.config import parse
from frz.errors import CheckpointError, ConfigError, StoreError
from frz.evaluation.binning import binned
from frz.evaluation.classification import Judged, judge
from frz.evaluation.fields import bin_edges
from frz.evaluation.hitsets import HitSets, predicted_tracks, true_tracks
from frz.evaluation.matching import Matching, match
from frz.evaluation.merging import merge, parent_truth
from frz.evaluation.parts import parts_of
from frz.evaluation.settings import EvaluateSettings
from frz.evaluation.slots import score_slots
from frz.evaluation.tracking import found, score
from frz.heads.features import Features, find_features
from frz.heads.pairs import assignment_arrays
from frz.heads.prefix import prepare
from frz.heads.run import load_head, predict
from frz.location import make_place
from frz.store.reader import EventStore
from frz.store.schema import GROUP, ID, EventArrays, column

WEDGES = "hit/parent_hit"
PHI_EDGES = tuple(np.linspace(-np.pi, np.pi, 17).tolist())


def evaluate(target: str, artifacts: Path, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Measure a backbone or a head.

    Parameters
    ----------
    target : str
        A backbone or a head: name, run or folder.
    artifacts : Path
        Where artifacts lie.
    settings : mapping, optional
        See `EvaluateSettings`.

    Returns
    -------
    dict
        First what was measured: run, features, data set, split. For a backbone then `slots`, `tracking`, `binned`; for
        a head its metrics beside those of its yardstick, and by field of classes what `Judged` tells in `classes`.
        `report` is the path of the report.

    Raises
    ------
    FrzError
        If the target is not there, its features are missing, or the report cannot be written.
    """
    options = parse(EvaluateSettings, settings or {}, "evaluate")
    if options.report is not None:
        make_place(options.report)
    found_target = names.find(target, artifacts, ("backbones", "heads", "features"))
    folder = found_target.path.resolve()
    run = f"{folder.parent.name}@{folder.name}"
    backbone: str | None = None
    head: str | None = None
    tracking: dict[str, Any] | None = None
    judged: list[Judged] = []
    if found_target.kind == "heads":
        head = target
        result, judged = evaluate_head(target, artifacts, options)
        result = {"head": run, "weights": names.head(target, artifacts).weights} | result
        newest = "'frz extract', then 'frz train-head' use the newest"
    else:
        if found_target.kind == "features":
            store = EventStore(found_target.path, found_target.version)
        else:
            card = names.card(found_target.path)
            if "fingerprint" not in card:
                way_out = "run train-backbone again"
                raise CheckpointError("this run is not finished", where=str(found_target.path), way_out=way_out)
            backbone = run
            store = find_features(Features(backbone=backbone, data=card["data"]["name"]), artifacts)
        tracking = _origin(store, artifacts, options) | evaluate_tracking(store, options)
        result = {"backbone": backbone} | tracking if backbone else tracking
        newest = f"'frz extract --ckpt {backbone or store.snapshot.about['backbone']['name']}' runs over the newest"
    if older := _newer_data(result["data"], artifacts):
        result = {"note": f"{older}; {newest}"} | result
    if options.report is not None:
        from frz.evaluation.report import write_report  # matplotlib is slow to import

        runs = {"backbone": backbone, "head": head}
        write_report(options.report, target, artifacts, **runs, tracking=tracking, judged=judged, split=options.split)
        result["report"] = str(options.report)
    return result


def evaluate_head(target: str, artifacts: Path, options: EvaluateSettings) -> tuple[dict[str, Any], list[Judged]]:
    """Metrics of a head on the features that it was trained on, and its fields of classes."""
    head, about = load_head(target, artifacts)
    store = EventStore(about["features"]["store"], about["features"]["version"])
    positions = _positions(store, options.split)
    by = {name: parts_of(name, store, positions, artifacts) for name in options.by}
    table = prepare(head, store, positions)
    predictions, mean = predict(head, table, np.arange(len(positions))), head.predict_mean(table.arrays)
    metrics = {"head": head.metrics(predictions, table.arrays)}
    metrics |= {"training_mean": head.metrics(mean, table.arrays)} if mean else {}
    told = {"split": options.split, "events": len(positions), "metrics": metrics}
    judged = judge(head, store, table, predictions, options, by)
    classes = {"classes": {each.field.name: each.told for each in judged}} if judged else {}
    return _origin(store, artifacts, options) | told | classes, judged


def _origin(store: EventStore, artifacts: Path, options: EvaluateSettings) -> dict[str, Any]:
    """Where the numbers come from: features, the weights that wrote them, the data set; first what is wrong with it."""
    about, data = store.snapshot.about, store.snapshot.about["data"]
    leak = seen.warning(store, artifacts, split=options.split)
    return {
        **({"warning": leak.removeprefix("warning: ")} if leak else {}),
        "fingerprint": about["fingerprint"]["value"],
        "features": str(store.root),
        "version": store.snapshot.version,
        "data": f"{data['name']}@{data['version']}",
    }


def _newer_data(data: str, artifacts: Path) -> str:
    """A sentence if there is a newer version of the data set `name@version` than this; else ''."""
    name, _, version = data.partition("@")
    newest = names.newer_data({"name": name, "version": int(version)}, artifacts)
    return f"data set {name} has version {newest}, evaluated is version {version}" if newest else ""


def _positions(store: EventStore, split: str) -> NDArray[np.int64]:
    """Events of a split.

    Raises
    ------
    StoreError
        If there are none.
    """
    found = np.arange(store.n_events) if split == "all" else store.split(split)
    if not len(found):
        fractions = ", ".join(f"{name} {fraction}" for name, fraction in store.snapshot.split.fractions.items())
        raise StoreError(f"split {split!r} holds no events", where=str(store.root), way_out=f"splits: {fractions}")
    return found


def evaluate_tracking(store: EventStore, options: EvaluateSettings) -> dict[str, Any]:
    """Tracking quality of the features of a store.

    Raises
    ------
    ConfigError
        If the features are not of tracks.
    StoreError
        If the store carries no truth.
    """
    if "query" not in store.schema.axes:
        name = store.snapshot.about["backbone"]["name"]
        what = f"the features of backbone {name} are of no tracks, so nothing is measured of the backbone itself"
        raise ConfigError(what, where=str(store.root), way_out="train a head on them, and evaluate that")
    needed = [ID, GROUP, "query/valid_logit", *assignment_arrays(store.schema)]
    truth = ["query/match", "track/parameters", "member/hit"]
    wedges = [WEDGES, "particle/parameters", "particle_hit/parent_hit"]
    merged = WEDGES in store.schema.arrays
    missing = [name for name in truth if name not in store.schema.arrays]
    if missing:
        raise StoreError(
            f"the features carry no {', '.join(missing)}", where=str(store.root), way_out="extract with truth"
        )
    positions = _positions(store, options.split)
    events = store.events(positions, [*needed, *truth, *(wedges if merged else [])])
    slots = score_slots(events, options.assignment_threshold, options.valid_threshold)
    predicted = predicted_tracks(events, options.assignment_threshold, options.valid_threshold, options.min_hits)
    if merged:
        predicted, true, parameters = (
            merge(predicted, events, options.merge_share),
            parent_truth(events),
            "particle/parameters",
        )
    else:
        true, parameters = true_tracks(events), "track/parameters"
    matching = match(predicted, true)
    result: dict[str, Any] = {
        "split": options.split,
        "events": len(positions) if not merged else len(np.unique(events[GROUP])),
        "true_tracks": len(true),
        "predicted_tracks": len(predicted),
        "valid_slots": slots.validity_fakes_of_valid_slots.total,
        "min_hits": options.min_hits,
        "slots": slots.to_json(),
        "tracking": score(matching).to_json(),
        "binned": _binned(matching, store, events, parameters, true),
    }
    columns = store.schema.arrays[parameters].columns
    if "isLong" in columns:
        is_long = events[parameters][:, columns.index("isLong")] > 0
        result["tracking_long"] = score(matching, is_long).to_json()
    return result


def _binned(
    matching: Matching, store: EventStore, events: EventArrays, parameters: str, true: HitSets
) -> dict[str, Any]:
    """Strict efficiency against true eta, phi and pt; bins in the unit of the data set, beyond its range left out."""
    spec = store.schema.arrays[parameters]
    units = dict(zip(spec.columns, spec.unit.split(", "), strict=False))
    success = found(matching, matching.double_majority(True))
    assert len(success) == len(true)
    result: dict[str, Any] = {}
    for name in ("eta", "phi", "pt"):
        if name not in spec.columns or len(true) == 0:
            continue
        values = events[parameters][:, column(store.schema, parameters, name)].astype(np.float64)
        edges = PHI_EDGES if name == "phi" else bin_edges(name, values, units.get(name, ""))
        result[name] = binned(values, success, edges).to_json() | {"unit": units.get(name, "")}
    return result
