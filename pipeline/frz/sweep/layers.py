"""Layers that know what to do with K heads at once, with weights that have a leading axis of heads.

Particular: a module is turned into its stacked form by changing the class of its layers in place, so names of
parameters stay. The same layers serve under `torch.vmap`, where autograd runs outside: what a rule computes there is
recorded as plain tensor operations, and a chain of known layers is one step for vmap, whatever its length.
"""

# Axes: K heads, N rows, I inputs, O outputs.

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

Draw: TypeAlias = Callable[[torch.Size], Tensor]
"""Dropout masks (K, *shape) of the next dropout layer, scaled by 1 / (1 - p)."""
Form: TypeAlias = Literal["single", "vmap", "outright"]
"""One head as it is; stacked weights under `torch.vmap`; stacked weights without it, where rows are (N, I), shared by
the heads, or (K, N, I)."""
NARROW = 16
"""Most outputs of a linear layer for which one product for all heads is faster than one for each."""
ELEMENTWISE = (nn.ReLU, nn.SiLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.Identity)
"""Layers that do not see which head an entry is of."""


class _Linear(torch.autograd.Function):
    """x W^T + b (K, N, O) of every head, of rows (K, N, I) or of rows (N, I) that the heads share.

    Not left to autograd, which would make the gradient of W transposed, and copy it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        n_head, n_output, _ = weight.shape
        if _at_once(x, weight):
            every = functional.linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())
            return every.view(-1, n_head, n_output).transpose(0, 1).contiguous()
        rows, turned = _rows(x, n_head), weight.transpose(1, 2)
        return torch.bmm(rows, turned) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, turned)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        n_head, n_output, n_input = weight.shape
        of_x: Tensor | None = None
        if ctx.needs_input_grad[0]:
            of_x = torch.bmm(grad, weight)
            of_x = of_x if x.ndim == 3 else of_x.sum(0)
        if _at_once(x, weight):
            of_weight = grad.transpose(1, 2).reshape(-1, grad.shape[1]).mm(x).view(weight.shape)
        elif n_input < n_output:
            of_weight = torch.bmm(_rows(x, n_head).transpose(1, 2), grad).transpose(1, 2).contiguous()
        else:
            of_weight = torch.bmm(grad.transpose(1, 2), _rows(x, n_head))
        return of_x, of_weight, grad.sum(1) if ctx.needs_input_grad[2] else None


def _at_once(x: Tensor, weight: Tensor) -> bool:
    return x.ndim == 2 and weight.shape[1] <= NARROW


def _rows(x: Tensor, n_head: int) -> Tensor:
    """Rows (K, N, I) of what may be shared."""
    return x.expand(n_head, *x.shape) if x.ndim == 2 else x


def _run(layer: nn.Module, x: Tensor, weights: Iterator[Tensor | None]) -> Tensor:
    """Rows (K, N, I), or (N, I) that the heads share, to rows (K, N, O); shared, if no head has a say in it."""
    if isinstance(layer, nn.Sequential):
        for part in layer:
            x = _run(part, x, weights)
        return x
    if isinstance(layer, nn.Linear):
        made: Tensor = _Linear.apply(x, next(weights), next(weights))  # type: ignore[no-untyped-call]
        return made
    if isinstance(layer, nn.LayerNorm):
        x = functional.layer_norm(x, layer.normalized_shape, eps=layer.eps)
        weight, bias = next(weights), next(weights)
        if weight is None:
            return x
        return x * weight.unsqueeze(1) if bias is None else torch.addcmul(bias.unsqueeze(1), x, weight.unsqueeze(1))
    if isinstance(layer, StackedDropout):
        return x * layer.draw(x.shape[-2:]) if layer.training and x.numel() else x
    rows: Tensor = layer(x)
    return rows


class _Chain(torch.autograd.Function):
    """What a layer, or a chain of layers, makes of rows under vmap."""

    @staticmethod
    def forward(x: Tensor, layer: nn.Module, *weights: Tensor | None) -> Tensor:
        raise AssertionError("this form of a layer runs under vmap alone")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        raise AssertionError("this form of a layer runs under vmap alone")

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, layer: nn.Module, *weights: Tensor | None
    ) -> tuple[Tensor, int]:
        assert all(dim == 0 for dim, weight in zip(in_dims[2:], weights, strict=True) if weight is not None)
        x = x if in_dims[0] is None else x.movedim(in_dims[0], 0)
        n_lead = 0 if in_dims[0] is None else 1
        made = _rows(_run(layer, x.flatten(n_lead, -2), iter(weights)), info.batch_size)
        return made.reshape(info.batch_size, *x.shape[n_lead:-1], made.shape[-1]), 0


class _Stacked(nn.Module):
    """A layer, or a chain, whose parameters are stacked."""

    outright: bool
    """Without vmap."""

    def forward(self, x: Tensor) -> Tensor:
        """Rows (..., I) to rows (..., O)."""
        parts = self if isinstance(self, nn.Sequential) else (self,)
        weights = [weight for part in parts for weight in part._parameters.values()]
        if self.outright:
            return _run(self, x, iter(weights))
        made: Tensor = _Chain.apply(x, self, *weights)  # type: ignore[no-untyped-call]
        return made


class StackedLinear(_Stacked, nn.Linear):
    """`nn.Linear` of K heads."""


class StackedLayerNorm(_Stacked, nn.LayerNorm):
    """`nn.LayerNorm` of K heads."""


class StackedSequential(_Stacked, nn.Sequential):
    """`nn.Sequential` of layers that are known here."""


class StackedDropout(_Stacked, nn.Dropout):
    """`nn.Dropout` with masks from outside."""

    draw: Draw


class SingleDropout(nn.Dropout):
    """The same for one head."""

    draw: Draw

    def forward(self, x: Tensor) -> Tensor:
        """The input in eval mode."""
        return x * self.draw(x.shape)[0] if self.training and x.numel() else x


STACKED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: StackedLinear,
    nn.LayerNorm: StackedLayerNorm,
    nn.Dropout: StackedDropout,
    nn.Sequential: StackedSequential,
}
SINGLE: dict[type[nn.Module], type[nn.Module]] = {nn.Dropout: SingleDropout}
PLAIN = {changed: plain for changes in (STACKED, SINGLE) for plain, changed in changes.items()}


def convert(module: nn.Module, draw: Callable[[str, torch.Size], Tensor], form: Form) -> None:
    """Give the layers of `module` another form; those that are not known here are left as they are.

    Parameters
    ----------
    module : nn.Module
        Changed in place; also one that was converted before.
    draw : callable
        Masks by the name of the dropout layer and the shape of one head's input.
    form : {'single', 'vmap', 'outright'}
        How the module will be called.
    """
    for name, part in module.named_modules():
        if not is_known(part):
            continue
        kind = _plain(part)
        part.__class__ = (SINGLE if form == "single" else STACKED).get(kind, kind)
        if isinstance(part, _Stacked):
            part.outright = form == "outright"
        if isinstance(part, StackedDropout | SingleDropout):
            part.draw = partial(draw, name)


def is_known(part: nn.Module) -> bool:
    """Whether a layer, or every layer of a chain, has a stacked form or needs none."""
    if _plain(part) is nn.Sequential:
        layers = list(part.children())
        return bool(layers) and all(is_known(layer) and _plain(layer) is not nn.Sequential for layer in layers)
    if isinstance(part, nn.LayerNorm):
        return _plain(part) is nn.LayerNorm and len(part.normalized_shape) == 1
    return _plain(part) in (nn.Linear, nn.Dropout, *ELEMENTWISE)


def _plain(part: nn.Module) -> type[nn.Module]:
    """What a layer was before it was converted."""
    return PLAIN.get(type(part), type(part))
