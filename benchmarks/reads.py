"""How fast stored events are read, beside plain numpy on files that hold the same bytes.

Random events: `store.events` with five arrays against the same gather from an `np.memmap` per array, written by hand
with the offsets of all events in memory: once as one `take` of all rows, once as a slice per event, the faster of the
two. The events are those of one version (`whole`) and of a later one in which one event in a hundred was written anew
(`fragmented`, some 20 pieces per part). Blocks: parts and ranges against a copy of the same bytes in memory.

All from a warm page cache: what is measured is the way, not the disk.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import synthetic
from frz.store import EventArrays, EventStore, ragged
from frz.store.schema import axis_of

BATCHES = (64, 256, 1024)
CASES = {32: (98_304, 80.0), 256: (32_768, 60.0)}
"""Width of the embeddings -> events, and hits per event."""


class Mapped:
    """The limit: one plain file per array, every offset in memory."""

    def __init__(self, folder: Path, store: EventStore) -> None:
        folder.mkdir()
        self.arrays: EventArrays = {}
        self.edges: dict[str, NDArray[np.int64]] = {}
        for name in sorted(store.keys()):
            values = store.array(name)
            if name.endswith("/offsets"):
                self.edges[axis_of(name)] = values
            else:
                path = folder / name.replace("/", "-")
                values.tofile(path)
                self.arrays[name] = np.asarray(np.memmap(path, values.dtype, "r", shape=values.shape))
        n = np.arange(store.n_events + 1)
        self.edges |= {"event": n, "query": 2 * n}

    def by_rows(self, positions: NDArray[np.int64]) -> EventArrays:
        """One `take` of all rows per array."""
        result: EventArrays = {}
        rows = {}
        for axis, edges in self.edges.items():
            rows[axis], offsets = ragged.rows(edges, positions)
            if axis in ("hit", "track"):
                result[f"{axis}/offsets"] = offsets
        for name, values in self.arrays.items():
            result[name] = values.take(rows[axis_of(name)], axis=0)
        return result

    def by_slices(self, positions: NDArray[np.int64]) -> EventArrays:
        """One slice per event and array; single rows by `take`."""
        result: EventArrays = {}
        runs = {}
        for axis, edges in self.edges.items():
            begins, ends = edges[positions], edges[positions + 1]
            runs[axis] = list(zip(begins.tolist(), ends.tolist(), strict=True))
            if axis in ("hit", "track"):
                result[f"{axis}/offsets"] = ragged.offsets_of(ends - begins)
        for name, values in self.arrays.items():
            axis = axis_of(name)
            if axis == "event":
                result[name] = values.take(positions, axis=0)
            else:
                result[name] = np.concatenate([values[begin:end] for begin, end in runs[axis]])
        return result


def timed(ways: dict[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Median seconds of each way; they take turns, and the first turn warms up.

    Seconds of the processor: one thread, nothing waits for a disk, and other programs on the machine disturb less.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(repetitions + 1):
        for name, way in ways.items():
            start = time.thread_time()
            way()
            if repetition:
                seconds[name].append(time.thread_time() - start)
    return {name: median(values) for name, values in seconds.items()}


def random_events(whole: EventStore, fragmented: EventStore, mapped: Mapped, repetitions: int) -> dict[str, Any]:
    """Events/s of each way, and ratios to the faster way by hand, for each size of batch."""
    rng = np.random.default_rng(1)
    result = {}
    for size in BATCHES:
        batches = [rng.integers(0, whole.n_events, size) for _ in range(max(2048 // size, 2))]
        expected = mapped.by_rows(batches[0])
        readers = {
            "whole": whole.events,
            "fragmented": fragmented.events,
            "by_rows": mapped.by_rows,
            "by_slices": mapped.by_slices,
        }
        for name, read in readers.items():
            found = read(batches[0])
            assert found.keys() == expected.keys(), name
            assert all(np.array_equal(found[key], expected[key]) for key in expected), name
        ways = {name: partial(_read_all, read, batches) for name, read in readers.items()}
        n_events = size * len(batches)
        rate = {name: n_events / seconds for name, seconds in timed(ways, repetitions).items()}
        limit = max(rate["by_rows"], rate["by_slices"])
        result[size] = {
            "whole_over_memmap": round(rate["whole"] / limit, 3),
            "fragmented_over_memmap": round(rate["fragmented"] / limit, 3),
            "events_per_s": {name: round(value) for name, value in rate.items()},
        }
    return result


def _read_all(read: Callable[[Any], object], batches: list[NDArray[np.int64]]) -> None:
    for positions in batches:
        read(positions)


def blocks(whole: EventStore, fragmented: EventStore, repetitions: int) -> dict[str, float]:
    """GB/s of the embedding: parts and ranges of one part and a half, beside a copy in memory."""
    name = "hit/embedding"
    n_events = min(16 * synthetic.PART, whole.n_events)
    step = 3 * synthetic.PART // 2
    copied = whole.range(0, n_events, [name])[name].copy()
    target = np.empty_like(copied)
    largest = np.empty((max(whole.snapshot.parts.counts["hit"]), *copied.shape[1:]), copied.dtype)

    def parts(store: EventStore) -> None:
        for index in range(n_events // synthetic.PART):
            values = store.part(index, [name])[name]
            np.copyto(largest[: len(values)], values)  # a mapped part costs nothing until it is looked at

    def ranges(store: EventStore) -> None:
        for first in range(0, n_events, step):
            store.range(first, min(first + step, n_events), [name])

    def fresh() -> None:
        rows = len(copied) * step // n_events
        for first in range(0, len(copied), rows):
            copied[first : first + rows].copy()

    ways: dict[str, Callable[[], object]] = {
        "part_copied": lambda: parts(whole),
        "part_fragmented_copied": lambda: parts(fragmented),
        "range": lambda: ranges(whole),
        "range_fragmented": lambda: ranges(fragmented),
        "memory_into_place": lambda: np.copyto(target, copied),
        "memory_fresh": fresh,
    }
    return {way: round(copied.nbytes / seconds / 1e9, 2) for way, seconds in timed(ways, repetitions).items()}


def run(scratch: Path, shrink: int, repetitions: int) -> dict[str, Any]:
    """Measure every width."""
    result: dict[str, Any] = {"target": "whole_over_memmap >= 0.5"}
    for width, (n_events, hits) in CASES.items():
        folder = scratch / str(width)
        n_events //= shrink
        schema = synthetic.schema_of(width)
        whole = synthetic.write(folder, schema, synthetic.events(schema, n_events, hits))
        fragmented = synthetic.fragment(whole, 0.01)
        mapped = Mapped(scratch / f"{width}-mapped", whole)
        result[f"float16 x {width}"] = {
            "events": n_events,
            "parts": whole.n_parts,
            "pieces_per_part": round(sum(fragmented.snapshot.parts.groups["events"].pieces) / whole.n_parts, 1),
            "gigabytes": round(sum(values.nbytes for values in mapped.arrays.values()) / 1e9, 2),
            "batch": random_events(whole, fragmented, mapped, repetitions),
            "blocks_gb_per_s": blocks(whole, fragmented, repetitions),
        }
    return result | {"numpy": np.__version__, "load": round(os.getloadavg()[0], 1), "repetitions": repetitions}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shrink", type=int, default=1, help="divide the numbers of events by this")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--scratch", type=Path, help="folder for the files (default: the system's)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        result = run(Path(name), options.shrink, options.repetitions)
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for case, found in result.items():
        if isinstance(found, dict):
            print(f"{case}: {found['events']} events in {found['parts']} parts, {found['gigabytes']} GB")
            for size, ratios in found["batch"].items():
                print(f"  batches of {size:5}: {ratios['whole_over_memmap']:.2f} of np.memmap", end="")
                print(f", fragmented {ratios['fragmented_over_memmap']:.2f}")
            print("  " + ", ".join(f"{way} {speed} GB/s" for way, speed in found["blocks_gb_per_s"].items()))


if __name__ == "__main__":
    main()
