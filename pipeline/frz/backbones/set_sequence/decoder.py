"""A vector to the elements of a set: as many slots as the set has elements, told apart by sines of their number.

The original lets randomly drawn seeds read the vector by attention. Attention to one key is a linear map of it, so
here the vector is added to the slots, and the slots are numbered, not random: two passes give the same.

Axes: T decoded sets, B sets of a bucket, M padded size, D features.
"""

import torch
from torch import Tensor, nn

from frz.backbones.layers import PositionalEncoding
from frz.backbones.padding import Bucket
from frz.backbones.set_sequence.blocks import SetBlock
from frz.backbones.set_sequence.settings import SetSequenceConfig


class SetDecoder(nn.Module):
    """Decodes sets of known sizes."""

    def __init__(self, config: SetSequenceConfig) -> None:
        super().__init__()
        dim = config.dim
        self.number = PositionalEncoding(dim, 1, 0, 3.0, 100.0)
        self.slot = nn.Linear(dim, dim)
        self.source = nn.Linear(dim, dim)
        hidden = round(config.ffn_multiple * dim)
        self.blocks = nn.ModuleList(
            SetBlock(dim, config.heads, config.inducing, hidden, config.residual)
            for _ in range(config.reconstruction.levels)
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
