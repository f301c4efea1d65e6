"""What is known of every variable up to a set: last, mean, least and greatest value, how often and how long ago; and
how it went over the whole stay.

No parameters: a causal summary of the raw observations, which a sequence model of few layers would else have to learn
to remember for dozens of variables at once.

Axes: N elements, S sets (flat), V variables; in a bucket: B stays, M padded number of sets.
"""

import torch
from torch import Tensor

PARTS, TRENDS = 6, 3
"""Numbers per variable, after each set and of the whole stay."""
HOUR, DAY = 60.0, 1440.0
LEAST_SPREAD = 0.05
"""Added to the variance of the times (days^2) that a slope is divided by: values close in time have none."""


def observations(variable: Tensor, scaled: Tensor, owner: Tensor, n_set: int, n_variable: int) -> tuple[Tensor, Tensor]:
    """Mean standardised value (S, V) of each variable in each set, 0 where it is not in it, and counts (S, V)."""
    place = owner * n_variable + variable
    total = scaled.new_zeros(n_set * n_variable).index_add(0, place, scaled)
    count = scaled.new_zeros(n_set * n_variable).index_add(0, place, torch.ones_like(scaled))
    return (total / count.clamp(min=1)).view(n_set, n_variable), count.view(n_set, n_variable)


def levels(value: Tensor, count: Tensor, minute: Tensor) -> Tensor:
    """The summary after each set.

    Parameters
    ----------
    value, count : Tensor
        (B, M, V) from `observations`, padded.
    minute : Tensor
        (B, M) minutes since admission.

    Returns
    -------
    Tensor
        (B, M, 6 V): last, mean, least, greatest standardised value (0 before the first), log(1 + sets it was seen in),
        and exp(-hours since it was last seen / 4), 0 before the first.
    """
    seen = count > 0
    one = seen.to(value.dtype)
    times = one.cumsum(1)
    known = times > 0
    mean = (value * one).cumsum(1) / times.clamp(min=1)
    least = value.masked_fill(~seen, torch.inf).cummin(1).values.masked_fill(~known, 0.0)
    greatest = value.masked_fill(~seen, -torch.inf).cummax(1).values.masked_fill(~known, 0.0)
    steps = torch.arange(value.shape[1], device=value.device)[None, :, None]
    latest = (steps * seen).cummax(1).values  # 0 before the first, masked below
    last = value.gather(1, latest).masked_fill(~known, 0.0)
    then = minute[..., None].expand_as(value).gather(1, latest)
    age = (-(minute[..., None] - then) / (4 * HOUR)).exp().masked_fill(~known, 0.0)
    return torch.cat((last, mean, least, greatest, times.log1p(), age), -1)


def trends(value: Tensor, count: Tensor, minute: Tensor) -> Tensor:
    """How each variable went over the whole stay.

    Parameters
    ----------
    value, count : Tensor
        (B, M, V) from `observations`, padded.
    minute : Tensor
        (B, M) minutes since admission.

    Returns
    -------
    Tensor
        (B, 3 V): first value, standard deviation, and slope per day: cov(value, t) / (var(t) + 0.05) over the sets that
        have the variable. 0 where there is none.
    """
    seen = count > 0
    one = seen.to(value.dtype)
    n = one.sum(1).clamp(min=1)
    days = minute[..., None] / DAY * one
    mean, middle = (value * one).sum(1) / n, days.sum(1) / n
    around, apart = (value - mean[:, None]) * one, (days - middle[:, None]) * one
    slope = (around * apart).sum(1) / n / (apart.square().sum(1) / n + LEAST_SPREAD)
    first = value.gather(1, seen.int().argmax(1, keepdim=True)).squeeze(1) * seen.any(1)
    return torch.cat((first, (around.square().sum(1) / n).sqrt(), slope), -1)
