"""Optimisers: who is decayed, and Lion against its formula."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

import frz.config
from frz.errors import ConfigError, TrainingError
from frz.training.config import TrainerConfig
from frz.training.optimisers import Lion, OptimiserConfig, build_optimiser, split_parameters
from frz.training.state import restore_optimiser, state_tensors

NAMES = ["adamw", "adam", "sgd", "lion"]


class Net(nn.Module):
    """One of each: matrix, bias, norms (one over two dimensions), embedding, queries, a scale, a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.norm = nn.LayerNorm((4, 2))
        self.batch_norm = nn.BatchNorm1d(4)
        self.embedding = nn.Embedding(5, 4)
        self.queries = nn.Parameter(torch.zeros(4, 2).T)  # not contiguous
        self.scale = nn.Parameter(torch.ones(4))
        self.pair_bias = nn.Parameter(torch.ones(4, 4))
        self.tied = nn.Linear(3, 4)
        self.tied.weight = self.linear.weight
        self.frozen = nn.Linear(3, 3).requires_grad_(False)


def test_only_weight_matrices_are_decayed() -> None:
    net = Net()
    decayed, plain = split_parameters(net)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    assert {names[id(p)] for p in decayed} == {"linear.weight", "embedding.weight", "queries"}
    assert {names[id(p)] for p in plain} == {
        *("linear.bias", "norm.weight", "norm.bias", "batch_norm.weight", "batch_norm.bias"),
        *("scale", "pair_bias", "tied.bias"),
    }
    assert len(decayed) + len(plain) == 11


@pytest.mark.parametrize("name", NAMES)
def test_decay_shrinks_matrices_and_leaves_biases(name: str) -> None:
    """With a zero gradient nothing but the decay moves a weight."""
    linear = nn.Linear(3, 4)
    before = {key: value.clone() for key, value in linear.state_dict().items()}
    config = OptimiserConfig.model_validate({"optimiser": name, "lr": 0.1, "weight_decay": 0.5})
    optimiser = build_optimiser(config, linear)
    for parameter in linear.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    assert torch.equal(linear.bias, before["bias"])
    if name == "adam":  # its decay is a gradient, which adam scales to steps of lr
        torch.testing.assert_close(linear.weight, before["weight"] - 0.1 * before["weight"].sign())
    else:
        torch.testing.assert_close(linear.weight, before["weight"] * 0.95)


def test_defaults_of_the_moving_averages() -> None:
    betas = {
        name: build_optimiser(OptimiserConfig.model_validate({"optimiser": name}), nn.Linear(1, 1)).param_groups[0]
        for name in NAMES
    }
    assert betas["adamw"]["betas"] == betas["adam"]["betas"] == (0.9, 0.999)
    assert betas["lion"]["betas"] == (0.9, 0.99)
    assert betas["sgd"]["momentum"] == 0.9


def test_lion_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    weight, gradients = rng.normal(size=(3, 4)), rng.normal(size=(6, 3, 4))
    parameter = nn.Parameter(torch.tensor(weight))
    optimiser = Lion([parameter], lr=0.03, betas=(0.8, 0.95), weight_decay=0.1)
    momentum = np.zeros_like(weight)
    for gradient in gradients:
        parameter.grad = torch.tensor(gradient)
        optimiser.step()
        direction = np.sign(0.8 * momentum + 0.2 * gradient)
        weight = weight - 0.03 * (direction + 0.1 * weight)
        momentum = 0.95 * momentum + 0.05 * gradient
        np.testing.assert_allclose(parameter.detach().numpy(), weight, rtol=1e-12)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("transposed", [False, True])
def test_steps_are_those_of_plain_torch(name: str, transposed: bool) -> None:
    """Also where weights are no contiguous memory, which the fused kernels would misread."""
    torch.manual_seed(0)
    net = nn.Linear(3, 4, bias=False)
    if transposed:
        net.weight = nn.Parameter(torch.randn(3, 4).T)
    twin = nn.Parameter(net.weight.detach().clone())
    config = OptimiserConfig.model_validate({"optimiser": name, "lr": 0.1, "weight_decay": 0.2, "betas": (0.8, 0.9)})
    plain = {
        "adamw": lambda: torch.optim.AdamW([twin], lr=0.1, betas=(0.8, 0.9), weight_decay=0.2),
        "adam": lambda: torch.optim.Adam([twin], lr=0.1, betas=(0.8, 0.9), weight_decay=0.2),
        "sgd": lambda: torch.optim.SGD([twin], lr=0.1, momentum=0.8, weight_decay=0.2),
    }[name]()
    optimiser = build_optimiser(config, net)
    x = torch.randn(8, 3)
    for _ in range(5):
        for weight, owner in ((net.weight, optimiser), (twin, plain)):
            owner.zero_grad()
            (x @ weight.T).square().mean().backward()
            owner.step()
    torch.testing.assert_close(net.weight, twin)


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(TrainingError, match="no trainable parameter"):
        build_optimiser(OptimiserConfig(), nn.Linear(2, 2).requires_grad_(False))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_a_restored_optimiser_goes_on_with_the_same_bits(name: str, momentum: float) -> None:
    config = OptimiserConfig.model_validate({"optimiser": name, "lr": 0.1, "betas": (momentum, 0.9)})
    torch.manual_seed(0)
    whole = Net()
    optimiser = build_optimiser(config, whole)
    gradients = [[torch.randn_like(p) for p in whole.parameters()] for _ in range(6)]

    def steps(net: nn.Module, optimiser: torch.optim.Optimizer, chosen: list[list[torch.Tensor]]) -> None:
        for gradient in chosen:
            for parameter, value in zip(net.parameters(), gradient, strict=True):
                parameter.grad = value.clone() if parameter.requires_grad else None
            optimiser.step()

    steps(whole, optimiser, gradients[:3])
    tensors, values = state_tensors(optimiser)
    copy = Net()
    copy.load_state_dict(whole.state_dict())
    other = build_optimiser(config, copy)
    restore_optimiser(other, {name: value.contiguous() for name, value in tensors.items()}, values)
    steps(whole, optimiser, gradients[3:])
    steps(copy, other, gradients[3:])
    for name, value in whole.state_dict().items():
        assert torch.equal(copy.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"optimiser": "lion"}, "schedule_free is made for optimiser adamw or sgd, not lion"),
        ({"optimiser": "adam"}, "not adam"),
        ({"betas": (0.0, 0.9)}, "needs a first number of betas between 0 and 1"),
    ],
)
def test_optimisers_without_such_a_form_are_refused(keys: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        TrainerConfig.model_validate({"schedule": "schedule_free", **keys})


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(frz.config.importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=r"needs schedulefree .*pip install 'frz\[schedule-free\]'"):
        build_optimiser(OptimiserConfig(), Net(), schedule_free=True)
