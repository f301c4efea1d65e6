"""A head of a user: the mean pT of an event from the mean of its hit embeddings."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from frz.config import StrictModel
from frz.heads.contract import Batch, Head
from frz.store.schema import Array, EventArrays, Schema


class MeanHitHead(Head):
    class Config(StrictModel):
        pass

    scale: Tensor

    def __init__(self, config: Any, schema: Schema) -> None:
        super().__init__(config, schema)
        self.schema = schema
        self.net = nn.Linear(schema.arrays["hit/embedding"].shape[0], 1)
        self.register_buffer("scale", torch.ones(()))

    @property
    def needs(self) -> tuple[str, ...]:
        truth = ("track/parameters",) if "track/parameters" in self.schema.arrays else ()
        return ("event/id", "event/group", "hit/embedding", *truth)

    @property
    def prepared(self) -> Schema:
        width = self.net.in_features
        more = {"event/mean": Array(dtype="float32", shape=(width,)), "event/pt": Array(dtype="float32")}
        return Schema(arrays={name: self.schema.arrays[name] for name in ("event/id", "event/group")} | more)

    def prepare(self, events: EventArrays) -> EventArrays:
        def mean(name: str, axis: str) -> np.ndarray:
            sums = np.zeros((len(events["event/id"]), *events[name].shape[1:]), np.float32)
            count = np.diff(events[f"{axis}/offsets"])
            np.add.at(sums, np.repeat(np.arange(len(count)), count), events[name].astype(np.float32))
            return sums / np.maximum(count, 1)[:, None].astype(np.float32)

        pt = mean("track/parameters", "track")[:, 0] if "track/parameters" in events else None
        result = {name: events[name] for name in ("event/id", "event/group")}
        result["event/mean"] = mean("hit/embedding", "hit")
        return result | {"event/pt": np.zeros(len(result["event/id"]), np.float32) if pt is None else pt}

    def fit(self, prepared: Iterable[EventArrays]) -> None:
        self.scale.fill_(float(np.concatenate([block["event/pt"] for block in prepared]).std()))

    def forward(self, batch: Batch) -> Tensor:
        return self.net(batch["event/mean"])[:, 0]

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self(batch) - batch["event/pt"] / self.scale).square().sum() / max(1, len(batch["event/pt"]))
        return loss, {"pt": loss.detach()}

    @torch.no_grad()
    def predict(self, batch: Batch) -> Batch:
        return {"event/pt": self(batch) * self.scale}

    def metrics(self, predictions: EventArrays, prepared: EventArrays) -> dict[str, float]:
        residual = predictions["event/pt"] - prepared["event/pt"]
        return {"pt/rmse": float(np.sqrt(np.mean(residual**2))) if len(residual) else 0.0}
