"""The sets of a stay in one vector, without parameters.

Axes: in a bucket: B stays, M padded number of sets, D features.
"""

import torch
from torch import Tensor

from frz.backbones.padding import Bucket

STATISTICS = ("mean", "max", "last", "std")


def statistics(bucket: Bucket, x: Tensor) -> Tensor:
    """Mean, max, last, standard deviation over the sets: (B, 4 D) of padded x (B, M, D); zeros for a stay without."""
    keep, count = _kept(bucket, x)
    some = count.clamp(min=1)
    mean = (x * keep).sum(1) / some
    # the gradient of a root at 0 is infinite
    std = (((x - mean[:, None]) * keep).square().sum(1) / some + 1e-6).sqrt() - 1e-3
    highest = x.masked_fill(keep == 0, -torch.inf).amax(1).masked_fill(count == 0, 0.0)
    return torch.cat((mean, highest, last(bucket, x), std.masked_fill(count == 0, 0.0)), -1)


def last(bucket: Bucket, x: Tensor) -> Tensor:
    """What stands at the last set: (B, D) of padded x (B, M, D); zeros for a stay without."""
    _, count = _kept(bucket, x)
    position = (count.long() - 1).clamp(min=0)[..., None].expand(-1, 1, x.shape[2])
    return x.gather(1, position).squeeze(1).masked_fill(count == 0, 0.0)


def fast(bucket: Bucket, x: Tensor, scaled: bool) -> Tensor:
    """Softmax pooling with the mean q as query: sum_t w_t x_t, w = softmax_t <x_t, q> [/ sqrt D], (B, D)."""
    keep, count = _kept(bucket, x)
    query = (x * keep).sum(1) / count.clamp(min=1)
    scores = (x @ query[..., None]) * (x.shape[2] ** -0.5 if scaled else 1.0)  # (B, M, 1)
    weights = scores.masked_fill(keep == 0, torch.finfo(scores.dtype).min).softmax(1) * keep
    return (weights * x).sum(1)


def _kept(bucket: Bucket, x: Tensor) -> tuple[Tensor, Tensor]:
    """Real sets (B, M, 1) and their numbers (B, 1), as floats."""
    keep = x.new_ones(x.shape[:2]) if bucket.keep is None else bucket.keep.to(x.dtype)
    return keep[..., None], keep.sum(1, keepdim=True)
