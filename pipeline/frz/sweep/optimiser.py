"""AdamW for stacked parameters: every head with its own rate, weight decay and clipping.

The numbers are those of `torch.optim.AdamW(fused=True)`, whose kernel it calls: once for all heads while they share
rate and decay, else once per head on its rows.
"""

# Axes: K heads.

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

DEFAULT_BETAS = (0.9, 0.999)
TINY = 1e-6
"""Added to a norm before it divides, as in `clip_grad_norm_`."""


class _Slice(NamedTuple):
    """What one call of the kernel moves: views into the stacked tensors."""

    parameters: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]
    decay: float


class StackedAdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) of K heads.

    Parameters
    ----------
    parameters : mapping
        Stacked parameters (K, ...); those without gradient are left alone.
    decayed : set of str
        Names of those that shrink.
    decay : sequence of float
        Weight decay of each head (K).
    betas, eps
        As in torch, one for all heads.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        decayed: set[str],
        decay: Sequence[float],
        betas: tuple[float, float] | None,
        eps: float,
    ) -> None:
        self._decayed, self._betas, self._eps = decayed, betas or DEFAULT_BETAS, eps
        self._decay = list(decay)
        self._steps = 0
        self._first = {name: torch.zeros_like(value) for name, value in parameters.items() if value.requires_grad}
        self._second = {name: torch.zeros_like(value) for name, value in self._first.items()}
        self._take(parameters)

    def _take(self, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = {name: parameters[name] for name in self._first}
        self._views: list[list[_Slice]] = []

    def clip(self, norms: Tensor, limits: Sequence[float]) -> None:
        """Scale the gradients of heads whose norm (K,) is above their limit; 0 is no limit."""
        limit = norms.new_tensor(limits)
        factor = torch.where(limit > 0, (limit / (norms + TINY)).clamp(max=1), 1.0)
        if bool((factor < 1).any()):
            for value in self._parameters.values():
                assert value.grad is not None
                value.grad.mul_(factor.view(-1, *(1,) * (value.ndim - 1)))

    def norms(self) -> Tensor:
        """Norm (K,) of the gradient of all parameters of each head."""
        every = [value.grad.flatten(1).norm(dim=1) for value in self._parameters.values() if value.grad is not None]
        found: Tensor = torch.stack(every).norm(dim=0)
        return found

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for value in self._parameters.values():
            value.grad = None

    @torch.no_grad()
    def step(self, rates: Sequence[float]) -> None:
        """One step with the learning rate of each head (K)."""
        self._steps += 1
        together = len(set(rates)) == 1 and len(set(self._decay)) == 1
        pieces = self._pieces(together)
        gradients = {name: value.grad for name, value in self._parameters.items() if value.grad is not None}
        rows = {name: [grad] if together else grad.unbind() for name, grad in gradients.items()}
        step = torch.tensor(float(self._steps), device=next(iter(gradients.values())).device)
        for place, names in enumerate(self._names()):
            for row, piece in enumerate(pieces):
                self._move(piece[place], [rows[name][row] for name in names], rates[row], step)

    def _names(self) -> tuple[list[str], list[str]]:
        decayed = [name for name in self._parameters if name in self._decayed]
        return decayed, [name for name in self._parameters if name not in self._decayed]

    def _pieces(self, together: bool) -> list[list[_Slice]]:
        n_rows = 1 if together else len(self._decay)
        if len(self._views) != n_rows:
            self._views = [[self._slice(names, row, together) for names in self._names()] for row in range(n_rows)]
        return self._views

    def _slice(self, names: list[str], row: int, together: bool) -> _Slice:
        def part(tensors: Mapping[str, Tensor]) -> list[Tensor]:
            return [tensors[name].detach() if together else tensors[name].detach()[row] for name in names]

        decay = self._decay[row] if names and names[0] in self._decayed else 0.0
        return _Slice(part(self._parameters), part(self._first), part(self._second), decay)

    def _move(self, piece: _Slice, gradients: list[Tensor], rate: float, step: Tensor) -> None:
        if not gradients:
            return
        torch._fused_adamw_(
            piece.parameters,
            gradients,
            piece.first,
            piece.second,
            [],
            [step] * len(gradients),
            lr=rate,
            beta1=self._betas[0],
            beta2=self._betas[1],
            weight_decay=piece.decay,
            eps=self._eps,
            amsgrad=False,
            maximize=False,
        )

    def keep(self, rows: Sequence[int], parameters: Mapping[str, Tensor]) -> None:
        """Go on with these heads, whose parameters are these now."""
        self._first = {name: value[rows] for name, value in self._first.items()}
        self._second = {name: value[rows] for name, value in self._second.items()}
        self._decay = [self._decay[row] for row in rows]
        self._take(parameters)
