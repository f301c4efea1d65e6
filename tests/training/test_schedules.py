"""Schedules against closed forms and against torch's schedulers."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, SequentialLR

from frz.training.schedules import ScheduleConfig, lr_factor, set_lr

N = 100


def factors(config: ScheduleConfig, n: int = N) -> list[float]:
    return [lr_factor(config, step, n) for step in range(n)]


def stepped(make: object, n: int = N) -> list[float]:
    """Rates that a scheduler of torch gives to the steps of a run."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimiser)  # type: ignore[operator]
    rates = []
    for _ in range(n):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("warmup", [0.05, 0.3, 0.333])
@pytest.mark.parametrize(("initial", "final"), [(0.1, 1e-4), (0.04, 0.04), (1.0, 0.5)])
def test_one_cycle_is_torchs(warmup: float, initial: float, final: float) -> None:
    config = ScheduleConfig(warmup=warmup, initial_lr_fraction=initial, final_lr_fraction=final)

    def torchs(optimiser: torch.optim.Optimizer) -> OneCycleLR:
        return OneCycleLR(
            optimiser,
            max_lr=1.0,
            total_steps=N,
            pct_start=warmup,
            div_factor=1 / initial,
            final_div_factor=initial / final,
            cycle_momentum=False,
        )

    assert factors(config) == pytest.approx(stepped(torchs), rel=1e-12)


@pytest.mark.parametrize("warmup", [0.05, 0.3])
def test_cosine_warmup_is_torchs(warmup: float) -> None:
    config = ScheduleConfig(schedule="cosine_warmup", warmup=warmup, initial_lr_fraction=0.1, final_lr_fraction=0.02)
    rise = round(warmup * N)

    def torchs(optimiser: torch.optim.Optimizer) -> SequentialLR:
        up = LinearLR(optimiser, start_factor=0.1, total_iters=rise)
        down = CosineAnnealingLR(optimiser, T_max=N - 1 - rise, eta_min=0.02)
        return SequentialLR(optimiser, [up, down], milestones=[rise])

    assert factors(config) == pytest.approx(stepped(torchs), rel=1e-9)


def test_cosine_warmup_closed_form() -> None:
    config = ScheduleConfig(schedule="cosine_warmup", warmup=0.2, initial_lr_fraction=0.1, final_lr_fraction=0.0)
    rates = factors(config, 11)
    assert rates[0] == 0.1
    assert rates[1] == pytest.approx(0.55)
    assert rates[2] == 1.0
    assert rates[6] == pytest.approx((1 + math.cos(math.pi / 2)) / 2)
    assert rates[10] == pytest.approx(0.0, abs=1e-15)


def test_constant() -> None:
    assert factors(ScheduleConfig(schedule="constant")) == [1.0] * N


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine_warmup"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("n", [1, 2, 3, 20, 21])
def test_runs_of_any_length_have_a_rate(schedule: str, warmup: float, n: int) -> None:
    """torch's one-cycle divides by zero where the warm-up is exactly one step (5 % of 20)."""
    config = ScheduleConfig.model_validate({"schedule": schedule, "warmup": warmup})
    rates = factors(config, n)
    assert all(0 < rate <= 1 for rate in rates)
    assert rates == sorted(rates[: rates.index(max(rates))]) + sorted(rates[rates.index(max(rates)) :], reverse=True)
    if warmup < 0.9 and n > 3:
        assert rates[-1] == pytest.approx(config.final_lr_fraction)


def test_every_group_gets_the_rate() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimiser = torch.optim.SGD([{"params": [weight]} for weight in weights], lr=1.0)
    set_lr(optimiser, 0.25)
    assert [group["lr"] for group in optimiser.param_groups] == [0.25, 0.25]
