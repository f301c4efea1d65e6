"""Running summaries of the variables against plain loops."""

import math

import torch

from frz.backbones.set_sequence.levels import PARTS, TRENDS, levels, observations, trends


def test_observations_are_means_within_a_set():
    variable, owner = torch.tensor([0, 2, 2, 1]), torch.tensor([0, 0, 0, 2])
    value, count = observations(variable, torch.tensor([1.0, 2.0, 4.0, -3.0]), owner, 3, 3)
    assert torch.equal(value, torch.tensor([[1.0, 0.0, 3.0], [0.0, 0.0, 0.0], [0.0, -3.0, 0.0]]))
    assert torch.equal(count, torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))


def test_levels_are_those_of_a_plain_loop():
    torch.manual_seed(0)
    n_stay, n_set, n_variable = 3, 9, 4
    count = (torch.rand(n_stay, n_set, n_variable) < 0.3).float()
    value = torch.randn(n_stay, n_set, n_variable) * count
    minute = (torch.rand(n_stay, n_set) * 500).cumsum(1)
    found = levels(value, count, minute).view(n_stay, n_set, PARTS, n_variable)
    for b in range(n_stay):
        for v in range(n_variable):
            seen: list[tuple[float, float]] = []
            for t in range(n_set):
                if count[b, t, v]:
                    seen.append((float(value[b, t, v]), float(minute[b, t])))
                expected = [0.0] * PARTS
                if seen:
                    values = [x for x, _ in seen]
                    age = math.exp(-(float(minute[b, t]) - seen[-1][1]) / 240)
                    mean = sum(values) / len(values)
                    expected = [values[-1], mean, min(values), max(values), math.log1p(len(values)), age]
                torch.testing.assert_close(found[b, t, :, v], torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_trends_are_those_of_a_plain_loop():
    torch.manual_seed(0)
    n_stay, n_set, n_variable = 4, 9, 4
    count = (torch.rand(n_stay, n_set, n_variable) < 0.4).float()
    count[3] = 0  # a stay without any
    value = torch.randn(n_stay, n_set, n_variable) * count
    minute = (torch.rand(n_stay, n_set) * 500).cumsum(1)
    found = trends(value, count, minute).view(n_stay, TRENDS, n_variable)
    for b in range(n_stay):
        for v in range(n_variable):
            at = count[b, :, v] > 0
            x, t = value[b, at, v], minute[b, at] / 1440
            expected = torch.zeros(TRENDS)
            if len(x):
                covariance = ((x - x.mean()) * (t - t.mean())).mean()
                slope = covariance / (t.var(correction=0) + 0.05)
                expected = torch.stack((x[0], x.std(correction=0), slope))
            torch.testing.assert_close(found[b, :, v], expected, rtol=1e-4, atol=1e-5)
