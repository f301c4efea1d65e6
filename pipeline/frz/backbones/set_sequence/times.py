"""When a set was measured, as vectors: sines of log(1 + minute), and a class of the time since the set before.

Axes: S sets (flat), E stays, D features.
"""

import math

import torch
from torch import Tensor, nn

from frz.backbones.layers import PositionalEncoding

MINUTE = "set/minute"
SHORTEST, LONGEST = 0.5, 1440.0
"""First and last edge of the classes of gaps, minutes."""
FASTEST, SPAN = 30.0, 300.0
"""Highest frequency of the sines, per unit of log(1 + minute), and the ratio to the lowest."""


class TimeFeatures(nn.Module):
    """Embeds the times and sizes of sets."""

    edges: Tensor

    def __init__(self, dim: int, gap_buckets: int) -> None:
        super().__init__()
        self.clock = PositionalEncoding(dim, 1, 0, FASTEST, SPAN)
        edges = torch.linspace(math.log1p(SHORTEST), math.log1p(LONGEST), gap_buckets - 1, dtype=torch.float64)
        self.register_buffer("edges", edges.float(), persistent=False)
        self.gap = nn.Embedding(gap_buckets, dim)
        self.size = nn.Linear(1, dim)

    def forward(self, minute: Tensor, size: Tensor, first: Tensor) -> Tensor:
        """Vectors (S, D) of minutes (S,), numbers of elements (S,) and which sets are the first of their stay (S,)."""
        logs = minute.float().clamp(min=0).log1p()
        gap = minute.float().diff(prepend=minute[:1].float()).masked_fill(first, 0.0).clamp(min=0).log1p()
        empty = logs.new_zeros(len(logs), 0)
        clock = self.clock(logs[:, None], empty)
        known = self.gap(torch.bucketize(gap, self.edges)) + self.size(size.float().log1p()[:, None])
        result: Tensor = clock + known
        return result
