"""A vector to the elements of a set: slots told apart by sines of their number, and how well they meet the true ones.

The original lets randomly drawn seeds read the vector by attention. Attention to one key is a linear map of it, so
here the vector is added to the slots, and the slots are numbered, not random: two passes give the same.

Axes: T decoded sets, N their elements (flat), B sets of a bucket, M padded size, D features.
"""

import torch
from torch import Tensor, nn

from frz.backbones import padding
from frz.backbones.layers import PositionalEncoding
from frz.backbones.padding import Bucket
from frz.backbones.set_sequence import losses
from frz.backbones.set_sequence.blocks import SetBlock
from frz.backbones.set_sequence.encoder import STEP
from frz.backbones.set_sequence.settings import SetSequenceConfig


class SetDecoder(nn.Module):
    """Decodes sets of known sizes."""

    def __init__(self, config: SetSequenceConfig) -> None:
        super().__init__()
        dim = config.dim
        self.settings = config.reconstruction
        self.number = PositionalEncoding(dim, 1, 0, 3.0, 100.0)
        self.slot = nn.Linear(dim, dim)
        self.source = nn.Linear(dim, dim)
        hidden = round(config.ffn_multiple * dim)
        self.blocks = nn.ModuleList(
            SetBlock(dim, config.heads, config.inducing, hidden, config.residual) for _ in range(self.settings.levels)
        )
        self.out = nn.Linear(dim, dim)

    def forward(self, bucket: Bucket, source: Tensor) -> Tensor:
        """Decoded tokens (B, M, D) of the sets of a bucket from vectors (B, D)."""
        numbers = torch.arange(bucket.width, device=source.device, dtype=source.dtype)[:, None]
        slots = self.slot(self.number(numbers, numbers[:, :0]))  # (M, D)
        x = slots + self.source(source)[:, None]
        for block in self.blocks:
            x = x + block(x, bucket.keep)
        decoded: Tensor = self.out(x)
        return decoded

    def losses(self, source: Tensor, true: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Weighted losses by name, averaged over the sets.

        Parameters
        ----------
        source : Tensor
            (T, D).
        true : Tensor
            (N, D) tokens of their elements, set after set.
        sizes : Tensor
            (T,) elements of each set, at least one.
        """
        settings = self.settings
        weights = {"direction": settings.direction, "magnitude": settings.magnitude, "full": settings.full}
        sums: dict[str, Tensor] = {name: source.sum() * 0.0 for name in (*weights, "variance")}
        for bucket in padding.cut(torch.cat((sizes.new_zeros(1), sizes.cumsum(0))), STEP, split=True):
            decoded = self(bucket, source[bucket.events]).float()
            keep = bucket.keep
            if keep is None:
                keep = torch.ones(decoded.shape[:2], dtype=torch.bool, device=decoded.device)
            for name, distance in losses.views(decoded, bucket.pad(true).float()).items():
                if settings.matching == "chamfer":
                    each = losses.chamfer(distance, keep)
                else:
                    each = losses.sinkhorn(distance, keep, settings.sinkhorn_epsilon, settings.sinkhorn_steps)
                sums[name] = sums[name] + weights[name] * each.sum()
            sums["variance"] = sums["variance"] - settings.variance * losses.spread(decoded, keep).sum()
        return {name: settings.weight * value / max(len(sizes), 1) for name, value in sums.items()}
