"""Losses entry by entry, for numbers, quantiles, variances and classes: means over what counts are taken by the caller.

Nothing here looks at values to decide what to do, so a loss can be batched over stacked heads (`torch.func.vmap`).
"""

# Axes: N members (slots or events), K classes or quantile levels.

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

PointLoss: TypeAlias = Literal["smooth_l1", "huber", "mse"]
Weighting: TypeAlias = Literal["balanced", "alpha_inverse", "alpha_ratio"]

ALPHA_INVERSE = (0.5, 0.9)
ALPHA_RATIO = (0.25, 0.7)
"""Range of the weight of the positives in the two rules."""
LEAST_DOUBT = 1e-12
"""Least 1 - p of a focal loss: below, its slope for 0 < gamma < 1 has no finite value in float32."""
LOG_VARIANCE = 10.0
"""Largest |ln variance| in squared widths of the normalised target."""


def point_loss(difference: Tensor, loss: PointLoss, beta: float) -> Tensor:
    """Loss of differences d, of any shape.

    smooth_l1 is d^2 / (2 beta) for |d| < beta, else |d| - beta / 2; huber is beta times that; mse is d^2.
    """
    if loss == "mse":
        return difference.square()
    zero = torch.zeros_like(difference)
    if loss == "huber":
        return functional.huber_loss(difference, zero, reduction="none", delta=beta)
    return functional.smooth_l1_loss(difference, zero, reduction="none", beta=beta)


def pinball(difference: Tensor, levels: Tensor) -> Tensor:
    """Quantile loss max(t d, (t - 1) d) of d = truth - quantile (..., K) at the levels t (K,).

    Its mean is least where the fraction t of the truth lies below the quantile (R. Koenker and G. Bassett,
    Econometrica 46 (1978) 33).
    """
    return torch.maximum(levels * difference, (levels - 1) * difference)


def log_variance(raw: Tensor) -> Tensor:
    """ln variance of raw outputs, smoothly bounded by +-10: sigma stays within 1/150 and 150 widths."""
    return LOG_VARIANCE * torch.tanh(raw / LOG_VARIANCE)


def beta_nll(difference: Tensor, log_var: Tensor, beta: float) -> Tensor:
    """Gaussian negative log-likelihood, weighted by variance^beta that is held constant.

    v^beta (ln v + d^2 / v) / 2 (M. Seitzer et al., ICLR 2022, arXiv:2203.09168, eq. 7, without the constant). beta = 0
    is the likelihood, which learns slowly where it is bad; with beta = 1 the mean learns as with mse / 2.

    Parameters
    ----------
    difference, log_var : Tensor
        d = truth - mean, and ln v, of one shape.
    beta : float
        In [0, 1].
    """
    weight = (beta * log_var).exp().detach()
    return weight * (log_var + difference.square() * (-log_var).exp()) / 2


def class_loss(log_p: Tensor, weight: Tensor, gamma: float) -> Tensor:
    """-w (1 - p)^gamma ln p of the probability p of the true class: cross-entropy for gamma = 0, else focal.

    With w = alpha for class 1 and 1 - alpha for class 0 it is the focal loss of T.-Y. Lin et al.,
    arXiv:1708.02002, eq. 5.

    Parameters
    ----------
    log_p : Tensor (...)
        ln p.
    weight : Tensor (...)
        w of the true class.
    gamma : float
        Non-negative.
    """
    entropy = -weight * log_p
    if gamma == 0:
        return entropy
    return (-torch.expm1(log_p)).clamp(min=LEAST_DOUBT) ** gamma * entropy


def class_weights(counts: Sequence[int], rule: Weighting | Sequence[float] | None) -> Tensor:
    """Weight (K,) of each class, from how often (> 0 times each) it occurs in the training split.

    Parameters
    ----------
    counts : sequence of int (K,)
        Members of each class.
    rule : str, sequence of float (K,), or None
        None: 1 each. `balanced`: n / (K n_k), mean 1 over the split. For two classes, with r the share of
        class 1, weights (1 - a, a): `alpha_inverse`: a = 1 - r within [0.5, 0.9], the rarer positives weigh more;
        `alpha_ratio`: a = r within [0.25, 0.7], which weighs rare positives down (a published rule of
        fine-tuning scripts, here to compare with it). Numbers are taken as they are.
    """
    number = torch.tensor(counts, dtype=torch.float64)
    if rule is None:
        return torch.ones(len(counts))
    if rule == "balanced":
        return (number.sum() / (len(counts) * number)).float()
    if isinstance(rule, str):
        assert len(counts) == 2, "alpha is for two classes"
        ratio = float(number[1] / number.sum())
        value, (low, high) = (1 - ratio, ALPHA_INVERSE) if rule == "alpha_inverse" else (ratio, ALPHA_RATIO)
        alpha = min(max(value, low), high)
        return torch.tensor([1 - alpha, alpha])
    return torch.tensor(list(rule), dtype=torch.float32)
