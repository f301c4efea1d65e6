"""Time of many equal heads stacked in one pass against the same heads alone, one after the other in one process.

`python -m benchmarks sweep --json` takes the optimiser steps of both on the same batches, which lie in memory as
tensors: no reading, no validation, no checkpoints. Heads differ in seed, learning rate, weight decay and dropout (the
probe has none). Turns alternate; ratios are of medians. `--artifacts` names features, as of
`configs/muon/backbone.yaml`; without it muons are simulated and a backbone is trained briefly.
"""

import argparse
import copy
import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks.stage2 import find, make
from benchmarks.turns import take_turns
from frz.config import import_class, read_yaml
from frz.heads.contract import HEADS, Head
from frz.loading.source import ReaderSource
from frz.store.reader import EventStore
from frz.store.table import EventTable
from frz.sweep.group import Member
from frz.sweep.onepass import cut
from frz.sweep.space import Point, SweepConfig, expand
from frz.sweep.stack import stack_size
from frz.sweep.team import Team
from frz.training.optimisers import build_optimiser
from frz.training.source import Batch

CONFIGS = Path(__file__).parents[1] / "configs" / "muon"
KINDS = {"pooled": "head-pooled.yaml", "probe": "head-linear.yaml", "hit pooling": "head-regression.yaml"}
"""Head configs by what a table calls them."""
SIZES = (16, 64, 256)
STEPS = 6
"""Per turn."""
TARGETS = {
    "pooled": {"16": 1 / 5, "64": 1 / 3, "256": 1.0},
    "probe": dict.fromkeys(("16", "64", "256"), 1 / 8),
    "hit pooling": {},
}
CPU = torch.device("cpu")


def members_of(base: dict[str, Any], store: EventStore, n_heads: int, batch_size: int) -> list[Member]:
    """Heads that differ in numbers alone."""
    base["trainer"] |= {"batch_size": batch_size, "max_epochs": 1}
    over: dict[str, Any] = {
        "trainer.lr": {"log": [1e-4, 1e-2]},
        "trainer.weight_decay": {"log": [1e-3, 1e-1]},
        "trainer.seed": list(range(1000)),
    }
    kind = import_class(base["head"], HEADS, "head")
    if "dropout" in kind.Config.model_fields:
        over["model.dropout"] = {"uniform": [0.05, 0.2]}
    config = SweepConfig(name="bench", base=base, over=over, random=n_heads)
    return [_member(point, kind, store) for point in expand(config, base, "benchmark")]


def _member(point: Point, kind: type[Head], store: EventStore) -> Member:
    from frz.heads.run import HeadRun

    torch.manual_seed(point.config.trainer.seed)
    head = kind(kind.Config(**point.config.model), store.schema)
    return Member(point, HeadRun(point.config, store, head, {}, Path()))


class Case:
    """Heads of one kind at one batch size, both ways."""

    def __init__(self, kind: str, store: EventStore, n_events: int, n_heads: int, batch_size: int) -> None:
        self.members = members_of(read_yaml(CONFIGS / KINDS[kind]), store, n_heads, batch_size)
        first = self.members[0].run.head
        table = EventTable(first.prepared, first.prepare(store.range(0, n_events, first.needs)))
        for member in self.members:
            member.run.head.fit([table.arrays])
        source = ReaderSource(table, first.prepared.arrays, batch_size, seed=0)
        plan = source.plan(0)
        self.batches: list[Batch] = list(source.batches(plan[:STEPS]))
        self.rows = sum(len(batch["slot/counts"]) for batch in self.batches) / len(self.batches)
        self.singles = [copy.deepcopy(member.run.head).train() for member in self.members]
        self.optimisers = [
            build_optimiser(member.trainer, head) for member, head in zip(self.members, self.singles, strict=True)
        ]
        size = stack_size(first, self.batches[0])
        self.teams = [Team(chosen, CPU, 10**6, has_val=False) for chosen in cut(self.members, size)]
        self.stack = max(len(team.courses) for team in self.teams)

    def alone(self) -> None:
        """Every head takes all steps, then the next one."""
        for member, head, optimiser in zip(self.members, self.singles, self.optimisers, strict=True):
            parameters = list(head.parameters())
            for batch in self.batches:
                loss, _ = head.loss(batch)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                norm = nn.utils.clip_grad_norm_(parameters, member.trainer.clip_norm)
                optimiser.step()
                assert torch.isfinite(loss)
                assert torch.isfinite(norm)

    def together(self) -> None:
        """All heads take a step on each batch."""
        for batch in self.batches:
            for team in self.teams:
                team.step(batch, 1, "the benchmark")


def measure(case: Case, repetitions: int) -> dict[str, Any]:
    """Ratio of times, milliseconds of a step of all heads, and the ratio of processor times."""
    wall, busy = take_turns({"alone": case.alone, "together": case.together}, repetitions)
    times = {name: median(values) for name, values in wall.items()}
    return {
        "ratio": round(times["together"] / times["alone"], 3),
        "processor_time": round(median(busy["together"]) / median(busy["alone"]), 3),
        "ms_alone": round(1e3 * times["alone"] / STEPS, 2),
        "ms_together": round(1e3 * times["together"] / STEPS, 2),
        "slots_per_batch": round(case.rows, 1),
        "largest_stack": case.stack,
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=4, help="of Stage 1, where no artifacts are given")
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--artifacts", type=Path, help="take features from here")
    parser.add_argument("--backbone", default="muon", help="whose features")
    parser.add_argument("--only", choices=KINDS, help="one kind of head")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        if options.artifacts:
            store = find(options.artifacts, options.backbone).features
        else:
            store = make(Path(name), options.events, options.epochs).features
        found: dict[str, Any] = {"heads": options.heads, "threads": torch.get_num_threads(), "targets": TARGETS}
        for kind in [options.only] if options.only else KINDS:
            found[kind] = {}
            for size in SIZES:
                case = Case(kind, store, min(options.events, store.n_events), options.heads, size)
                found[kind][str(size)] = measure(case, options.repetitions)
                if not options.json:
                    one = found[kind][str(size)]
                    target = TARGETS[kind].get(str(size))
                    told = f"target <= {target:.3f}" if target else ""
                    print(f"{kind:12} B {size:4} {one['ratio']:7.3f}  {told}  {one}", flush=True)
    if options.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
