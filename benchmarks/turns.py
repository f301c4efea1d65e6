"""Several ways of doing the same, timed in turns, so that what else the machine does falls on all of them."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Times(NamedTuple):
    """Seconds of each turn, by way."""

    wall: dict[str, list[float]]
    """By the clock."""
    busy: dict[str, list[float]]
    """Of the processor."""


def take_turns(ways: Mapping[str, Callable[[], Any]], repetitions: int) -> Times:
    """Seconds of `repetitions` turns of each way, after one that warms up."""
    times = Times({name: [] for name in ways}, {name: [] for name in ways})
    for repetition in range(repetitions + 1):
        for name, way in ways.items():
            start, used = time.perf_counter(), time.process_time()
            way()
            if repetition:
                times.wall[name].append(time.perf_counter() - start)
                times.busy[name].append(time.process_time() - used)
    return times
