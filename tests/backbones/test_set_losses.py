"""Set losses against closed forms and plain loops."""

import itertools

import pytest
import torch

from frz.backbones.set_sequence import losses


def padded(sizes: list[int], dim: int = 3, seed: int = 0):
    torch.manual_seed(seed)
    width = max(sizes)
    keep = torch.arange(width) < torch.tensor(sizes)[:, None]
    return torch.randn(len(sizes), width, dim), torch.randn(len(sizes), width, dim), keep


def by_hand(r, t):
    """The three distances of one decoded and one true token."""
    cos = torch.dot(r, t) / (r.norm() * t.norm())
    return {"direction": 1 - cos, "magnitude": (r.norm() - t.norm()).abs(), "full": (r - t).square().sum()}


@pytest.mark.parametrize("view", ["direction", "magnitude", "full"])
def test_chamfer_is_that_of_plain_loops(view):
    sizes = [3, 1, 5]
    decoded, true, keep = padded(sizes)
    found = losses.chamfer(losses.views(decoded, true)[view], keep)
    for i, n in enumerate(sizes):
        d = torch.tensor([[by_hand(r, t)[view] for t in true[i, :n]] for r in decoded[i, :n]])
        expected = 0.5 * (d.min(1).values.mean() + d.min(0).values.mean())
        torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=1e-5)


def test_chamfer_of_a_set_with_itself_in_another_order_is_zero():
    decoded, _, keep = padded([4, 4])
    distances = losses.views(decoded, decoded[:, [2, 0, 3, 1]])
    for distance in distances.values():
        torch.testing.assert_close(losses.chamfer(distance, keep), torch.zeros(2), rtol=0, atol=1e-5)


def test_padding_of_sets_changes_no_loss():
    decoded, true, keep = padded([3, 3])
    more = torch.nn.functional.pad(keep, (0, 2))
    wide = [torch.nn.functional.pad(x, (0, 0, 0, 2), value=7.0) for x in (decoded, true)]
    for name, distance in losses.views(decoded, true).items():
        far = losses.views(*wide)[name]
        torch.testing.assert_close(losses.chamfer(far, more), losses.chamfer(distance, keep))
        torch.testing.assert_close(losses.sinkhorn(far, more, 0.1, 20), losses.sinkhorn(distance, keep, 0.1, 20))
    torch.testing.assert_close(losses.spread(wide[0], more), losses.spread(decoded, keep))


def test_sinkhorn_with_little_entropy_is_the_best_assignment():
    decoded, true, keep = padded([4])
    distance = losses.views(decoded, true)["full"]
    best = min(sum(distance[0, i, j] for i, j in enumerate(order)) / 4 for order in itertools.permutations(range(4)))
    torch.testing.assert_close(losses.sinkhorn(distance, keep, 0.02, 2000)[0], best, rtol=1e-3, atol=1e-4)


def test_sinkhorn_of_a_pair_of_points_is_their_closed_form():
    # two points on either side, d = [[0, a], [a, 0]]: the plan is [[1, k], [k, 1]] / (2 (1 + k)), k = exp(-a / eps)
    a, epsilon = 1.5, 0.7
    distance = torch.tensor([[[0.0, a], [a, 0.0]]])
    k = torch.tensor(-a / epsilon).exp()
    found = losses.sinkhorn(distance, torch.ones(1, 2, dtype=torch.bool), epsilon, 50)
    torch.testing.assert_close(found[0], a * k / (1 + k))


def test_spread_is_the_population_variance():
    decoded, _, keep = padded([4, 2])
    expected = torch.stack([decoded[i, :n].var(0, correction=0).mean() for i, n in enumerate((4, 2))])
    torch.testing.assert_close(losses.spread(decoded, keep), expected)


def test_divergence_is_that_of_torch():
    mu, logvar = torch.randn(5, 3), torch.randn(5, 3)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mu, (0.5 * logvar).exp()), normal(0.0, 1.0))
    torch.testing.assert_close(losses.divergence(mu, logvar), expected)


def test_free_bits_per_dimension_leave_the_others_their_gradient():
    kl = torch.tensor([[0.01, 1.0], [0.03, 2.0]], requires_grad=True)
    value = losses.with_free_bits(kl, 0.05, per_dimension=True)
    value.backward()
    torch.testing.assert_close(value.detach(), torch.tensor(0.05 + 1.5))
    torch.testing.assert_close(kl.grad, torch.tensor([[0.0, 0.5], [0.0, 0.5]]))


def test_free_bits_in_the_sum_stop_a_set_below_the_floor():
    kl = torch.tensor([[0.01, 0.02], [0.03, 2.0]], requires_grad=True)
    value = losses.with_free_bits(kl, 0.05, per_dimension=False)
    value.backward()
    torch.testing.assert_close(value.detach(), torch.tensor((0.1 + 2.03) / 2))
    torch.testing.assert_close(kl.grad, torch.tensor([[0.0, 0.0], [0.5, 0.5]]))


def test_active_units_count_dimensions_that_vary_over_the_data():
    mu = torch.zeros(100, 4)
    mu[:, 0] = torch.linspace(-1, 1, 100)
    mu[:, 1] = 5.0  # large and constant: it says nothing of the set
    mu[::2, 2] = 0.15  # variance 0.0056
    mu[::2, 3] = 0.25  # variance 0.0156
    assert losses.active_units(mu) == 0.5
