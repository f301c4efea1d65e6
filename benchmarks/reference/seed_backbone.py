"""The hit-to-track model in plain padded torch: every event padded to the longest of its batch, nothing skipped.

Parameters carry the names of the family `hit_track`, so that its weights can be loaded and features compared; the
code is the textbook one (separate projections, one SDPA call per attention, dense masks) and shares nothing
with the family. Learned queries with mask attention after Cheng et al. (2021).
"""

# Axes: B events, M padded hits, N queries, P true tracks, F fields, D width, H heads.

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional

PADDED = -100.0
"""Logit of a padded hit."""


class Block(NamedTuple):
    """A padded batch."""

    scaled: Tensor
    """(B, M, F) standardised fields."""
    position: Tensor
    """(B, M, D) positional encoding; it has no parameters and was computed once."""
    keep: Tensor
    """(B, M) bool: real hits."""
    mask: Tensor
    """(B, P, M) float: hits of each true track."""
    n_track: Tensor
    """(B,) true tracks."""
    truth: Tensor
    """(B, P, K) what the head regresses."""


class Decoded(NamedTuple):
    """What the model says."""

    query: Tensor
    hit: Tensor
    valid_logit: Tensor
    """(B, N)"""
    hit_logits: list[Tensor]
    """(B, N, M), before each decoder layer and at the end."""


class SeedBackbone(nn.Module):
    """Input net, encoder, decoder and the two tasks.

    Parameters
    ----------
    config : mapping
        The settings of `hit_track` by name.
    n_field : int
        F.
    """

    def __init__(self, config: dict[str, Any], n_field: int) -> None:
        super().__init__()
        dim, heads = config["dim"], config["heads"]
        hidden = round(config["ffn_multiple"] * dim)
        self.embedding = nn.ModuleDict({"net": _Dense(n_field, config["input_hidden"] or 2 * n_field, dim)})
        self.encoder = _Encoder(dim, heads, hidden, config["encoder_layers"])
        self.decoder = _Decoder(dim, heads, hidden, config["decoder_layers"], config["num_queries"])
        nets = {"track_valid": _Dense(dim, 2 * dim, 1), "track_hit_valid": _Dense(dim, 2 * dim, dim)}
        self.tasks = nn.ModuleDict({name: nn.ModuleDict({"net": net}) for name, net in nets.items()})
        threshold = config["mask_threshold"]
        self.least_logit = math.log(threshold / (1 - threshold))

    def forward(self, block: Block) -> Decoded:
        """Run the model on a padded batch."""
        hit = self.embedding["net"](block.scaled) + block.position
        keys = block.keep[:, None, None, :]
        for encode in self.encoder.blocks:
            hit = encode(hit, keys)
        decoder = self.decoder
        query = decoder.queries.expand(len(hit), -1, -1)
        seen = decoder.query_norm(query), decoder.hit_norm(hit)
        logits = []
        for layer in decoder.layers:
            logits.append(self._hit_logit(*seen, block.keep))
            admitted = logits[-1].detach() >= self.least_logit  # (B, N, M)
            forward = _open(admitted)[:, None] & keys
            backward = _open(admitted.transpose(1, 2))[:, None]
            query, hit = layer(query, hit, seen, forward, backward)
            seen = decoder.query_norm(query), decoder.hit_norm(hit)
        logits.append(self._hit_logit(*seen, block.keep))
        valid = self.tasks["track_valid"]["net"](seen[0]).squeeze(-1)  # type: ignore[index]
        return Decoded(*seen, valid, logits)

    def _hit_logit(self, query: Tensor, hit: Tensor, keep: Tensor) -> Tensor:
        mask: Tensor = self.tasks["track_hit_valid"]["net"](query) / math.sqrt(query.shape[-1])  # type: ignore[index]
        return (mask @ hit.transpose(1, 2)).masked_fill(~keep[:, None], PADDED)


def match(decoded: Decoded, block: Block) -> Tensor:
    """True track of each query (B, N) or -1, by the Hungarian algorithm event by event."""
    with torch.no_grad():
        logit = decoded.hit_logits[-1]
        bce = functional.softplus(logit).sum(-1, keepdim=True) - logit @ block.mask.transpose(1, 2)  # (B, N, P)
        cost = (bce - 10 * decoded.valid_logit.sigmoid().unsqueeze(-1)).cpu().numpy()
    found = np.full(cost.shape[:2], -1)
    for event, n in enumerate(block.n_track.tolist()):
        query, track = linear_sum_assignment(cost[event, :, :n])
        found[event, query] = track
    return torch.from_numpy(found)


def losses(decoded: Decoded, block: Block, track: Tensor) -> Tensor:
    """Validity BCE over all queries and mask BCE over matched ones, of every look (scalar)."""
    is_track = track >= 0
    total = functional.binary_cross_entropy_with_logits(decoded.valid_logit, is_track.float())
    index = track.clamp(min=0).unsqueeze(-1).expand(-1, -1, block.mask.shape[-1])
    target = block.mask.gather(1, index)  # (B, N, M)
    n_hit = block.keep.sum(-1).clamp(min=1)[:, None]
    for logit in decoded.hit_logits:
        bce = functional.binary_cross_entropy_with_logits(logit, target, reduction="none")
        per_query = (bce * block.keep[:, None]).sum(-1) / n_hit
        total = total + (per_query * is_track).sum() / is_track.sum().clamp(min=1)
    return total


def _open(mask: Tensor) -> Tensor:
    """Rows that admit nothing admit everything."""
    return mask | ~mask.any(-1, keepdim=True)


class _Dense(nn.Module):
    def __init__(self, n_input: int, hidden: int, n_output: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(n_input, hidden), nn.Linear(hidden, n_output)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.outer(functional.silu(self.inner(x)))
        return result


class _SelfAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return _attend(q, k, v, self.heads, mask, self.out)


class _CrossAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv = nn.Linear(dim, dim, bias=False), nn.Linear(dim, 2 * dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        k, v = self.kv(source).chunk(2, -1)
        return _attend(self.q(x), k, v, self.heads, mask, self.out)


def _attend(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None, out: nn.Module) -> Tensor:
    q, k, v = (part.view(*part.shape[:2], heads, -1).transpose(1, 2) for part in (q, k, v))  # (B, H, length, D/H)
    result: Tensor = out(functional.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))
    return result


class _EncoderBlock(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(dim), _SelfAttention(dim, heads)
        self.ffn_norm, self.ffn = nn.LayerNorm(dim), _Dense(dim, hidden, dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), mask)
        result: Tensor = x + self.ffn(self.ffn_norm(x))
        return result


class _Encoder(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int, n_layer: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_EncoderBlock(dim, heads, hidden) for _ in range(n_layer))


class _DecoderLayer(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.read_hits = _CrossAttention(dim, heads)
        self.self_norm, self.self_attention = nn.LayerNorm(dim), _SelfAttention(dim, heads)
        self.ffn_norm, self.ffn = nn.LayerNorm(dim), _Dense(dim, hidden, dim)
        self.source_norm, self.read_queries = nn.LayerNorm(dim), _CrossAttention(dim, heads)
        self.hit_ffn_norm, self.hit_ffn = nn.LayerNorm(dim), _Dense(dim, hidden, dim)

    def forward(
        self, query: Tensor, hit: Tensor, seen: tuple[Tensor, Tensor], forward: Tensor, backward: Tensor
    ) -> tuple[Tensor, Tensor]:
        query = query + self.read_hits(*seen, forward)
        query = query + self.self_attention(self.self_norm(query), None)
        query = query + self.ffn(self.ffn_norm(query))
        hit = hit + self.read_queries(seen[1], self.source_norm(query), backward)
        return query, hit + self.hit_ffn(self.hit_ffn_norm(hit))


class _Decoder(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int, n_layer: int, n_query: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(n_query, dim))
        self.layers = nn.ModuleList(_DecoderLayer(dim, heads, hidden) for _ in range(n_layer))
        self.query_norm, self.hit_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
