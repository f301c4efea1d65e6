"""The two tasks, each a net with its losses and matching costs. They are addressed by name, never by position.

`track_valid`      is there a track behind this query?   logit (B, Q)
`track_hit_valid`  does this hit belong to it?           logit (B, Q, M)

Tasks run in float32 whatever autocast says: their logits are matched, compared with thresholds and stored.

Axes: B events, Q queries, P padded true tracks, M padded hits, D features, T matched tracks of the bucket.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frz.backbones.hit_track import losses
from frz.backbones.hit_track.settings import MaskCosts, MaskWeights, ValidCosts, ValidWeights
from frz.backbones.hit_track.truth import Truth
from frz.backbones.layers import Dense


class TrackValid(nn.Module):
    """Object validity: a net on the query embedding."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = Dense(dim, 2 * dim, 1)

    def forward(self, query: Tensor) -> Tensor:
        """Logits (B, Q) of query embeddings (B, Q, D)."""
        with torch.autocast(query.device.type, enabled=False):
            logit: Tensor = self.net(query.float())
            return logit.squeeze(-1)


class TrackHitValid(nn.Module):
    """Hit mask: a net on the query embedding, multiplied with the hit embeddings.

    With `residual` the net adds to the query embedding: a query that starts from a hit then starts with the
    hits that resemble it.
    """

    def __init__(self, dim: int, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.net = Dense(dim, 2 * dim, dim)
        self.scale = dim**-0.5

    def forward(self, query: Tensor, hit: Tensor, keep: Tensor | None) -> Tensor:
        """Logits (B, Q, M) of queries (B, Q, D) and hits (B, M, D); padded hits get `losses.PADDED`.

        The hits need no net of their own: a linear one would be absorbed by the last layer of the query's.
        """
        with torch.autocast(query.device.type, enabled=False):
            query = query.float()
            mask = self.net(query) + query if self.residual else self.net(query)
            logit: Tensor = (mask * self.scale) @ hit.float().transpose(1, 2)
        return logit if keep is None else logit.masked_fill(~keep[:, None], losses.PADDED)


def valid_cost(logit: Tensor, weights: ValidCosts) -> Tensor:
    """Matching cost (B, Q, 1): the same for every track."""
    return -weights.probability * logit.sigmoid().unsqueeze(-1)


def mask_cost(logit: Tensor, truth: Truth, weights: MaskCosts) -> Tensor:
    """Matching cost (B, Q, P) of hit logits (B, Q, M)."""
    cost = logit.new_zeros((*logit.shape[:2], truth.mask.shape[1]))
    if weights.bce:
        bce = losses.pairwise_bce(logit, truth.mask)
        if weights.reduction == "mean":
            bce = bce / truth.n_hit.clamp(min=1)[:, None, None]
        cost = cost + weights.bce * bce
    if weights.dice:
        cost = cost + weights.dice * losses.pairwise_dice(logit, truth.mask)
    return cost


def valid_losses(logit: Tensor, is_track: Tensor, weights: ValidWeights, null_weight: float) -> dict[str, Tensor]:
    """Weighted losses summed over the slots (B, Q); is_track (B, Q) is 1 for matched queries."""
    if not weights.bce:
        return {}
    slot = is_track + null_weight * (1 - is_track)
    bce = F.binary_cross_entropy_with_logits(logit, is_track, weight=slot, reduction="sum")
    return {"bce": weights.bce * bce}


def mask_losses(logit: Tensor, truth: Truth, match: Tensor, weights: MaskWeights) -> dict[str, Tensor]:
    """Weighted losses summed over the matched tracks; match (B, P) names the query of each track or -1."""
    event, track = (match >= 0).nonzero(as_tuple=True)  # (T,) each
    n_query, n_track = logit.shape[1], match.shape[1]
    chosen = logit.flatten(0, 1).index_select(0, event * n_query + match[event, track])  # (T, M)
    target = truth.mask.flatten(0, 1).index_select(0, event * n_track + track)
    n_hit = truth.n_hit.clamp(min=1)[event]
    found = {}
    if weights.bce:
        found["bce"] = weights.bce * (losses.bce(chosen, target) / n_hit).sum()
    if weights.dice:
        found["dice"] = weights.dice * losses.dice(chosen, target).sum()
    if weights.focal:
        found["focal"] = weights.focal * (losses.focal(chosen, target) / n_hit).sum()
    return found
