import pytest
import torch
from torch import Tensor

from frz.heads.pooling import segment_pool, slot_of_pairs

COUNTS = torch.tensor([3, 0, 1, 40, 0, 7])


def padded_pool(values: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
    """The same pooling on padded tensors: (S, L, D), one mask."""
    mask = torch.arange(int(counts.max())) < counts[:, None]  # (S, L)
    dense = values.new_zeros(*mask.shape, values.shape[1])
    dense[mask] = values
    w = weights.new_zeros(mask.shape)
    w[mask] = weights
    total = (w[..., None] * dense).sum(1)
    average = ((w / w.sum(1, keepdim=True).clamp(min=1e-8))[..., None] * dense).sum(1)
    empty = (counts == 0)[:, None]
    largest = dense.masked_fill(~mask[..., None], -torch.inf).amax(1).masked_fill(empty, 0)
    smallest = dense.masked_fill(~mask[..., None], torch.inf).amin(1).masked_fill(empty, 0)
    return torch.stack((average, total, largest, smallest), 1)


def example(*, ties: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(int(COUNTS.sum()), 5, generator=generator)
    if ties:
        values[1] = values[0]
        values[4:20] = values[4]
    return values.requires_grad_(), (0.1 + torch.rand(len(values), generator=generator)).requires_grad_()


@pytest.mark.parametrize("ties", [False, True])
def test_equals_the_padded_form_with_gradients(ties):
    values, weights = example(ties=ties)
    slot = torch.repeat_interleave(torch.arange(len(COUNTS)), COUNTS)
    ours, theirs = segment_pool(values, weights, slot, len(COUNTS)), padded_pool(values, weights, COUNTS)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    pull = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
    for a, b in zip(
        torch.autograd.grad(ours, (values, weights), pull),
        torch.autograd.grad(theirs, (values, weights), pull),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_empty_slots_give_zero():
    values, weights = example()
    pooled = segment_pool(values, weights, slot_of_pairs(torch.tensor([0, 3, 3, 4, 44, 44, 51])), 6)
    assert pooled[[1, 4]].abs().max() == 0
    assert pooled[[0, 2, 3, 5]].abs().min() > 0


def test_a_single_pair_is_its_own_average_and_extremes():
    value = torch.tensor([[2.0, -3.0]])
    average, total, largest, smallest = segment_pool(value, torch.tensor([0.5]), torch.tensor([0]), 1)[0]
    for found in (average, largest, smallest):
        assert found.tolist() == [2.0, -3.0]
    assert total.tolist() == [1.0, -1.5]


def test_no_pairs_and_no_slots():
    nothing = torch.zeros(0, 4, requires_grad=True)
    for n_slot in (0, 3):
        pooled = segment_pool(nothing, torch.zeros(0), torch.zeros(0, dtype=torch.int64), n_slot)
        assert pooled.shape == (n_slot, 4, 4)
        pooled.sum().backward()


def test_slot_of_pairs():
    assert slot_of_pairs(torch.tensor([0, 2, 2, 3])).tolist() == [0, 0, 2]


def test_stacked_heads_pool_as_each_alone():
    _, weights = example()
    weights = weights.detach()
    slot = torch.repeat_interleave(torch.arange(len(COUNTS)), COUNTS)
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(int(COUNTS.sum()), 4, generator=generator)
    maps = torch.randn(3, 4, 5, generator=generator)  # three heads
    pull = torch.randn(len(COUNTS), 4, 5, generator=generator)

    def loss(one: Tensor) -> Tensor:
        return (segment_pool((inputs @ one).tanh(), weights, slot, len(COUNTS)) * pull).sum()

    gradients, values = torch.func.vmap(torch.func.grad_and_value(loss))(maps)
    for head, one in enumerate(maps):
        one = one.clone().requires_grad_()
        alone = loss(one)
        torch.testing.assert_close(values[head], alone.detach())
        torch.testing.assert_close(gradients[head], torch.autograd.grad(alone, one)[0], rtol=1e-5, atol=1e-5)
