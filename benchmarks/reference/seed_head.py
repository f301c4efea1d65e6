"""The regression head on padded tensors: every hit meets every query, masks undo what should not have met.

The same parameters, names included, as `frz.heads.regression`, so that weights can be loaded and outputs
compared; otherwise it shares no code with it.
"""

# Axes: B events, N queries, M padded hits, D width, F hit fields, O outputs.

import torch
from torch import Tensor, nn


class SeedHead(nn.Module):
    """Weighted-pooling regression of every query.

    Parameters
    ----------
    width, n_field, hidden, n_output, n_layer : int
        D, F, hidden width, O and number of linear layers.
    dropout : float
    threshold : float
        Least assignment probability, inclusive.
    """

    def __init__(
        self,
        width: int,
        n_field: int,
        hidden: int,
        n_output: int = 4,
        n_layer: int = 3,
        dropout: float = 0.1,
        threshold: float = 0.1,
    ) -> None:
        super().__init__()
        self.threshold = threshold
        self.raw_hit_net = _dense(n_field, width)
        self.encoded_hit_net = _dense(width, width)
        n_input = 9 * width
        layers: list[nn.Module] = []
        for _ in range(n_layer - 1):
            layers += [nn.Linear(n_input, hidden), nn.ReLU(), nn.LayerNorm(hidden), nn.Dropout(dropout)]
            n_input = hidden
        self.net = nn.Sequential(*layers, nn.Linear(n_input, n_output))

    def forward(self, query: Tensor, raw: Tensor, hit: Tensor, logit: Tensor, keep: Tensor) -> Tensor:
        """Outputs (B, N, O) of query (B, N, D), raw (B, M, F), hit (B, M, D), logit (B, N, M) and keep (B, M)."""
        p = logit.sigmoid()
        mask = (p >= self.threshold) & keep.unsqueeze(1)  # (B, N, M)
        weight = p * mask
        parts = [query]
        for values in (self.raw_hit_net(raw), self.encoded_hit_net(hit)):  # (B, M, D)
            parts += _pool(values, weight, mask)
        outputs: Tensor = self.net(torch.cat(parts, -1))
        return outputs


def _pool(values: Tensor, weight: Tensor, mask: Tensor) -> list[Tensor]:
    """Average, sum, maximum, minimum (B, N, D) each; 0 for an empty set."""
    share = weight / weight.sum(-1, keepdim=True).clamp(min=1e-8)
    outside = ~mask.unsqueeze(-1)  # (B, N, M, 1)
    empty = ~mask.any(-1, keepdim=True)
    spread = values.unsqueeze(1)  # (B, 1, M, D)
    return [
        share @ values,
        weight @ values,
        spread.masked_fill(outside, -torch.inf).amax(2).masked_fill(empty, 0.0),
        spread.masked_fill(outside, torch.inf).amin(2).masked_fill(empty, 0.0),
    ]


def _dense(n_input: int, n_output: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_input, 2 * n_input), nn.SiLU(), nn.Linear(2 * n_input, n_output))
