"""Events/s that reach a head from where its events lie, against the same tensors already in memory.

`python -m benchmarks loader --json` writes a store of ragged events and one of dense ones, as a prefix leaves them, and
goes through shuffled epochs of each, taking turns:

gather    index_select of every array, by rows that were computed before: the copying alone
device    the batches of a CPU `device`, which is `ram` by another name
ram       events in memory
mapped    blocks of a mapped store through the shuffle buffer
steps     training steps on batches that lie ready as tensors
X_steps   the same steps on batches that come from X

Then the peak of anonymous memory of mapped epochs at ten times the events, in processes of their own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import synthetic
from benchmarks.turns import take_turns
from frz.extract.memory import Peak
from frz.loading.blocks import BlockSource, PreparedEvents
from frz.loading.order import OrderConfig
from frz.store import Array, EventStore, Schema, ragged
from frz.store.schema import EVENT, axis_of
from frz.store.table import EventTable
from frz.training.source import Batch

CPU = torch.device("cpu")
MODES = ("device", "ram", "mapped")
BATCH = 200
DENSE = Schema(
    arrays={
        "event/id": Array(dtype="int64", role="meta"),
        "event/embedding": Array(dtype="float16", shape=(288,), role="feature"),
        "event/target": Array(dtype="float32", shape=(4,), role="target"),
    }
)


class Linear(nn.Module):
    """A probe on an embedding of the event."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(288, 4)

    def forward(self, batch: Batch) -> Tensor:
        out: Tensor = self.net(batch["event/embedding"].float())
        return nn.functional.smooth_l1_loss(out, batch["event/target"])


class Pooled(nn.Module):
    """A net on hits, their mean, and a net on that: the shape of the regression head, with less arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.hits = nn.Sequential(nn.Linear(42, 84), nn.SiLU(), nn.Linear(84, 32))
        self.net = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 4))

    def forward(self, batch: Batch) -> Tensor:
        hits = self.hits(torch.cat((batch["hit/embedding"].float(), batch["hit/scaled"]), 1))
        mean = torch.segment_reduce(hits, "mean", offsets=batch["hit/offsets"], initial=0)
        out: Tensor = self.net(mean)
        return out.square().mean()


class Setup:
    """A store, its events in memory and everything that is timed."""

    def __init__(self, store: EventStore, module: nn.Module, order: OrderConfig) -> None:
        self.module, self.optimiser = module, torch.optim.AdamW(module.parameters())
        every = np.arange(store.n_events)
        train = every[np.random.default_rng(0).random(len(every)) < 0.8]
        names = list(store.schema.arrays)
        self.table = EventTable(store.schema, store.range(0, store.n_events))
        readers = {"device": self.table, "ram": self.table, "mapped": store}
        self.sources = {
            mode: BlockSource(PreparedEvents(readers[mode], names, mode, CPU, order.window), BATCH, train, order=order)
            for mode in MODES
        }
        self.plan = self.sources["ram"].plan(0)
        self.n_events = len(train)
        self.batches = list(self.sources["ram"].batches(self.plan))
        self.values = {
            name: torch.from_numpy(np.require(values, requirements="W"))  # a small store is mapped: copied then
            for name, values in self.table.arrays.items()
            if "offsets" not in name
        }
        self.rows = [self._rows(positions) for positions in self.plan]

    def _rows(self, positions: np.ndarray) -> dict[str, Tensor]:
        """Rows of every axis of the events at `positions`."""
        schema = self.table.schema
        index = {EVENT: positions}
        for axis in ragged.axes_in(self.table.arrays, schema):
            length = schema.axes[axis].length
            parents = index[schema.axes[axis].parent]
            if length is None:
                index[axis] = ragged.rows(self.table.arrays[f"{axis}/offsets"], parents)[0]
            else:
                index[axis] = (parents[:, None] * length + np.arange(length)).ravel()
        return {axis: torch.from_numpy(rows) for axis, rows in index.items()}

    def gather(self) -> None:
        """Copy every batch together."""
        for rows in self.rows:
            {name: values.index_select(0, rows[axis_of(name)]) for name, values in self.values.items()}

    def epoch(self, mode: str) -> None:
        """Go through an epoch."""
        for _ in self.sources[mode].batches(self.plan):
            pass

    def steps(self, batches: Iterable[Batch]) -> None:
        """Train on batches."""
        for batch in batches:
            loss = self.module(batch)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()

    def ways(self) -> dict[str, Callable[[], None]]:
        """What is timed, by name."""
        ways: dict[str, Callable[[], None]] = {"gather": self.gather, "steps": lambda: self.steps(self.batches)}
        for mode in MODES:
            ways[mode] = lambda mode=mode: self.epoch(mode)  # type: ignore[misc]
            ways[f"{mode}_steps"] = lambda mode=mode: self.steps(self.sources[mode].batches(self.plan))  # type: ignore[misc]
        return ways


def measure(setup: Setup, repetitions: int) -> dict[str, Any]:
    """Events/s by the clock and by processor time, and what they come to."""
    times = take_turns(setup.ways(), repetitions)
    return {"wall": _summary(setup.n_events, times.wall), "processor_time": _summary(setup.n_events, times.busy)}


def _summary(n_events: int, times: dict[str, list[float]]) -> dict[str, Any]:
    rate = {name: median(n_events / seconds for seconds in turns) for name, turns in times.items()}
    return {
        "events_per_s": {name: round(value) for name, value in rate.items()},
        "ram_over_gather": round(rate["ram"] / rate["gather"], 3),
        "mapped_over_ram": round(rate["mapped"] / rate["ram"], 3),
        "mapped_over_ram_with_steps": round(rate["mapped_steps"] / rate["ram_steps"], 3),
        "ram_epoch_over_memory": round(rate["steps"] / rate["ram_steps"], 3),
        "share_of_time_in_batches": round(1 - rate["ram_steps"] / rate["steps"], 3),
    }


def peak(root: Path, order: OrderConfig) -> int:
    """Most anonymous memory, in bytes, of two epochs of a mapped store."""
    store = EventStore(root)
    with Peak() as memory:
        events = PreparedEvents(store, list(store.schema.arrays), "mapped", CPU, order.window)
        source = BlockSource(events, BATCH, np.arange(store.n_events), order=order)
        for epoch in range(2):
            for _ in source.batches(source.plan(epoch)):
                pass
    assert memory.bytes is not None, "this system does not tell"
    return memory.bytes


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--hits", type=float, default=50)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--block", type=int, default=256)
    parser.add_argument("--shuffle-blocks", type=int, default=64)
    parser.add_argument("--peak-of", type=Path, help="only print the peak of memory of mapped epochs of this store")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    order = OrderConfig(block=options.block, shuffle_blocks=options.shuffle_blocks)
    if options.peak_of:
        print(peak(options.peak_of, order))
        return
    torch.manual_seed(0)
    result: dict[str, Any] = {"events": options.events, "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as name:
        kinds = {"ragged": (synthetic.schema_of(32), Pooled()), "dense": (DENSE, Linear())}
        for kind, (schema, module) in kinds.items():
            parts = synthetic.events(schema, options.events, options.hits)
            store = synthetic.write(Path(name, kind), schema, parts)
            result[kind] = measure(Setup(store, module, order), options.repetitions)
        larger = synthetic.events(schema_of := synthetic.schema_of(32), 10 * options.events, options.hits)
        synthetic.write(Path(name, "large"), schema_of, larger)
        command = [sys.executable, "-m", "benchmarks", "loader", "--block", str(order.block)]
        command += ["--shuffle-blocks", str(order.shuffle_blocks), "--peak-of"]
        peaks = [
            int(subprocess.run([*command, str(Path(name, which))], capture_output=True, check=True, text=True).stdout)
            for which in ("ragged", "large")
        ]
    result["memory"] = {"peak_bytes": peaks, "ten_times_over_once": round(peaks[1] / peaks[0], 3)}
    result["targets"] = {
        "mapped_over_ram_with_steps": ">= 0.9",
        "ram_epoch_over_memory": "<= 1.1",
        "memory.ten_times_over_once": "<= 1.1",
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for kind in kinds:
        for clock, found in result[kind].items():
            for ratio, value in found.items():
                if ratio != "events_per_s":
                    print(f"{kind:8} {clock:15} {ratio:28} {value:8.3f}")
    print(f"peak of anonymous memory at ten times the events: {result['memory']['ten_times_over_once']:.3f}")


if __name__ == "__main__":
    main()
