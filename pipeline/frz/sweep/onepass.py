"""One pass: all heads that share batches, trained on each batch one stack after the other."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from math import ceil, inf
from typing import Any, NamedTuple, TypeAlias

import torch

from frz.errors import ConfigError, TrainingError, nearest
from frz.heads.contract import Head
from frz.heads.prefix import Prefix
from frz.heads.run import Sources, score, sources
from frz.progress import note, progress
from frz.sweep.group import Member, device_of, stacks
from frz.sweep.halving import rungs, score_at, side_of, survivors
from frz.sweep.space import HalvingConfig
from frz.sweep.stack import LEAST, PREFIX, Stack, stack_size
from frz.sweep.team import Course, Team
from frz.training.record import Metrics
from frz.training.source import Batch, BatchSource

SAME = 1e-4
"""Largest relative difference of a stacked loss from the loss alone before training; with more, heads train alone."""
REPORT_SECONDS = 0.2

Rivals: TypeAlias = Mapping[str, Sequence[Sequence[Metrics]]]
"""Lines of metrics of each head (one per seed) by the name of its point."""


class Passed(NamedTuple):
    """What a pass came to."""

    prefix: Prefix
    """Prepared events, for passes that need the same."""
    courses: list[Course]
    unfit: dict[str, str]
    """Heads that cannot be stacked, and why."""
    sizes: dict[str, int]
    """Heads of the stack that each head began in."""


def train_pass(
    members: Sequence[Member],
    halving: HalvingConfig | None,
    rivals: Rivals,
    done: Callable[[Sources, Course], None],
    prefix: Prefix | None = None,
) -> Passed:
    """Train heads that share a pass.

    Parameters
    ----------
    members : sequence of Member
        Not empty.
    halving : HalvingConfig, optional
        Drop the worst on the way.
    rivals : mapping
        Heads that were finished before and compete.
    done : callable
        Told of each head whose training is over, when it is.
    prefix : Prefix, optional
        Prepared events of a pass before.

    Raises
    ------
    TrainingError
        If there is no event to train on.
    ConfigError
        If no head has the metric of `halving` when it is needed.
    """
    first, device = members[0], device_of(list(members))
    events = sources(first.run, prefix)
    train, val = events.train, events.val
    if train.n_events == 0:
        raise TrainingError("no event to train on", where=first.name, way_out="check the split of the data set")
    first.run.head.check(first.run.store, events.prefix.reader, events.splits)
    for member in members:
        member.run.head.fit(events.split("train"))
    plan = train.plan(0)
    with closing(train.batches(plan[:1])) as batches:
        batch = _moved(next(batches), device)
    measure = partial(_measure, events) if val.n_events else None
    teams: list[Team] = []
    unfit: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for alike in stacks(members):
        for chosen in cut(alike, stack_size(alike[0].run.head.to(device), batch)):
            if (reason := difference([member.run.head for member in chosen], batch, device)) is not None:
                unfit |= {member.name: reason for member in chosen}
                continue
            teams.append(Team(chosen, device, len(plan), measure))
            sizes |= {member.name: len(chosen) for member in chosen}
    pass_ = _Pass(teams, train, val, device, first.trainer.max_epochs, int(first.trainer.val_every))
    if halving:
        metric = halving.metric or first.trainer.monitor
        standing_in = metric == "val/loss" and not val.n_events  # as in a run alone
        halving = halving.model_copy(update={"metric": "train/loss" if standing_in else metric})
    pass_.go(halving, rivals, lambda course: done(events, course))
    return Passed(events.prefix, [course for team in teams for course in team.over], unfit, sizes)


def _measure(events: Sources, head: Head) -> dict[str, float]:
    return score(head, events.prefix.reader, events.splits["val"])["head"]


def cut(alike: list[Member], most: int) -> list[list[Member]]:
    """Stacks of nearly equal size; heads one by one where that is faster."""
    n_stacks = ceil(len(alike) / most) if len(alike) >= LEAST else len(alike)
    return [alike[len(alike) * i // n_stacks : len(alike) * (i + 1) // n_stacks] for i in range(n_stacks)]


class _Pass:
    """A pass under way."""

    def __init__(
        self,
        teams: Sequence[Team],
        train: BatchSource,
        val: BatchSource,
        device: torch.device,
        n_epochs: int,
        val_every: int,
    ) -> None:
        self.teams, self.train, self.val = teams, train, val
        self.device, self.n_epochs, self.val_every = device, n_epochs, val_every

    def go(
        self,
        halving: HalvingConfig | None,
        rivals: Rivals,
        done: Callable[[Course], None],
    ) -> None:
        """Train until no head is left."""
        cuts = rungs(halving, self.n_epochs) if halving else []
        told: set[int] = set()
        with progress("sweep", self.n_epochs * self.train.n_events, "event") as bar:
            for epoch in range(self.n_epochs):
                if not self.n_heads:
                    return
                started, reported, unreported = time.monotonic(), 0.0, 0
                plan = self.train.plan(epoch)
                with closing(self.train.batches(plan)) as batches:
                    for number, (positions, batch) in enumerate(zip(plan, batches, strict=True)):
                        moved = _moved(batch, self.device)
                        for team in self.running:
                            team.step(moved, len(positions), f"epoch {epoch + 1}, step {number + 1}")
                        unreported += len(positions)
                        if time.monotonic() - reported >= REPORT_SECONDS:
                            bar.advance(unreported, epoch=epoch + 1, heads=self.n_heads)
                            reported, unreported = time.monotonic(), 0
                bar.advance(unreported, epoch=epoch + 1, heads=self.n_heads)
                self._end(epoch, started)
                if halving and epoch + 1 in cuts:
                    self._drop(halving, epoch + 1, rivals)
                for course in (course for team in self.teams for course in team.over):
                    if id(course) not in told:
                        told.add(id(course))
                        done(course)

    @property
    def running(self) -> list[Team]:
        """Stacks that have a head left."""
        return [team for team in self.teams if team.courses]

    @property
    def n_heads(self) -> int:
        """Heads under way."""
        return sum(len(team.courses) for team in self.teams)

    def _end(self, epoch: int, started: float) -> None:
        trained = time.monotonic() - started
        if self.val.n_events and (epoch + 1 == self.n_epochs or (epoch + 1) % self.val_every == 0):
            plan = self.val.plan(0)
            with closing(self.val.batches(plan)) as batches:
                for positions, batch in zip(plan, batches, strict=True):
                    moved = _moved(batch, self.device)
                    for team in self.running:
                        team.validate(moved, len(positions))
        rate = self.train.n_events / max(trained, 1e-9)
        times = {"seconds": time.monotonic() - started, "events_per_s": rate}
        for team in self.running:
            team.end_epoch(times)

    def _drop(self, halving: HalvingConfig, epoch: int, rivals: Rivals) -> None:
        """Drop the points that are not among the best."""
        running = [course for team in self.teams for course in team.courses]
        metric = halving.metric
        assert metric is not None
        side = side_of(metric, running[0].member.trainer) if running else "min"
        if running and all(score_at(course.lines, epoch, metric) == inf for course in running):
            lines = [line for course in running for line in course.lines]
            known = {name for line in lines for name, value in line.items() if "/" in name and value is not None}
            what = f"no head has this entry after epoch {epoch}"
            raise ConfigError(what, where=f"halving.metric = {metric}", way_out=nearest(metric, known))
        over = [course for team in self.teams for course in team.over if course.over in ("early", "whole")]
        scores: dict[Any, list[float]] = {}
        for course in (*running, *over):
            scores.setdefault(point_of(course.member), []).append(score_at(course.lines, epoch, metric, side))
        for point, finished in rivals.items():
            scores.setdefault(point, []).extend(score_at(lines, epoch, metric, side) for lines in finished)
        best = survivors(scores, halving.eta)
        for course in running:
            if point_of(course.member) not in best:
                course.over = "dropped"
        for team in self.teams:
            team.close_up()
        note(f"epoch {epoch}: {self.n_heads} of {len(running)} heads go on")


def point_of(member: Member) -> str:
    """Name of the point of a head, the same for all its seeds."""
    return repr(member.point.chosen)


def difference(heads: Sequence[Any], batch: Batch, device: torch.device) -> str | None:
    """Why a stack of heads would not train as the heads alone do; None if it would.

    Losses are compared without dropout; one loss with it and its gradient show whether the stack can be trained.
    """
    try:
        stack = Stack(heads, [0] * len(heads), device)
        stack.train(False)
        with torch.no_grad():
            together, _ = stack.losses(batch)
            alone = torch.stack([head.to(device).eval().loss(batch)[0] for head in heads])
        stack.train(True)
        with torch.random.fork_rng(devices=[]):
            before = torch.get_rng_state()
            losses, _ = stack.losses(batch)
            losses.sum().backward()  # type: ignore[no-untyped-call]
            drawn = not torch.equal(before, torch.get_rng_state())
    except RuntimeError as error:
        return f"torch.vmap refuses it ({str(error).splitlines()[0]})"
    if drawn:  # in a stack of one, which torch.vmap never sees
        return "it draws random numbers other than nn.Dropout's"
    idle = [name for name, value in stack.parameters.items() if value.requires_grad and value.grad is None]
    if idle:
        return f"its loss does not use {idle[0].removeprefix(PREFIX)}"
    gap = float(((together - alone).abs() / alone.abs().clamp(min=1e-3)).max())
    return None if gap <= SAME else f"stacked, its loss differs by {gap:.1g}"


def _moved(batch: Batch, device: torch.device) -> Batch:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
