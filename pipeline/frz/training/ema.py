"""A moving average of the weights, which is smoother than the weights of any step.

After optimiser step t (0, 1, ...) `average <- d_t average + (1 - d_t) weights` with
`d_t = min(decay, (1 + t) / (10 + t))` (the warm-up of TensorFlow's ExponentialMovingAverage: young averages
forget the initial weights quickly) or `d_t = decay`. It begins as the initial weights. Buffers of floating
point (statistics of BatchNorm, constants) are averaged alike, so that they belong to the averaged weights;
integers are copied. `d_t` is a function of the step, so the average is all there is to save.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def ema_decay(decay: float, warmup: bool, step: int) -> float:
    """Share of the average that optimiser step `step` (from 0) leaves."""
    return min(decay, (1 + step) / (10 + step)) if warmup else decay


class Ema:
    """The average of the weights and buffers of a module.

    Parameters
    ----------
    module : nn.Module
        With its initial weights.
    decay : float
        In [0, 1).
    warmup : bool
        See the top of the module.
    """

    def __init__(self, module: nn.Module, decay: float, warmup: bool) -> None:
        self._decay, self._warmup = decay, warmup
        self.tensors: dict[str, Tensor] = {name: value.clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights that step `step` left."""
        rest = 1.0 - ema_decay(self._decay, self._warmup, step)
        averages: list[Tensor] = []
        values: list[Tensor] = []
        kept = module.state_dict(keep_vars=True).items()
        buffers = {name for name, value in kept if not isinstance(value, nn.Parameter)}
        for name, value in module.state_dict().items():
            average = self.tensors[name]
            if not value.is_floating_point():
                average.copy_(value)
            elif name in buffers:  # a mask holds -inf, which has no difference from itself
                average.copy_(torch.where(average == value, value, average.lerp(value, rest)))
            else:
                averages.append(average)
                values.append(value)
        torch._foreach_lerp_(averages, values, rest)

    @contextmanager
    def instead(self, module: nn.Module) -> Iterator[None]:
        """Within the block `module` has the averaged weights; afterwards its own, bit for bit."""
        own = {name: value.clone() for name, value in module.state_dict().items()}
        _fill(module, self.tensors)
        try:
            yield
        finally:
            _fill(module, own)


@torch.no_grad()
def _fill(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    for name, value in module.state_dict().items():
        value.copy_(tensors[name])
