"""Sets in time: a causal transformer over the sets of a stay. A state has seen its own set and those before.

Strictness: every attention is masked by position, in training as in evaluation; everything else acts on each set for
itself or is a running summary (`levels`). Padding stands after the last set, where no real set looks.

Axes: S sets (flat), E stays; in a bucket: B stays, M padded number of sets; V variables, C static columns, D features.
"""

import torch
from torch import Tensor, nn

from frz.backbones.layers import Dense, EncoderBlock
from frz.backbones.padding import Bucket
from frz.backbones.set_sequence.levels import PARTS
from frz.backbones.set_sequence.settings import SetSequenceConfig

STATIC = "event/static"


class Sequence(nn.Module):
    """Latents of the sets of a stay, with their times, to states.

    Parameters
    ----------
    config : SetSequenceConfig
    n_variable : int
        Size V of the vocabulary.
    """

    def __init__(self, config: SetSequenceConfig, n_variable: int) -> None:
        super().__init__()
        dim, hidden = config.dim, round(config.ffn_multiple * config.dim)
        self.levels = Dense(PARTS * n_variable, 2 * dim, dim, config.dropout) if config.levels else None
        self.norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(
            EncoderBlock(dim, config.sequence_heads, hidden, "layer", config.dropout, 0.0)
            for _ in range(config.sequence_layers)
        )
        self.out_norm = nn.LayerNorm(dim)

    def forward(self, bucket: Bucket, sets: Tensor, known: Tensor | None) -> Tensor:
        """States (B, M, D) of the stays of a bucket.

        Parameters
        ----------
        bucket : Bucket
            Of stays, cut from the offsets of their sets.
        sets : Tensor
            (S, D) latents with what is known of time and stay.
        known : Tensor, optional
            (B, M, 6 V) from `levels.levels`, where the config asks for levels.
        """
        x = bucket.pad(sets)
        if self.levels is not None:
            assert known is not None
            x = x + self.levels(known)
        x = self.norm(x)
        causal = torch.ones(bucket.width, bucket.width, dtype=torch.bool, device=x.device).tril()[None, None]
        for block in self.blocks:
            x = block(x, causal)
        states: Tensor = self.out_norm(x)
        return states


class Statics(nn.Module):
    """Static columns of a stay, standardised, with which of them are unknown, as one vector."""

    mean: Tensor
    width: Tensor

    def __init__(self, n_column: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_column))
        self.register_buffer("width", torch.ones(n_column))
        self.net = Dense(2 * n_column, dim, dim)

    def forward(self, static: Tensor) -> Tensor:
        """(E, D) of raw columns (E, C), NaN = unknown."""
        result: Tensor = self.net(self.columns(static))
        return result

    def columns(self, static: Tensor) -> Tensor:
        """(E, 2 C): standardised, 0 where unknown, and which are unknown."""
        static = static.float()
        unknown = static.isnan()
        scaled = ((static - self.mean) / self.width).masked_fill(unknown, 0.0).clamp(-5.0, 5.0)
        return torch.cat((scaled, unknown.float()), -1)
