"""AdamW for stacked parameters: every head with its own rate, weight decay and clipping.

The numbers are those of `torch.optim.AdamW(fused=True)`, whose kernel it calls: once for all heads while they share
the rate, else once per head. Weights, gradients and moments of a head lie side by side, so a call moves one array.
"""

# Axes: K heads, P trainable numbers of a head.

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

DEFAULT_BETAS = (0.9, 0.999)
TINY = 1e-6
"""Added to a norm before it divides, as in `clip_grad_norm_`."""


class StackedAdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) of K heads.

    Parameters
    ----------
    weights : Tensor (K, P)
        Moved in place.
    decayed : sequence of slice
        Columns that shrink.
    decay : sequence of float
        Weight decay of each head (K).
    betas, eps
        As in torch, one for all heads.
    """

    gradient: Tensor
    """(K, P), of `take`."""

    def __init__(
        self,
        weights: Tensor,
        decayed: Sequence[slice],
        decay: Sequence[float],
        betas: tuple[float, float] | None,
        eps: float,
    ) -> None:
        self._decayed, self._betas, self._eps = decayed, betas or DEFAULT_BETAS, eps
        self._decay = weights.new_tensor(decay)
        self._steps = 0
        self._hold(weights, torch.zeros_like(weights), torch.zeros_like(weights))

    def _hold(self, weights: Tensor, first: Tensor, second: Tensor) -> None:
        self._weights, self._first, self._second = weights, first, second
        self.gradient = torch.zeros_like(weights)
        self._whole = (weights, self.gradient, first, second)
        self._rows = list(zip(*(values.unbind() for values in self._whole), strict=True))

    def take(self, gradients: Iterable[Tensor]) -> None:
        """Take the gradients (K, ...) of all parameters, in the order of the columns."""
        torch.cat([value.flatten(1) for value in gradients], 1, out=self.gradient)

    def norms(self) -> Tensor:
        """Norm (K,) of the gradient of each head."""
        found: Tensor = torch.linalg.vector_norm(self.gradient, dim=1)
        return found

    def clip(self, norms: Tensor, limits: Sequence[float]) -> None:
        """Scale the gradients of heads whose norm (K,) is above their limit; 0 is no limit."""
        limit = norms.new_tensor(limits)
        factor = torch.where(limit > 0, (limit / (norms + TINY)).clamp(max=1), 1.0)
        if bool((factor < 1).any()):
            self.gradient.mul_(factor.unsqueeze(1))

    @torch.no_grad()
    def step(self, rates: Sequence[float]) -> None:
        """One step with the learning rate of each head (K)."""
        self._steps += 1
        step = torch.tensor(float(self._steps), device=self._weights.device)
        shrink = (1 - self._weights.new_tensor(rates) * self._decay).unsqueeze(1)
        for columns in self._decayed:
            self._weights[:, columns].mul_(shrink)
        if len(set(rates)) == 1:
            self._move(self._whole, rates[0], step)
        else:
            for row, rate in zip(self._rows, rates, strict=True):
                self._move(row, rate, step)

    def _move(self, tensors: tuple[Tensor, ...], rate: float, step: Tensor) -> None:
        weights, gradient, first, second = tensors
        torch._fused_adamw_(
            [weights],
            [gradient],
            [first],
            [second],
            [],
            [step],
            lr=rate,
            beta1=self._betas[0],
            beta2=self._betas[1],
            weight_decay=0.0,
            eps=self._eps,
            amsgrad=False,
            maximize=False,
        )

    def keep(self, rows: Sequence[int], weights: Tensor) -> None:
        """Go on with these heads, whose weights are these now."""
        self._decay = self._decay[rows]
        self._hold(weights, self._first[rows], self._second[rows])
