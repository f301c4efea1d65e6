"""Elements to vectors. Particular: values are standardised by buffers, per variable, that the model's `fit` fills.

An element is (variable, value). With the variable's embedding e, u = e / |e| and the standardised value v, its
token is x = u v + i: direction and signed length as in the original, plus an identity vector i of the variable, so that
a value at the mean of its variable still says which variable it is.

Axes: N elements (flat), V variables, R width of a given embedding, D features.
"""

import numpy as np
import torch
from torch import Tensor, nn

from frz.backbones.set_sequence.settings import SetSequenceConfig

VARIABLE, VALUE = "element/variable", "element/value"
TABLE = "variable/embedding"
PROBABILITIES = np.linspace(0.005, 0.995, 100)
"""Quantiles between which values are ranked."""


class Tokens(nn.Module):
    """Standardises values and embeds elements.

    Parameters
    ----------
    config : SetSequenceConfig
        `embedding`, `token`, `unit_embedding` and `clip` are looked at.
    n_variable : int
        Size V of the vocabulary.
    table_width : int, optional
        Width R of the data set's own embedding of variables, where `config.embedding` asks for it.
    """

    mean: Tensor
    width: Tensor
    scores: Tensor
    knots: Tensor
    table: Tensor

    def __init__(self, config: SetSequenceConfig, n_variable: int, table_width: int | None) -> None:
        super().__init__()
        self.clip, self.unit = config.clip, config.unit_embedding
        self.n_variable = n_variable
        self.register_buffer("mean", torch.zeros(n_variable))
        self.register_buffer("width", torch.ones(n_variable))
        scores = torch.special.ndtri(torch.from_numpy(PROBABILITIES)).float()
        self.register_buffer("scores", scores, persistent=False)
        self.by_rank = config.scaling == "quantile"
        if self.by_rank:
            self.register_buffer("knots", torch.zeros(n_variable, len(PROBABILITIES)))
        self.learned = nn.Parameter(torch.randn(n_variable, config.dim)) if table_width is None else None
        if table_width is not None:
            self.register_buffer("table", torch.zeros(n_variable, table_width))
            self.reduce = nn.Linear(table_width, config.dim)
        self.identity = (
            nn.Parameter(torch.randn(n_variable, config.dim) * config.dim**-0.5) if config.token == "shifted" else None
        )

    def scale(self, variable: Tensor, value: Tensor) -> Tensor:
        """Standardised values (N,), within +- clip, of codes (N,) int64 and raw values (N,)."""
        if self.by_rank:
            scaled = self._normal_score(variable, value.float())
        else:
            scaled = (value.float() - self.mean.index_select(0, variable)) / self.width.index_select(0, variable)
        return scaled.clamp(-self.clip, self.clip)

    def _normal_score(self, variable: Tensor, value: Tensor) -> Tensor:
        """Normal quantile of the share of training values below (N,), in straight lines between the knots.

        Of a value that is several quantiles at once (a score of few grades): the middle between first and last.
        """
        knots = self.knots.index_select(0, variable)  # (N, K)
        ends = []
        for above in ((knots < value[:, None]).sum(1), (knots <= value[:, None]).sum(1)):
            low, high = (above - 1).clamp(min=0), above.clamp(max=knots.shape[1] - 1)
            x0, x1 = (knots.gather(1, at[:, None]).squeeze(1) for at in (low, high))
            part = torch.where(x1 > x0, (value - x0) / (x1 - x0).clamp(min=1e-30), 0.0).clamp(0, 1)
            z0, z1 = self.scores[low], self.scores[high]
            ends.append(z0 + part * (z1 - z0))
        return 0.5 * (ends[0] + ends[1])

    def forward(self, variable: Tensor, scaled: Tensor) -> Tensor:
        """Tokens (N, D) of codes (N,) and standardised values (N,)."""
        vectors = self.reduce(self.table) if self.learned is None else self.learned  # (V, D)
        if self.unit:
            vectors = vectors / (vectors.norm(dim=-1, keepdim=True) + 1e-8)
        tokens: Tensor = nn.functional.embedding(variable, vectors) * scaled[:, None]
        if self.identity is not None:
            tokens = tokens + nn.functional.embedding(variable, self.identity)
        return tokens
