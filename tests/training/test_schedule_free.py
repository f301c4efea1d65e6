"""Schedule-free optimisers against their equations, in the loop, and through interruptions."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toy_run import CONFIG, N_TRAIN, N_VAL, STEPS, Toy, ToySource, run

from frz.training import checkpoint
from frz.training.config import TrainerConfig
from frz.training.loop import fit
from frz.training.optimisers import OptimiserConfig, build_optimiser, hold_average
from frz.training.record import BEST, LAST
from frz.training.schedules import Schedule, set_lr

pytest.importorskip("schedulefree", reason="needs the package schedulefree: pip install 'frz[schedule-free]'")


class Quadratic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[3.0, -2.0]]))

    def loss(self) -> torch.Tensor:
        return (self.weight - 1).square().mul(torch.tensor([1.0, 5.0])).sum()


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_steps_are_those_of_the_paper(name: str) -> None:
    """z moves by gradients at y = (1 - b) z + b x; x averages z with weights max(lr)^2 (arXiv:2405.15682, alg. 1)."""
    decay, b, b2, eps = 0.1, 0.9, 0.99, 1e-8
    config = OptimiserConfig.model_validate(
        {"optimiser": name, "lr": 0.05, "betas": (b, b2), "eps": eps, "weight_decay": decay}
    )
    schedule = Schedule(TrainerConfig.model_validate({"schedule": "schedule_free", "warmup": 0.2}), 20, 1)
    module = Quadratic().double()
    optimiser = build_optimiser(config, module, schedule_free=True)

    x = z = module.weight.detach().clone()
    second, total, largest = torch.zeros_like(z), 0.0, 0.0
    for step in range(20):
        lr = config.lr * schedule.factor(step)
        set_lr(optimiser, lr)
        hold_average(optimiser, False)
        y = ((1 - b) * z + b * x).requires_grad_()
        torch.testing.assert_close(module.weight.detach(), y.detach(), rtol=1e-12, atol=1e-12)
        optimiser.zero_grad()
        module.loss().backward()
        optimiser.step()

        loss = (y - 1).square().mul(torch.tensor([1.0, 5.0])).sum()
        (gradient,) = torch.autograd.grad(loss, y)
        if name == "adamw":
            second = b2 * second + (1 - b2) * gradient.square()
            gradient = gradient / ((second / (1 - b2 ** (step + 1))).sqrt() + eps)
        z = z - lr * (gradient + decay * y.detach())
        largest = max(largest, lr)
        total += largest**2
        x = x + (z - x) * largest**2 / total
        hold_average(optimiser, True)
        torch.testing.assert_close(module.weight.detach(), x, rtol=1e-10, atol=1e-12)
        hold_average(optimiser, True)  # already there
        torch.testing.assert_close(module.weight.detach(), x, rtol=1e-10, atol=1e-12)


def test_other_optimisers_have_one_set_of_weights() -> None:
    module = Quadratic()
    optimiser = build_optimiser(OptimiserConfig(), module)
    for average in (True, False, True):
        hold_average(optimiser, average)
        assert torch.equal(module.weight, Quadratic().weight)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_what_is_validated_and_saved_is_the_average(tmp_path: Path, optimiser: str) -> None:
    """The toy run written out in plain torch with the package."""
    import schedulefree

    keys = {"schedule": "schedule_free", "optimiser": optimiser, "clip_norm": 0.0, "warmup": 0.25}
    result = run(tmp_path, **keys)

    torch.manual_seed(11)
    net = Toy()
    matrices = [p for p in net.parameters() if p.ndim == 2]
    groups = [{"params": matrices, "weight_decay": 1e-2}]
    groups.append({"params": [p for p in net.parameters() if p.ndim < 2], "weight_decay": 0.0})
    made: Any = (
        schedulefree.AdamWScheduleFree(groups, lr=1e-2)
        if optimiser == "adamw"
        else schedulefree.SGDScheduleFree(groups, lr=1e-2, momentum=0.9)
    )
    train, val = ToySource(N_TRAIN, 1), ToySource(N_VAL, 2, shuffle=False)
    torch.manual_seed(0)
    step, best = 0, (float("inf"), {})
    for epoch in range(3):
        net.train()
        made.train()
        for batch in train.batches(train.plan(epoch)):
            for group in made.param_groups:
                group["lr"] = 1e-2 * min(0.1 + 0.9 * step / 3, 1.0)  # a warm-up of a quarter of 12 steps
            made.zero_grad()
            net.loss(batch)[0].backward()
            made.step()
            step += 1
        net.eval()
        made.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            loss = sum(len(b["event/x"]) * net.loss(b)[0].item() for b in val.batches(val.plan(0))) / N_VAL
        if loss < best[0]:
            best = loss, {name: value.clone() for name, value in net.state_dict().items()}
    assert result.best["val/loss"] == pytest.approx(best[0], rel=1e-6)
    assert result.last["val/loss"] == pytest.approx(loss, rel=1e-6)
    found, last = checkpoint.load(tmp_path / BEST)[0], checkpoint.load(tmp_path / LAST)[0]
    for name, value in net.state_dict().items():
        torch.testing.assert_close(last[name], value, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(found[name], best[1][name], rtol=1e-5, atol=1e-7)


def test_the_module_ends_with_the_average(tmp_path: Path) -> None:
    module = Toy()
    config = TrainerConfig.model_validate(CONFIG | {"schedule": "schedule_free", "max_epochs": 1})
    fit(module, ToySource(N_TRAIN, 1), None, config, tmp_path)
    last = checkpoint.load(tmp_path / LAST)[0]
    assert all(torch.equal(last[name], value) for name, value in module.state_dict().items())


def test_the_state_in_mid_epoch_holds_the_weights_that_take_gradients(tmp_path: Path) -> None:
    def interrupt(call: int) -> None:
        if call == STEPS - 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, interrupt, schedule="schedule_free")
    values = checkpoint.load(tmp_path / "state.safetensors")[1]["optimiser"]
    assert (values["group/0/k"], values["group/0/train_mode"]) == (STEPS - 1, True)
