"""The training loop for any module with `loss(batch)`: backbones behind a store, heads in memory.

A run can be interrupted at any step and continued by the same call. On one machine (same torch, same
number of threads, CPU) the continued run has the same weights and the same metrics, bit for bit, as one
that was never interrupted. `frz.training.record` says what a run writes.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from math import ceil
from pathlib import Path

import torch
from torch import Tensor, nn

from frz.errors import Diverged, TrainingError
from frz.progress import Bar, note, progress
from frz.training.checkpoint import load_into
from frz.training.config import TrainerConfig, pick_device
from frz.training.distributed import ALONE, World
from frz.training.ema import Ema
from frz.training.interrupt import deferred_interrupt
from frz.training.lock import only_writer
from frz.training.monitor import Monitor
from frz.training.optimisers import build_optimiser, hold_average
from frz.training.position import Position, line_ends
from frz.training.record import LAST, LAST_EMA, STATE, Meta, Metrics, Record, Weights, under
from frz.training.result import Result
from frz.training.schedules import Schedule, set_lr
from frz.training.selection import Selection
from frz.training.source import Batch, BatchSource, Plan, name_events
from frz.training.state import own_random, random_tensors, restore_optimiser, restore_random, state_tensors
from frz.training.step import Stepper
from frz.training.steplog import StepLog
from frz.training.validation import Measure, Validation

DRAIN_STEPS = {"cpu": 1, "cuda": 32}
"""Steps after which the loop fetches its losses and looks at them: a GPU has to be waited for."""
SAVE_SHARE = 0.05
"""Share of the time that saves at the end of epochs may take."""
REPORT_SECONDS = 0.2
"""Least time between two reports of progress."""
RANK_SEEDS = 1_000_003
"""Between the seeds of the processes of one run."""


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
    measure: Measure | None = None,
    description: str = "training",
    world: World = ALONE,
) -> Result:
    """Train `module`, or go on where an earlier call in the same folder was interrupted.

    The module ends on the run's device, in eval mode, with the weights of the last epoch (never their average);
    the best are in `best.safetensors`. Dropout draws from torch's generators, seeded with `config.seed` and given back
    afterwards; other generators (numpy's, Python's) are not looked after. Ctrl-C is obeyed after the step
    under way, with the state saved.

    Parameters
    ----------
    module : nn.Module
        Has `loss(batch) -> (scalar mean over the batch, named scalar parts)`.
    train, val : BatchSource
        Without validation events the training loss stands in for the validation loss.
    config : TrainerConfig
        A continued run must have the same one, but for `device`, `checkpoint_minutes` and `tensorboard`.
    run_dir : Path
        Folder of the run, made if missing.
    meta : callable, optional
        Gives JSON to keep in every file of weights.
    measure : callable, optional
        Measures what `monitor` may name beside the loss and its parts, as `val/<name>`; called after a validation
        only where `monitor` is none of these.
    description : str
        Named in the progress display.
    world : World
        The processes that train it together (`frz.training.distributed`): all call this, with the same arguments.
        A continuation may have another number of them; it repeats no random number of the dropout then.

    Raises
    ------
    TrainingError
        If there is nothing to train or to train on, nobody measures `monitor`, the loss is not finite, the saved
        state is of another run, or another process is training in the folder.
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
    record = Record(run_dir, config, sizes, meta, world.first)
    alone = only_writer(run_dir) if world.first else nullcontext()
    seed = config.seed + RANK_SEEDS * world.rank
    with closing(record), alone, own_random(device, seed), deferred_interrupt(often=world.size > 1) as interrupted:
        world.copy_first(module.to(device).state_dict().values())
        run = _Run(module, train, val, config, record, device, interrupted, measure, world)
        resumed = run.restore()
        begun_after = run.at.epoch, run.step
        if resumed and world.first:
            note(f"{description}: goes on after step {run.step}, {run.where}")
        total = config.max_epochs * train.n_events
        with progress(description, total, "event", done=run.events) as bar:
            run.go(bar)
        if world.any(interrupted()):  # after the last step: the run is whole, the program was asked to end
            raise KeyboardInterrupt
    module.eval()
    at, standing = run.at, run.selection.standing
    return Result(
        epochs=at.epoch,
        steps=run.step,
        best=standing.best,
        score=run.monitor.score(standing.best),
        last=at.last,
        stopped_early=standing.exhausted,
        resumed=resumed,
        begun_after=begun_after,
    )


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
        measure: Measure | None,
        world: World,
    ) -> None:
        self.module, self.train, self.config, self.record = module, train, config, record
        self.device, self.interrupted, self.world = device, interrupted, world
        self.optimiser = build_optimiser(config, module, schedule_free=config.schedule == "schedule_free")
        self.stepper = Stepper(module, self.optimiser, config, device, world)
        self.ema = Ema(module, config.ema_decay, config.ema_warmup) if config.ema_decay else None
        self.n_batches = len(train.plan(0))  # per epoch
        self.n_steps = ceil(self.n_batches / config.accumulate)  # per epoch
        self.schedule = Schedule(config, config.max_epochs, self.n_steps)
        self.ends = line_ends(self.n_batches, config.accumulate, config.val_every)
        self.monitor = Monitor(config, val is not None)
        self.selection = Selection(config, self.monitor, record)
        self.validation: Validation | None = None
        if val is not None:
            ours = (self.stepper, self.ema, self.monitor, measure, self._diverged)
            self.validation = Validation(module, val, *ours, world, device)
        self.at, self.log = Position(), StepLog()
        self._saved_at, self._save_cost = time.monotonic(), 0.0

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return self.at.epoch * self.n_steps + ceil(self.at.batch / self.config.accumulate)

    @property
    def where(self) -> str:
        """Where in its epochs it stands, in words."""
        done, total = self.at.epoch, self.config.max_epochs
        within = f", {self.at.batch} of {self.n_batches} batches into the next" if self.at.batch else ""
        return f"{done} of {total} epochs done{within}"

    @property
    def events(self) -> int:
        """Events trained on, each time counted."""
        begun = self.train.plan(self.at.epoch)[: self.at.batch] if self.at.batch else []
        return self.at.epoch * self.train.n_events + sum(map(len, begun))

    def go(self, bar: Bar) -> None:
        """Train to the end."""
        if self.step == 0 and self.validation is not None:
            self.validation.check_monitor()
        bar.advance(0, **self.monitor.shown(self.at.last))
        while not self._finished():
            self._stretch(bar)
            bar.advance(0, **self.monitor.shown(self.at.last))
            waited = time.monotonic() - self._saved_at
            if self._finished() or self.world.any(waited * SAVE_SHARE >= self._save_cost or self._overdue()):
                self.save()

    def _finished(self) -> bool:
        return self.selection.standing.exhausted or self.at.epoch == self.config.max_epochs

    def _overdue(self) -> bool:
        return time.monotonic() - self._saved_at >= 60 * self.config.checkpoint_minutes

    def _stretch(self, bar: Bar) -> None:
        """The rest of the way to the next line of metrics: an epoch, or what lies between two validations in it."""
        at, started = self.at, time.monotonic() - self.at.seconds
        plan = self.train.plan(at.epoch)
        assert len(plan) == self.n_batches, "epochs must have the same number of batches"
        end = next(end for end in self.ends if end > at.line)
        self._train(plan, end, bar, started)
        trained = time.monotonic() - started
        whole = end == self.n_batches
        epoch = at.epoch + 1 if whole else at.epoch + end / self.n_batches
        line: Metrics = {"epoch": epoch, "step": self.step, "lr": self._lr(self.step - 1)}
        unclipped = () if self.config.clip_norm else ("train/grad_norm",)  # noted because it must be finite, no more
        line |= {name: mean for name, mean in self.log.means("train").items() if name not in unclipped}
        if self.config.skip_nonfinite:
            line["train/skipped"] = at.skipped
        due = not whole or epoch == self.config.max_epochs or epoch % self.config.val_every == 0
        if self.validation is not None and (due or self.config.val_every < 1):
            measured = self.validation.run(self.interrupted)
            if measured is None:
                self._pause(started, end=True)  # all steps are done, so a continuation begins with this validation
            line |= measured or {}
        line["seconds"] = time.monotonic() - started
        line["events_per_s"] = sum(map(len, plan[at.line : end])) / max(trained, 1e-9)
        self._close(line, end)

    def _train(self, plan: Plan, end: int, bar: Bar, started: float) -> None:
        """The steps up to batch `end` of the epoch that are still to be done."""
        self.module.train()
        at, size = self.at, self.config.accumulate
        drain_steps = DRAIN_STEPS["cuda" if self.world.size > 1 else self.device.type]
        reported, unreported = 0.0, 0
        with closing(self.world.batches(self.train, plan, at.batch)) as batches:
            for begin in range(at.batch, end, size):
                n_events = self._step(plan, range(begin, min(begin + size, end)), batches)
                if self.step % drain_steps == 0:
                    self._check(plan)
                unreported += n_events
                if time.monotonic() - reported >= REPORT_SECONDS:
                    bar.advance(unreported, epoch=at.epoch + 1, **self.log.latest("loss"))
                    reported, unreported = time.monotonic(), 0
                ends, due = self.world.anys([self.interrupted(), self._overdue()])
                if ends or due:
                    self._check(plan)
                    self._pause(started, ends)
        self._check(plan)
        hold_average(self.optimiser, True)  # before every line, validated or not, since it rounds
        bar.advance(unreported, epoch=at.epoch + 1, **self.log.latest("loss"))

    def _step(self, plan: Plan, group: range, batches: Iterator[Batch | None]) -> int:
        """An optimiser step on a group of batches; the number of their events."""
        set_lr(self.optimiser, self._lr(self.step))
        hold_average(self.optimiser, False)
        n_events = sum(len(plan[index]) for index in group)
        numbered = ((index, len(plan[index]), next(batches)) for index in group)
        taken = self.stepper.take(numbered, n_events, self.log)
        if taken.moved and self.ema is not None:
            self.ema.update(self.module, self.step)
        self.at.skipped += len(taken.skipped)
        if self.at.skipped > self.config.skip_nonfinite:
            what = f"{self.at.skipped} losses or gradients were not finite in this run, the last in"
            raise self._diverged(what, self.train, plan, taken.skipped[-1:])
        self.at.batch = group.stop
        return n_events

    def _lr(self, step: int) -> float:
        return self.config.lr * self.schedule.factor(step)

    def _check(self, plan: Plan) -> None:
        """Fetch the losses so far; stop at one that is not finite, before anything of it is saved."""
        bad = self.log.drain(("loss", "grad_norm"), self.world.gather)
        if bad is None:
            return
        batch, name = bad
        if name == "loss":
            raise self._diverged("the loss is not finite in", self.train, plan, [batch])
        first = batch - batch % self.config.accumulate
        raise self._diverged("the gradient is not finite in", self.train, plan, range(first, batch + 1))

    def _diverged(self, what: str, source: BatchSource, plan: Plan, batches: Sequence[int]) -> Diverged:
        ours = source is self.train
        step = (
            f"step {batches[-1] // self.config.accumulate + 1}"
            if ours
            else f"batch {batches[-1] + 1} of the validation"
        )
        events = name_events(source, plan, batches)
        kept = f"; {STATE} holds the last good state" if resumable(self.record.path) else ""
        what = f"{what} epoch {self.at.epoch + 1}, {step} (events {events})"
        if not ours:
            way_out = "lower lr, or mend or drop these events: skip_nonfinite leaves out training batches alone"
        elif self.config.skip_nonfinite:
            way_out = "lower lr or clip_norm, look at these events, or raise skip_nonfinite"
        else:
            way_out = (
                "lower lr or clip_norm, look at these events, or leave out up to N such batches (skip_nonfinite=N)"
            )
        return Diverged(what, where=str(self.record.path), way_out=way_out + kept)

    def _close(self, line: Metrics, end: int) -> None:
        """Note a line of metrics, whether its weights are among the best, and whether to stop."""
        at = self.at
        if self.monitor.name.startswith("train/"):
            known = [name for name in line if name.startswith("train/")]
            self.monitor.check(known, parts=known)
        self.selection.add(line, *self._judged())
        value = self.monitor.value(line)
        if value is not None:
            self.schedule.validated(value)
        self.record.add_line(line)
        at.last, at.line, at.seconds, self.log = line, end, 0.0, StepLog()
        if end == self.n_batches:
            at.epoch, at.batch, at.line = at.epoch + 1, 0, 0

    def _judged(self) -> tuple[Mapping[str, Tensor], Weights]:
        """The weights that are validated."""
        return (self.module.state_dict(), "raw") if self.ema is None else (self.ema.tensors, "ema")

    def _pause(self, started: float, end: bool) -> None:
        """Save within an epoch, and end there if that was asked for."""
        self.at.seconds = time.monotonic() - started
        self.save()
        if end:
            raise KeyboardInterrupt

    def save(self) -> None:
        """Bring the run to disk."""
        begun = time.monotonic()
        weights = self.module.state_dict()
        moments, values = state_tensors(self.optimiser)
        groups = {"model": weights, "optimiser": moments}
        groups |= {_random(rank): own for rank, own in enumerate(self.world.gather(random_tensors(self.device)))}
        groups["log"] = self.log.tensors()
        groups["ema"] = self.ema.tensors if self.ema else {}
        tensors = {f"{group}/{name}": value for group, named in groups.items() for name, value in named.items()}
        if self.at.batch == self.at.line:  # not within a stretch
            self.record.add_weights([LAST], weights, self.at.last, "raw")
            if self.ema is not None:
                self.record.add_weights([LAST_EMA], self.ema.tensors, self.at.last, "ema")
        moving = {"position": asdict(self.at), "schedule": self.schedule.state(), "optimiser": values}
        moving |= {"selection": self.selection.state(), "scaler": self.stepper.scaler.state_dict()}
        self.record.save(tensors, moving, list(self.selection.top))
        self._saved_at = time.monotonic()
        self._save_cost = self._saved_at - begun

    def restore(self) -> bool:
        """Go to where the saved state stands; False if there is none."""
        found = self.record.restore()
        if found is None:
            return False
        tensors, meta = found
        self.at = Position(**meta["position"])
        load_into(self.module, under("model/", tensors), str(self.record.path / STATE))
        self.schedule.restore(meta["schedule"])
        self.selection.restore(meta["selection"])
        restore_optimiser(self.optimiser, under("optimiser/", tensors), meta["optimiser"])
        self.stepper.scaler.load_state_dict(meta["scaler"])
        if self.ema is not None:
            for name, value in under("ema/", tensors).items():
                self.ema.tensors[name].copy_(value)
        own = under(f"{_random(self.world.rank)}/", tensors)
        if own:  # not where there were fewer processes before
            restore_random(own, self.device)
        self.log = StepLog.from_tensors(under("log/", tensors))
        return True


def _random(rank: int) -> str:
    """Where the generators of a process lie in the state."""
    return f"random{rank or ''}"
