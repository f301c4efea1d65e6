"""Losses and costs of the two tasks against plain torch, one pair at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from frz.backbones.hit_track import losses
from frz.backbones.hit_track.settings import MaskCosts, MaskWeights, ValidCosts, ValidWeights
from frz.backbones.hit_track.tasks import mask_cost, mask_losses, valid_cost, valid_losses
from frz.backbones.hit_track.truth import Truth

B, Q, P, M = 3, 4, 3, 9
N_HIT, N_TRACK = [9, 5, 0], [3, 1, 0]


@pytest.fixture
def logit() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    values = 2 * torch.randn(B, Q, M, generator=generator)
    for event, n in enumerate(N_HIT):
        values[event, :, n:] = losses.PADDED
    return values


@pytest.fixture
def truth() -> Truth:
    generator = torch.Generator().manual_seed(1)
    mask = (torch.rand(B, P, M, generator=generator) < 0.4).float()
    for event in range(B):
        mask[event, N_TRACK[event] :] = 0
        mask[event, :, N_HIT[event] :] = 0
    return Truth(mask, torch.tensor(N_TRACK), torch.tensor(N_HIT))


def plain_dice(logit: Tensor, target: Tensor) -> float:
    p = torch.sigmoid(logit)
    return float(1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1))


def plain_focal(logit: Tensor, target: Tensor) -> float:
    p = torch.sigmoid(logit)
    p_t = torch.where(target > 0, p, 1 - p)
    return float(((1 - p_t) ** 2 * -p_t.log()).sum())


def real(event: int, logit: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    n = N_HIT[event]
    return logit[:n], target[:n]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_costs_are_those_of_every_pair(logit, truth, reduction):
    cost = mask_cost(logit, truth, MaskCosts(bce=2.0, dice=3.0, reduction=reduction))
    for event in range(B):
        for query in range(Q):
            for track in range(P):
                x, t = real(event, logit[event, query], truth.mask[event, track])
                bce = float(F.binary_cross_entropy_with_logits(x, t, reduction="sum"))
                bce /= max(N_HIT[event], 1) if reduction == "mean" else 1
                expected = 2 * bce + 3 * plain_dice(x, t)
                assert float(cost[event, query, track]) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_validity_cost_is_minus_the_probability():
    logit = torch.tensor([[0.0, 2.0]])
    expected = -5 * torch.sigmoid(logit)[..., None]
    torch.testing.assert_close(valid_cost(logit, ValidCosts(probability=5.0)), expected)


def test_mask_losses_are_summed_over_matched_tracks(logit, truth):
    match = torch.tensor([[2, 0, 3], [1, -1, -1], [-1, -1, -1]])
    found = mask_losses(logit, truth, match, MaskWeights(bce=1.0, dice=2.0, focal=3.0))
    expected = {"bce": 0.0, "dice": 0.0, "focal": 0.0}
    for event, track, query in [(0, 0, 2), (0, 1, 0), (0, 2, 3), (1, 0, 1)]:
        x, t = real(event, logit[event, query], truth.mask[event, track])
        expected["bce"] += float(F.binary_cross_entropy_with_logits(x, t))
        expected["dice"] += 2 * plain_dice(x, t)
        expected["focal"] += 3 * plain_focal(x, t) / N_HIT[event]
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


def test_a_loss_without_weight_is_not_computed(logit, truth):
    match = torch.full((B, P), -1)
    assert set(mask_losses(logit, truth, match, MaskWeights(bce=0.0, dice=1.0, focal=0.0))) == {"dice"}
    assert valid_losses(torch.zeros(1, 2), torch.zeros(1, 2), ValidWeights(bce=0.0), 1.0) == {}


def test_validity_loss_weighs_empty_slots():
    logit, is_track = torch.tensor([[0.3, -1.2], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    terms = F.binary_cross_entropy_with_logits(logit, is_track, reduction="none")
    expected = 2 * (terms[0, 0] + 0.25 * terms[0, 1] + 0.25 * terms[1, 0] + terms[1, 1])
    torch.testing.assert_close(valid_losses(logit, is_track, ValidWeights(bce=2.0), 0.25)["bce"], expected)


def test_padded_hits_get_no_gradient(truth):
    raw = torch.zeros(B, Q, M, requires_grad=True)
    keep = torch.arange(M) < truth.n_hit[:, None]
    logit = raw.masked_fill(~keep[:, None], losses.PADDED)
    match = torch.tensor([[2, 0, 3], [1, -1, -1], [-1, -1, -1]])
    sum(mask_losses(logit, truth, match, MaskWeights(focal=1.0)).values()).backward()
    assert torch.count_nonzero(raw.grad[1, 1, :5]) == 5
    assert not raw.grad[:, :, :][~keep[:, None].expand(-1, Q, -1)].any()
