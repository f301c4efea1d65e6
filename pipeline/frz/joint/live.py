"""A backbone and a head as one module that is trained end to end, and the batches for it.

The backbone computes features as extraction does, in eval mode but with gradients: no dropout, no sampling, BatchNorm
with the statistics that it has, which stay. Annotations (which true track a query stands for) are made of them as
extraction makes them, and the head's prefix runs on them at every step (`Head.live`). The head is in training mode.

Weights keep the backbone's own names; the head's begin with `FINE_TUNED`. So what the loop writes is a checkpoint of
the backbone, whose readers leave the head out.
"""

from collections.abc import Generator
from math import nan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frz.backbones.contract import Backbone
from frz.extract.settings import ANNOTATION, FEATURES
from frz.heads.contract import Head
from frz.loading.batch import to_batch, with_offsets
from frz.loading.execute import ahead
from frz.loading.frozen import FINE_TUNED
from frz.loading.source import ReaderSource
from frz.store import ragged
from frz.store.reader import EventStore
from frz.store.schema import ID, KEY, EventArrays, Schema
from frz.store.table import pick
from frz.training.source import Batch, BatchSource, Plan

STORED = "stored/"
"""Before the name of an array of a batch that is as it lies in the data set: positions count within their event."""


class Live(nn.Module):
    """Backbone and head.

    Parameters
    ----------
    backbone, head
        With the weights that they begin with.
    schema : Schema
        Of the features, as extraction stores them.
    backbone_lr : float
        The backbone's share of the learning rate; with 0 it is frozen.
    """

    def __init__(self, backbone: Backbone, head: Head, schema: Schema, backbone_lr: float) -> None:
        super().__init__()
        self.backbone, self.head, self.schema = backbone, head, schema
        backbone.requires_grad_(backbone_lr > 0)
        self.lr_factors = {"backbone": backbone_lr}
        group = {name: schema.arrays[name].group for name in head.needs if name != KEY}
        self.made = [name for name in group if group[name] == FEATURES]
        self.annotated = [name for name in group if group[name] == ANNOTATION]
        self.carried = [name for name in head.needs if name not in (*self.made, *self.annotated)]
        self.reads = tuple(dict.fromkeys([*backbone.inputs, *(backbone.targets if self.annotated else ())]))

    def state_dict(self, **options: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Weights and buffers of both, see the top of the module."""
        own: dict[str, Tensor] = self.backbone.state_dict(**options)
        return own | {FINE_TUNED + name: value for name, value in self.head.state_dict(**options).items()}

    def train(self, mode: bool = True) -> "Live":
        """Put the head into training mode, or out of it; the backbone stays as it is used."""
        super().train(False)
        self.training = mode
        self.head.train(mode)
        return self

    def forward(self, batch: Batch) -> Batch:
        """Features of a batch from `LiveSource`, and the offsets of every axis."""
        given = {name: values for name, values in batch.items() if not name.startswith(STORED)}
        made: Batch = self.backbone(given)
        return {name: values for name, values in given.items() if name.endswith("/offsets")} | made

    def prepared(self, batch: Batch, features: Batch) -> Batch:
        """What the head trains on, with the gradients of the features."""
        known = {name: values.detach() for name, values in features.items()}
        if self.annotated:
            with torch.no_grad():
                known |= self.backbone.annotate(batch, known)
        known |= {name: batch[STORED + name] for name in self.carried}
        names = (*self.made, *self.annotated, *self.carried)
        events = pick({name: _array(values) for name, values in known.items()}, self.schema, names)
        floats = [name for name in names if events[name].dtype.kind == "f"]
        device = next(iter(features.values())).device
        live = {name: features[name] if name in self.made else known[name].to(device) for name in floats}
        return self.head.live(events, live)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The head's loss and its parts; NaN where a feature is not finite."""
        features = self(batch)
        for values in features.values():
            if values.is_floating_point() and not bool(values.isfinite().all()):
                return values.sum() * nan, {}
        return self.head.loss(self.prepared(batch, features))

    @torch.no_grad()
    def measure(self, source: BatchSource) -> dict[str, float]:
        """The head's metrics on the events of a source."""
        device = next(self.parameters()).device
        predicted: list[EventArrays] = []
        truth: list[EventArrays] = []
        for batch in source.batches(source.plan(0)):
            batch = {name: values.to(device) for name, values in batch.items()}
            prepared = self.prepared(batch, self(batch))
            predicted.append({name: _array(values) for name, values in self.head.predict(prepared).items()})
            truth.append({name: _array(values) for name, values in prepared.items()})
        return self.head.metrics(ragged.concat(predicted), ragged.concat(truth))


class LiveSource(ReaderSource):
    """Events of a data set in batches for `Live`.

    Parameters
    ----------
    store : EventStore
        The data set.
    live : Live
        Says what it reads.
    batch_size : int
        Events per batch.
    more
        As for `ReaderSource`.
    """

    def __init__(self, store: EventStore, live: Live, batch_size: int, **more: Any) -> None:
        super().__init__(store, live.reads, batch_size, **more)
        self._store, self._reads, self._carried = store, live.reads, live.carried

    def batches(self, plan: Plan, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of `plan` from number `start` on."""
        return ahead(plan[start:], self._make)

    def _make(self, positions: NDArray[np.int64]) -> Batch:
        schema = self._store.schema
        arrays = self._store.events(positions, with_offsets([ID, *self._reads, *self._carried], schema))
        read = {name: arrays[name] for name in arrays if name in (ID, *self._reads) or name.endswith("/offsets")}
        stored = {STORED + name: arrays[name] for name in self._carried}
        return to_batch(read, schema) | to_batch(stored, Schema(arrays={}))


def _array(values: Tensor) -> NDArray[Any]:
    """In memory, as a store gives it; bfloat16 as float32."""
    return (values.float() if values.dtype == torch.bfloat16 else values).cpu().numpy()
