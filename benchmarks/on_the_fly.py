"""The same head trained from stored features and behind the frozen backbone: does the metric agree?

`python -m benchmarks on_the_fly --artifacts DIR --backbone NAME --json` trains the shipped muon head for a few epochs
with several seeds both ways, on the first events of the data set. On the fly, every training batch is a batch of the
backbone, so features differ from the stored ones by rounding; the difference grows in training, and the question
is whether it stays within the spread of the seeds.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frz.artifacts import features, weights
from frz.config import parse, read_yaml
from frz.extract.opening import open_both
from frz.extract.settings import Settings
from frz.heads.regression import RegressionHead
from frz.heads.run import score
from frz.heads.settings import RegressionConfig
from frz.joint.on_the_fly import FrozenFeatures, OnTheFly
from frz.loading.source import ReaderSource
from frz.store.reader import EventStore
from frz.store.table import EventTable
from frz.training.config import TrainerConfig
from frz.training.loop import fit

HEAD = Path(__file__).parents[1] / "configs" / "muon" / "head-regression.yaml"
METRICS = ("eta/width", "phi/width", "pt/relative_width", "q/accuracy")


def run(artifacts: Path, backbone: str, n_events: int, epochs: int, seeds: int) -> dict[str, Any]:
    """Metrics on the last fifth of the events, per way and seed, and how far the means are apart."""
    stored = EventStore(*features(backbone, artifacts))
    frozen, data = open_both(weights(backbone, artifacts), artifacts, device="cpu")
    settings = Settings.of_store(stored.snapshot.about["recipe"], stored.schema)
    live = FrozenFeatures(frozen, data, settings, batching="read")
    config = read_yaml(HEAD, ["model.dim=null"])  # as wide as the features are
    trainer = parse(TrainerConfig, config["trainer"] | {"max_epochs": epochs, "device": "cpu"}, "on_the_fly")
    train, test = np.arange(n_events * 4 // 5), np.arange(n_events * 4 // 5, n_events)
    found: dict[str, dict[str, list[float]]] = {way: {name: [] for name in METRICS} for way in ("cached", "on_the_fly")}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(seeds):
            for way, values in found.items():
                torch.manual_seed(seed)
                head = RegressionHead(parse(RegressionConfig, config["model"], "on_the_fly"), stored.schema)
                table = EventTable(head.prepared, head.prepare(stored.range(0, n_events, head.needs)))
                head.fit([table.events(train)])
                cached = ReaderSource(
                    table, head.prepared.arrays, trainer.batch_size, positions=train, seed=seed, window=trainer.window
                )
                source = cached if way == "cached" else OnTheFly(live, head, cached)
                settled = trainer.model_copy(update={"seed": seed})
                fit(head, source, None, settled, Path(scratch, f"{way}-{seed}"))
                metrics = score(head, table, test)["head"]
                for name in METRICS:
                    values[name].append(metrics[name])
    spread = {name: float(np.ptp(found["cached"][name])) for name in METRICS}
    apart = {name: float(abs(np.mean(found["cached"][name]) - np.mean(found["on_the_fly"][name]))) for name in METRICS}
    return {**found, "spread_of_seeds": spread, "difference_of_means": apart, "events": n_events, "epochs": epochs}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks on_the_fly", description=__doc__)
    parser.add_argument("--artifacts", type=Path, required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="JSON instead of a line per number")
    options = parser.parse_args()
    result = run(options.artifacts, options.backbone, options.events, options.epochs, options.seeds)
    if options.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(name, value)


if __name__ == "__main__":
    main()
