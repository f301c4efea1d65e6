"""A user's own backbone that keeps (hit, query) pairs by a threshold."""

import torch
from torch import nn

from frz.backbones.contract import Backbone
from frz.config import StrictModel
from frz.store.schema import Array, Axis


class PairNet(Backbone):
    class Config(StrictModel):
        dim: int = 16

    inputs, targets, sets = ("hit/raw",), ("track/parameters",), ("hit",)
    axes = {"query": Axis(length=2), "pair": Axis(parent="hit")}
    outputs = {
        "hit/embedding": Array(dtype="float32", shape=(16,)),
        "query/embedding": Array(dtype="float32", shape=(16,)),
        "pair/query": Array(dtype="int8"),
        "pair/logit": Array(dtype="float32"),
    }

    annotations = {"query/match": Array(dtype="int32")}

    def __init__(self, config, schema):
        super().__init__(config, schema)
        self.scale = nn.BatchNorm1d(schema.arrays["hit/raw"].shape[0])
        self.inner = nn.Linear(self.scale.num_features, 32)
        self.outer = nn.Linear(32, config.dim)
        self.query = nn.Linear(config.dim, 2)
        self.out = nn.Linear(config.dim, schema.arrays["track/parameters"].shape[0])

    def forward(self, batch):
        # the activation
        hits = self.outer(nn.functional.silu(self.inner(self.scale(batch["hit/raw"]))))
        mean = torch.segment_reduce(hits, "mean", offsets=batch["hit/offsets"], initial=0)
        logit = self.query(hits)
        kept = logit.sigmoid() >= 0.5
        return {
            "hit/embedding": hits,
            "query/embedding": torch.stack([mean, -mean], 1).flatten(0, 1),
            "pair/query": kept.nonzero()[:, 1].to(torch.int8),
            "pair/logit": logit[kept],
            "pair/offsets": nn.functional.pad(kept.sum(1).cumsum(0), (1, 0)),
        }

    def annotate(self, batch, features):
        found = batch["track/offsets"].diff() > 0
        return {"query/match": nn.functional.pad(found.int()[:, None] - 1, (0, 1), value=-1).flatten()}

    def loss(self, batch):
        some = batch["track/offsets"].diff() > 0
        truth = batch["track/parameters"][batch["track/offsets"][:-1][some]]
        loss = nn.functional.smooth_l1_loss(self.out(self(batch)["query/embedding"][::2][some]), truth)
        return loss, {"smooth_l1": loss.detach()}
