"""The training loop for any module with `loss(batch)`: backbones behind a store, heads in memory.

A run can be interrupted at any step and continued by the same call. On one machine (same torch, same
number of threads, CPU) the continued run has the same weights and the same metrics, bit for bit, as one
that was never interrupted. `frz.training.record` says what a run writes.
"""

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import nn

from frz.errors import TrainingError
from frz.progress import Bar, progress
from frz.training.checkpoint import load_into
from frz.training.config import TrainerConfig, pick_device
from frz.training.interrupt import deferred_interrupt
from frz.training.lock import only_writer
from frz.training.optimisers import build_optimiser, hold_average
from frz.training.record import STATE, Meta, Metrics, Record, under
from frz.training.schedules import Schedule, set_lr
from frz.training.source import Batch, BatchSource, Plan, Trainable, describe
from frz.training.state import own_random, random_tensors, restore_optimiser, restore_random, state_tensors
from frz.training.steplog import StepLog

DRAIN_STEPS = {"cpu": 1, "cuda": 32}
"""Steps after which the loop fetches its losses and looks at them: a GPU has to be waited for."""
SAVE_SHARE = 0.05
"""Share of the time that saves at the end of epochs may take."""
REPORT_SECONDS = 0.2
"""Least time between two reports of progress."""


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    epochs: int
    """Epochs finished."""
    steps: int
    """Optimiser steps taken."""
    best: Metrics
    """Line of `metrics.jsonl` of the best epoch."""
    last: Metrics
    """Line of the last epoch."""
    stopped_early: bool
    """Whether patience ran out."""
    resumed: bool
    """Whether the run went on from a saved state."""
    begun_after: tuple[int, int]
    """Epochs finished and steps taken by earlier calls."""

    @property
    def status(self) -> str:
        """How the run came to its end, in words."""
        epoch, step = self.begun_after
        return f"resumed after epoch {epoch}, step {step}" if self.resumed else "trained"


def resumable(run_dir: Path) -> bool:
    """Whether `fit` would go on from a state saved there (initial weights and constants are then in it)."""
    return (run_dir / STATE).is_file()


def fit(
    module: nn.Module,
    train: BatchSource,
    val: BatchSource | None,
    config: TrainerConfig,
    run_dir: Path,
    *,
    meta: Meta | None = None,
    description: str = "training",
) -> Result:
    """Train `module`, or go on where an earlier call in the same folder was interrupted.

    The module ends on the run's device, in eval mode, with the weights of the last epoch; the best are in
    `best.safetensors`. Dropout draws from torch's generators, seeded with `config.seed` and given back
    afterwards; other generators (numpy's, Python's) are not looked after. Ctrl-C is obeyed after the step
    under way, with the state saved.

    Parameters
    ----------
    module : nn.Module
        Has `loss(batch) -> (scalar mean over the batch, named scalar parts)`.
    train, val : BatchSource
        Without validation events the training loss decides which epoch is best.
    config : TrainerConfig
        A continued run must have the same one, but for `device` and `checkpoint_minutes`.
    run_dir : Path
        Folder of the run, made if missing.
    meta : callable, optional
        Gives JSON to keep in `best.safetensors` and `last.safetensors`.
    description : str
        Named in the progress display.

    Raises
    ------
    TrainingError
        If there is nothing to train or to train on, the loss is not finite, the saved state is of another run, or
        another process is training in the folder.
    CheckpointError
        If the saved state is damaged or of another model.
    StoreError
        If no space is left.
    KeyboardInterrupt
        After Ctrl-C, when the state is on disk.
    """
    if train.n_events == 0:
        raise TrainingError("no event to train on", where=str(run_dir), way_out="check the split of the data set")
    device = pick_device(config.device)
    val = val if val is not None and val.n_events else None
    sizes = {"train": train.n_events, "val": val.n_events if val else 0}
    record = Record(run_dir, config, sizes, meta)
    with only_writer(run_dir), own_random(device, config.seed), deferred_interrupt() as interrupted:
        run = _Run(module.to(device), train, val, config, record, device, interrupted)
        resumed = run.restore()
        begun_after = run.at.epoch, run.step
        total = config.max_epochs * train.n_events
        done = run.at.epoch * train.n_events + min(run.at.batch * config.batch_size, train.n_events)
        with progress(description, total, "event", done=done) as bar:
            run.go(bar)
        if interrupted():  # after the last step: the run is whole, the program was asked to end
            raise KeyboardInterrupt
    module.eval()
    at = run.at
    return Result(at.epoch, run.step, at.best, at.last, at.stopped, resumed, begun_after)


@dataclass
class _Position:
    """Where a run stands, beside its tensors; JSON."""

    epoch: int = 0
    """Epochs finished."""
    batch: int = 0
    """Batches done of the next one."""
    seconds: float = 0.0
    """Spent in it so far."""
    best: Metrics = field(default_factory=dict)
    last: Metrics = field(default_factory=dict)
    stale: int = 0
    """Validations since the best one."""
    stopped: bool = False


class _Run:
    """A run under way."""

    def __init__(
        self,
        module: nn.Module,
        train: BatchSource,
        val: BatchSource | None,
        config: TrainerConfig,
        record: Record,
        device: torch.device,
        interrupted: Callable[[], bool],
    ) -> None:
        self.module, self.train, self.val, self.config, self.record = module, train, val, config, record
        self.device, self.interrupted = device, interrupted
        self.loss = cast(Trainable, module).loss
        self.optimiser = build_optimiser(config, module, schedule_free=config.schedule == "schedule_free")
        self.parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        self.n_steps = len(train.plan(0))  # per epoch
        self.schedule = Schedule(config, config.max_epochs, self.n_steps)
        self.monitored = "val/loss" if val else "train/loss"
        self.at, self.log = _Position(), StepLog()
        self._saved_at, self._save_cost = time.monotonic(), 0.0

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return self.at.epoch * self.n_steps + self.at.batch

    def go(self, bar: Bar) -> None:
        """Train to the end."""
        while not self._finished():
            self._epoch(bar)
            waited = time.monotonic() - self._saved_at
            if self._finished() or waited * SAVE_SHARE >= self._save_cost or self._overdue():
                self.save()

    def _finished(self) -> bool:
        return self.at.stopped or self.at.epoch == self.config.max_epochs

    def _overdue(self) -> bool:
        return time.monotonic() - self._saved_at >= 60 * self.config.checkpoint_minutes

    def _epoch(self, bar: Bar) -> None:
        """The rest of an epoch, its validation and its line of metrics."""
        at, started = self.at, time.monotonic() - self.at.seconds
        plan = self.train.plan(at.epoch)
        assert len(plan) == self.n_steps, "epochs must have the same number of batches"
        self._train(plan, bar, started)
        trained = time.monotonic() - started
        line: Metrics = {"epoch": at.epoch + 1, "step": self.step, "lr": self._lr(self.step - 1)}
        line |= self.log.means("train")
        final = at.epoch + 1 == self.config.max_epochs
        if self.val is not None and (final or (at.epoch + 1) % self.config.val_every == 0):
            line |= self._validate(self.val, started)
        line["seconds"] = time.monotonic() - started
        line["events_per_s"] = self.train.n_events / max(trained, 1e-9)
        self._close(line)

    def _train(self, plan: Plan, bar: Bar, started: float) -> None:
        """The steps of an epoch that are still to be done."""
        self.module.train()
        at, drain_steps = self.at, DRAIN_STEPS[self.device.type]
        reported, unreported = 0.0, 0
        with closing(self.train.batches(plan, at.batch)) as batches:
            for positions, batch in zip(plan[at.batch :], batches, strict=True):
                self._step(batch, len(positions))
                at.batch += 1
                if at.batch % drain_steps == 0:
                    self._check(plan)
                unreported += len(positions)
                if time.monotonic() - reported >= REPORT_SECONDS:
                    bar.advance(unreported, epoch=at.epoch + 1, loss=self.log.latest("loss"))
                    reported, unreported = time.monotonic(), 0
                if self.interrupted() or self._overdue():
                    self._check(plan)
                    self._pause(started)
        self._check(plan)
        hold_average(self.optimiser, True)  # after every epoch, validated or not, since it rounds
        bar.advance(unreported, epoch=at.epoch + 1, loss=self.log.latest("loss"))

    def _step(self, batch: Batch, n_events: int) -> None:
        set_lr(self.optimiser, self._lr(self.step))
        hold_average(self.optimiser, False)
        loss, values = self._loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.clip_norm:
            values["grad_norm"] = nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm)
        self.optimiser.step()
        self.log.add(n_events, values)

    def _loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The loss, and with it what is logged."""
        batch = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            loss, parts = self.loss(batch)
        return loss, {**parts, "loss": loss}

    def _lr(self, step: int) -> float:
        return self.config.lr * self.schedule.factor(step)

    def _check(self, plan: Plan) -> None:
        """Fetch the losses so far; stop at one that is not finite, before anything of it is saved."""
        bad = self.log.drain(("loss", "grad_norm"))
        if bad is not None:
            what = {"loss": "the loss", "grad_norm": "the gradient"}[bad[1]]
            raise self._diverged(f"{what} is not finite in", self.train, plan, bad[0])

    def _diverged(self, what: str, source: BatchSource, plan: Plan, step: int) -> TrainingError:
        with closing(source.batches(plan, step)) as batches:
            ids = next(batches).get("event/id")
        events = f"at positions {describe(plan[step])}" if ids is None else f"with id {describe(ids.cpu().numpy())}"
        kept = f"; {STATE} holds the last good state" if resumable(self.record.path) else ""
        what = f"{what} epoch {self.at.epoch + 1}, step {step + 1} (events {events})"
        way_out = f"lower lr or clip_norm, or look at these events{kept}"
        return TrainingError(what, where=str(self.record.path), way_out=way_out)

    @torch.no_grad()
    def _validate(self, val: BatchSource, started: float) -> Metrics:
        """Mean validation loss and parts; the generators of the training stay where they are."""
        self.module.eval()
        log, plan = StepLog(), val.plan(0)
        with own_random(self.device), closing(val.batches(plan)) as batches:
            for positions, batch in zip(plan, batches, strict=True):
                log.add(len(positions), self._loss(batch)[1])
                if self.interrupted():
                    break
        if self.interrupted():
            self._pause(started)  # all steps are done, so a continuation begins with this validation
        bad = log.drain(("loss",))
        if bad is not None:
            raise self._diverged("the validation loss is not finite after", val, plan, bad[0])
        return log.means("val")

    def _close(self, line: Metrics) -> None:
        """Note the metrics of an epoch, whether it is the best, and whether to stop."""
        at = self.at
        value, best = line.get(self.monitored), at.best.get(self.monitored)
        if value is not None:
            self.schedule.validated(value)
            if value < (math.inf if best is None else best):
                at.best, at.stale = line, 0
                self.record.add_best(self.module.state_dict(), line)
            else:
                at.stale += 1
            at.stopped = 0 < self.config.patience <= at.stale
        self.record.add_epoch(line)
        at.last = line
        at.epoch, at.batch, at.seconds, self.log = at.epoch + 1, 0, 0.0, StepLog()

    def _pause(self, started: float) -> None:
        """Save within an epoch, and end there if that was asked for."""
        self.at.seconds = time.monotonic() - started
        self.save()
        if self.interrupted():
            raise KeyboardInterrupt

    def save(self) -> None:
        """Bring the run to disk."""
        begun = time.monotonic()
        weights = self.module.state_dict()
        moments, values = state_tensors(self.optimiser)
        groups = {"model": weights, "optimiser": moments, "random": random_tensors(self.device)}
        groups["log"] = self.log.tensors()
        tensors = {f"{group}/{name}": value for group, named in groups.items() for name, value in named.items()}
        last = (weights, self.at.last) if self.at.batch == 0 else None
        moving = {"position": asdict(self.at), "schedule": self.schedule.state(), "optimiser": values}
        self.record.save(tensors, moving, last)
        self._saved_at = time.monotonic()
        self._save_cost = self._saved_at - begun

    def restore(self) -> bool:
        """Go to where the saved state stands; False if there is none."""
        found = self.record.restore()
        if found is None:
            return False
        tensors, meta = found
        self.at = _Position(**meta["position"])
        load_into(self.module, under("model/", tensors), str(self.record.path / STATE))
        self.schedule.restore(meta["schedule"])
        restore_optimiser(self.optimiser, under("optimiser/", tensors), meta["optimiser"])
        restore_random(under("random/", tensors), self.device)
        self.log = StepLog.from_tensors(under("log/", tensors), self.at.batch)
        return True
