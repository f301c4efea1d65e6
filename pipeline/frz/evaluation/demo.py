"""`frz demo`: the whole path on simulated data, in minutes on two cores.

Everything a user would do by hand happens here through the same functions: a data set, a backbone, its features, a head
on them, and tables that say what it is all worth and what caching saved. What is particular to a family (what is
simulated, the configs, the tables) is a `Recipe`, a module of its own.
"""

import importlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from frz.config import parse
from frz.data.build import build
from frz.errors import ConfigError, nearest
from frz.evaluation.demo_recipe import Recipe
from frz.evaluation.report import write_report
from frz.evaluation.run import evaluate_head
from frz.evaluation.settings import DemoSettings, EvaluateSettings
from frz.extract.run import extract
from frz.heads.run import train as train_head
from frz.joint.bench import BEHIND, bench
from frz.pretrain import train as train_backbone

RECIPES: Mapping[str, str] = {"muon": "frz.evaluation.demo_muon", "icu": "frz.evaluation.demo_icu"}
"""Modules that hold a `RECIPE`, by the word that the command takes."""
BENCH_SECONDS = 15


def demo(artifacts: Path, settings: Mapping[str, Any] | None = None, family: str = "muon") -> dict[str, Any]:
    """Simulate, train, extract, train a head, evaluate, report.

    An interrupted demo goes on where it stopped; a finished one reports again.

    Parameters
    ----------
    artifacts : Path
        Everything goes below it; the report to `<name>/report.html`, the name that of the recipe.
    settings : mapping, optional
        See `DemoSettings`; sizes that it leaves out are the recipe's.
    family : str
        One of `RECIPES`.

    Returns
    -------
    dict
        The tables of the recipe, `events_per_second`, seconds per step, and the path of the report.

    Raises
    ------
    ConfigError
        If there is no such recipe.
    """
    recipe = _recipe(family)
    options = parse(DemoSettings, {**recipe.sizes, **(settings or {})}, "demo")
    seconds: dict[str, float] = {}
    clock = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal clock
        seconds[name], clock = time.perf_counter() - clock, time.perf_counter()

    name = recipe.name
    built = build({"name": name, "source": recipe.source(options)}, artifacts)
    lap("simulate")
    backbone = train_backbone(recipe.backbone(options), artifacts)
    lap("train backbone")
    features = extract(name, artifacts)
    lap("extract")
    head = train_head(recipe.head(options), artifacts)
    lap("train head")
    found, judged = evaluate_head(f"heads/{name}", artifacts, EvaluateSettings(by=recipe.by))
    tables, tracking = recipe.tables(artifacts, found)
    rates = _rates(bench(recipe.head(options), artifacts, seconds=BENCH_SECONDS)["ways"])
    lap("evaluate")
    report = artifacts / name / "report.html"
    write_report(report, f"frz {name}", artifacts, backbone=name, head=name, tracking=tracking, judged=judged)
    lap("report")
    return {
        **tables,
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


def _recipe(family: str) -> Recipe:
    if family not in RECIPES:
        raise ConfigError(f"no demo of {family!r}", where="--family", way_out=nearest(family, RECIPES))
    found: Recipe = importlib.import_module(RECIPES[family]).RECIPE
    return found


def _rates(ways: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Events per second of training the head jointly, behind the frozen backbone, and from stored features."""
    cached = next(way for name, way in ways.items() if name not in BEHIND)
    rates = {name: ways[name]["events_per_s"] for name in BEHIND} | {"cached": cached["events_per_s"]}
    return rates | {"cached_over_joint": cached["over_joint"], "cached_over_frozen": cached["over_frozen"]}
