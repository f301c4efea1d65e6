"""This store beside other ways to keep the same features: write, read in order, random events, shuffled epoch, size.

The same made-up events go into every store in turn, and every answer is compared with the arrays they came from. Each
peer is used as its own documentation recommends; what is not installed is left out and named. Events: hits with an
embedding (float16) and ten scaled fields (float32), and an id.

`write`: all events, given a part of 1,024 at a time, closed but not brought to disk, except by this store, which does
both. `sequential`: all events in stored order, every byte copied. `random`: batches of 256 ids. `shuffled`:
batches of 256 over a permutation of all events, as an epoch of training reads them; LitData shuffles in its own way.
Slow ones are broken off after some seconds. All from a warm page cache. Ratios are speeds over those of `np.memmap`,
the limit.
"""

import argparse
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import synthetic
from benchmarks.peers import BATCH, NAMES, SCHEMA, STORES, Store
from frz.store import EventArrays, ragged

HITS = 60.0
SECONDS = 3.0
"""Longest time for random events and for the shuffled epoch of one store; slower ones do fewer batches."""


def made_up(gigabytes: float) -> list[EventArrays]:
    """Events of about that many gigabytes, in parts."""
    per_event = HITS * sum(SCHEMA.arrays[name].row_bytes for name in NAMES)
    n_events = max(round(gigabytes * 1e9 / per_event) // synthetic.PART, 1) * synthetic.PART
    return list(synthetic.events(SCHEMA, n_events, HITS))


class Watch:
    """Events per second, by the clock and by processor time (of all threads)."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        """Since the start, by the clock."""
        return time.perf_counter() - self._start[0]

    def rates(self, n_events: int) -> tuple[float, float]:
        """Of what was done since the start."""
        return n_events / self.seconds, n_events / (time.process_time() - self._start[1])


def measure(store: Store, parts: list[EventArrays]) -> tuple[dict[str, tuple[float, float]], int]:
    """Events/s of each kind of access, and bytes on disk."""
    n_events = sum(len(arrays["event/id"]) for arrays in parts)
    watch = Watch()
    store.write(parts)
    result = {"write": watch.rates(n_events)}
    store.open()
    check(store, parts)
    for _ in range(2):  # the first warms up
        watch, total = Watch(), 0
        for arrays in store.blocks():
            for name in NAMES:
                arrays[name].copy()  # a mapped block costs nothing until it is looked at
            total += len(arrays["event/id"])
        assert total == n_events
        result["sequential"] = watch.rates(n_events)
    rng = np.random.default_rng(0)
    result["random"] = speed(store.events(rng.integers(0, n_events, BATCH)) for _ in count())
    result["shuffled"] = speed(store.shuffled(rng.permutation(n_events)))
    files = [p for p in store.folder.rglob("*") if p.is_file()] if store.folder.is_dir() else [store.folder]
    return result, sum(path.stat().st_size for path in files)


def speed(batches: Iterator[EventArrays]) -> tuple[float, float]:
    """Events/s of batches, for some seconds at most."""
    watch, n_events = Watch(), 0
    for arrays in batches:
        n_events += len(arrays["event/id"])
        if watch.seconds > SECONDS:
            break
    return watch.rates(n_events)


def check(store: Store, parts: list[EventArrays]) -> None:
    """Some events read back are those written."""
    positions = np.random.default_rng(2).integers(0, len(parts[0]["event/id"]), 8)
    expected, found = ragged.take(parts[0], SCHEMA, positions), store.events(positions)
    for name, values in expected.items():
        assert np.array_equal(found[name], values), (type(store).__name__, name, found[name].dtype, found[name].shape)
    assert next(iter(store.blocks()))["event/id"][0] == parts[0]["event/id"][0]


def installed(package: str) -> str | None:
    """Version of a package, None if it is not there."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def run(scratch: Path, gigabytes: float) -> dict[str, Any]:
    """Measure every store that is installed."""
    parts = made_up(gigabytes)
    rates: dict[str, dict[str, tuple[float, float]]] = {}
    size: dict[str, int] = {}
    skipped, notes = [], {}
    for name, make in STORES.items():
        store = make(scratch / "store")
        if store.needs and installed(store.needs) is None:
            skipped.append(f"{name}: {store.needs} is not installed")
            continue
        rates[name], size[name] = measure(store, parts)
        notes |= {name: store.note} if store.note else {}
        shutil.rmtree(store.folder) if store.folder.is_dir() else store.folder.unlink()
        del store
    by_clock, by_processor = (
        {n: {kind: rate[i] for kind, rate in found.items()} for n, found in rates.items()} for i in range(2)
    )
    return {
        "over_memmap": _over_memmap(by_clock, size),
        "over_memmap_in_processor_time": _over_memmap(by_processor, size),
        "events_per_s": {n: {kind: round(rate) for kind, rate in found.items()} for n, found in by_clock.items()},
        "bytes": size,
        "notes": notes,
        "skipped": skipped,
        "events": sum(len(arrays["event/id"]) for arrays in parts),
        "payload_bytes": sum(values.nbytes for arrays in parts for values in arrays.values()),
        "versions": {p: installed(p) for p in ("numpy", "zarr", "h5py", "litdata", "datasets", "pyarrow")},
        "python": sys.version.split()[0],
        "load": round(os.getloadavg()[0], 1),
    }


def _over_memmap(rates: dict[str, dict[str, float]], size: dict[str, int]) -> dict[str, dict[str, float]]:
    limit = rates["np.memmap"]
    return {
        name: {kind: round(rate / limit[kind], 4) for kind, rate in found.items()}
        | {"bytes": round(size[name] / size["np.memmap"], 3)}
        for name, found in rates.items()
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=1.0, help="gigabytes of values")
    parser.add_argument("--scratch", type=Path, help="folder for the files (default: the system's)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        result = run(Path(name), options.size)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    columns = ("write", "sequential", "random", "shuffled", "bytes")
    print(f"{'over np.memmap':24}" + "".join(f"{column:>12}" for column in columns))
    for store, ratios in result["over_memmap"].items():
        print(f"{store:24}" + "".join(f"{ratios[column]:12.3g}" for column in columns))
    print(*result["skipped"], sep="\n")


if __name__ == "__main__":
    main()
