"""In which order a head sees its events, and how good a shuffle that is.

The order is decided by settings, seed and epoch alone: never by memory, and not by where the events lie.
"""

# Axes: B events of a batch, K batches.

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from frz.config import StrictModel
from frz.loading.plan import plan_blocks
from frz.store.schema import EVENT, GROUP, axis_of
from frz.store.table import Reader
from frz.training.source import Plan

ENOUGH = 0.95
"""Share of the entropy of a full shuffle from which nobody is asked to do anything."""
SAMPLE = 512
"""Batches in which labels are counted, evenly spread over an epoch."""
STRETCHES = 64
"""Of a store, in its order: they stand for files where no group does."""
CLASSES = 100
"""Most values of a target that is a class."""


class OrderConfig(StrictModel):
    """The shuffle of Stage 2; the defaults shuffle 131,072 events together."""

    block: int = Field(default=256, ge=1)
    """Consecutive events that stay together until they are in memory."""
    shuffle_blocks: int = Field(default=512, ge=1)
    """Blocks, random ones, whose events are shuffled together: what a mapped data set holds in memory."""

    @property
    def window(self) -> int:
        """Events that are shuffled together."""
        return self.block * self.shuffle_blocks

    def plan(self, n_events: int, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
        """Batches of an epoch, positions 0 ... n_events - 1."""
        return plan_blocks(
            n_events, batch_size, seed=seed, epoch=epoch, block=self.block, shuffle_blocks=self.shuffle_blocks
        )


class Shuffle(NamedTuple):
    """How good the shuffle of a run is."""

    shares: dict[str, float]
    """Mean batch entropy of each kind of label, in units of that of a full shuffle."""
    better: OrderConfig | None
    """Order of the same memory that reaches `ENOUGH`, where this one does not."""

    def __str__(self) -> str:
        found = ", ".join(f"{share:.2f} by {label}" for label, share in self.shares.items())
        text = f"shuffle: batch entropy {found} (a full shuffle: 1)"
        if self.better is None:
            return text
        return f"{text}; loading.block={self.better.block} loading.shuffle_blocks={self.better.shuffle_blocks} would do"


def shuffle_quality(
    labels: Mapping[str, NDArray[np.generic]], order: OrderConfig, batch_size: int, seed: int
) -> Shuffle:
    """Compare batches of an epoch with those of a full shuffle, label by label.

    Parameters
    ----------
    labels : mapping
        Labels (n_event,) of the events in the order of the store, by what they are.
    order : OrderConfig
        What is looked at.
    batch_size, seed : int
        As for training.
    """
    n_events = len(next(iter(labels.values())))

    def shares(plan: Plan) -> dict[str, float]:
        entropy = {label: batch_entropy(values, plan) for label, values in labels.items()}
        return {label: value / ideal[label] if ideal[label] else 1.0 for label, value in entropy.items()}

    if n_events <= order.window:
        return Shuffle(dict.fromkeys(labels, 1.0), None)
    full = OrderConfig(block=1, shuffle_blocks=n_events).plan(n_events, batch_size, seed, 0)
    ideal = {label: batch_entropy(values, full) for label, values in labels.items()}
    found = shares(order.plan(n_events, batch_size, seed, 0))
    better, reached = order, found
    while min(reached.values()) < ENOUGH and better.block > 1:
        block = better.block // 2
        better = OrderConfig(block=block, shuffle_blocks=order.window // block)
        reached = shares(better.plan(n_events, batch_size, seed, 0))
    return Shuffle(found, None if better is order else better)


def batch_entropy(labels: NDArray[np.generic], plan: Plan) -> float:
    """Mean over batches of the entropy (nats) of the labels of a batch.

    Parameters
    ----------
    labels : array (n_event,)
        Label of each event.
    plan : sequence of int64 arrays
        Positions of the events of each batch; of many batches some are looked at, evenly spread.
    """
    chosen = np.unique(np.linspace(0, len(plan) - 1, min(SAMPLE, len(plan))).astype(np.int64))
    sizes = np.array([len(plan[i]) for i in chosen])
    known, code = np.unique(labels, return_inverse=True)
    batch = np.repeat(np.arange(len(chosen)), sizes)
    in_batch = batch * len(known) + code[np.concatenate([plan[i] for i in chosen])]
    which, counts = np.unique(in_batch, return_counts=True)
    share = counts / sizes[which // len(known)]
    return float((share * -np.log(share)).sum() / max(len(chosen), 1))


def labels_of(reader: Reader, positions: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
    """What a batch should be a mixture of: stretches of the store, groups of events, and classes."""
    found: dict[str, NDArray[np.generic]] = {"place in the data set": positions * STRETCHES // max(reader.n_events, 1)}
    for name, spec in reader.schema.arrays.items():
        if axis_of(name) == EVENT and spec.shape == () and (name == GROUP or spec.role == "target"):
            values = reader.array(name)[positions]
            most = len(values) // 2 if name == GROUP else CLASSES
            if 1 < len(np.unique(values)) <= most:
                found[name] = values
    return found
