"""Bytes and speed of each way of storing features: types and codecs, array by array, on real values.

`python -m benchmarks codecs --features artifacts/features/NAME --json` takes the first events of a feature store (or
arrays out of an `.npz` file: `hit/embedding`, `hit/offsets`, …) and stores each float array alone, as one part:

write   MB/s of values packed and handed to the file system, by `frz.store.shard`
read    MB/s of values, the whole array decoded
random  events/s of `EventStore.events` with 200 events in any order

The ways take turns. Seconds are of the processor, over all threads; MB are of values in the stored type; `bytes` is
what lies on disk over float32 values. Halves are not widened again: float32 with empty digits would pack far too well.
"""

import argparse
import importlib.util
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from frz.extract.cast import cast
from frz.store import EventStore, bfloat16, codecs, shard, snapshot
from frz.store.catalogue import Catalogue, entry
from frz.store.part import write_part
from frz.store.schema import ID, Array, Axis, EventArrays, Schema, axis_of
from frz.store.snapshot import Snapshot
from frz.store.split import Split

RANDOM_EVENTS = 200
LEAST_BYTES = 1 << 20
"""Smaller arrays tell nothing about speed."""


def arrays_of(features: Path, n_events: int) -> dict[str, EventArrays]:
    """Each float feature with the offsets of its axis."""
    if features.suffix == ".npz":
        found = dict(np.load(features))
    else:
        store = EventStore(features)
        names = [name for name, spec in store.schema.arrays.items() if spec.role == "feature"]
        found = store.range(0, min(n_events, store.n_events), names)
    return {
        name: {name: values, **{key: found[key] for key in (f"{axis_of(name)}/offsets",) if key in found}}
        for name, values in found.items()
        if values.dtype.kind == "f" and values.nbytes > LEAST_BYTES
    }


def ways_of(values: np.ndarray[Any, Any]) -> list[tuple[str, codecs.Codec]]:
    """Types and codecs worth trying."""
    packings: list[codecs.Codec] = list(codecs.PRESETS)
    if importlib.util.find_spec("pcodec"):
        packings.append(codecs.parse(["numcodecs.pcodec"]))
    dtypes = [dtype for dtype in ("float32", "float16", "bfloat16") if dtype != "float32" or values.itemsize >= 4]
    return [(dtype, codec) for dtype in dtypes for codec in packings]


class Way:
    """One array in one type under one codec."""

    def __init__(self, folder: Path, name: str, arrays: EventArrays, dtype: str, codec: codecs.Codec) -> None:
        values = arrays[name]
        spec = Array(dtype=dtype, shape=values.shape[1:], codec=codec, role="feature")
        self.name, self.codec, self.values = name, codec, cast(name, values, spec)
        self.stored = bfloat16.narrow(self.values) if dtype == bfloat16.NAME else self.values
        axis = axis_of(name)
        offsets = f"{axis}/offsets"
        n_events = len(arrays[offsets]) - 1 if offsets in arrays else len(values)  # without them, a row is an event
        axes = {axis: Axis(length=None if offsets in arrays else 1)}
        schema = Schema(axes=axes, arrays={ID: Array(dtype="int64"), name: spec})
        snapshot.prepare_root(folder)
        whole = {**arrays, name: self.values, ID: np.arange(n_events)}
        record = write_part(folder, spec.group, "ab" * 32, schema, whole)
        parts = Catalogue.of([entry({spec.group: record})])
        made = Snapshot(name=name, event_schema=schema, split=Split(), parts=parts)
        snapshot.commit(folder, lambda latest: made)
        self.bytes = sum(size for size, _ in record.arrays[name].files.values())
        self.store, self.scratch = EventStore(folder), folder / "tmp" / "again"
        self.seconds: dict[str, list[float]] = {"write": [], "read": [], "random": []}

    def measure(self, some: np.ndarray[Any, Any]) -> None:
        """Take each time once."""
        dimensions = [f"d{i}" for i in range(self.stored.ndim)]
        self._time("write", lambda: shard.write(self.scratch, self.stored, dimensions, {}, self.codec))
        shutil.rmtree(self.scratch)
        self._time("read", self._read)
        self._time("random", lambda: self.store.events(some, [self.name]))

    def _read(self) -> None:
        values = self.store.array(self.name)
        if not values.flags.writeable:  # mapped: copy what the others decode
            values.copy()

    def _time(self, what: str, work: Callable[[], Any]) -> None:
        start = time.process_time()
        work()
        self.seconds[what].append(time.process_time() - start)

    def row(self) -> dict[str, Any]:
        """What was measured; the first time of each warmed up."""
        took = {what: median(values[1:]) for what, values in self.seconds.items()}
        return {
            "bytes": round(self.bytes / (4 * self.values.size), 3),
            "write_MB_per_s": round(self.stored.nbytes / took["write"] / 1e6),
            "read_MB_per_s": round(self.stored.nbytes / took["read"] / 1e6),
            "random_events_per_s": round(RANDOM_EVENTS / took["random"]),
        }


def run(features: Path, n_events: int, repetitions: int) -> dict[str, Any]:
    """Rows per array, type and codec."""
    result: dict[str, Any] = {}
    for name, arrays in arrays_of(features, n_events).items():
        with tempfile.TemporaryDirectory() as scratch:
            ways = {}
            for dtype, codec in ways_of(arrays[name]):
                label = f"{dtype} {codec if isinstance(codec, str) else codec[0]['name']}"
                ways[label] = Way(Path(scratch, label), name, arrays, dtype, codec)
            rng = np.random.default_rng(0)
            for _ in range(repetitions + 1):
                for way in ways.values():
                    way.measure(rng.integers(0, way.store.n_events, RANDOM_EVENTS))
            result[name] = {label: way.row() for label, way in ways.items()}
    return {"arrays": result, "threads": torch.get_num_threads(), "repetitions": repetitions}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=Path, required=True, help="a feature store, or an .npz file")
    parser.add_argument("--events", type=int, default=6000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    result = run(options.features, options.events, options.repetitions)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for name, ways in result["arrays"].items():
        print(f"{name:24} bytes of float32   write MB/s   read MB/s   random events/s")
        for label, row in ways.items():
            write, read, random = row["write_MB_per_s"], row["read_MB_per_s"], row["random_events_per_s"]
            print(f"  {label:22} {row['bytes']:16.3f} {write:12} {read:11} {random:17}")


if __name__ == "__main__":
    main()
