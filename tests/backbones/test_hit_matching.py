"""Matching against brute force, and the batched search against scipy."""

from itertools import permutations

import pytest
import torch

from frz.backbones.hit_track.matching import exhaustive, hungarian, match


def brute_force(cost: torch.Tensor, n_true: torch.Tensor) -> list[list[int]]:
    """Best query of each true track by trying everything, event by event."""
    n_query, n_track = cost.shape[1:]
    found = []
    for event, n in enumerate(n_true.tolist()):
        tries = permutations(range(n_query), n)
        best = min(tries, key=lambda t, e=event: sum(float(cost[e, q, j]) for j, q in enumerate(t)))
        found.append([*best, *[-1] * (n_track - n)])
    return found


def random_case(n_query: int, n_track: int, n_event: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n_query * 10 + n_track)
    cost = torch.randn(n_event, n_query, n_track, generator=generator)
    n_true = torch.randint(0, min(n_query, n_track) + 1, (n_event,), generator=generator)
    # What stands in the columns of padding must not matter, whatever it is.
    cost[torch.arange(n_track) >= n_true[:, None, None].expand(-1, n_query, 1)] = -1e6
    return cost, n_true


@pytest.mark.parametrize(("n_query", "n_track"), [(1, 1), (2, 1), (2, 2), (3, 2), (4, 3), (4, 4), (5, 2)])
def test_match_is_the_best_of_all(n_query, n_track):
    cost, n_true = random_case(n_query, n_track)
    assert match(cost, n_true).tolist() == brute_force(cost, n_true)


@pytest.mark.parametrize(("n_query", "n_track"), [(1, 1), (2, 2), (3, 3), (24, 1), (4, 3)])
def test_exhaustive_is_hungarian(n_query, n_track):
    cost, n_true = random_case(n_query, n_track)
    assert torch.equal(exhaustive(cost, n_true), hungarian(cost, n_true))


def test_large_cases_are_valid_and_best_by_scipy():
    cost, n_true = random_case(20, 12, n_event=5)
    found = match(cost, n_true)
    assert torch.equal(found >= 0, torch.arange(12) < n_true[:, None])
    for row, n in zip(found, n_true.tolist(), strict=True):
        assert len(set(row[:n].tolist())) == n
    assert torch.equal(found, hungarian(cost, n_true))


def test_no_tracks_at_all():
    assert match(torch.randn(3, 2, 0), torch.zeros(3, dtype=torch.int64)).shape == (3, 0)
    assert match(torch.randn(3, 2, 2), torch.zeros(3, dtype=torch.int64)).tolist() == [[-1, -1]] * 3


def test_more_tracks_than_queries_leaves_the_dearest_unmatched():
    cost = torch.tensor([[[5.0, 1.0, 3.0]]])  # one query, three tracks
    assert match(cost, torch.tensor([3])).tolist() == [[-1, 0, -1]]


def test_costs_that_are_not_finite_do_not_stop_it():
    cost = torch.tensor([[[torch.nan, 1.0], [torch.inf, 2.0]]] * 2)
    assert sorted(match(cost, torch.tensor([2, 2]))[0].tolist()) == [0, 1]
    assert sorted(hungarian(torch.nan_to_num(cost), torch.tensor([2, 2]))[0].tolist()) == [0, 1]


def test_ties_are_settled_alike_every_time():
    cost = torch.zeros(50, 2, 2)
    n_true = torch.full((50,), 2)
    assert match(cost, n_true).tolist() == match(cost.clone(), n_true).tolist() == [[0, 1]] * 50
