"""Decoded against true elements, and posterior against prior: per set, each against a closed form in the tests.

Axes: B sets, M padded size; first member index: decoded, second: true; D features, S sets (flat).
"""

import torch
from torch import Tensor

FAR = 1e6
"""Distance to a padded element, beyond any real one."""


def views(decoded: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Distances (B, M, M) of tokens (B, M, D) in three views.

    `direction` 1 - cos(r, t), `magnitude` ||r| - |t||, `full` |r - t|^2.
    """
    product = decoded @ true.transpose(1, 2)
    squares = [x.square().sum(-1) for x in (decoded, true)]
    lengths = [(square + 1e-12).sqrt() for square in squares]
    return {
        "direction": 1 - product / (lengths[0][:, :, None] * lengths[1][:, None] + 1e-8),
        "magnitude": (lengths[0][:, :, None] - lengths[1][:, None]).abs(),
        "full": (squares[0][:, :, None] + squares[1][:, None] - 2 * product).clamp(min=0),
    }


def chamfer(distance: Tensor, keep: Tensor) -> Tensor:
    """Half the sum of the mean distance to the nearest, in both directions: (B,) of (B, M, M); keep (B, M)."""
    both = keep[:, :, None] & keep[:, None]
    distance = distance.masked_fill(~both, FAR)
    count = keep.sum(1).clamp(min=1)
    nearest = [distance.amin(axis).masked_fill(~keep, 0.0).sum(1) / count for axis in (2, 1)]
    return 0.5 * (nearest[0] + nearest[1])


def sinkhorn(distance: Tensor, keep: Tensor, epsilon: float, steps: int) -> Tensor:
    """Cost <P, d> of the entropic transport plan between both sides, each with equal weights: (B,) of (B, M, M).

    The plan is found in logarithms (Cuturi 2013; Peyré and Cuturi 2019, section 4.4) and taken as constant in the
    gradient, which at convergence is that of the regularised cost (envelope theorem).
    """
    both = keep[:, :, None] & keep[:, None]
    with torch.no_grad():
        kernel = (-distance / epsilon).masked_fill(~both, -torch.inf)
        weight = -keep.sum(1).clamp(min=1).to(distance.dtype).log()[:, None]
        left = distance.new_zeros(distance.shape[:2])
        right = torch.zeros_like(left)
        for _ in range(steps):
            left = (weight - (kernel + right[:, None]).logsumexp(2)).masked_fill(~keep, 0.0)
            right = (weight - (kernel + left[:, :, None]).logsumexp(1)).masked_fill(~keep, 0.0)
        plan = (kernel + left[:, :, None] + right[:, None]).exp()
    return (plan * distance.masked_fill(~both, 0.0)).sum((1, 2))


def spread(decoded: Tensor, keep: Tensor) -> Tensor:
    """Population variance of the elements of each set, averaged over D: (B,) of (B, M, D)."""
    weights = keep.to(decoded.dtype)[..., None]
    count = weights.sum(1).clamp(min=1)
    mean = (decoded * weights).sum(1) / count
    return (((decoded - mean[:, None]) * weights).square().sum(1) / count).mean(-1)


def divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL of N(mu, exp logvar) from N(0, 1) per dimension, nats: (S, D)."""
    return 0.5 * (logvar.exp() + mu.square() - 1 - logvar)


def with_free_bits(kl: Tensor, free_bits: float, per_dimension: bool) -> Tensor:
    """Mean over sets of the divergence (S, D), of which `free_bits` nats per dimension cost nothing.

    Per dimension the floor is under each dimension's mean over the sets (Kingma et al. 2016): one that is below it has
    no gradient, the others keep theirs. In the sum, as the original has it, a set whose sum is below the floor has
    none at all.
    """
    if per_dimension:
        return kl.mean(0).clamp(min=free_bits).sum()
    return kl.sum(1).clamp(min=free_bits * kl.shape[1]).mean()


def active_units(mu: Tensor, threshold: float = 0.01) -> Tensor:
    """Share of latent dimensions whose mean varies over the sets by more than `threshold` (Burda et al. 2016)."""
    return (mu.var(0, correction=0) > threshold).to(mu.dtype).mean()
