"""`frz demo`: the whole path on a simulated muon spectrometer, in minutes on two cores.

Everything a user would do by hand happens here through the same functions: a data set, a backbone, its
features, a head on them, and a table that says what it is all worth and what caching saved.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from frz.config import parse
from frz.data.build import build
from frz.evaluation.report import write_report
from frz.evaluation.run import evaluate
from frz.evaluation.settings import DemoSettings
from frz.extract.run import extract
from frz.heads.run import train as train_head
from frz.joint.bench import BEHIND, bench
from frz.pretrain import train as train_backbone

BENCH_SECONDS = 15
HIT_FIELDS = (
    *(f"globEdge{edge}{axis}" for edge in ("High", "Low") for axis in "XYZ"),
    *("time", "driftR", "covXX", "covXY", "covYX", "covYY", "channel", "layer"),
    *("stationPhi", "stationEta", "stationIndex", "technology", "r", "s", "theta", "phi", "eta"),
)


def demo(artifacts: Path, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Simulate, train, extract, train a head, evaluate, report.

    An interrupted demo goes on where it stopped; a finished one reports again.

    Parameters
    ----------
    artifacts : Path
        Everything goes below it; the report to `demo/report.html`.
    settings : mapping, optional
        See `DemoSettings`.

    Returns
    -------
    dict
        `tracking`, `regression` and `events_per_second` as tables, seconds per step, and the path of the report.
    """
    options = parse(DemoSettings, settings or {}, "demo")
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name], clock = time.perf_counter() - clock, time.perf_counter()

    built = build(
        {"name": "demo", "source": {"kind": "muon_sim", "n_events": options.n_events, "seed": options.seed}}, artifacts
    )
    lap("simulate")
    backbone = train_backbone(backbone_config(options), artifacts)
    lap("train backbone")
    features = extract("demo", artifacts)
    lap("extract")
    head = train_head(head_config(options), artifacts)
    lap("train head")
    tracking = evaluate("backbones/demo", artifacts)
    rates = _rates(bench(head_config(options), artifacts, seconds=BENCH_SECONDS)["ways"])
    lap("evaluate")
    report = artifacts / "demo" / "report.html"
    write_report(report, "frz demo", artifacts, backbone="demo", head="demo", tracking=tracking)
    lap("report")
    return {
        "tracking": _tracking_table(tracking),
        "regression": _regression_table(head["metrics"]["test"]),
        "events_per_second": rates,
        "seconds": seconds | {"total": sum(seconds.values())},
        "artifacts": {
            "data set": f"{built['path']} (version {built['version']}, {built['events']} events)",
            "backbone": f"{backbone['path']} (fingerprint {backbone['fingerprint'][:12]})",
            "features": f"{features['path']} ({features['bytes'] / 1e6:.0f} MB)",
            "head": head["path"],
            "report": str(report),
        },
        "threads": torch.get_num_threads(),
    }


def backbone_config(options: DemoSettings) -> dict[str, Any]:
    """The shipped muon backbone with a shorter training (a package has no `configs/`; a test compares them)."""
    return {
        "name": "demo",
        "family": "hit_track",
        "data": "demo",
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
    """The shipped muon head, likewise."""
    return {
        "name": "demo",
        "head": "regression",
        "features": {"backbone": "demo", "data": "demo"},
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


def _rates(ways: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Events per second of training the head jointly, behind the frozen backbone, and from stored features."""
    cached = next(way for name, way in ways.items() if name not in BEHIND)
    rates = {name: ways[name]["events_per_s"] for name in BEHIND} | {"cached": cached["events_per_s"]}
    return rates | {"cached_over_joint": cached["over_joint"], "cached_over_frozen": cached["over_frozen"]}


def _tracking_table(result: Mapping[str, Any]) -> list[dict[str, Any]]:
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


def _regression_table(metrics: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Widths and accuracies of the head beside those of predicting the training mean."""
    names = [name for name in metrics["head"] if name.endswith(("/width", "/accuracy", "/relative_width"))]
    return [
        {"quantity": n, "head": metrics["head"][n], "training mean": metrics["training_mean"].get(n)} for n in names
    ]
