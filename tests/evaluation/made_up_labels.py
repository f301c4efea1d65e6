"""A feature store of events with a label, some of them without, and trained heads on it; no backbone is needed."""

from pathlib import Path

import numpy as np

from frz.heads.run import train
from frz.store import snapshot
from frz.store.catalogue import Catalogue, entry
from frz.store.part import write_part
from frz.store.schema import Array, Schema
from frz.store.snapshot import Snapshot
from frz.store.split import Split

WEIGHTS = "5e7a11" * 10 + "0000"
SCHEMA = Schema(
    arrays={
        "event/id": Array(dtype="int64", role="meta"),
        "event/group": Array(dtype="int64", role="meta"),
        "event/pooled": Array(dtype="float32", shape=(3,), role="feature"),
        "event/label": Array(dtype="int8", role="target"),
        "event/kind": Array(dtype="int16", role="target"),
        "event/static": Array(dtype="float32", shape=(2,), role="meta", columns=("age", "unit")),
    }
)


def stays(n: int = 900, seed: int = 0) -> dict[str, np.ndarray]:
    """Labels that follow the first feature; every ninth is not known. Some have no unit."""
    rng = np.random.default_rng(seed)
    pooled = rng.normal(size=(n, 3)).astype(np.float32)
    label = (rng.random(n) < 1 / (1 + np.exp(1.5 - 2 * pooled[:, 0]))).astype(np.int8)
    label[::9] = -1
    unit = rng.integers(1, 4, n).astype(np.float32)
    unit[::50] = np.nan
    return {
        "event/id": np.arange(n) + 1000,
        "event/group": np.arange(n) + 1000,
        "event/pooled": pooled,
        "event/label": label,
        "event/kind": np.digitize(pooled[:, 1] + 0.5 * rng.normal(size=n), [-0.5, 0.5]).astype(np.int16),
        "event/static": np.stack([rng.uniform(20, 90, n), unit], 1).astype(np.float32),
    }


def write(
    root: Path, events: dict[str, np.ndarray] | None = None, split: Split | None = None, data: str = "0" * 64
) -> Path:
    """Artifacts below `root` with the features of these events; `data` is the hash of their data set."""
    store = root / "features" / f"stays-{WEIGHTS[:8]}"
    snapshot.prepare_root(store)
    record = write_part(store, "events", "0" * 64, SCHEMA, events or stays())
    about = {
        "fingerprint": {"value": WEIGHTS},
        "backbone": {"name": "stays", "checkpoint": ""},
        "data": {"name": "stays", "version": 1, "hash": data},
        "recipe": {"precision": "fp32"},
        "made_with": {},
    }
    parts = Catalogue.of([entry({"events": record})])
    split = split or Split(fractions={"train": 0.5, "val": 0.25, "test": 0.25})
    made = Snapshot(name=store.name, event_schema=SCHEMA, split=split, parts=parts, about=about)
    snapshot.commit(store, lambda latest: made)
    return root


def head(name: str, **model: object) -> dict[str, object]:
    """Config of a linear classifier of the label."""
    about = {"rows": "event", "inputs": ["event/pooled"], "target": "event/label", "field": "label"}
    return {
        "name": name,
        "head": "linear-classifier",
        "features": {"backbone": "stays", "data": "stays"},
        "model": about | model,
        "trainer": {"max_epochs": 12, "batch_size": 64, "lr": 0.05, "device": "cpu"},
    }


def trained(root: Path) -> Path:
    """Features, a classifier of the label and one of the three kinds."""
    write(root)
    train(head("death"), root)
    train(head("kind", target="event/kind", field="kind", classes=3), root)
    return root
