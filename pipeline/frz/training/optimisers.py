"""Optimisers, with weight decay on weight matrices alone.

Schedule-free ones (Defazio et al. 2024, arXiv:2405.15682, algorithm 1) need no falling rate: they take gradients at
y = (1 - b) z + b x, move z by them, and use x, the average of all z so far (weighted by the largest squared rate so
far), in place of weights at the end of a schedule. The module holds y while it is trained and x while it is validated
or saved, see `hold_average`.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from frz.config import StrictModel, import_extra
from frz.errors import TrainingError

LR_FACTOR = "lr_factor"
"""Entry of a parameter group: its share of the rate."""
NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._NormBase,  # every BatchNorm and InstanceNorm
)


class OptimiserConfig(StrictModel):
    """How weights move."""

    optimiser: Literal["adamw", "adam", "sgd", "lion"] = "adamw"
    """`adam` and `sgd` add the decay to the gradient (L2), `adamw` and `lion` shrink the weights by it."""
    lr: float = Field(default=1e-3, gt=0)
    """Highest learning rate; the schedule scales it."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """On weights of two and more dimensions; never on biases, norms and other one-dimensional parameters."""
    betas: tuple[float, float] | None = None
    """Decay of the moving averages; default (0.9, 0.999), lion (0.9, 0.99); sgd takes the first as its momentum."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to the denominator of adam and adamw."""


def build_optimiser(
    config: OptimiserConfig, module: nn.Module, *, schedule_free: bool = False
) -> torch.optim.Optimizer:
    """Make the optimiser for the trainable parameters of `module`.

    Parameters
    ----------
    config : OptimiserConfig
        Which one; a schedule-free one has the first of `betas` above 0.
    module : nn.Module
        What it moves. Its attribute `lr_factors`, if it has one, says by submodule at which share of the rate.
    schedule_free : bool
        The schedule-free form of `adamw` or `sgd`, by the package schedulefree.

    Raises
    ------
    TrainingError
        If nothing in the module can be trained.
    ConfigError
        If schedulefree is not installed.
    """
    decayed, plain = split_parameters(module)
    if not decayed and not plain:
        raise TrainingError("the module has no trainable parameter", way_out="unfreeze a part of it")
    groups = _by_factor(module, config.lr, [{"params": decayed}, {"params": plain, "weight_decay": 0.0}])
    betas = config.betas or ((0.9, 0.99) if config.optimiser == "lion" else (0.9, 0.999))
    lr, decay = config.lr, config.weight_decay
    # one kernel for all parameters, several times faster with many small ones; it walks memory without
    # looking at strides
    fused = all(parameter.is_contiguous() and parameter.is_floating_point() for parameter in [*decayed, *plain])
    if schedule_free:
        package = import_extra("schedulefree", "schedule-free")
        averaging: torch.optim.Optimizer = (
            package.AdamWScheduleFree(groups, lr=lr, betas=betas, eps=config.eps, weight_decay=decay)
            if config.optimiser == "adamw"
            else package.SGDScheduleFree(groups, lr=lr, momentum=betas[0], weight_decay=decay)
        )
        return averaging
    match config.optimiser:
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=config.eps, weight_decay=decay, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, lr=lr, betas=betas, eps=config.eps, weight_decay=decay, fused=fused)
        case "lion":
            return Lion(groups, lr=lr, betas=betas, weight_decay=decay)
        case "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=betas[0], weight_decay=decay)


def _by_factor(module: nn.Module, lr: float, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The groups, cut into those that move at the same share of the rate; empty ones left out."""
    factors: dict[int, float] = {}
    for part, factor in getattr(module, "lr_factors", {}).items():
        factors |= {id(parameter): factor for parameter in module.get_submodule(part).parameters()}
    cut: list[dict[str, Any]] = []
    for group in groups:
        by_factor: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            by_factor.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
        cut += [{**group, "params": some, "lr": lr * factor, LR_FACTOR: factor} for factor, some in by_factor.items()]
    return cut


def hold_average(optimiser: torch.optim.Optimizer, average: bool) -> None:
    """Make the module of a schedule-free optimiser hold the average, or else the weights that take gradients.

    There and back is exact but for rounding, so a run that is to be repeated bit for bit changes at fixed steps.
    Other optimisers have one set of weights: nothing happens.
    """
    change = getattr(optimiser, "eval" if average else "train", None)
    if change is not None:
        change()


def split_parameters(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable parameters with and without weight decay, each once, in the order of the module."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    seen: set[int] = set()
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            exempt = parameter.ndim < 2 or name.endswith("bias") or isinstance(owner, NORMS)
            (plain if exempt else decayed).append(parameter)
    return decayed, plain


class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum (Chen et al. 2023, arXiv:2302.06675, algorithm 2).

    `w <- w - lr (sign(b1 m + (1 - b1) g) + decay w)`, then `m <- b2 m + (1 - b2) g`.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]] | Iterable[Tensor],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step for every parameter that has a gradient."""
        assert closure is None, "Lion takes no closure"
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"]
                direction = torch.lerp(gradient, momentum, beta1).sign_()
                parameter.mul_(1.0 - lr * group["weight_decay"]).add_(direction, alpha=-lr)
                momentum.lerp_(gradient, 1.0 - beta2)
