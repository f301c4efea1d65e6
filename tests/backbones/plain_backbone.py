"""A user's own backbone: plain torch, named in a config as `family: plain_backbone:DeepSet`."""

import torch
from torch import nn

from frz.backbones.contract import Backbone
from frz.config import StrictModel
from frz.store.schema import Array, Axis


class DeepSet(Backbone):
    """The mean of a net over the hits is one query embedding per event; Stage 1 learns the first track."""

    class Config(StrictModel):
        dim: int = 16

    sets = ("hit",)
    inputs, targets = ("hit/raw",), ("track/parameters",)
    axes = {"query": Axis(length=1)}
    annotations = {"query/match": Array(dtype="int32", role="target", group="annotation")}

    def __init__(self, config, schema):
        super().__init__(config, schema)
        n_field, n_target = schema.arrays["hit/raw"].shape[0], schema.arrays["track/parameters"].shape[0]
        self.net = nn.Sequential(nn.BatchNorm1d(n_field), nn.Linear(n_field, 64), nn.SiLU(), nn.Linear(64, config.dim))
        self.out = nn.Linear(config.dim, n_target)

    @property
    def outputs(self):
        width = self.out.in_features
        return {"query/embedding": Array(dtype="float32", shape=(width,), role="feature", group="features")}

    def forward(self, batch):
        n_hit = batch["hit/offsets"].diff()
        event = torch.repeat_interleave(torch.arange(len(n_hit), device=n_hit.device), n_hit)
        hits = self.net(batch["hit/raw"])
        total = hits.new_zeros(len(n_hit), hits.shape[1]).index_add(0, event, hits)
        return {"query/embedding": total / n_hit.clamp(min=1)[:, None]}

    def loss(self, batch):
        some = batch["track/offsets"].diff() > 0
        truth = batch["track/parameters"][batch["track/offsets"][:-1][some]]
        predicted = self.out(self(batch)["query/embedding"][some])
        loss = nn.functional.smooth_l1_loss(predicted, truth, reduction="sum") / some.sum().clamp(min=1)
        return loss, {"smooth_l1": loss.detach()}

    def annotate(self, batch, features):
        return {"query/match": (batch["track/offsets"].diff() > 0).int() - 1}
