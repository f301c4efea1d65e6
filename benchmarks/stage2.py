"""Events/s of Stage 2: heads from cached features against three other ways of training the regression head.

`python -m benchmarks stage2 --json` simulates muons, trains a backbone for a few epochs, extracts its features, all by
the library's own entry points in a temporary folder, and then times, taking turns:

cached  a head epoch by the training loop on what `prepare` left in memory (checkpoint writing apart)
pooled  the same for the pooled head as shipped: its hits are pooled once, by `prepare`
memory  the same optimiser steps on batches that already lie in memory as tensors
frozen  the usual way: pad, run the frozen model, match, train the head, in every epoch
joint   the same with gradients and losses for the whole model

Before that it checks that the padded model gives the same features, and the padded head the same loss.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks.reference.seed_way import SeedWay
from frz.artifacts import dataset, features, weights
from frz.backbones.hit_track.model import HitTrack
from frz.config import parse, read_yaml
from frz.data.build import build
from frz.extract.run import extract
from frz.heads.contract import Head
from frz.heads.pooled import PooledConfig, PooledHead
from frz.heads.regression import RegressionHead
from frz.heads.settings import RegressionConfig
from frz.loading.batch import to_batch
from frz.loading.blocks import BlockSource, PreparedEvents
from frz.loading.frozen import FrozenBackbone
from frz.loading.order import OrderConfig
from frz.loading.source import ReaderSource
from frz.pretrain import train
from frz.store.reader import EventStore
from frz.store.table import EventTable
from frz.training.config import TrainerConfig
from frz.training.loop import fit
from frz.training.optimisers import build_optimiser

CONFIGS = Path(__file__).parents[1] / "configs" / "muon"
BATCH = 200
JOINT_STEPS, FROZEN_STEPS = 4, 8
"""Steps per repetition of the slow ways."""
USUAL_HEAD = (
    "model.line=null",
    "model.dim=null",
    "model.hit_net_hidden=null",
    "model.assignment_threshold=0.1",
    "model.regression_hidden_dim=144",
    "model.dropout=0.1",
)
"""The head as it is usually made: the line prefix is ours, and the padded reference has none."""
POOLED_BATCH = 500
"""As shipped: small heads live on large batches."""
COUNTED = {"kept hits": "hit/scaled", "pairs": "pair/hit", "slots": "slot/query"}
"""What `prepare` leaves, by an array on it."""


class Made(NamedTuple):
    """The artifacts that are timed."""

    backbone: Path
    features: EventStore
    data: EventStore


def make(folder: Path, n_events: int, epochs: int) -> Made:
    """A data set, a backbone trained for a few epochs, its features."""
    recipe = {"name": "muons", "source": {"kind": "muon_sim", "n_events": n_events}, "split": {"seed": 0}}
    built = build(recipe, folder)
    stage1 = read_yaml(CONFIGS / "backbone.yaml", ["data=muons"])
    stage1["trainer"] |= {"max_epochs": epochs, "batch_size": 100, "device": "cpu"}
    train(stage1, folder)
    extracted = extract(stage1["name"], folder, settings={"device": "cpu"})
    stores = (EventStore(Path(done["path"])) for done in (extracted, built))
    return Made(weights(stage1["name"], folder), *stores)


def find(folder: Path, backbone: str) -> Made:
    """What lies in a folder of artifacts already: a backbone, its features, its data set."""
    found = features(backbone, folder)
    store = EventStore(found.path, found.version)
    about = store.snapshot.about["data"]
    data = dataset(f"{about['name']}@{about['version']}", folder)
    return Made(weights(backbone, folder), store, EventStore(data.path, data.version))


class Setup:
    """Backbone, features, a fitted head and everything that is timed."""

    def __init__(self, made: Made, scratch: Path, n_events: int) -> None:
        self.scratch = scratch
        store, data = made.features, made.data
        self.n_events = min(n_events, store.n_events)
        self.data = EventTable(data.schema, data.range(0, self.n_events))
        backbone = FrozenBackbone(made.backbone, torch.device("cpu")).module
        assert isinstance(backbone, HitTrack)
        self.backbone = backbone

        stage2 = read_yaml(CONFIGS / "head-regression.yaml", USUAL_HEAD)
        trainer = stage2["trainer"] | {"max_epochs": 1, "device": "cpu", "batch_size": BATCH}
        self.trainer = parse(TrainerConfig, trainer, "stage2")
        torch.manual_seed(0)
        self.head = RegressionHead(parse(RegressionConfig, stage2["model"], "stage2"), store.schema)
        start = time.perf_counter()
        self.table = EventTable(self.head.prepared, self.head.prepare(store.range(0, self.n_events, self.head.needs)))
        self.prepare_rate = self.n_events / (time.perf_counter() - start)
        self.head.fit([self.table.arrays])
        self.seed = SeedWay(backbone, self.head, self.data, self.trainer.lr)
        order = OrderConfig()
        events = PreparedEvents(self.table, self.head.prepared.arrays, "ram", torch.device("cpu"), order.window)
        self.source = BlockSource(events, BATCH, np.arange(self.n_events), order=order)
        self.batches = list(self.source.batches(self.source.plan(0)))
        self.optimiser = build_optimiser(self.trainer, self.head)
        self.order = np.random.default_rng(0).permutation(self.n_events)
        self.n_fits = 0

        stage2 = read_yaml(CONFIGS / "head-pooled.yaml")
        self.pooled_head = PooledHead(parse(PooledConfig, stage2["model"], "stage2"), store.schema)
        start = time.perf_counter()
        prepared = self.pooled_head.prepare(store.range(0, self.n_events, self.pooled_head.needs))
        self.pool_rate = self.n_events / (time.perf_counter() - start)
        self.pooled_head.fit([prepared])
        self.pooled_trainer = parse(TrainerConfig, trainer | {"batch_size": POOLED_BATCH}, "stage2")
        pooled_table = EventTable(self.pooled_head.prepared, prepared)
        self.pooled_source = ReaderSource(pooled_table, self.pooled_head.prepared.arrays, POOLED_BATCH, seed=0)

    def cached(self) -> tuple[int, float]:
        """One epoch of the training loop: events, and seconds of its steps."""
        return self._fit(self.head, self.source, self.trainer)

    def pooled(self) -> tuple[int, float]:
        """The same for the pooled head."""
        return self._fit(self.pooled_head, self.pooled_source, self.pooled_trainer)

    def _fit(self, head: Head, source: ReaderSource, trainer: TrainerConfig) -> tuple[int, float]:
        self.n_fits += 1
        result = fit(head, source, None, trainer, self.scratch / f"fit-{self.n_fits}")
        rate = result.last["events_per_s"]
        assert rate is not None
        return self.n_events, self.n_events / rate

    def memory(self) -> tuple[int, float]:
        """The same steps on tensors that are there."""
        self.head.train()
        parameters = list(self.head.parameters())
        start = time.perf_counter()
        for batch in self.batches:
            loss, _ = self.head.loss(batch)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, self.trainer.clip_norm)
            self.optimiser.step()
        return self.n_events, time.perf_counter() - start

    def seed_way(self, *, joint: bool) -> tuple[int, float]:
        """Some steps of the usual way."""
        n_steps = JOINT_STEPS if joint else FROZEN_STEPS
        start = time.perf_counter()
        for step in range(n_steps):
            positions = self.order.take(range(step * BATCH, (step + 1) * BATCH), mode="wrap")
            self.seed.step(positions, joint=joint)
        return n_steps * BATCH, time.perf_counter() - start

    def differences(self) -> dict[str, float]:
        """Largest difference of features, and relative difference of the head's loss, padded against ours."""
        positions = self.order[:BATCH]
        batch = to_batch(self.data.events(positions), self.data.schema)
        self.head.eval()
        self.seed.model.eval()
        with torch.no_grad():
            ours, theirs = self.backbone(batch), self.seed.features(positions)
            largest = max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)
            # Features come in store order with the dtype of the store, so the losses agree to its rounding.
            cached, _ = self.head.loss(to_batch(self.table.events(positions), self.table.schema))
            padded = self.seed.loss(self.seed.block(positions), joint=False)
        return {"feature_difference": largest, "loss_difference": float((padded / cached - 1).abs())}


def run(setup: Setup, repetitions: int) -> dict[str, Any]:
    """Compare, then measure.

    Returns
    -------
    dict
        Ratios (`cached_over_memory` is one of times, the others are of events/s), the same ratios of processor time
        (which other programs on the machine disturb less), events/s by way, and how far the reference is from ours.
    """
    same = setup.differences()
    ways: dict[str, Callable[[], tuple[int, float]]] = {
        "cached": setup.cached,
        "pooled": setup.pooled,
        "memory": setup.memory,
        "frozen": lambda: setup.seed_way(joint=False),
        "joint": lambda: setup.seed_way(joint=True),
    }
    wall: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(repetitions + 1):
        for name, way in ways.items():
            start = time.process_time()
            n_events, seconds = way()
            if repetition:  # the first warms up
                wall[name].append(n_events / seconds)
                busy[name].append(n_events / (time.process_time() - start))
    rate = {name: median(values) for name, values in wall.items()}
    per_event = {"hits": len(setup.data.arrays["hit/raw"]) / setup.n_events}
    per_event |= {what: len(setup.table.arrays[name]) / setup.n_events for what, name in COUNTED.items()}
    return {
        **_ratios(rate),
        "targets": {
            "cached_over_memory": "<= 1.1",
            "cached_over_joint": ">= 25",
            "cached_over_frozen": ">= 10",
            "pooled_over_joint": ">= 150",
        },
        "processor_time": _ratios({name: median(values) for name, values in busy.items()}),
        "events_per_s": {name: round(value, 1) for name, value in rate.items()},
        "prepare_events_per_s": round(setup.prepare_rate, 1),
        "pool_events_per_s": round(setup.pool_rate, 1),
        "per_event": {what: round(value, 2) for what, value in per_event.items()},
        **same,
        "threads": torch.get_num_threads(),
        "events": setup.n_events,
        "repetitions": repetitions,
    }


def _ratios(rate: dict[str, float]) -> dict[str, float]:
    return {
        "cached_over_memory": round(rate["memory"] / rate["cached"], 3),
        "cached_over_joint": round(rate["cached"] / rate["joint"], 2),
        "cached_over_frozen": round(rate["cached"] / rate["frozen"], 2),
        "pooled_over_joint": round(rate["pooled"] / rate["joint"], 1),
        "pooled_over_frozen": round(rate["pooled"] / rate["frozen"], 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=8000)
    parser.add_argument("--epochs", type=int, default=24, help="of Stage 1: half of the hits should be assigned")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--artifacts", type=Path, help="take a trained backbone and its features from here")
    parser.add_argument("--backbone", default="muon", help="its name there")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if options.artifacts:
            made = find(options.artifacts, options.backbone)
        else:
            made = make(scratch, options.events, options.epochs)
        result = run(Setup(made, scratch, options.events), options.repetitions)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for ratio, target in result["targets"].items():
        print(f"{ratio:20} {result[ratio]:8.2f}   target {target}")
    for way, value in result["events_per_s"].items():
        print(f"{way:20} {value:8.0f} events/s")


if __name__ == "__main__":
    main()
