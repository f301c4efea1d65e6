"""Ragged -> buckets -> ragged, and what the buckets promise."""

import pytest
import torch

from frz.backbones.padding import MIN_MEMBERS, STEP, cut, join, join_events


def offsets_of(lengths: list[int]) -> torch.Tensor:
    return torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])


MIXED = [int(n) for n in torch.randint(0, 200, (120,), generator=torch.Generator().manual_seed(0))]
CASES = [[5], [0], [0, 0, 3], [16, 16, 16], [1, 600, 2, 600], MIXED]


@pytest.mark.parametrize("lengths", CASES)
def test_round_trip(lengths):
    offsets = offsets_of(lengths)
    flat = torch.randn(int(offsets[-1]), 3)
    buckets = cut(offsets)
    assert torch.equal(join(buckets, [b.flatten(b.pad(flat)) for b in buckets]), flat)
    names = torch.arange(len(lengths))
    assert torch.equal(join_events(buckets, [names[b.events] for b in buckets]), names)


@pytest.mark.parametrize("lengths", CASES)
def test_every_member_stands_in_its_event_and_the_rest_is_zero(lengths):
    offsets = offsets_of(lengths)
    flat = torch.arange(1.0, int(offsets[-1]) + 1)
    for bucket in cut(offsets):
        for row, event in zip(bucket.pad(flat), bucket.events.tolist(), strict=True):
            expected = torch.zeros(bucket.width)
            expected[: lengths[event]] = flat[offsets[event] : offsets[event + 1]]
            assert torch.equal(row, expected)


@pytest.mark.parametrize("lengths", CASES)
def test_masks_say_what_is_real_and_leave_a_key_to_everyone(lengths):
    for bucket in cut(offsets_of(lengths)):
        n = torch.tensor(lengths)[bucket.events]
        assert bucket.width % STEP == 0
        if bucket.keep is None:
            assert bool((n == bucket.width).all())
            continue
        assert torch.equal(bucket.keep.sum(1), n)
        assert torch.equal(bucket.keys[:, 0, 0].sum(1), n.clamp(min=1))


def test_mixed_lengths_are_cut_and_waste_little():
    buckets = cut(offsets_of(MIXED))
    assert len(buckets) > 3
    for bucket in buckets[:-1]:
        slots = len(bucket.events) * bucket.width
        assert slots >= MIN_MEMBERS
    padded = sum(len(b.events) * b.width for b in buckets)
    assert padded < 1.25 * sum(MIXED) < 0.8 * len(MIXED) * max(MIXED)


def test_gradients_pass_through():
    offsets = offsets_of([3, 0, 7, 20])
    flat = torch.randn(30, 2, requires_grad=True)
    buckets = cut(offsets)
    weight = torch.randn(30, 2)
    (join(buckets, [b.flatten(b.pad(flat)) for b in buckets]) * weight).sum().backward()
    assert torch.equal(flat.grad, weight)


@pytest.mark.parametrize("step", [2, 4])
def test_small_sets_are_cut_by_small_steps_on_request(step):
    sizes = [int(n) for n in torch.randint(0, 12, (3000,), generator=torch.Generator().manual_seed(1))]
    offsets = offsets_of(sizes)
    buckets = cut(offsets, step, split=True)
    assert [b.width for b in buckets] == list(range(12, 0, -step))
    flat = torch.arange(float(offsets[-1]))
    assert torch.equal(join(buckets, [b.flatten(b.pad(flat)) for b in buckets]), flat)
    assert len(cut(offsets, step, split=False)) == 1
