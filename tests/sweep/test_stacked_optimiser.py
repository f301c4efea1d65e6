"""Stacked AdamW and clipping against torch, head by head."""

import pytest
import torch
from torch import nn

from frz.sweep.optimiser import StackedAdamW
from frz.training.config import TrainerConfig
from frz.training.optimisers import build_optimiser

SHAPES = {"weight": (4, 3), "bias": (4,)}
K = 3


def together(values, decay, **options) -> StackedAdamW:
    return StackedAdamW(values, {"weight"}, decay, options.get("betas"), options.get("eps", 1e-8))


def alone(values, row, lr, decay, **options):
    module = nn.Module()
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value.detach()[row].clone()))
    return module, build_optimiser(TrainerConfig(lr=lr, weight_decay=decay, **options), module)


@pytest.mark.parametrize("options", [{}, {"betas": (0.5, 0.9), "eps": 1e-3}])
@pytest.mark.parametrize(
    ("rates", "decay", "limits"),
    [((0.1, 0.1, 0.1), (0.2, 0.2, 0.2), (1.0, 1.0, 1.0)), ((0.1, 0.01, 0.3), (0.0, 0.2, 0.5), (0.0, 0.5, 100.0))],
)
def test_each_head_moves_as_alone(options, rates, decay, limits):
    generator = torch.Generator().manual_seed(0)
    values = {n: torch.randn(K, *shape, generator=generator).requires_grad_() for n, shape in SHAPES.items()}
    singles = [alone(values, row, rates[row], decay[row], **options) for row in range(K)]
    optimiser = together(values, decay, **options)
    for step in range(6):
        for name, shape in SHAPES.items():
            values[name].grad = torch.randn(K, *shape, generator=generator)
        norms = []
        for row, (module, single) in enumerate(singles):
            for group in single.param_groups:
                group["lr"] = rates[row] / (1 + step)
            for name, parameter in module.named_parameters():
                parameter.grad = values[name].grad[row].clone()
            norms.append(nn.utils.clip_grad_norm_(module.parameters(), limits[row] or float("inf")))
            single.step()
        torch.testing.assert_close(optimiser.norms(), torch.stack(norms))
        optimiser.clip(optimiser.norms(), limits)
        optimiser.step([rate / (1 + step) for rate in rates])
        for row, (module, _) in enumerate(singles):
            for name, parameter in module.named_parameters():
                torch.testing.assert_close(values[name][row], parameter, rtol=1e-6, atol=1e-7)


def test_heads_that_leave_take_their_moments_with_them():
    generator = torch.Generator().manual_seed(0)
    values = {n: torch.randn(K, *shape, generator=generator).requires_grad_() for n, shape in SHAPES.items()}
    module, single = alone(values, 2, 0.1, 0.3)
    optimiser = together(values, (0.1, 0.2, 0.3))
    for step in range(4):
        if step == 2:
            values = {name: value.detach()[[0, 2]].requires_grad_() for name, value in values.items()}
            optimiser.keep([0, 2], values)
        for name, value in values.items():
            value.grad = torch.randn(value.shape, generator=generator)
            getattr(module, name).grad = value.grad[-1].clone()
        optimiser.step([0.1] * len(values["bias"]))
        single.step()
    for name, value in values.items():
        torch.testing.assert_close(value[-1], getattr(module, name), rtol=1e-6, atol=1e-7)
