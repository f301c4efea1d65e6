"""Schedules against closed forms and against torch's schedulers, at every step."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from frz.training.schedules import Schedule, ScheduleConfig, set_lr

EPOCHS, PER_EPOCH = 25, 4
N = EPOCHS * PER_EPOCH


def config_of(**keys: Any) -> ScheduleConfig:
    return ScheduleConfig.model_validate(keys)


def factors(config: ScheduleConfig, n_epochs: int = N, steps_per_epoch: int = 1) -> list[float]:
    schedule = Schedule(config, n_epochs, steps_per_epoch)
    return [schedule.factor(step) for step in range(n_epochs * steps_per_epoch)]


def plain(lr: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def stepped(make: Callable[[torch.optim.Optimizer], LRScheduler], n: int) -> list[float]:
    """Rates that a scheduler of torch gives when it is stepped n times."""
    optimiser = plain()
    scheduler = make(optimiser)
    rates = []
    for _ in range(n):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return rates


def assert_torchs(config: ScheduleConfig, make: Callable[[torch.optim.Optimizer, int, int], LRScheduler]) -> None:
    """Stepped as the config says; `make` is told how many times that is, and how many times per epoch."""
    n, epoch, repeat = (N, PER_EPOCH, 1) if config.schedule_per == "step" else (EPOCHS, 1, PER_EPOCH)
    expected = stepped(lambda optimiser: make(optimiser, n, epoch), n)
    whole = [rate for rate in expected for _ in range(repeat)]
    assert factors(config, EPOCHS, PER_EPOCH) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("per", ["step", "epoch"])
@pytest.mark.parametrize("warmup", [0.05, 0.3, 0.333])
@pytest.mark.parametrize(("initial", "final"), [(0.1, 1e-4), (0.04, 0.04), (1.0, 0.5)])
def test_onecycle_is_torchs(per: str, warmup: float, initial: float, final: float) -> None:
    config = config_of(warmup=warmup, initial_lr_fraction=initial, final_lr_fraction=final, schedule_per=per)

    def torchs(optimiser: torch.optim.Optimizer, n: int, epoch: int) -> OneCycleLR:
        return OneCycleLR(
            optimiser,
            max_lr=1.0,
            total_steps=n,
            pct_start=warmup,
            div_factor=1 / initial,
            final_div_factor=initial / final,
            cycle_momentum=False,
        )

    assert_torchs(config, torchs)


def after_warmup(optimiser: torch.optim.Optimizer, rise: int, then: LRScheduler) -> LRScheduler:
    """With torch's linear warm-up of `rise` steps in front (made after `then`, as its first rate counts)."""
    up = LinearLR(optimiser, start_factor=0.1, total_iters=rise)
    return SequentialLR(optimiser, [up, then], milestones=[rise])


@pytest.mark.parametrize("per", ["step", "epoch"])
@pytest.mark.parametrize("warmup", [0.05, 0.3])
def test_cosine_is_torchs(per: str, warmup: float) -> None:
    config = config_of(schedule="cosine", warmup=warmup, final_lr_fraction=0.02, schedule_per=per)

    def torchs(optimiser: torch.optim.Optimizer, n: int, epoch: int) -> LRScheduler:
        rise = round(warmup * n)
        return after_warmup(optimiser, rise, CosineAnnealingLR(optimiser, T_max=n - 1 - rise, eta_min=0.02))

    assert_torchs(config, torchs)


@pytest.mark.parametrize("per", ["step", "epoch"])
@pytest.mark.parametrize(("first", "growth"), [(3, 2), (4, 1), (100, 3)])
@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_cosine_restarts_is_torchs(per: str, first: int, growth: int, warmup: float) -> None:
    keys = {"restart_epochs": first, "restart_growth": growth, "warmup": warmup, "final_lr_fraction": 0.02}
    config = config_of(schedule="cosine_restarts", schedule_per=per, **keys)

    def torchs(optimiser: torch.optim.Optimizer, n: int, epoch: int) -> LRScheduler:
        again = CosineAnnealingWarmRestarts(optimiser, T_0=first * epoch, T_mult=growth, eta_min=0.02)
        return after_warmup(optimiser, round(warmup * n), again) if warmup else again

    assert_torchs(config, torchs)


def test_closed_forms_at_given_steps() -> None:
    """11 steps: a warm-up of 2 and 8 steps down; restarts after 2, 4 and 8 steps."""
    keys = {"warmup": 0.2, "initial_lr_fraction": 0.1, "final_lr_fraction": 0.0}
    cosine = factors(config_of(schedule="cosine", **keys), 11)
    assert cosine[:3] == pytest.approx([0.1, 0.55, 1.0])
    assert [cosine[4], cosine[6], cosine[10]] == pytest.approx([(1 + math.sqrt(0.5)) / 2, 0.5, 0.0], abs=1e-15)
    onecycle = factors(config_of(warmup=0.3, initial_lr_fraction=0.2, final_lr_fraction=0.1), 10)
    assert [onecycle[0], onecycle[1], onecycle[2], onecycle[9]] == pytest.approx([0.2, 0.6, 1.0, 0.1])
    restarts = factors(config_of(schedule="cosine_restarts", restart_epochs=1, **keys | {"warmup": 0.0}), 7, 2)
    assert [restarts[step] for step in (0, 1, 2, 4, 6, 10, 13)] == pytest.approx(
        [1.0, 0.5, 1.0, 0.5, 1.0, 0.5, (1 + math.cos(math.pi * 7 / 8)) / 2]
    )


def test_none_is_flat_and_schedule_free_after_its_warm_up() -> None:
    assert factors(config_of(schedule="none")) == [1.0] * N
    rates = factors(config_of(schedule="schedule_free", warmup=0.04, initial_lr_fraction=0.2))
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8] + [1.0] * (N - 4))


def noisy(n: int) -> list[float]:
    """Losses that fall and get stuck, with noise around the threshold."""
    torch.manual_seed(4)
    return (0.3 + 0.7 ** torch.arange(n, dtype=torch.float64) + 1e-3 * torch.rand(n, dtype=torch.float64)).tolist()


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("threshold", [0.0, 1e-3, 0.1])
@pytest.mark.parametrize("rising", [False, True])
def test_plateau_is_torchs(patience: int, threshold: float, rising: bool) -> None:
    """Told after every epoch, of a loss, or of a metric that should rise (with its sign turned)."""
    keys = {"plateau_factor": 0.3, "plateau_patience": patience, "plateau_threshold": threshold}
    schedule = Schedule(config_of(schedule="plateau", warmup=0.0, final_lr_fraction=0.02, **keys), 60, PER_EPOCH)
    optimiser, values = plain(), noisy(60)
    mode = "max" if rising else "min"
    torchs = ReduceLROnPlateau(optimiser, mode, 0.3, patience, threshold, min_lr=0.02, eps=0.0)
    rates = set()
    for epoch, value in enumerate(values):
        expected = optimiser.param_groups[0]["lr"]
        steps = range(epoch * PER_EPOCH, (epoch + 1) * PER_EPOCH)
        assert [schedule.factor(step) for step in steps] == pytest.approx([expected] * PER_EPOCH, rel=1e-12)
        rates.add(round(expected, 9))
        torchs.step(1 / value if rising else value)
        schedule.validated(-1 / value if rising else value)
    assert len(rates) == 5  # 1, 0.3, 0.09, 0.027 and the floor


def test_plateau_counts_progress_of_negative_losses() -> None:
    """-1.05 is better than -1 by 5 %, -1 is not (torch takes anything up to -0.9 for better)."""
    schedule = Schedule(config_of(schedule="plateau", warmup=0.0, plateau_patience=0, plateau_threshold=0.02), 9, 1)
    rates = []
    for step, value in enumerate([-1.0, -1.05, -1.05, -1.06, -1.2]):
        rates.append(schedule.factor(step))
        schedule.validated(value)
    assert [*rates, schedule.factor(5)] == [1.0, 1.0, 1.0, 0.5, 0.25, 0.25]


def test_plateau_comes_on_top_of_the_warm_up() -> None:
    schedule = Schedule(config_of(schedule="plateau", warmup=0.4, plateau_patience=0), 10, 1)
    schedule.validated(1.0)
    schedule.validated(1.0)
    assert [schedule.factor(0), schedule.factor(2), schedule.factor(4)] == pytest.approx([0.05, 0.275, 0.5])


def test_plateau_goes_on_where_it_was() -> None:
    config, values = config_of(schedule="plateau", warmup=0.0, plateau_patience=1), noisy(40)
    whole = Schedule(config, 40, 1)
    for cut in range(40):
        whole.validated(values[cut])
        other = Schedule(config, 40, 1)
        other.restore(json.loads(json.dumps(whole.state(), allow_nan=False)))
        assert (other.state(), other.factor(39)) == (whole.state(), whole.factor(39))
    fresh = Schedule(config, 40, 1)
    fresh.restore(json.loads(json.dumps(fresh.state(), allow_nan=False)))  # before the first validation
    fresh.validated(5.0)
    assert fresh.state()["best"] == 5.0


@pytest.mark.parametrize("schedule", ["onecycle", "cosine", "cosine_restarts", "schedule_free", "none"])
def test_only_plateau_listens(schedule: str) -> None:
    config = config_of(schedule=schedule)
    told = Schedule(config, N, 1)
    for _ in range(20):
        told.validated(1.0)
    assert [told.factor(step) for step in range(N)] == factors(config)


@pytest.mark.parametrize("per", ["step", "epoch"])
@pytest.mark.parametrize("schedule", ["onecycle", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("n", [1, 2, 3, 20, 21])
def test_runs_of_any_length_have_a_rate(schedule: str, per: str, warmup: float, n: int) -> None:
    """torch's one-cycle divides by zero where the warm-up is exactly one step (5 % of 20)."""
    config = config_of(schedule=schedule, warmup=warmup, schedule_per=per)
    rates = factors(config, n, 3 if per == "epoch" else 1)
    assert all(0 < rate <= 1 for rate in rates)
    assert rates == sorted(rates[: rates.index(max(rates))]) + sorted(rates[rates.index(max(rates)) :], reverse=True)
    if warmup < 0.9 and n > 3:
        assert rates[-1] == pytest.approx(config.final_lr_fraction)


def test_every_group_gets_the_rate() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimiser = torch.optim.SGD([{"params": [weight]} for weight in weights], lr=1.0)
    set_lr(optimiser, 0.25)
    assert [group["lr"] for group in optimiser.param_groups] == [0.25, 0.25]
