"""Random stays with the schema of sets in time, a few kilobytes each; the label moves one variable."""

import numpy as np

from frz.backbones.contract import Batch
from frz.loading.batch import to_batch
from frz.store.schema import Array, Axis, EventArrays, Schema

VARIABLES = ("HR", "Temp", "Lactate", "GCS", "MechVent")
TARGETS = ("label", "saps", "sofa", "length_of_stay", "survival")
STATICS = ("age", "gender", "height", "icu_type", "weight")
CONSTANTS = {"variable/embedding": np.random.default_rng(3).normal(size=(len(VARIABLES), 12)).astype(np.float32)}

SCHEMA = Schema(
    axes={"set": Axis(), "element": Axis(parent="set")},
    arrays={
        "event/id": Array(dtype="int64", role="meta"),
        "event/static": Array(dtype="float32", shape=(5,), columns=STATICS),
        **{f"event/{name}": Array(dtype="int16", role="target") for name in TARGETS},
        "set/minute": Array(dtype="float32", unit="min"),
        "element/variable": Array(dtype="int16"),
        "element/value": Array(dtype="float32"),
    },
    static={
        "variable/code": Array(dtype="int16", shape=(len(VARIABLES),), columns=VARIABLES),
        "variable/embedding": Array(dtype="float32", shape=(len(VARIABLES), 12)),
    },
)

CENTRE, WIDTH = np.array([80.0, 37.0, 2.0, 12.0, 1.0]), np.array([15.0, 0.8, 1.0, 3.0, 0.0])


def make_events(lengths: list[int], seed: int = 0) -> EventArrays:
    """Stays with the given numbers of sets, of 1 to 9 elements each, variables at times twice in a set."""
    rng = np.random.default_rng(seed)
    n_set = sum(lengths)
    sizes = rng.integers(1, 10, n_set)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    variable = rng.integers(0, len(VARIABLES), sizes.sum())
    label = (rng.random(len(lengths)) < 0.4).astype(np.int16)
    owner = np.repeat(np.repeat(np.arange(len(lengths)), lengths), sizes)
    level = rng.normal(size=len(variable)) + 2.0 * label[owner] * (variable == 2)
    minutes = [np.sort(rng.choice(2880, size=n, replace=False)) for n in lengths]
    static = rng.normal(size=(len(lengths), 5)) * 10 + 50
    static[rng.random(static.shape) < 0.2] = np.nan
    targets = {name: rng.integers(0, 30, len(lengths)) for name in TARGETS}
    return {
        "event/id": np.arange(len(lengths), dtype=np.int64),
        "event/static": static.astype(np.float32),
        **{f"event/{name}": values.astype(np.int16) for name, values in targets.items()},
        "event/label": label,
        "set/minute": np.concatenate([np.zeros(0), *minutes]).astype(np.float32),
        "set/offsets": offsets,
        "element/variable": variable.astype(np.int16),
        "element/value": (CENTRE[variable] + WIDTH[variable] * level).astype(np.float32),
        "element/offsets": np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
    }


def batch_of(events: EventArrays) -> Batch:
    """The stays as a batch."""
    return to_batch(events, SCHEMA)


def easy_events() -> EventArrays:
    """Stays whose losses fall fast."""
    return make_events([30] * 8)


def shuffled(events: EventArrays, rng: np.random.Generator) -> tuple[EventArrays, dict[str, np.ndarray]]:
    """The same stays with the elements of each set in another order, and that order by axis."""
    bounds = events["element/offsets"]
    order = np.concatenate([a + rng.permutation(b - a) for a, b in zip(bounds, bounds[1:], strict=False)])
    moved = {name: events[name][order] for name in ("element/variable", "element/value")}
    return {**events, **moved}, {"element": order}
