"""Stacked AdamW and clipping against torch, head by head."""

import pytest
import torch
from torch import nn

from frz.sweep.optimiser import StackedAdamW
from frz.sweep.stack import unpacked
from frz.training.config import TrainerConfig
from frz.training.optimisers import build_optimiser

SHAPES = {"weight": torch.Size((4, 3)), "bias": torch.Size((4,))}
DECAYED = [slice(0, 12)]
P = 16
K = 3


def together(weights, decay, **options) -> StackedAdamW:
    return StackedAdamW(weights, DECAYED, decay, options.get("betas"), options.get("eps", 1e-8))


def alone(weights, row, lr, decay, **options):
    module = nn.Module()
    for name, value in unpacked(weights, SHAPES).items():
        module.register_parameter(name, nn.Parameter(value[row].clone()))
    return module, build_optimiser(TrainerConfig(lr=lr, weight_decay=decay, **options), module)


@pytest.mark.parametrize("options", [{}, {"betas": (0.5, 0.9), "eps": 1e-3}])
@pytest.mark.parametrize(
    ("rates", "decay", "limits"),
    [((0.1, 0.1, 0.1), (0.2, 0.2, 0.2), (1.0, 1.0, 1.0)), ((0.1, 0.01, 0.3), (0.0, 0.2, 0.5), (0.0, 0.5, 100.0))],
)
def test_each_head_moves_as_alone(options, rates, decay, limits):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(K, P, generator=generator)
    singles = [alone(weights, row, rates[row], decay[row], **options) for row in range(K)]
    optimiser = together(weights, decay, **options)
    for step in range(6):
        found = {name: torch.randn(K, *shape, generator=generator) for name, shape in SHAPES.items()}
        norms = []
        for row, (module, single) in enumerate(singles):
            for group in single.param_groups:
                group["lr"] = rates[row] / (1 + step)
            for name, parameter in module.named_parameters():
                parameter.grad = found[name][row].clone()
            norms.append(nn.utils.clip_grad_norm_(module.parameters(), limits[row] or float("inf")))
            single.step()
        optimiser.take(found.values())
        torch.testing.assert_close(optimiser.norms(), torch.stack(norms))
        optimiser.clip(optimiser.norms(), limits)
        optimiser.step([rate / (1 + step) for rate in rates])
        for row, (module, _) in enumerate(singles):
            for name, parameter in module.named_parameters():
                moved = unpacked(weights, SHAPES)[name][row]
                torch.testing.assert_close(moved, parameter.detach(), rtol=1e-6, atol=1e-7)


def test_heads_that_leave_take_their_moments_with_them():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(K, P, generator=generator)
    module, single = alone(weights, 2, 0.1, 0.3)
    optimiser = together(weights, (0.1, 0.2, 0.3))
    for step in range(4):
        if step == 2:
            weights = weights[[0, 2]]
            optimiser.keep([0, 2], weights)
        found = {name: torch.randn(len(weights), *shape, generator=generator) for name, shape in SHAPES.items()}
        for name, value in found.items():
            getattr(module, name).grad = value[-1].clone()
        optimiser.take(found.values())
        optimiser.step([0.1] * len(weights))
        single.step()
    for name, value in unpacked(weights, SHAPES).items():
        torch.testing.assert_close(value[-1], getattr(module, name).detach(), rtol=1e-6, atol=1e-7)
