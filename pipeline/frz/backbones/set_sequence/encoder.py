"""A set to its posterior: set blocks on padded buckets, mean over elements, then mean and log-variance of a Gaussian.

Axes: N elements (flat), S sets (flat), D features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frz.backbones import padding
from frz.backbones.set_sequence.blocks import SetBlock, masked_mean
from frz.backbones.set_sequence.settings import SetSequenceConfig

STEP = 4
"""Sets are padded to multiples of this; most hold few elements."""
LOGVAR = 10.0
"""Log-variances are kept within +- this."""


class SetEncoder(nn.Module):
    """Tokens of the elements to one vector per set: c_l = c_{l-1} + block_l(c_{l-1}), then the mean."""

    def __init__(self, config: SetSequenceConfig) -> None:
        super().__init__()
        dim = config.dim
        self.embed = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        hidden = round(config.ffn_multiple * dim)
        self.blocks = nn.ModuleList(
            SetBlock(dim, config.heads, config.inducing, hidden, config.residual) for _ in range(config.set_levels)
        )

    def forward(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        """One vector per set (S, D) from tokens (N, D) and offsets (S + 1); zero for a set without elements."""
        x = F.gelu(self.norm(self.embed(tokens)))
        buckets = padding.cut(offsets, STEP, split=True)
        means = []
        for bucket in buckets:
            padded = bucket.pad(x)
            for block in self.blocks:
                padded = padded + block(padded, bucket.keep)
            means.append(masked_mean(padded, bucket.keep))
        return padding.join_events(buckets, means) if means else x.new_zeros(0, x.shape[1])


class Posterior(nn.Module):
    """The Gaussian of the latent of a set."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, 2 * dim)
        self.dropout = dropout

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (S, D) of set vectors (S, D)."""
        hidden = F.dropout(F.gelu(self.norm(self.hidden(x))), self.dropout, self.training)
        mu, logvar = self.out(hidden).chunk(2, -1)
        return mu, logvar.clamp(-LOGVAR, LOGVAR)


def sample(mu: Tensor, logvar: Tensor) -> Tensor:
    """A draw from the posterior, differentiable in both."""
    return mu + (0.5 * logvar).exp() * torch.randn_like(mu)
