"""Learned queries read the hits of an event and, bidirectionally, the hits read them.

Before each layer the mask task looks at the embeddings of the moment: a query reads only hits that its
mask admits (mask attention, Cheng et al. 2021). After the last layer the tasks look once more; only these
final logits, of the final embeddings, leave the model.

Axes: B events, Q queries, M padded hits, D features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from frz.backbones.hit_track.settings import HitTrackConfig
from frz.backbones.hit_track.tasks import TrackHitValid
from frz.backbones.layers import CrossAttention, Dense, SelfAttention, logit_of, make_norm


@dataclass(frozen=True)
class Decoded:
    """What the decoder says about the events of a bucket."""

    query: Tensor
    """(B, Q, D) final query embeddings."""
    hit: Tensor
    """(B, M, D) final hit embeddings."""
    mask_logits: list[Tensor]
    """(B, Q, M) per look: those before each layer (if asked for), then the final one."""


class DecoderLayer(nn.Module):
    """q += attention(q <- hits), attention(q), ffn(q); then hits += attention(hits <- q), ffn(hits)."""

    def __init__(self, config: HitTrackConfig) -> None:
        super().__init__()
        dim, heads, hidden = config.dim, config.heads, round(config.ffn_multiple * config.dim)
        self.read_hits = CrossAttention(dim, heads, config.dropout)
        self.self_norm = make_norm(config.norm, dim)
        self.self_attention = SelfAttention(dim, heads, config.dropout)
        self.ffn_norm = make_norm(config.norm, dim)
        self.ffn = Dense(dim, hidden, dim, config.dropout)
        self.bidirectional = config.bidirectional
        if config.bidirectional:
            self.source_norm = make_norm(config.norm, dim)
            self.read_queries = CrossAttention(dim, heads, config.dropout)
            self.hit_ffn_norm = make_norm(config.norm, dim)
            self.hit_ffn = Dense(dim, hidden, dim, config.dropout)

    def forward(
        self, query: Tensor, hit: Tensor, normed: tuple[Tensor, Tensor], masks: tuple[Tensor | None, Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Update query (B, Q, D) and hit (B, M, D).

        `normed` are both after the decoder's norms; `masks` say which hits a query may read, which queries a hit.
        """
        query = query + self.read_hits(*normed, masks[0])
        query = query + self.self_attention(self.self_norm(query), None)
        query = query + self.ffn(self.ffn_norm(query))
        if self.bidirectional:
            hit = hit + self.read_queries(normed[1], self.source_norm(query), masks[1])
            hit = hit + self.hit_ffn(self.hit_ffn_norm(hit))
        return query, hit


class Decoder(nn.Module):
    """Learned queries and their layers."""

    def __init__(self, config: HitTrackConfig) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(config.num_queries, config.dim))
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        # One pair of norms for every look: the tasks judge all layers by the same measure, and final
        # embeddings are normalised, of order 1, whatever the depth.
        self.query_norm = make_norm(config.norm, config.dim)
        self.hit_norm = make_norm(config.norm, config.dim)
        self.mask_attention = config.mask_attention
        self.bidirectional = config.bidirectional
        self.least_logit = logit_of(config.mask_threshold)

    def forward(
        self,
        query: Tensor,
        hit: Tensor,
        keep: Tensor | None,
        keys: Tensor | None,
        mask_task: TrackHitValid,
        every_look: bool,
    ) -> Decoded:
        """Decode the hits of a bucket.

        Parameters
        ----------
        query : Tensor
            (B, Q, D) that the first layer starts from.
        hit : Tensor
            (B, M, D) from the encoder.
        keep, keys : Tensor or None
            Of the bucket: real hits, and those that may be attended.
        mask_task : TrackHitValid
            Gives the hit logits.
        every_look : bool
            Return the mask logits before each layer too, with gradients.
        """
        normed = self.query_norm(query), self.hit_norm(hit)
        logits = []
        for layer in self.layers:
            masks: tuple[Tensor | None, Tensor | None] = keys, None
            if every_look:
                logits.append(mask_task(*normed, keep))
            if self.mask_attention:
                with torch.no_grad():
                    logit = logits[-1] if every_look else mask_task(*normed, keep)
                    masks = self._admit(logit, keys)
            query, hit = layer(query, hit, normed, masks)
            normed = self.query_norm(query), self.hit_norm(hit) if self.bidirectional else normed[1]
        logits.append(mask_task(*normed, keep))
        return Decoded(*normed, logits)

    def _admit(self, logit: Tensor, keys: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Attention masks (B, 1, Q, M) and (B, 1, M, Q) of hit logits (B, Q, M)."""
        admitted = (logit >= self.least_logit).unsqueeze(1)  # padded hits never are
        read_queries = open_empty_rows(admitted.transpose(2, 3)) if self.bidirectional else None
        read_hits = open_empty_rows(admitted)
        return read_hits if keys is None else read_hits & keys, read_queries


def open_empty_rows(mask: Tensor) -> Tensor:
    """Open every row (last dimension) of a boolean mask that admits nothing."""
    return mask | ~mask.any(-1, keepdim=True)
