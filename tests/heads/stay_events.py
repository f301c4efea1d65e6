"""Random features of stays in memory: what a set-sequence backbone leaves behind."""

import numpy as np

from frz.store.ragged import offsets_of
from frz.store.schema import Array, Axis, EventArrays, Schema

D, N_STATIC = 8, 3
STATIC = ("age", "gender", "weight")


def stay_schema(*, truth: bool = True, width: int = D, dtype: str = "float32") -> Schema:
    def feature(*shape: int, dtype: str = "float32") -> Array:
        return Array(dtype=dtype, shape=shape, role="feature")

    arrays = {
        "event/id": Array(dtype="int64", role="meta"),
        "event/group": Array(dtype="int64", role="meta"),
        "event/static": Array(dtype="float32", shape=(N_STATIC,), columns=STATIC),
        "event/pooled_fast": feature(width),
        "event/pooled": feature(2 * width),
        "event/summary": feature(2 * width),
        "set/mu": feature(width, dtype=dtype),
        "set/logvar": feature(width, dtype=dtype),
        "set/state": feature(width, dtype=dtype),
        "set/minute": feature(),
        "set/size": feature(dtype="int32"),
        "set/kl": feature(),
    }
    if truth:
        arrays["event/label"] = Array(dtype="int8", role="target")
    return Schema(axes={"set": Axis()}, arrays=arrays)


def stay_events(
    seed: int = 0, sets: tuple[int, ...] = (7, 0, 1, 12, 5, 9), width: int = D, dtype: str = "float32"
) -> EventArrays:
    """Stays with so many sets; every fifth static value is unknown, and so is the label of every fifth stay."""
    rng = np.random.default_rng(seed)
    n, n_set = len(sets), sum(sets)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(dtype)

    static = rng.normal(50, 20, (n, N_STATIC)).astype(np.float32)
    static.ravel()[2::5] = np.nan
    return {
        "event/id": np.arange(n, dtype=np.int64) + 100 * seed,
        "event/group": np.arange(n, dtype=np.int64),
        "event/label": np.where(np.arange(n) % 5 == 2, -1, np.arange(n) % 2).astype(np.int8),
        "event/static": static,
        "event/pooled_fast": rng.normal(size=(n, width)).astype(np.float32),
        "event/pooled": rng.normal(size=(n, 2 * width)).astype(np.float32),
        "event/summary": rng.normal(size=(n, 2 * width)).astype(np.float32),
        "set/offsets": offsets_of(np.array(sets, np.int64)),
        "set/mu": normal(n_set, width),
        "set/logvar": normal(n_set, width),
        "set/state": normal(n_set, width),
        "set/minute": rng.uniform(0, 2880, n_set).astype(np.float32),
        "set/size": rng.integers(1, 30, n_set).astype(np.int32),
        "set/kl": rng.uniform(0, 9, n_set).astype(np.float32),
    }
