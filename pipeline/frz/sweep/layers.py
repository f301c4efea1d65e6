"""Layers that know what to do with K heads at once under `torch.vmap`.

Particular: a module is turned into its stacked form by changing the class of its layers in place, so names of
parameters stay. Autograd runs outside of vmap; what a rule computes here is recorded as plain tensor operations.
"""

# Axes: K heads, N rows, I inputs, O outputs.

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

Draw: TypeAlias = Callable[[torch.Size], Tensor]
"""Dropout masks (K, *shape) of the next dropout layer, scaled by 1 / (1 - p)."""


class _Linear(torch.autograd.Function):
    """x W^T + b of every head."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        raise AssertionError("stacked layers run under vmap alone")

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, int]:
        """One product for an input that the heads share (K O outputs), else a batched one."""
        assert in_dims[1] == 0, "weights are stacked"
        if in_dims[0] is None:
            every = functional.linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())
            return every.view(*x.shape[:-1], *weight.shape[:2]), x.ndim - 1
        x = x.movedim(in_dims[0], 0)
        rows, turned = x.flatten(1, -2), weight.transpose(1, 2)  # (K, N, I), (K, I, O)
        made = torch.bmm(rows, turned) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, turned)
        return made.view(*x.shape[:-1], -1), 0


class StackedLinear(nn.Linear):
    """`nn.Linear` whose parameters are stacked."""

    def forward(self, x: Tensor) -> Tensor:
        """Rows (..., I) to rows (..., O)."""
        made: Tensor = _Linear.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return made


class _Dropout(torch.autograd.Function):
    """x times the masks of every head."""

    @staticmethod
    def forward(x: Tensor, draw: Draw) -> Tensor:
        raise AssertionError("stacked layers run under vmap alone")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        raise AssertionError("stacked layers run under vmap alone")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, draw: Draw) -> tuple[Tensor, int]:
        x = x.expand(info.batch_size, *x.shape) if in_dims[0] is None else x.movedim(in_dims[0], 0)
        return x * draw(x.shape[1:]), 0


class StackedDropout(nn.Dropout):
    """`nn.Dropout` with masks from outside."""

    draw: Draw
    single: bool
    """One head, without vmap."""

    def forward(self, x: Tensor) -> Tensor:
        """The input in eval mode."""
        if not self.training or x.numel() == 0:
            return x
        if self.single:
            return x * self.draw(x.shape)[0]
        made: Tensor = _Dropout.apply(x, self.draw)  # type: ignore[no-untyped-call]
        return made


def convert(module: nn.Module, draw: Callable[[str, torch.Size], Tensor], *, single: bool) -> None:
    """Give the layers of `module` their stacked form, or those of a single head; other layers are left to vmap.

    Parameters
    ----------
    module : nn.Module
        Changed in place; also one that was converted before.
    draw : callable
        Masks by the name of the dropout layer and the shape of one head's input.
    single : bool
        Whether the module will be called without vmap.
    """
    for name, part in module.named_modules():
        if type(part) in (nn.Linear, StackedLinear):
            part.__class__ = nn.Linear if single else StackedLinear
        elif type(part) in (nn.Dropout, StackedDropout):
            part.__class__ = StackedDropout
            assert isinstance(part, StackedDropout)
            part.draw, part.single = partial(draw, name), single
