"""Losses and costs between masks. Particular: costs of all (query, track) pairs are two matrix products.

With l a logit and t in {0, 1}: BCE(l, t) = softplus(l) - l t, so its sum over hits factorises. Padded hits
carry the logit PADDED, whose softplus and sigmoid are 0: they drop out of every sum by themselves.

Axes: B events, Q queries, P padded true tracks, M padded hits.
"""

import torch.nn.functional as F
from torch import Tensor

PADDED = -100.0


def dice(logit: Tensor, target: Tensor) -> Tensor:
    """1 - (2 p.t + 1) / (sum p + sum t + 1) over the last dimension: (..., M) -> (...)."""
    p = logit.sigmoid()
    return 1 - (2 * (p * target).sum(-1) + 1) / (p.sum(-1) + target.sum(-1) + 1)


def bce(logit: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy summed over the last dimension: (..., M) -> (...)."""
    return (F.softplus(logit) - logit * target).sum(-1)


def focal(logit: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """(1 - p_t)^gamma BCE summed over the last dimension (Lin et al. 2017): (..., M) -> (...)."""
    p = logit.sigmoid()
    miss = p + target - 2 * p * target  # 1 - p_t
    return (miss**gamma * (F.softplus(logit) - logit * target)).sum(-1)


def pairwise_bce(logit: Tensor, target: Tensor) -> Tensor:
    """`bce` of each query with each track: (B, Q, M), (B, P, M) -> (B, Q, P)."""
    return F.softplus(logit).sum(-1).unsqueeze(-1) - logit @ target.transpose(1, 2)


def pairwise_dice(logit: Tensor, target: Tensor) -> Tensor:
    """`dice` of each query with each track: (B, Q, M), (B, P, M) -> (B, Q, P)."""
    p = logit.sigmoid()
    overlap = p @ target.transpose(1, 2)
    return 1 - (2 * overlap + 1) / (p.sum(-1).unsqueeze(-1) + target.sum(-1).unsqueeze(1) + 1)
