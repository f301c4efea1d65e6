"""Layers shared by backbone families. Particular: attention is torch's SDPA with boolean masks, fused projections.

Every mask says what may be attended (True = allowed) and leaves each row at least one position: that is
the caller's duty, since a row without any gives NaN in a softmax.

Axes: B events, L queries of an attention, M keys, D features, H heads.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NormName = Literal["layer", "rms"]

FEW = 8
"""One side of an attention has few members if the other has at least so many times more."""


def make_norm(name: NormName, dim: int) -> nn.Module:
    """Layer norm or root-mean-square norm over the last dimension."""
    return nn.LayerNorm(dim) if name == "layer" else nn.RMSNorm(dim, eps=1e-6)


class Dense(nn.Module):
    """A perceptron with one hidden layer and SiLU.

    Parameters
    ----------
    dim_in, hidden, dim_out : int
        Widths.
    dropout : float
        Applied to the hidden layer.
    """

    def __init__(self, dim_in: int, hidden: int, dim_out: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Linear(dim_in, hidden)
        self.outer = nn.Linear(hidden, dim_out)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim_in) to (..., dim_out)."""
        x = F.silu(self.inner(x))
        if self.dropout:
            x = F.dropout(x, self.dropout, self.training)
        out: Tensor = self.outer(x)
        return out


class SelfAttention(nn.Module):
    """Multi-head attention among the members of one set, q, k and v from one projection."""

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        # No bias: a softmax does not see a bias of k, and the norm before has one for q and v.
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within x (B, L, D) where mask (B, 1, 1 or L, L) allows."""
        batch, length, dim = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, L, D/H)
        return _attend(q, k, v, mask, self.dropout if self.training else 0.0, self.out)


class CrossAttention(nn.Module):
    """Multi-head attention of one set to another.

    Where one of the sets is small, the projections of the large one are absorbed into the small one: with
    scores (W_q x) . (W_k y) = x . (W_q^T W_k y) and likewise for values and output, members of the large set
    are multiplied with heads * size vectors instead of whole matrices. The result is the same up to rounding.
    It pays only where the large set is much larger: absorbing costs the small one whole matrices.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dim, self.dropout = heads, dim, dropout
        self.q = nn.Linear(dim, dim, bias=False)
        self.kv = nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from x (B, L, D) to source (B, M, D) where mask (B, 1, 1 or L, M) allows."""
        if self.heads * source.shape[1] < self.dim and FEW * source.shape[1] <= x.shape[1]:
            return self._to_few(x, source, mask)
        if self.heads * x.shape[1] < self.dim and FEW * x.shape[1] <= source.shape[1]:
            return self._from_few(x, source, mask)
        k, v = self.kv(source).chunk(2, -1)
        dropout = self.dropout if self.training else 0.0
        return _attend(self._split(self.q(x)), self._split(k), self._split(v), mask, dropout, self.out)

    def _split(self, x: Tensor) -> Tensor:
        """(B, L, D) to heads (B, H, L, D/H)."""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def _to_few(self, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        """`forward` with few members M in source: x (B, L, D) is never projected."""
        k, v = (self._split(part) for part in self.kv(source).chunk(2, -1))  # (B, H, M, D/H)
        key = k @ self.q.weight.view(self.heads, -1, self.dim)  # (B, H, M, D)
        value = v @ self.out.weight.t().view(self.heads, -1, self.dim)  # (B, H, M, D)
        # Scores stand as (B, H, M, L), so that the softmax over few keys runs along a long last dimension.
        scores = (key.flatten(1, 2) @ x.transpose(1, 2)).view(*key.shape[:3], -1)
        weights = self._weigh(scores, None if mask is None else mask.transpose(2, 3), 2)
        read: Tensor = weights.flatten(1, 2).transpose(1, 2) @ value.flatten(1, 2) + self.out.bias
        return read

    def _from_few(self, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        """`forward` with few members L in x: source (B, M, D) is never projected."""
        w_k, w_v = self.kv.weight.view(2, self.heads, -1, self.dim)  # (H, D/H, D) each
        query = self._split(self.q(x)) @ w_k  # (B, H, L, D)
        scores = (query.flatten(1, 2) @ source.transpose(1, 2)).view(*query.shape[:3], -1)
        weights = self._weigh(scores, mask, 3)  # (B, H, L, M)
        read = (weights.flatten(1, 2) @ source).view_as(query)  # (B, H, L, D)
        result: Tensor = self.out((read @ w_v.transpose(1, 2)).transpose(1, 2).flatten(2))
        return result

    def _weigh(self, scores: Tensor, mask: Tensor | None, axis: int) -> Tensor:
        """Softmax of masked scores over the members of the source."""
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        weights: Tensor = (scores * (self.dim // self.heads) ** -0.5).softmax(axis)
        return F.dropout(weights, self.dropout, self.training) if self.dropout else weights


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float, out: nn.Module) -> Tensor:
    """Scaled dot-product attention of (B, H, L, D/H) heads, joined and projected to (B, L, D)."""
    heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    result: Tensor = out(heads.transpose(1, 2).flatten(2))
    return result


class EncoderBlock(nn.Module):
    """Pre-norm transformer block: x + attention(norm x), then x + ffn(norm x).

    `attention_dropout` (default: as `dropout`) acts on attention weights, which then must be kept: slow for long sets.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        norm: NormName,
        dropout: float,
        attention_dropout: float | None = None,
    ) -> None:
        super().__init__()
        self.attention_norm = make_norm(norm, dim)
        self.attention = SelfAttention(dim, heads, dropout if attention_dropout is None else attention_dropout)
        self.ffn_norm = make_norm(norm, dim)
        self.ffn = Dense(dim, hidden, dim, dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Update x (B, L, D); mask (B, 1, 1, L) says which members are real."""
        x = x + self.attention(self.attention_norm(x), mask)
        update: Tensor = self.ffn(self.ffn_norm(x))
        return x + update


class PositionalEncoding(nn.Module):
    """Sines and cosines of a few fields at geometrically spaced frequencies.

    With d = the largest even number <= dim / n_field and K = d/2 frequencies
    w_k = alpha * base ** e_k, e_k evenly spaced from 0 down to 2/d - 1, an ordinary field x gives
    [sin(w_k x), cos(w_k x)], a periodic one (radians) [sin(w_k sin x), sin(w_k cos x)]. Fields stand side
    by side, ordinary ones first; columns left over are zero.

    Parameters
    ----------
    dim : int
        Width D of the result.
    n_plain, n_periodic : int
        Numbers of ordinary and periodic fields; together at least 1 and at most dim / 2.
    alpha : float
        Highest frequency, in 1 / unit of the field.
    base : float
        Span of the frequencies.
    """

    frequencies: Tensor

    def __init__(self, dim: int, n_plain: int, n_periodic: int, alpha: float, base: float) -> None:
        super().__init__()
        width = dim // (n_plain + n_periodic) // 2 * 2
        assert width >= 2
        self.left_over = dim - width * (n_plain + n_periodic)
        exponents = torch.linspace(0.0, 2.0 / width - 1.0, width // 2, dtype=torch.float64)
        # Not persistent: it follows from the config alone.
        self.register_buffer("frequencies", (alpha * base**exponents).float(), persistent=False)

    def forward(self, plain: Tensor, periodic: Tensor) -> Tensor:
        """Encode plain (N, n_plain) and periodic (N, n_periodic) as (N, D), in float32."""
        parts = []
        if plain.shape[-1]:
            angles = plain.float().unsqueeze(-1) * self.frequencies  # (N, n_plain, K)
            parts.append(torch.cat((angles.sin(), angles.cos()), -1).flatten(-2))
        if periodic.shape[-1]:
            x = periodic.float()
            circle = torch.stack((x.sin(), x.cos()), -1).unsqueeze(-1)  # (N, n_periodic, 2, 1)
            parts.append((circle * self.frequencies).sin().flatten(-3))
        return F.pad(torch.cat(parts, -1), (0, self.left_over))


def logit_of(probability: float) -> float:
    """The logit at which a sigmoid gives `probability`."""
    return math.log(probability) - math.log1p(-probability)
