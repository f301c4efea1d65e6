"""The heads of one stack while they train: steps, validation, and for each the record it would keep alone."""

# Axes: K heads.

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from frz.heads.contract import Head
from frz.sweep.group import Member
from frz.sweep.optimiser import StackedAdamW
from frz.sweep.stack import PREFIX, Stack
from frz.training.monitor import Monitor
from frz.training.optimisers import split_parameters
from frz.training.record import Metrics
from frz.training.schedules import Schedule
from frz.training.selection import Standing
from frz.training.source import Batch

Measure: TypeAlias = Callable[[Head], Mapping[str, float]]


@dataclass
class Course:
    """How the training of one head has gone so far."""

    member: Member
    schedule: Schedule
    standing: Standing
    """Of its epochs."""
    stack: int
    """Heads of the stack that it began in."""
    lines: list[Metrics] = field(default_factory=list)
    """Of `metrics.jsonl`, one per epoch."""
    weights: dict[str, Tensor] = field(default_factory=dict)
    """Of the best epoch."""
    last: dict[str, Tensor] = field(default_factory=dict)
    """Of the last one; set at the end."""
    steps: int = 0
    over: str = ""
    """Why it is over: `whole`, `early`, `dropped`, or what went wrong."""

    @property
    def epochs(self) -> int:
        """Epochs finished."""
        return len(self.lines)


class Team:
    """One stack, its optimiser, and the course of each of its heads.

    Parameters
    ----------
    members : sequence of Member
        Of one stack, with fitted heads.
    device : torch.device
    n_steps : int
        Optimiser steps of an epoch.
    measure : callable, optional
        Metrics of a head on the validation events; None without such events.
    """

    def __init__(
        self, members: Sequence[Member], device: torch.device, n_steps: int, measure: Measure | None = None
    ) -> None:
        heads = [member.run.head for member in members]
        self.courses = [
            Course(
                member,
                Schedule(member.trainer, member.trainer.max_epochs, n_steps),
                Standing(Monitor(member.trainer, measure is not None), member.trainer.patience),
                len(members),
            )
            for member in members
        ]
        self.over: list[Course] = []
        self.stack = Stack(heads, [member.trainer.seed for member in members], device)
        decayed = {id(parameter) for parameter in split_parameters(heads[0])[0]}
        names = {PREFIX + name for name, value in heads[0].named_parameters() if id(value) in decayed}
        trainer = members[0].trainer
        decay = [member.trainer.weight_decay for member in members]
        self.optimiser = StackedAdamW(self.stack.weights, self.stack.columns(names), decay, trainer.betas, trainer.eps)
        self._measure, self._steps = measure, 0
        self._log, self._val = _Log(), _Log()

    def step(self, batch: Batch, n_events: int, where: str) -> Tensor:
        """One optimiser step of every head; a head whose loss or gradient is not finite leaves.

        With no head left, nothing is done.

        Returns
        -------
        Tensor (K,)
            Losses before the step.
        """
        if not self.courses:
            return torch.empty(0)
        self.stack.train(True)
        losses, parts = self.stack.losses(batch)
        self.optimiser.take(torch.autograd.grad(losses.sum(), self.stack.trained))
        values = {**parts, "loss": losses.detach()}
        norms = self.optimiser.norms()
        limits = [course.member.trainer.clip_norm for course in self.courses]
        if any(limits):
            values["grad_norm"] = norms
            self._log.add(1, {"clipped": (norms > norms.new_tensor(limits)).float()})  # a share of steps
            self.optimiser.clip(norms, limits)
        self.optimiser.step([self._rate(course, self._steps) for course in self.courses])
        self._steps += 1
        self._log.add(n_events, values)
        self._part_with(torch.isfinite(values["loss"]) & torch.isfinite(norms), where)
        return values["loss"]

    def _rate(self, course: Course, step: int) -> float:
        return course.member.trainer.lr * course.schedule.factor(step)

    def _part_with(self, good: Tensor, where: str) -> None:
        """Let heads go whose entry (K,) is false."""
        if bool(good.all()):
            return
        for course, fine in zip(self.courses, good.tolist(), strict=True):
            if not fine:
                course.over = f"the loss or the gradient is not finite in {where}"
        self.close_up()

    @torch.no_grad()
    def validate(self, batch: Batch, n_events: int) -> None:
        """Validation losses of a batch."""
        self.stack.train(False)
        losses, parts = self.stack.losses(batch)
        self._val.add(n_events, {**parts, "loss": losses})

    def end_epoch(self, times: Mapping[str, float]) -> None:
        """Write a line for each head; heads whose patience is over, or whose validation is not finite, leave."""
        train, val = self._log.means("train"), self._val.means("val")
        self._log, self._val = _Log(), _Log()
        for row, course in enumerate(self.courses):
            line: Metrics = {"epoch": course.epochs + 1, "step": self._steps, "lr": self._rate(course, self._steps - 1)}
            unclipped = ("train/grad_norm", "train/clipped") if not course.member.trainer.clip_norm else ()
            line |= {name: _number(values[row]) for name, values in train.items() if name not in unclipped}
            line |= {name: _number(values[row]) for name, values in val.items()}
            if "val/loss" in line and line["val/loss"] is None:
                course.over = f"the validation loss is not finite after epoch {course.epochs + 1}"
                continue
            if val:
                line |= self._measured(course, row, line)
            self._judge(course, row, {**line, **times})
        self.close_up()

    def _measured(self, course: Course, row: int, line: Metrics) -> Metrics:
        """What a head's monitor asks for beside the loss and its parts, as `frz.training.validation` does."""
        monitor, found = course.standing.monitor, dict[str, float | None]()
        if self._measure is not None and monitor.name not in line:
            head = course.member.run.head
            head.load_state_dict(self.stack.state(row))
            found = monitor.named({f"val/{name}": _number(value) for name, value in self._measure(head).items()})
        parts = [name for name in line if name.startswith(("val/", "train/"))]
        monitor.check([*parts, *found], parts)
        return found

    def _judge(self, course: Course, row: int, line: Metrics) -> None:
        course.lines.append(line)
        course.steps = self._steps
        if (value := course.standing.monitor.value(line)) is not None:
            course.schedule.validated(value)
        if course.standing.add(line):
            course.weights = _copy(self.stack.state(row))
        if course.standing.exhausted:
            course.over = "early"
        if course.epochs == course.member.trainer.max_epochs:
            course.over = course.over or "whole"

    def close_up(self) -> None:
        """Take the heads that are over out of the stack."""
        rows = [row for row, course in enumerate(self.courses) if not course.over]
        if len(rows) == len(self.courses):
            return
        for row, course in enumerate(self.courses):
            if course.over:
                course.last = _copy(self.stack.state(row))
                self.over.append(course)
        self.courses = [self.courses[row] for row in rows]
        if rows:
            self.stack.keep(rows)
            self.optimiser.keep(rows, self.stack.weights)
            self._log.keep(rows)
            self._val.keep(rows)


class _Log:
    """Values (K,) of the steps of an epoch, each with the weight of its batch."""

    def __init__(self) -> None:
        self._values: dict[str, list[Tensor]] = {}
        self._weights: dict[str, list[float]] = {}

    def add(self, weight: float, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self._values.setdefault(name, []).append(value)
            self._weights.setdefault(name, []).append(weight)

    def keep(self, rows: Iterable[int]) -> None:
        chosen = list(rows)
        self._values = {name: [value[chosen] for value in values] for name, values in self._values.items()}

    def means(self, prefix: str) -> dict[str, np.ndarray]:
        """Weighted means (K,) by `prefix/name`, in double precision."""
        found = {}
        for name in sorted(self._values):
            weights = np.array(self._weights[name])
            values = torch.stack(self._values[name]).double().cpu().numpy()  # (steps, K)
            found[f"{prefix}/{name}"] = (values * weights[:, None]).sum(0) / weights.sum()
        return found


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.cpu().clone() for name, value in state.items()}
