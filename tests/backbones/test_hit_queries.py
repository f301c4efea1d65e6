"""Queries that start from hits."""

import pytest
import torch
import torch.nn.functional as F
from muon_events import SCHEMA, batch_of, make_events

from frz.backbones.hit_track import losses
from frz.backbones.hit_track.model import HitTrack
from frz.backbones.hit_track.queries import Seeding, SeedQueries, seed_losses
from frz.backbones.hit_track.settings import HitTrackConfig, SeedWeights
from frz.backbones.hit_track.tasks import TrackHitValid
from frz.backbones.hit_track.truth import Truth

D = 4
HIT = torch.arange(1.0, 25.0).view(1, 6, D)
LEARNED = -torch.arange(1.0, 17.0).view(4, D)


def start(n_query: int, logit: list[float], field: list[float], n_hit: int = 6) -> torch.Tensor:
    keep = torch.arange(6)[None] < n_hit
    logits = torch.tensor([logit]).masked_fill(~keep, losses.PADDED)
    seeds = SeedQueries(HitTrackConfig(dim=D, heads=1))
    return seeds(HIT, keep, Seeding(logits, torch.tensor([field])), LEARNED[:n_query])[0]


def test_the_likeliest_hits_start_queries_in_the_order_of_the_field():
    found = start(3, logit=[0.0, 5.0, -3.0, 4.0, 2.0, 1.0], field=[1.0, 9.0, 2.0, 3.0, 5.0, 4.0])
    assert torch.equal(found, HIT[0, [3, 4, 1]])  # fields 3, 5, 9


def test_slots_without_a_hit_start_from_learned_vectors():
    found = start(4, logit=[0.0] * 6, field=[2.0, 1.0, 0.0, 0.0, 0.0, 0.0], n_hit=2)
    assert torch.equal(found, torch.cat((HIT[0, [1, 0]], LEARNED[2:4])))
    assert torch.equal(start(2, logit=[0.0] * 6, field=[0.0] * 6, n_hit=0), LEARNED[:2])


def test_more_queries_than_slots_of_the_bucket():
    seeds = SeedQueries(HitTrackConfig(dim=D, heads=1))
    seeding = Seeding(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    found = seeds(HIT[:, :2], None, seeding, LEARNED)[0]
    assert torch.equal(found, torch.cat((HIT[0, [1, 0]], LEARNED[2:])))


def test_the_seed_of_a_track_is_its_first_hit():
    mask = torch.tensor([[[1.0, 1, 0, 0, 1, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]])
    truth = Truth(mask, torch.tensor([2]), torch.tensor([5]))
    logit = torch.tensor([[0.5, -1.0, 2.0, 0.0, 1.0, losses.PADDED]])
    field = torch.tensor([[3.0, 2.0, 4.0, 0.0, 1.0, 0.0]])
    target = torch.tensor([0.0, 1, 0, 0, 1, 0])  # hit 4 of the first track, hit 1 of the second
    expected = 2 * F.binary_cross_entropy_with_logits(logit[0, :5], target[:5], reduction="sum")
    torch.testing.assert_close(seed_losses(Seeding(logit, field), truth, SeedWeights(bce=2.0))["bce"], expected)
    assert seed_losses(Seeding(logit, field), truth, SeedWeights(bce=0.0)) == {}


def test_a_residual_mask_starts_with_hits_that_resemble_the_query():
    task = TrackHitValid(D, residual=True)
    torch.nn.init.zeros_(task.net.outer.weight)
    torch.nn.init.zeros_(task.net.outer.bias)
    torch.testing.assert_close(task(HIT[:, :2], HIT, None), HIT[:, :2] @ HIT.transpose(1, 2) / 2)


@pytest.mark.parametrize("seed_field", ["r", "driftR"])
def test_loss_reports_the_seeds(seed_field):
    model = HitTrack(HitTrackConfig.model_validate({**SEEDED, "seed_field": seed_field}), SCHEMA)
    events = make_events([20, 9, 0])
    model.fit([events])
    total, parts = model.loss(batch_of(events))
    assert "hit_seed/bce" in parts
    assert total.item() == pytest.approx(sum(part.item() for part in parts.values()), rel=1e-5)
    assert model.outputs["hit/scaled"].columns == ("driftR", "phi")


SEEDED = {
    "fields": ["driftR", "phi"],
    "position": ["globEdgeLowX", "globEdgeLowY", "globEdgeLowZ"],
    "dim": 8,
    "num_queries": 5,
    "queries": "seeds",
}
