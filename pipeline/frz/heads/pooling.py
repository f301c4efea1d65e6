"""Pooling over the hits of each slot as segment sums, maxima and minima over flat pairs.

Nothing is padded: work grows with the pairs alone. Forward and backward are written out because autograd's
backward of `scatter_reduce(amax)` costs thirty times its forward, and because the four results share one
gather. Equal, gradients included, to the padded form (ties share the gradient evenly, as in `Tensor.amax`).
"""

# Axes: P pairs sorted by slot, S slots, D columns.

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

EMPTY = 1e-8
"""Least total weight of an average, so that an empty set averages to 0."""


class _SegmentPool(torch.autograd.Function):
    """Sum of weight * value, max and min of value per slot; empty slots give 0."""

    @staticmethod
    def forward(values: Tensor, weights: Tensor, slot: Tensor, n_slot: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = slot.unsqueeze(1).expand_as(values)  # (P, D)
        empty = values.new_zeros(n_slot, values.shape[1])
        total = empty.index_add(0, slot, values * weights.unsqueeze(1))
        largest = empty.scatter_reduce(0, rows, values, "amax", include_self=False)
        smallest = empty.scatter_reduce(0, rows, values, "amin", include_self=False)
        return total, largest, smallest

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, int], output: tuple[Tensor, ...]) -> None:
        values, weights, slot, _ = inputs
        ctx.save_for_backward(values, weights, slot, *output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        values, weights, slot, largest, smallest = ctx.saved_tensors
        of_weights = None
        if ctx.needs_input_grad[1]:
            of_weights = (values * grads[0].index_select(0, slot)).sum(1)
        found = _SegmentSpread.apply(*grads, values, largest, smallest, weights, slot)  # type: ignore[no-untyped-call]
        return found, of_weights, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], values: Tensor, weights: Tensor, slot: Tensor, n_slot: int
    ) -> tuple[tuple[Tensor, ...], tuple[int, int, int]]:
        """Stacked heads pool the same pairs: their columns stand side by side, and one pass pools them all."""
        assert in_dims[1:] == (None, None, None), "heads differ in values alone"
        (columns,) = _side_by_side(info, in_dims[:1], (values,))
        pooled = _SegmentPool.apply(columns, weights, slot, n_slot)  # type: ignore[no-untyped-call]
        return tuple(one.unflatten(1, (info.batch_size, -1)) for one in pooled), (1, 1, 1)


class _SegmentSpread(torch.autograd.Function):
    """The way back: what each pair (P, D) adds to sum, max and min. It has no derivative of its own."""

    @staticmethod
    def forward(
        of_sum: Tensor,
        of_largest: Tensor,
        of_smallest: Tensor,
        values: Tensor,
        largest: Tensor,
        smallest: Tensor,
        weights: Tensor,
        slot: Tensor,
    ) -> Tensor:
        result = of_sum.index_select(0, slot).mul_(weights.unsqueeze(1))
        for extreme, grad in ((largest, of_largest), (smallest, of_smallest)):
            reached = extreme.index_select(0, slot).eq_(values)  # (P, D), 1 where the value is the extreme
            ties = torch.zeros_like(extreme).index_add_(0, slot, reached).clamp_(min=1)
            result.addcmul_(reached, (grad / ties).index_select(0, slot))
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Tensor) -> tuple[Tensor, int]:
        """As in the pooling itself."""
        assert in_dims[6:] == (None, None), "heads differ in values alone"
        columns = _side_by_side(info, in_dims[:6], inputs[:6])
        found: Tensor = _SegmentSpread.apply(*columns, *inputs[6:])  # type: ignore[no-untyped-call]
        return found.view(len(found), info.batch_size, found.shape[1] // info.batch_size), 1


def _side_by_side(info: Any, in_dims: tuple[int | None, ...], inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Inputs (rows, D) of each of several heads as (rows, heads * D)."""
    stacked = [
        one.unsqueeze(1).expand(-1, info.batch_size, -1) if dim is None else one.movedim(dim, 1)
        for one, dim in zip(inputs, in_dims, strict=True)
    ]
    return [one.flatten(1) for one in stacked]


class _Rows(torch.autograd.Function):
    """`index_select` of rows; under vmap torch would make a `gather` of it, with a slow backward."""

    @staticmethod
    def forward(values: Tensor, index: Tensor) -> Tensor:
        return values.index_select(0, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        values, index = inputs
        ctx.n_row = len(values)
        ctx.save_for_backward(index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return grad.new_zeros(ctx.n_row, *grad.shape[1:]).index_add_(0, index, grad), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], values: Tensor, index: Tensor) -> tuple[Tensor, int]:
        """K heads on the same rows are rows of K times as many columns."""
        assert in_dims[1] is None, "the heads of a stack share their batch"
        columns = values.movedim(in_dims[0] or 0, 1).flatten(1)  # (N, K D)
        found: Tensor = _Rows.apply(columns, index)  # type: ignore[no-untyped-call]
        return found.view(len(index), info.batch_size, -1), 1


def rows_of(values: Tensor, index: Tensor) -> Tensor:
    """Rows (P, D) of `values` (N, D) at `index` int64 (P,)."""
    found: Tensor = _Rows.apply(values, index)  # type: ignore[no-untyped-call]
    return found


def segment_pool(values: Tensor, weights: Tensor, slot: Tensor, n_slot: int) -> Tensor:
    """Average, sum, maximum and minimum of the values of each slot.

    With w the weights of the pairs of a slot: avg = sum w x / max(sum w, 1e-8); sum = sum w x; max and min are
    taken over the set without weights. A slot without pairs gets 0 in all four.

    Parameters
    ----------
    values : float Tensor (P, D)
        One row per pair.
    weights : float Tensor (P,)
        p >= 0 of each pair.
    slot : int64 Tensor (P,)
        Slot of each pair.
    n_slot : int
        S.

    Returns
    -------
    Tensor (S, 4, D)
        In the order avg, sum, max, min.
    """
    total, largest, smallest = _SegmentPool.apply(values, weights, slot, n_slot)  # type: ignore[no-untyped-call]
    mass = weights.new_zeros(n_slot).index_add(0, slot, weights).clamp(min=EMPTY)
    return torch.stack((total / mass.unsqueeze(1), total, largest, smallest), dim=1)


def segment_softmax(scores: Tensor, slot: Tensor, n_slot: int) -> Tensor:
    """Softmax of the scores of each slot over its pairs, as from a padded tensor with a mask.

    Parameters
    ----------
    scores : float Tensor (P, H)
        H independent columns.
    slot : int64 Tensor (P,)
        Slot of each pair.
    n_slot : int
        S.

    Returns
    -------
    Tensor (P, H)
        Non-negative; the pairs of a slot sum to 1.
    """
    rows = slot.unsqueeze(1).expand_as(scores)
    largest = scores.new_zeros(n_slot, scores.shape[1])
    largest = largest.scatter_reduce(0, rows, scores.detach(), "amax", include_self=False)
    weights = (scores - largest.index_select(0, slot)).exp()
    total = torch.zeros_like(largest).index_add(0, slot, weights)
    return weights / total.index_select(0, slot)


def slot_of_pairs(offsets: Tensor) -> Tensor:
    """Slot (P,) int64 of each pair, from offsets (S + 1) of the slots."""
    counts = offsets.diff()
    return torch.repeat_interleave(counts)
