"""Hits to hit embeddings: input net plus positional encoding (flat), then self-attention (padded).

Axes: N hits (flat), F model fields, B events, M padded hits, D features.
"""

import torch
from torch import Tensor, nn

from frz.backbones.hit_track.fields import HitFields
from frz.backbones.hit_track.settings import HitTrackConfig
from frz.backbones.layers import Dense, EncoderBlock, PositionalEncoding


class HitEmbedding(nn.Module):
    """Dense net on the standardised fields plus sines and cosines of the positional ones."""

    plain: Tensor
    periodic: Tensor

    def __init__(self, config: HitTrackConfig, fields: HitFields) -> None:
        super().__init__()
        n_field = len(fields.names)
        self.n_field = n_field
        self.net = Dense(n_field, config.input_hidden or 2 * n_field, config.dim)
        plain = [fields.index(name) for name in config.pos_fields if name not in config.periodic_fields]
        periodic = [fields.index(name) for name in config.pos_fields if name in config.periodic_fields]
        for kind, positions in (("plain", plain), ("periodic", periodic)):
            self.register_buffer(kind, torch.tensor(positions, dtype=torch.int64), persistent=False)
        self.position = (
            PositionalEncoding(config.dim, len(plain), len(periodic), config.pos_alpha, config.pos_base)
            if config.pos_fields
            else None
        )

    def forward(self, raw: Tensor, scaled: Tensor) -> Tensor:
        """Embed unscaled and standardised fields (N, F_all) as (N, D)."""
        x: Tensor = self.net(scaled[:, : self.n_field])
        if self.position is not None:
            # Angles must keep their period, so they enter raw; standardising frees the others of their unit.
            x = x + self.position(scaled.index_select(1, self.plain), raw.index_select(1, self.periodic))
        return x


class Encoder(nn.Module):
    """Self-attention layers among the hits of an event."""

    def __init__(self, config: HitTrackConfig) -> None:
        super().__init__()
        hidden = round(config.ffn_multiple * config.dim)
        self.blocks = nn.ModuleList(
            EncoderBlock(config.dim, config.heads, hidden, config.norm, config.dropout)
            for _ in range(config.encoder_layers)
        )

    def forward(self, hit: Tensor, keys: Tensor | None) -> Tensor:
        """Update hit (B, M, D); keys (B, 1, 1, M) says which hits may be attended."""
        for block in self.blocks:
            hit = block(hit, keys)
        return hit
