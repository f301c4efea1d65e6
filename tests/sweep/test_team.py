"""A stack in training against each of its heads alone, step by step in plain torch."""

import pytest
import torch
from feature_events import feature_schema
from test_stack import CPU, batch_of, prepared
from torch import nn

from frz.config import parse
from frz.heads.regression import RegressionHead
from frz.heads.run import HeadConfig, HeadRun
from frz.sweep.group import Member
from frz.sweep.space import Point
from frz.sweep.stack import PREFIX, unpacked
from frz.sweep.team import Team
from frz.training.optimisers import build_optimiser
from frz.training.schedules import Schedule

STEPS = 5
"""Per epoch."""


def member(number: int, **trainer) -> Member:
    values = {
        "name": f"h{number}",
        "head": "regression",
        "features": {"backbone": "b", "data": "d"},
        "model": {"dropout": 0.1 * number},
        "trainer": {"max_epochs": 4, "seed": number, "weight_decay": 0.1, **trainer},
    }
    config = parse(HeadConfig, values, "test")
    torch.manual_seed(config.trainer.seed)
    made = RegressionHead(RegressionHead.Config(**config.model), feature_schema())
    made.fit([prepared(made)])
    return Member(Point({}, values, config), HeadRun(config, None, made, {}, None))


def alone(one: Member, n_steps: int):
    """Losses, and gradients after clipping, of the steps of a head trained alone."""
    head, trainer = one.run.head, one.trainer
    optimiser, schedule = build_optimiser(trainer, head), Schedule(trainer, trainer.max_epochs, STEPS)
    torch.manual_seed(trainer.seed)
    head.train()
    for step in range(n_steps):
        for group in optimiser.param_groups:
            group["lr"] = trainer.lr * schedule.factor(step)
        loss, _ = head.loss(batch_of(head, step))
        optimiser.zero_grad()
        loss.backward()
        if trainer.clip_norm:
            nn.utils.clip_grad_norm_(head.parameters(), trainer.clip_norm)
        yield float(loss.detach()), {name: value.grad.clone() for name, value in head.named_parameters()}
        optimiser.step()


def test_the_first_ten_losses_and_gradients_are_those_of_heads_alone():
    settings = [
        {},
        {"lr": 3e-3, "schedule": "cosine", "clip_norm": 0.05},
        {"lr": 1e-2, "weight_decay": 0.0, "clip_norm": 0.0},
        {"schedule": "none"},
    ]
    members = [member(number, **chosen) for number, chosen in enumerate(settings)]
    team = Team(members, CPU, STEPS)
    singles = [list(alone(one, 10)) for one in members]
    for step in range(10):
        losses = team.step(batch_of(members[0].run.head, step), 6, "here")
        clipped = unpacked(team.optimiser.gradient, team.stack.shapes)
        for row, single in enumerate(singles):
            loss, gradients = single[step]
            assert losses[row].item() == pytest.approx(loss, rel=1e-5), (step, row)
            for name, expected in gradients.items():
                found = clipped[PREFIX + name][row]
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, msg=f"{step} {row} {name}")


def test_a_head_that_diverges_leaves_and_the_others_do_not_notice():
    healthy = [member(0), member(2)]
    sick = member(1)
    with torch.no_grad():
        sick.run.head.net[0].weight.fill_(float("inf"))
    with_it = Team([healthy[0], sick, healthy[1]], CPU, STEPS)
    without = Team(healthy, CPU, STEPS)
    for step in range(STEPS):
        batch = batch_of(healthy[0].run.head, step)
        losses = with_it.step(batch, 6, f"step {step + 1}")
        torch.testing.assert_close(losses[[0, -1]], without.step(batch, 6, ""))
    assert [course.member.name for course in with_it.over] == ["h1"]
    assert with_it.over[0].over == "the loss or the gradient is not finite in step 1"
    for team in (with_it, without):
        team.end_epoch({})
    lines = [[course.lines for course in team.courses] for team in (with_it, without)]
    for ours, theirs in zip(*lines, strict=True):
        assert ours[0] == pytest.approx(theirs[0])


class Cliff(torch.autograd.Function):
    """One forward, not a number backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value):
        return value.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


def test_a_gradient_that_is_not_finite_is_seen_without_clipping(monkeypatch):
    plain = RegressionHead.loss
    members = [member(number, clip_norm=0.0) for number in range(2)]
    team = Team(members, CPU, STEPS)
    batch = batch_of(members[0].run.head)
    team.step(batch, 6, "step 1")
    assert team.courses
    monkeypatch.setattr(RegressionHead, "loss", lambda self, batch: (Cliff.apply(plain(self, batch)[0]), {}))
    losses = team.step(batch, 6, "step 2")
    assert torch.isfinite(losses).all()
    assert [course.over for course in team.over] == ["the loss or the gradient is not finite in step 2"] * 2
    assert team.step(batch, 6, "step 3").shape == (0,)  # no head is left


def test_patience_is_each_heads_own():
    members = [member(number, patience=patience, lr=1e-30) for number, patience in enumerate((0, 1, 2))]
    team = Team(members, CPU, 1, lambda head: {})
    batch = batch_of(members[0].run.head)
    left = []
    for epoch in range(4):
        team.step(batch, 6, "")
        team.validate({**batch, "slot/goal": batch["slot/goal"] + 10 * epoch}, 6)  # worse and worse
        team.end_epoch({})
        left.append([course.member.name for course in team.courses])
    assert left == [["h0", "h1", "h2"], ["h0", "h2"], ["h0"], []]
    assert [course.over for course in team.over] == ["early", "early", "whole"]
    assert all(course.standing.best["epoch"] == 1 and course.last and course.weights for course in team.over)
