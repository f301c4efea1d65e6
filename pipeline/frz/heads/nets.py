"""What every small head is made of: standardised inputs and a chain of dense layers."""

# Axes: N members, V inputs.

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frz.heads.settings import NetSettings

LEAST_SCALE = 1e-6
"""An input that varies less is left as it is."""
LOOK_ROWS = 1 << 16
"""Rows that are summed at once."""
FAR = 10.0
"""Standardised inputs are clipped here: one absurd hit does not decide a batch."""


class Standard(nn.Module):
    """(x - mean) / width with the mean and width of the training split, clipped at +-10.

    Parameters
    ----------
    n_input : int
        V.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, n_input: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(n_input))
        self.register_buffer("scale", torch.ones(n_input))
        self._seen: list[tuple[int | NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]] = []

    def look(self, *columns: NDArray[np.generic]) -> None:
        """Take in a block of the training split: arrays (N, ...) whose columns, joined, are the V inputs.

        Entries that are not finite are left out.
        """
        for begin in range(0, len(columns[0]), LOOK_ROWS):
            pieces = [values[begin : begin + LOOK_ROWS] for values in columns]
            exact = np.concatenate([piece.reshape(len(piece), -1).astype(np.float64) for piece in pieces], 1)
            known, count = np.isfinite(exact), len(exact)
            if not known.all():
                exact, count = np.where(known, exact, 0), known.sum(0)
            self._seen.append((count, exact.sum(0), np.square(exact).sum(0)))

    def settle(self) -> None:
        """Turn what was looked at into mean and width."""
        nothing = np.zeros(len(self.centre))
        count = np.maximum(sum((n for n, _, _ in self._seen), nothing), 1)
        mean = sum((total for _, total, _ in self._seen), nothing) / count
        square = sum((total for _, _, total in self._seen), nothing) / count
        width = np.sqrt(np.maximum(square - np.square(mean), 0))
        self._seen = []
        self.centre.copy_(torch.from_numpy(mean))
        self.scale.copy_(torch.from_numpy(np.where(width > LEAST_SCALE * np.maximum(1, np.abs(mean)), width, 1.0)))

    def forward(self, values: Tensor) -> Tensor:
        """Standardised values (N, V) in float32."""
        return ((values.float() - self.centre) / self.scale).clamp(-FAR, FAR)


class BatchNorm(nn.BatchNorm1d):
    """BatchNorm that takes a lone member of a training batch (which has no spread) by its running statistics."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, V)."""
        if self.training and len(input) < 2:
            return nn.functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


def mlp(n_input: int, n_output: int, config: NetSettings) -> nn.Sequential:
    """(Linear, norm, ReLU, Dropout) for every hidden layer, then Linear.

    Parameters
    ----------
    n_input, n_output : int
    config : NetSettings
    """
    layers: list[nn.Module] = []
    rates = config.dropout if isinstance(config.dropout, tuple) else (config.dropout,) * len(config.hidden)
    for width, rate in zip(config.hidden, rates, strict=True):
        layers.append(nn.Linear(n_input, width))
        if config.norm != "none":
            layers.append(BatchNorm(width) if config.norm == "batch" else nn.LayerNorm(width))
        layers += [nn.ReLU(), nn.Dropout(rate)]
        n_input = width
    net = nn.Sequential(*layers, nn.Linear(n_input, n_output))
    if config.xavier:
        xavier(net)
    return net


def xavier(net: nn.Module) -> None:
    """Xavier's uniform law for the weights of every Linear, biases 0 (X. Glorot and Y. Bengio, AISTATS 2010)."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
