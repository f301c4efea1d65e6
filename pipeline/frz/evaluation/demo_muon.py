"""The demo of muons in a simulated spectrometer: hits to tracks, and a head on their momenta and charges."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frz.evaluation.demo_recipe import Recipe, Tables
from frz.evaluation.run import evaluate
from frz.evaluation.settings import DemoSettings

NAME = "demo"
HIT_FIELDS = (
    *(f"globEdge{edge}{axis}" for edge in ("High", "Low") for axis in "XYZ"),
    *("time", "driftR", "covXX", "covXY", "covYX", "covYY", "channel", "layer"),
    *("stationPhi", "stationEta", "stationIndex", "technology", "r", "s", "theta", "phi", "eta"),
)


def source(options: DemoSettings) -> dict[str, Any]:
    """Simulated muons."""
    return {"kind": "muon_sim", "n_events": options.n_events, "seed": options.seed}


def backbone_config(options: DemoSettings) -> dict[str, Any]:
    """The shipped muon backbone with a shorter training."""
    return {
        "name": NAME,
        "family": "hit_track",
        "data": NAME,
        "model": {
            "fields": list(HIT_FIELDS),
            "position": ["globEdgeLowX", "globEdgeLowY", "globEdgeLowZ"],
            "pos_fields": ["r", "theta", "phi"],
            "periodic_fields": ["phi"],
            "pos_alpha": 1000,
            "dim": 32,
            "heads": 2,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "num_queries": 2,
        },
        "trainer": {"max_epochs": options.backbone_epochs, "batch_size": 100, "lr": 2e-3, "seed": options.seed},
    }


def head_config(options: DemoSettings) -> dict[str, Any]:
    """The shipped muon head with a shorter training."""
    return {
        "name": NAME,
        "head": "regression",
        "features": {"backbone": NAME, "data": NAME},
        "model": {
            "fields": ["eta", "phi", "pt", "q"],
            "inverse_fields": ["pt"],
            "bce_fields": ["q"],
            "periodic_output": "vector",
            "line": ["r", "globEdgeLowZ"],
            "dim": 32,
            "assignment_threshold": 0.5,
            "hit_net_hidden": 128,
            "regression_hidden_dim": 288,
            "regression_num_layers": 3,
            "dropout": 0.05,
        },
        "trainer": {"max_epochs": options.head_epochs, "batch_size": 100, "lr": 2e-3, "seed": options.seed},
    }


def tables(artifacts: Path, found: Mapping[str, Any]) -> Tables:
    """`tracking` of the backbone and `regression` of the head."""
    tracking = evaluate(f"backbones/{NAME}", artifacts)
    told = {"tracking": tracking_table(tracking), "regression": regression_table(found["metrics"])}
    return told, tracking


def tracking_table(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The headline numbers of tracking, each with its Wilson interval or standard error."""
    slots, tracking = result["slots"], result["tracking"]
    wanted = {
        "hit efficiency": slots["hit_efficiency_of_true"],
        "hit purity": slots["hit_purity_of_true"],
        "double-match efficiency (>= 0.5)": slots["double_match_of_true"],
        "validity efficiency": slots["validity_efficiency"],
        "track efficiency, inference order (> 0.5)": tracking["efficiency_strict"],
        "fake rate, inference order (> 0.5)": tracking["fakes_of_predicted_strict"],
    }
    rows = []
    for name, number in wanted.items():
        low = number.get("low", number["value"] - number.get("error", 0))
        high = number.get("high", number["value"] + number.get("error", 0))
        rows.append({"quantity": name, "value": number["value"], "low": low, "high": high})
    return rows


def regression_table(metrics: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Widths and accuracies of the head beside those of predicting the training mean."""
    names = [name for name in metrics["head"] if name.endswith(("/width", "/accuracy", "/relative_width"))]
    return [
        {"quantity": n, "head": metrics["head"][n], "training mean": metrics["training_mean"].get(n)} for n in names
    ]


RECIPE = Recipe(
    name=NAME,
    sizes={"n_events": 24_000, "backbone_epochs": 14, "head_epochs": 20},
    source=source,
    backbone=backbone_config,
    head=head_config,
    tables=tables,
)
