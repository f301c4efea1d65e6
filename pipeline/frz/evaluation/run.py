"""`frz evaluate`: what a backbone or a head is worth on a split, from stored features.

Tracking numbers come in two orders: by slot, as the truth matching orders them (what training sees), and in
inference order (what a user gets). Wedges are merged back to their collision first.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from frz import artifacts as names
from frz.config import StrictModel, parse
from frz.errors import CheckpointError, StoreError
from frz.evaluation.binning import binned
from frz.evaluation.fields import bin_edges
from frz.evaluation.hitsets import HitSets, predicted_tracks, true_tracks
from frz.evaluation.matching import Matching, match
from frz.evaluation.merging import merge, parent_truth
from frz.evaluation.slots import score_slots
from frz.evaluation.tracking import found, score
from frz.heads.pairs import assignment_arrays
from frz.heads.run import Features, find_features, load_head, prepare
from frz.heads.run import score as score_head
from frz.store.reader import EventStore
from frz.store.schema import GROUP, ID, EventArrays, column

WEDGES = "hit/parent_hit"
PHI_EDGES = tuple(np.linspace(-np.pi, np.pi, 17).tolist())


class EvaluateSettings(StrictModel):
    """How tracks are made of logits and what they are measured on."""

    split: str = "test"
    """Split of the data set, or `all`."""
    assignment_threshold: float = Field(default=0.5, gt=0, lt=1)
    """A hit belongs to a track from this probability on."""
    valid_threshold: float = Field(default=0.5, gt=0, lt=1)
    """A query is a track from this probability on."""
    min_hits: int = Field(default=3, ge=1)
    """A predicted track has at least so many hits."""
    merge_share: float = Field(default=0.5, gt=0, lt=1)
    """Tracks of overlapping wedges that share more than this are one."""
    report: Path | None = None
    """HTML file to write beside the numbers, with plots."""


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
        For a backbone: `slots`, `tracking`, `binned`. For a head: metrics beside those of its yardstick.

    Raises
    ------
    FrzError
        If the target is not there or its features are missing.
    """
    options = parse(EvaluateSettings, settings or {}, "evaluate")
    found_target = names.find(target, artifacts, ("backbones", "heads", "features"))
    backbone: str | None = None
    head: str | None = None
    tracking: dict[str, Any] | None = None
    if found_target.kind == "heads":
        head, result = target, evaluate_head(target, artifacts, options)
    else:
        if found_target.kind == "features":
            store = EventStore(found_target.path, found_target.version)
        else:
            run = names.backbone(target, artifacts)
            card = names.card(run.path)
            if "fingerprint" not in card:
                way_out = "run train-backbone again"
                raise CheckpointError("this run is not finished", where=str(run.path), way_out=way_out)
            backbone = f"{card['name']}@{run.path.name}"
            store = find_features(Features(backbone=backbone, data=card["data"]["name"]), artifacts)
        place = {"features": str(store.root), "version": store.snapshot.version}
        result = tracking = place | evaluate_tracking(store, options)
    if options.report is not None:
        from frz.evaluation.report import write_report  # matplotlib is slow to import

        write_report(
            options.report, target, artifacts, backbone=backbone, head=head, tracking=tracking, split=options.split
        )
    return result


def evaluate_head(target: str, artifacts: Path, options: EvaluateSettings) -> dict[str, Any]:
    """Metrics of a head on the features that it was trained on."""
    head, about = load_head(target, artifacts)
    store = EventStore(about["features"]["store"], about["features"]["version"])
    positions = _positions(store, options.split)
    result = score_head(head, prepare(head, store), positions)
    return {"head": about["name"], "split": options.split, "events": len(positions), "metrics": result}


def _positions(store: EventStore, split: str) -> NDArray[np.int64]:
    return np.arange(store.n_events) if split == "all" else store.split(split)


def evaluate_tracking(store: EventStore, options: EvaluateSettings) -> dict[str, Any]:
    """Tracking quality of the features of a store.

    Raises
    ------
    StoreError
        If the store carries no truth.
    """
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
