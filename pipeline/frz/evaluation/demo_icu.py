"""The demo of simulated stays in intensive care: sets of measurements to states, and a head on who dies.

Particular: the risk of every simulated stay is known, so the largest area under the curve that any classifier could
reach stands beside the head's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from frz import artifacts as names
from frz.evaluation.demo_recipe import Recipe, Tables
from frz.evaluation.settings import DemoSettings
from frz.heads.scores import ClassScores
from frz.store.reader import EventStore

NAME = "demo-icu"
LABEL, RISK, UNIT = "event/label", "event/risk", "event/static.icu_type"


def source(options: DemoSettings) -> dict[str, Any]:
    """Simulated stays, seen less often than in the shipped recipe."""
    return {"kind": "icu_sim", "n_events": options.n_events, "seed": options.seed, "gap": 90.0}


def backbone_config(options: DemoSettings) -> dict[str, Any]:
    """A small set-sequence backbone that sees no label."""
    return {
        "name": NAME,
        "family": "set_sequence",
        "data": NAME,
        "model": {
            "dim": 32,
            "set_levels": 1,
            "static": True,
            "levels": True,
            "reconstruction": {"weight": 0.3, "share": 0.1},
        },
        "trainer": {"max_epochs": options.backbone_epochs, "batch_size": 32, "lr": 2e-3, "seed": options.seed},
    }


def head_config(options: DemoSettings) -> dict[str, Any]:
    """Pooled states of the sets and the descriptors of the patient, and an MLP."""
    return {
        "name": NAME,
        "head": "mlp-classifier",
        "features": {"backbone": NAME, "data": NAME},
        "model": {
            "rows": "event",
            "target": LABEL,
            "field": "label",
            "inputs": ["event/pooled"],
            "descriptors": ["event/static"],
            "hidden": [64],
            "dropout": 0.2,
        },
        "trainer": {
            "max_epochs": options.head_epochs,
            "batch_size": 64,
            "lr": 1e-3,
            "weight_decay": 1e-2,
            "monitor": "val/auc",
            "seed": options.seed,
        },
    }


def tables(artifacts: Path, found: Mapping[str, Any]) -> Tables:
    """`classification` beside what is known of the training split and of the true risk, and by kind of unit."""
    told = found["classes"]["label"]
    best = ceiling(artifacts, found["split"])
    rows = [
        {
            "quantity": name,
            "head": number["value"],
            "low": number["low"],
            "high": number["high"],
            "training frequency": number["yardstick"],
            "true risk": best[name],
        }
        for name, number in told["metrics"].items()
    ]
    parts = [
        {"icu type": part["part"], "stays": part["members"], "deaths": part["positives"]}
        | {name: part[name]["value"] for name in ("auc", "auprc")}
        for part in told["by"][UNIT]
    ]
    return {"classification": rows, "by_icu_type": parts}, None


def ceiling(artifacts: Path, split: str) -> dict[str, float]:
    """What the true risk of the stays of a split scores against what happened to them: no classifier is better."""
    store = EventStore(*names.dataset(NAME, artifacts))
    events = store.events(store.split(split), [RISK, LABEL])
    risk = events[RISK].astype(np.float64)
    scores = ClassScores(np.stack([1 - risk, risk], 1), events[LABEL].astype(np.int64))
    return {name: float(values[0]) for name, values in scores.metrics().items()}


RECIPE = Recipe(
    name=NAME,
    sizes={"n_events": 6_000, "backbone_epochs": 6, "head_epochs": 20},
    source=source,
    backbone=backbone_config,
    head=head_config,
    tables=tables,
    by=(UNIT,),
)
