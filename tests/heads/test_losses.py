import math

import pytest
import torch
from torch.nn import functional

from frz.heads.losses import (
    beta_nll,
    class_loss,
    class_weights,
    log_variance,
    pinball,
    point_loss,
)

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR)


@pytest.mark.parametrize("beta", [0.5, 1.0, 2.0])
def test_point_losses_equal_plain_torch(beta):
    found, goal = 3 * normal(50), normal(50)
    plain = {
        "smooth_l1": torch.nn.SmoothL1Loss(beta=beta),
        "huber": torch.nn.HuberLoss(delta=beta),
        "mse": torch.nn.MSELoss(),
    }
    for name, expected in plain.items():
        torch.testing.assert_close(point_loss(found - goal, name, beta).mean(), expected(found, goal))


def test_pinball_by_closed_form():
    levels = torch.tensor([0.1, 0.5])
    found = pinball(torch.tensor([[2.0, 2.0], [-2.0, -2.0]]), levels)
    torch.testing.assert_close(found, torch.tensor([[0.2, 1.0], [1.8, 1.0]]))


def test_pinball_is_least_at_the_quantile():
    truth = normal(20_001)
    tried = torch.linspace(-2, 2, 401)
    for level in (0.16, 0.5, 0.9):
        mean = pinball((truth[:, None, None] - tried[None, :, None]), torch.tensor([level])).mean(0)[:, 0]
        assert float(tried[mean.argmin()]) == pytest.approx(float(truth.quantile(level)), abs=0.011)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_beta_nll_equals_torch_weighted_by_the_variance(beta):
    mean, goal, log_var = normal(40).requires_grad_(), normal(40), normal(40).requires_grad_()
    plain = functional.gaussian_nll_loss(mean, goal, log_var.exp(), reduction="none", eps=1e-12)
    expected = (plain * log_var.detach().exp() ** beta).sum()
    found = beta_nll(goal - mean, log_var, beta).sum()
    torch.testing.assert_close(found, expected)
    for a, b in zip(*(torch.autograd.grad(loss, (mean, log_var)) for loss in (found, expected)), strict=True):
        torch.testing.assert_close(a, b)


def test_beta_one_moves_the_mean_like_mse():
    mean, goal = normal(9).requires_grad_(), normal(9)
    (found,) = torch.autograd.grad(beta_nll(goal - mean, normal(9), 1.0).sum(), mean)
    torch.testing.assert_close(found, (mean - goal).detach())


def test_log_variance_is_bounded_and_the_identity_in_the_middle():
    found = log_variance(torch.tensor([-1e6, 0.0, 0.01, 1e6]))
    torch.testing.assert_close(found, torch.tensor([-10.0, 0.0, 0.01, 10.0]), rtol=1e-4, atol=1e-6)


def test_no_gamma_is_the_weighted_cross_entropy():
    logits, classes, weight = normal(60, 3), torch.arange(60) % 3, torch.tensor([0.2, 1.0, 3.0])
    log_p = logits.log_softmax(1).gather(1, classes[:, None])[:, 0]
    expected = functional.cross_entropy(logits, classes, weight, reduction="none")
    torch.testing.assert_close(class_loss(log_p, weight[classes], 0.0), expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.0])
def test_focal_equals_the_sigmoid_form(gamma):
    logit, positive, alpha = 3 * normal(60), (torch.arange(60) % 4 == 0).float(), 0.3
    # torchvision.ops.sigmoid_focal_loss, written out
    p = logit.sigmoid()
    p_true = p * positive + (1 - p) * (1 - positive)
    entropy = functional.binary_cross_entropy_with_logits(logit, positive, reduction="none")
    expected = (alpha * positive + (1 - alpha) * (1 - positive)) * (1 - p_true) ** gamma * entropy
    log_p = functional.logsigmoid(torch.where(positive > 0, logit, -logit))
    weight = torch.tensor([1 - alpha, alpha])[positive.long()]
    torch.testing.assert_close(class_loss(log_p, weight, gamma), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_certain_answers_have_finite_gradients(gamma):
    logit = torch.tensor([200.0, -200.0, 0.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(class_loss(functional.logsigmoid(logit), torch.ones(3), gamma).sum(), logit)
    assert torch.isfinite(gradient).all()
    assert float(gradient[1]) == pytest.approx(-1)


def test_balanced_weights_give_each_class_the_same_total_and_mean_one():
    counts = [900, 90, 10]
    weights = class_weights(counts, "balanced")
    torch.testing.assert_close(weights * torch.tensor(counts), torch.full((3,), 1000 / 3))
    assert class_weights(counts, None).tolist() == [1, 1, 1]
    assert class_weights(counts, (1, 2, 3)).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("positives", "inverse", "ratio"),
    [(11, 0.89, 0.25), (2, 0.9, 0.25), (40, 0.6, 0.4), (70, 0.5, 0.7), (90, 0.5, 0.7)],
)
def test_both_rules_of_alpha(positives, inverse, ratio):
    for rule, alpha in (("alpha_inverse", inverse), ("alpha_ratio", ratio)):
        found = class_weights([100 - positives, positives], rule)
        assert found.tolist() == pytest.approx([1 - alpha, alpha]), rule


def test_rare_positives_weigh_less_than_negatives_under_the_ratio_rule_alone():
    inverse, ratio = (class_weights([89, 11], rule) for rule in ("alpha_inverse", "alpha_ratio"))
    assert float(ratio[1] / ratio[0]) == pytest.approx(1 / 3)
    assert math.isclose(float(inverse[1] / inverse[0]), 0.89 / 0.11, rel_tol=1e-5)
