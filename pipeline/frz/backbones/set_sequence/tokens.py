"""Elements to vectors. Particular: values are standardised by buffers that `fit` measures, per variable.

An element is (variable, value). With the variable's embedding e, u = e / |e| and the standardised value v, its
token is x = u v + i: direction and signed length as in the original, plus an identity vector i of the variable, so that
a value at the mean of its variable still says which variable it is.

Axes: N elements (flat), V variables, R width of a given embedding, D features.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frz.backbones.set_sequence.settings import SetSequenceConfig
from frz.store.schema import EventArrays

VARIABLE, VALUE = "element/variable", "element/value"
TABLE = "variable/embedding"
TRIM = 0.01
"""Share of a variable's values left out on either side when its mean and width are measured."""
MOST = 1 << 24
"""Values kept for that; of a larger data set every second, fourth ... one."""


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
    table: Tensor

    def __init__(self, config: SetSequenceConfig, n_variable: int, table_width: int | None) -> None:
        super().__init__()
        self.clip, self.unit = config.clip, config.unit_embedding
        self.n_variable = n_variable
        self.register_buffer("mean", torch.zeros(n_variable))
        self.register_buffer("width", torch.ones(n_variable))
        if table_width is None:
            self.direction: nn.Module = nn.Embedding(n_variable, config.dim)
        else:
            self.register_buffer("table", torch.zeros(n_variable, table_width))
            self.direction = nn.Linear(table_width, config.dim)
        self.given = table_width is not None
        self.identity = nn.Parameter(torch.randn(n_variable, config.dim) * config.dim**-0.5) if config.token == "shifted" else None

    def scale(self, variable: Tensor, value: Tensor) -> Tensor:
        """Standardised values (N,), within +- clip, of codes (N,) int64 and raw values (N,)."""
        scaled = (value.float() - self.mean.index_select(0, variable)) / self.width.index_select(0, variable)
        return scaled.clamp(-self.clip, self.clip)

    def forward(self, variable: Tensor, scaled: Tensor) -> Tensor:
        """Tokens (N, D) of codes (N,) and standardised values (N,)."""
        vectors = self.direction(self.table) if self.given else self.direction.weight  # (V, D)
        if self.unit:
            vectors = vectors / (vectors.norm(dim=-1, keepdim=True) + 1e-8)
        tokens: Tensor = nn.functional.embedding(variable, vectors) * scaled[:, None]
        if self.identity is not None:
            tokens = tokens + nn.functional.embedding(variable, self.identity)
        return tokens

    def fit(self, events: Iterable[EventArrays]) -> None:
        """Measure mean and standard deviation of each variable without its extreme values, in float64.

        A variable without values keeps mean 0 and width 1, one that does not vary gets width 1.
        """
        codes: list[NDArray[np.int64]] = []
        values: list[NDArray[np.float64]] = []
        every, held = 1, 0
        for arrays in events:
            if self.given:
                self.table.copy_(torch.from_numpy(np.asarray(arrays[TABLE], np.float32)))
            codes.append(arrays[VARIABLE][::every].astype(np.int64))
            values.append(arrays[VALUE][::every].astype(np.float64))
            held += len(codes[-1])
            if held > MOST:
                codes, values = [np.concatenate(codes)[::2]], [np.concatenate(values)[::2]]
                every, held = 2 * every, len(codes[0])
        mean, width = trimmed(np.concatenate(codes), np.concatenate(values), self.n_variable)
        self.mean.copy_(torch.from_numpy(mean))
        self.width.copy_(torch.from_numpy(width))


def trimmed(
    codes: NDArray[np.int64], values: NDArray[np.float64], n_variable: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (V,) of each variable's values within its quantiles TRIM and 1 - TRIM."""
    order = np.lexsort((values, codes))
    bounds = np.searchsorted(codes[order], np.arange(n_variable + 1))
    mean, width = np.zeros(n_variable), np.ones(n_variable)
    for variable, (first, last) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        cut = int(TRIM * (last - first))
        inner = values[order[first + cut : last - cut]]
        if len(inner):
            mean[variable], spread = inner.mean(), inner.std()
            # below the resolution of float32 a spread is rounding, not information
            width[variable] = spread if spread > 1e-6 * abs(mean[variable]) else 1.0
    return mean, width
