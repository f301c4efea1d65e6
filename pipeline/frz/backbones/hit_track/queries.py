"""Queries that start from hits. Particular: the hits are chosen by a task, the order of the queries by a field.

Learned queries must first find a region and then agree on who takes which track in it; with tens of tracks
per event that takes very long to learn. A query that starts from a hit is asked for that hit's track from the
first step on. The hits chosen are those that most look like the first one of a track; standing in the order
of a field (not of their logits), queries do not change places by rounding.

Axes: B events, M padded hits, Q queries, P padded true tracks, D features.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frz.backbones.hit_track import losses
from frz.backbones.hit_track.settings import HitTrackConfig, SeedWeights
from frz.backbones.hit_track.truth import Truth
from frz.backbones.layers import Dense, make_norm


@dataclass(frozen=True)
class Seeding:
    """How the hits of a bucket compete for queries."""

    logit: Tensor
    """(B, M) of task `hit_seed`."""
    field: Tensor
    """(B, M) the field that tells the first hit of a track and orders the queries."""


class HitSeed(nn.Module):
    """Task `hit_seed`: is this hit the first one of a track?"""

    def __init__(self, config: HitTrackConfig) -> None:
        super().__init__()
        self.norm = make_norm(config.norm, config.dim)
        self.net = Dense(config.dim, 2 * config.dim, 1)

    def forward(self, hit: Tensor, keep: Tensor | None) -> Tensor:
        """Logits (B, M) of encoded hits (B, M, D); padded hits get `losses.PADDED`."""
        with torch.autocast(hit.device.type, enabled=False):
            logit: Tensor = self.net(self.norm(hit.float())).squeeze(-1)
        return logit if keep is None else logit.masked_fill(~keep, losses.PADDED)


class SeedQueries(nn.Module):
    """Start queries from the hits with the largest seed logits, at first as they are."""

    def __init__(self, config: HitTrackConfig) -> None:
        super().__init__()
        self.map = nn.Linear(config.dim, config.dim)
        nn.init.eye_(self.map.weight)
        nn.init.zeros_(self.map.bias)

    def forward(self, hit: Tensor, keep: Tensor | None, seeding: Seeding, learned: Tensor) -> Tensor:
        """Queries (B, Q, D).

        Parameters
        ----------
        hit : Tensor
            (B, M, D) from the encoder.
        keep : Tensor or None
            (B, M) bool: real hits; None = all.
        seeding : Seeding
            Of the hits.
        learned : Tensor
            (Q, D): what slots without a hit start from.
        """
        n_query, n_hit = len(learned), hit.shape[1]
        chosen = seeding.logit.topk(min(n_query, n_hit), 1).indices  # (B, Q')
        key = seeding.field.gather(1, chosen)
        if keep is not None:
            key = key.masked_fill(~keep.gather(1, chosen), torch.inf)
        key, rank = key.sort(stable=True, dim=1)
        chosen = chosen.gather(1, rank)
        start = self.map(hit.gather(1, chosen.unsqueeze(-1).expand(-1, -1, hit.shape[2])))
        start = torch.where(key.isinf().unsqueeze(-1), learned[: chosen.shape[1]], start)
        return torch.cat((start, learned[chosen.shape[1] :].expand(len(hit), -1, -1)), 1)


def seed_losses(seeding: Seeding, truth: Truth, weights: SeedWeights) -> dict[str, Tensor]:
    """Weighted loss summed over the hits; the seed of a track is its hit with the smallest field."""
    if not weights.bce:
        return {}
    field = seeding.field.unsqueeze(1).masked_fill(truth.mask == 0, torch.inf)  # (B, P, M)
    first = (field == field.amin(-1, keepdim=True)) & (truth.mask > 0)
    target = first.any(1).to(seeding.logit.dtype)
    return {"bce": weights.bce * F.binary_cross_entropy_with_logits(seeding.logit, target, reduction="sum")}
