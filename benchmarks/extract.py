"""What extraction costs beside the forward pass that it cannot avoid, in one run on one machine.

`python -m benchmarks extract --json` extracts features of simulated muons with a backbone of the shipped size (hardly
trained, which changes no speed) and times, taking turns:

bare     the forward pass over the very batches of the extraction, which lie in memory as tensors; results are dropped
padded   the same over batches in file order, each padded to its longest event, as a plain loop over a data set does it
extract  the pipeline: read, run, encode, check, write, bring to disk; `threads`: without a process for writing

`versions` then extracts what later versions of the data set change: 5 % of events appended, 1 % changed at random
places, one removed, one label added. `memory` extracts a data set and a tenth of its parts, in processes of their own,
and compares their peak RssAnon.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from frz import artifacts as names
from frz.backbones import padding
from frz.config import read_yaml
from frz.data.build import build
from frz.extract import engine, pipeline
from frz.extract.identity import identity_of
from frz.extract.opening import open_both
from frz.extract.plan import make_plan
from frz.extract.run import extract
from frz.extract.settings import Settings, feature_schema
from frz.extract.work import Work
from frz.loading.batch import to_batch, with_offsets
from frz.pretrain import train
from frz.store import EventTable, ragged, snapshot
from frz.store.catalogue import Catalogue, entry
from frz.store.keys import content_digest, event_keys
from frz.store.part import write_part
from frz.store.reader import EventStore
from frz.store.schema import KEY, Array, EventArrays, Schema

PLAN = padding._plan
CONFIGS = Path(__file__).parents[1] / "configs" / "muon"


def make(folder: Path, n_events: int) -> None:
    """A data set of muons and a backbone of the shipped size, trained for one short epoch."""
    recipe = {"name": "few", "source": {"kind": "muon_sim", "n_events": 640}}
    build(recipe, folder)
    config = read_yaml(CONFIGS / "backbone.yaml", ["data=few", "name=muon"])
    config["trainer"] |= {"max_epochs": 1, "device": "cpu"}
    train(config, folder)
    build({"name": "muons", "source": {"kind": "muon_sim", "n_events": n_events}}, folder)


def speed(folder: Path, device: str, repeats: int) -> dict[str, Any]:
    """Events per second of the three ways, and their ratios."""
    settings = Settings(device=device)
    frozen, source = open_both(names.weights("muon", folder), folder, "muons", device)
    backbone, out = frozen.module, feature_schema(frozen.module, source.schema, settings)
    work = Work(frozen, source, None, folder, out, settings)
    identity = identity_of(frozen, source, out, settings)
    plan = make_plan(source, folder, (), (), out, identity, backbone.targets, max(source.snapshot.parts.n_events))
    inputs = with_offsets(backbone.inputs, source.schema)

    def load(plan_of_batches: list[np.ndarray[Any, Any]]) -> list[dict[str, torch.Tensor]]:
        return [to_batch(source.events(positions, inputs), source.schema) for positions in plan_of_batches]

    by_length = [
        np.asarray(job.positions)[rows]
        for job in plan.jobs
        for rows in engine.batches_of(backbone, source, job.positions, settings)
    ]
    size = settings.batch_size
    in_order = [np.arange(begin, min(begin + size, source.n_events)) for begin in range(0, source.n_events, size)]
    batches = {"bare": load(by_length), "padded": load(in_order)}

    def bare(which: str) -> None:
        for batch in batches[which]:
            engine.forward(backbone, batch, settings, work.frozen.device)
        if work.frozen.device.type == "cuda":
            torch.cuda.synchronize()

    def whole(apart: bool) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            snapshot.prepare_root(Path(scratch))
            for _ in pipeline.do(replace(work, root=Path(scratch)), plan.jobs, apart=apart):
                pass

    def one_block() -> None:
        with patch.object(padding, "_plan", lambda lengths, step, split: PLAN(lengths, step, False)):
            bare("padded")

    ways: dict[str, Callable[[], None]] = {
        "bare": lambda: bare("bare"),
        "padded": one_block,
        "threads": lambda: whole(apart=False),
        "extract": lambda: whole(apart=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - begin)
    rates = {name: source.n_events / median(found) for name, found in seconds.items()}
    return {
        "events_per_s": rates,
        "ratios": {
            f"{way}_over_{other}": median(o / w for o, w in zip(seconds[other], seconds[way], strict=True))
            for way in ("extract", "threads")
            for other in ("bare", "padded")
        },
        "events": source.n_events,
        "device": str(work.frozen.device),
        "threads": torch.get_num_threads(),
    }


def versions(folder: Path) -> dict[str, Any]:
    """Share of the time of version 1 that each later version takes."""
    rng = np.random.default_rng(0)
    store = EventStore(*names.dataset("muons", folder)[:2])
    arrays, schema = store.range(0, store.n_events), store.schema
    n, begin = store.n_events, time.perf_counter()
    extract("muon", folder, "muons@1")
    first = time.perf_counter() - begin

    def timed(share: float) -> dict[str, float]:
        begin = time.perf_counter()
        result = extract("muon", folder, "muons")
        seconds = time.perf_counter() - begin
        return {"changed": share, "events_run": result["events_run"], "time_over_version_1": seconds / first}

    found: dict[str, Any] = {"seconds_version_1": first}
    build({"name": "muons", "source": {"kind": "muon_sim", "n_events": n + n // 20}}, folder)
    found["appended_5_percent"] = timed(0.05)
    changed = rng.choice(n, n // 100, replace=False)
    _commit(folder, _changed(arrays, schema, changed), schema)
    found["changed_1_percent"] = timed(0.01)
    _commit(folder, ragged.take(arrays, schema, np.delete(np.arange(n), n // 3)), schema)
    found["removed_1_event"] = timed(0.0)
    label = Array(dtype="float32", role="target")
    wider = schema.model_copy(update={"arrays": {**schema.arrays, "event/label": label}})
    _commit(folder, {**arrays, "event/label": rng.normal(size=n).astype(np.float32)}, wider)
    found["added_1_label"] = timed(0.0)
    return found


def _changed(arrays: EventArrays, schema: Schema, events: np.ndarray[Any, Any]) -> EventArrays:
    """The events with every hit of the chosen ones moved by a millimetre."""
    raw = arrays["hit/raw"].copy()
    for first, last in zip(*(ragged.edges(arrays, schema, "hit")[events + i] for i in (0, 1)), strict=True):
        raw[first:last, 0] += 1
    return {**arrays, "hit/raw": raw}


def _commit(folder: Path, arrays: EventArrays, schema: Schema) -> None:
    """The next version of the data set, in parts as it was built in."""
    root = names.dataset("muons", folder).path
    newest = snapshot.read(root)
    assert newest is not None
    table = EventTable(schema, {**arrays, KEY: event_keys(arrays, schema)})
    entries = []
    step = newest.parts.n_events[0]
    for begin in range(0, table.n_events, step):
        piece = table.range(begin, min(begin + step, table.n_events))
        entries.append(entry({"events": write_part(root, "events", content_digest(piece), schema, piece)}))
    made = newest.model_copy(update={"parts": Catalogue.of(entries), "event_schema": schema})
    snapshot.commit(root, lambda latest: made)


def memory(folder: Path, n_events: int) -> dict[str, Any]:
    """Peak anonymous memory of extracting a data set, and of a tenth of its parts: parts are of one size in both."""
    root = Path(build({"name": "many", "source": {"kind": "muon_sim", "n_events": n_events}}, folder)["path"])
    whole = snapshot.read(root)
    assert whole is not None
    tenth = whole.model_copy(update={"parts": Catalogue.of(list(whole.parts)[: len(whole.parts) // 10])})
    versions = [snapshot.commit(root, lambda latest: tenth), whole]
    peaks = []
    for version in versions:
        data = f"many@{version.version}"
        command = [sys.executable, "-m", "benchmarks", "extract", "--watch", data, "--artifacts", str(folder)]
        peaks.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["peak_mb"])
    events = [version.n_events for version in versions]
    return {"events": events, "peak_rss_anon_mb": peaks, "ratio": peaks[1] / peaks[0]}


def watch(folder: Path, data: str) -> dict[str, float]:
    """Extract a data set and watch this process's anonymous memory."""
    peak, ended = 0.0, threading.Event()

    def look() -> None:
        nonlocal peak
        while not ended.wait(0.02):
            peak = max(peak, _rss_anon())

    thread = threading.Thread(target=look)
    thread.start()
    extract("muon", folder, data, {"out": str(folder / f"of-{data}")})
    ended.set()
    thread.join()
    return {"peak_mb": peak}


def _rss_anon() -> float:
    """Anonymous resident memory of this process in MB (mapped pages of files are not memory)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks extract", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    parser.add_argument("--artifacts", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=["speed", "versions", "memory"], help="one of the three measurements")
    parser.add_argument("--watch", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.watch:
        print(json.dumps(watch(arguments.artifacts, arguments.watch)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.artifacts) as scratch:
        folder = Path(scratch)
        make(folder, arguments.events)
        ways: dict[str, Callable[[], dict[str, Any]]] = {
            "speed": lambda: speed(folder, arguments.device, arguments.repeats),
            "versions": lambda: versions(folder),
            "memory": lambda: memory(folder, arguments.events),
        }
        found = {name: way() for name, way in ways.items() if arguments.only in (None, name)}
    print(json.dumps(found, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
