"""A reference head: what rounded features are judged by.

Trained on exact features, with several seeds, and then asked about the same events as often as their values are
changed. A change that is small beside the spread over the seeds does not matter to a user.
"""

# Axes: N events, K inputs of the probe.

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from frz.config import import_class, parse
from frz.errors import ConfigError, FrzError
from frz.heads.contract import HEADS, Head
from frz.heads.run import HeadConfig, predict
from frz.loading.source import ReaderSource
from frz.store import ragged
from frz.store.schema import EVENT, EventArrays, Schema, axis_of
from frz.store.table import EventTable, pick
from frz.training.loop import fit

PLAIN: tuple[dict[str, Any], ...] = ({}, {"hit_nets": []})
"""Settings of the regression head that are tried where no head is given, the richest first."""
PLAIN_TRAINER = {"max_epochs": 10, "batch_size": 50, "lr": 2e-3}
RIDGE = 1.0
"""Ridge penalty of the probe, for inputs and target of unit variance."""


class Reference(ABC):
    """A head with one version per seed."""

    about: dict[str, Any]
    """What it is, for people."""
    needs: frozenset[str]
    """Features that it reads; changing others changes nothing."""

    @abstractmethod
    def metrics(self, events: EventArrays) -> list[dict[str, float]]:
        """Metrics on some events, for each seed."""


def reference(config: Mapping[str, Any] | None, train: EventTable, n_seed: int) -> Reference | None:
    """Train a reference head.

    Parameters
    ----------
    config : mapping, optional
        A `HeadConfig`; its `features` are not looked at. Default: the plain regression head, or, where the features do
        not suit it, a linear probe.
    train : EventTable
        Features as a store would give them.
    n_seed : int
        Versions to train.

    Returns
    -------
    Reference or None
        None if no head was given and none fits: there is no truth, or no embedding to read it from.

    Raises
    ------
    FrzError
        If the head that was given does not fit the features.
    """
    if config is not None:
        return _Trained(parse(HeadConfig, config, "fidelity: head"), train, n_seed)
    own = {"name": "reference", "head": "regression", "features": {"backbone": "any", "data": "any"}}
    for model in PLAIN:
        try:
            plain = parse(HeadConfig, {**own, "model": model, "trainer": PLAIN_TRAINER}, "fidelity: head")
            return _Trained(plain, train, n_seed)
        except FrzError:
            continue
    try:
        return _Probe(train, n_seed)
    except ConfigError:
        return None


class _Trained(Reference):
    """A head of the table, or of the user."""

    def __init__(self, config: HeadConfig, train: EventTable, n_seed: int) -> None:
        self.heads: list[Head] = []
        table: EventTable | None = None
        for seed in range(config.trainer.seed, config.trainer.seed + n_seed):
            head = _build(config, train.schema, seed)
            table = table or EventTable(head.prepared, head.prepare(pick(train.arrays, train.schema, head.needs)))
            head.fit([table.arrays])
            trainer = config.trainer.model_copy(update={"seed": seed, "data_seed": seed})
            events = ReaderSource(
                table, head.prepared.arrays, trainer.batch_size, seed=trainer.data_seed, window=trainer.window
            )
            with tempfile.TemporaryDirectory(prefix="frz-") as folder:
                fit(head, events, None, trainer, Path(folder), description=f"reference head, seed {seed}")
            self.heads.append(head)
        self.schema, self.needs = train.schema, frozenset(head.needs)
        self.about = {"head": config.head, "model": config.model, "epochs": config.trainer.max_epochs, "seeds": n_seed}

    def metrics(self, events: EventArrays) -> list[dict[str, float]]:
        head = self.heads[0]
        table = EventTable(head.prepared, head.prepare(pick(events, self.schema, head.needs)))
        every = np.arange(table.n_events)
        return [head.metrics(predict(head, table, every), table.arrays) for head in self.heads]


def _build(config: HeadConfig, schema: Schema, seed: int) -> Head:
    """An untrained head."""
    head_class = import_class(config.head, HEADS, "head")
    model = parse(head_class.Config, config.model, "fidelity: head: model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head: Head = head_class(model, schema)
    return head


class _Probe(Reference):
    """Ridge regression, in closed form, from an embedding of fixed length to the first target of an event.

    The embeddings of all members make one input vector; the target is the mean over the event's members of the first
    column of the first float target. A seed draws the training events anew, with replacement.

    Raises
    ------
    ConfigError
        If there is no such embedding or no such target.
    """

    def __init__(self, train: EventTable, n_seed: int) -> None:
        schema = train.schema
        fixed = [EVENT, *(name for name, axis in schema.axes.items() if axis.parent == EVENT and axis.length)]
        inputs = [name for name in schema.arrays if name.endswith("/embedding") and axis_of(name) in fixed]
        floats = [name for name in schema.with_role("target") if np.dtype(schema.arrays[name].dtype).kind == "f"]
        if not inputs or not floats:
            raise ConfigError("no embedding of fixed length, or no target, for a linear probe")
        self.schema, self.input, self.target = schema, inputs[0], floats[0]
        columns = schema.arrays[self.target].columns
        self.label = f"{self.target}/{columns[0]}" if columns else self.target
        self.needs = frozenset([self.input])
        self.about = {"head": "linear probe", "input": self.input, "target": self.label, "seeds": n_seed}
        x, y = self._read(train.arrays)
        if len(y) < 2:
            raise ConfigError("no event with a target for a linear probe")
        drawn = [np.random.default_rng(seed).integers(len(y), size=len(y)) for seed in range(n_seed)]
        self.fits = [_ridge(x[rows], y[rows]) for rows in drawn]

    def _read(self, events: EventArrays) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Inputs (N, K) and targets (N,) of the events that have one."""
        edges = ragged.edges(events, self.schema, axis_of(self.target))
        n_event = len(edges) - 1
        values = events[self.target].reshape(int(edges[-1]), -1)[:, 0].astype(np.float64)
        members = np.diff(edges)
        total = np.bincount(np.repeat(np.arange(n_event), members), values, minlength=n_event)
        has = members > 0
        return events[self.input].reshape(n_event, -1)[has].astype(np.float64), total[has] / members[has]

    def metrics(self, events: EventArrays) -> list[dict[str, float]]:
        x, y = self._read(events)
        total = float(np.square(y - y.mean()).sum()) if len(y) else 0.0
        left = [float(np.square(x @ slope + constant - y).sum()) for slope, constant in self.fits]
        return [{f"{self.label}/r2": 1 - error / total if total else 0.0} for error in left]


def _ridge(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Slope (K,) and constant of the ridge regression of y (N,) on x (N, K), solved in the N events.

    Hoerl and Kennard 1970, in the dual form w = X^T (X X^T + lambda)^-1 y.
    """
    middle, width = x.mean(axis=0), x.std(axis=0)
    width = np.where(width > 0, width, 1.0)
    scaled = (x - middle) / width
    weights = np.linalg.solve(scaled @ scaled.T + RIDGE * np.eye(len(y)), y - y.mean())
    slope = scaled.T @ weights / width
    return slope, float(y.mean() - middle @ slope)
