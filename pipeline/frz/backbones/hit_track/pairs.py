"""Assignment logits as (hit, query) pairs: what is kept of a large, nearly empty matrix.

Axes: N hits (flat), Q queries, K pairs.
"""

import torch
from torch import Tensor

from frz.backbones.contract import Batch
from frz.backbones.layers import logit_of


def to_pairs(logit: Tensor, floor: float) -> Batch:
    """Keep the entries of logit (N, Q) whose probability is at least `floor`.

    Returns
    -------
    dict of Tensor
        `pair/query` int32 (K,), `pair/logit` float32 (K,), `pair/offsets` int64 (N + 1); hit after hit,
        queries ascending.
    """
    kept = logit >= logit_of(floor)
    offsets = torch.zeros(len(logit) + 1, dtype=torch.int64, device=logit.device)
    torch.cumsum(kept.sum(1), 0, out=offsets[1:])
    return {"pair/query": kept.nonzero()[:, 1].int(), "pair/logit": logit[kept], "pair/offsets": offsets}


def from_pairs(pairs: Batch, n_query: int, floor: float) -> Tensor:
    """Rebuild (N, Q) logits; entries that were not kept get the logit of `floor`."""
    counts = pairs["pair/offsets"].diff()
    logit = pairs["pair/logit"].float()
    hit = torch.repeat_interleave(torch.arange(len(counts), device=logit.device), counts)
    dense = logit.new_full((len(counts), n_query), logit_of(floor))
    dense[hit, pairs["pair/query"].long()] = logit
    return dense
