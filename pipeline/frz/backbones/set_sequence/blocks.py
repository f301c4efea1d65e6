"""Attention inside sets, by a few inducing points (ISAB, Lee et al. 2019), on sets padded to a common size.

A block of attention is MAB(q, kv) = LN(a + FF(a)), a = LN(q + attention(q, kv)); without `residual` both sums
are left out, as in the original. ISAB(x) = MAB(x, MAB(I, x)) with learned I (m, D). I does not depend on the set, so
its queries are projected once and absorbed into the keys: an element is multiplied with heads * m vectors, not with
whole matrices.

Axes: B sets of a bucket, M padded size, m inducing points, H heads, D features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frz.backbones.layers import CrossAttention, Dense


class Inducing(nn.Module):
    """Inducing points read the elements of each set."""

    def __init__(self, dim: int, heads: int, points: int) -> None:
        super().__init__()
        self.heads, self.dim = heads, dim
        self.points = nn.Parameter(torch.randn(points, dim))
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(dim, dim, bias=False)
        self.v = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """What the points read (B, m, D) from x (B, M, D); keep (B, M) says which elements are real.

        Of a set without elements they read nothing: the bias of the output.
        """
        n_set, points = len(x), len(self.points)
        width = self.dim // self.heads
        query = self.q(self.points).view(points, self.heads, width).transpose(0, 1)  # (H, m, D/H)
        key = query @ self.k.weight.view(self.heads, width, self.dim)  # (H, m, D)
        scores = F.linear(x, key.flatten(0, 1) * width**-0.5)  # (B, M, H m)
        if keep is not None:
            scores = scores.masked_fill(~keep[..., None], torch.finfo(scores.dtype).min)
        weights = scores.softmax(1)
        if keep is not None:
            weights = weights * keep[..., None]
        read = (weights.transpose(1, 2) @ x).view(n_set, self.heads, points, self.dim)
        # (H, B m, D) @ (H, D, D/H)
        value = read.transpose(0, 1).flatten(1, 2) @ self.v.weight.view(self.heads, width, self.dim).transpose(1, 2)
        joined = value.view(self.heads, n_set, points, width).permute(1, 2, 0, 3).flatten(2)
        result: Tensor = self.out(joined)
        return result


class Update(nn.Module):
    """What follows attention in a block: norm, feed-forward, norm, with or without sums."""

    def __init__(self, dim: int, hidden: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.attention_norm = nn.LayerNorm(dim)
        self.ffn = Dense(dim, hidden, dim)
        self.ffn_norm = nn.LayerNorm(dim)

    def forward(self, query: Tensor, read: Tensor) -> Tensor:
        """Join what was read with what asked for it."""
        a = self.attention_norm(query + read if self.residual else read)
        update = self.ffn(a)
        result: Tensor = self.ffn_norm(a + update if self.residual else update)
        return result


class SetBlock(nn.Module):
    """ISAB: elements read inducing points that have read the elements."""

    def __init__(self, dim: int, heads: int, inducing: int, hidden: int, residual: bool) -> None:
        super().__init__()
        self.inducing = Inducing(dim, heads, inducing)
        self.point_update = Update(dim, hidden, residual)
        self.attention = CrossAttention(dim, heads)
        self.element_update = Update(dim, hidden, residual)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Update x (B, M, D); keep (B, M) says which elements are real."""
        points = self.point_update(self.inducing.points, self.inducing(x, keep))
        updated: Tensor = self.element_update(x, self.attention(x, points, None))
        return updated


def masked_mean(x: Tensor, keep: Tensor | None) -> Tensor:
    """Mean over the real members: (B, D) of (B, M, D), zero where there are none."""
    if keep is None:
        return x.mean(1)
    weights = keep.to(x.dtype)
    total = (weights[:, None] @ x).squeeze(1)
    return total / weights.sum(1, keepdim=True).clamp(min=1)
