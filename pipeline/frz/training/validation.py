"""What a module comes to on the validation events."""

from collections.abc import Callable, Mapping
from contextlib import closing, nullcontext
from math import isfinite
from typing import TypeAlias

import torch
from torch import nn

from frz.training.distributed import World
from frz.training.ema import Ema
from frz.training.monitor import Monitor
from frz.training.record import Metrics
from frz.training.source import BatchSource, Blame
from frz.training.state import own_random
from frz.training.step import Stepper
from frz.training.steplog import StepLog

Measure: TypeAlias = Callable[[nn.Module], Mapping[str, float]]
"""Metrics of a module (in eval mode, with the weights to judge) on the validation events."""


class Validation:
    """Measures a module, with averaged weights where there are any; generators stay where they are.

    Parameters
    ----------
    module : nn.Module
        In eval mode afterwards.
    source : BatchSource
        The validation events.
    stepper : Stepper
        Knows the loss in the precision of the training.
    ema : Ema, optional
        The averaged weights.
    monitor : Monitor
        Names the metric that decides.
    measure : callable, optional
        Asked where that is no part of the loss.
    diverged : callable
        Makes the error for batches whose loss is not finite.
    world : World
        The processes that share the events.
    device : torch.device
        Where the module is.
    """

    def __init__(
        self,
        module: nn.Module,
        source: BatchSource,
        stepper: Stepper,
        ema: Ema | None,
        monitor: Monitor,
        measure: Measure | None,
        diverged: Blame,
        world: World,
        device: torch.device,
    ) -> None:
        self._module, self._source, self._stepper, self._ema = module, source, stepper, ema
        self._monitor, self._measure, self._diverged = monitor, measure, diverged
        self._world, self._device = world, device

    @torch.no_grad()
    def run(self, interrupted: Callable[[], bool]) -> Metrics | None:
        """Mean loss, its parts, and the metric that decides; None if it was interrupted.

        Raises
        ------
        TrainingError
            If a loss is not finite.
        """
        averaged = nullcontext() if self._ema is None else self._ema.instead(self._module)
        self._module.eval()
        log, plan, world = StepLog(), self._source.plan(0), self._world
        with own_random(self._device), averaged:
            with closing(world.batches(self._source, plan)) as batches:
                for index, batch in enumerate(batches):
                    if batch is not None:
                        log.add(index, world.count(len(plan[index])), self._stepper.loss(batch)[1])
                    if world.any(interrupted()):
                        return None
            bad = log.drain(("loss",), world.gather)
            if bad is not None:
                raise self._diverged("the validation loss is not finite after", self._source, plan, [bad[0]])
            found = log.means("val")
            return found if self._monitor.name in found else found | self._measured()

    @torch.no_grad()
    def check_monitor(self) -> None:
        """Refuse, before the first step, a metric of the validation that nobody measures, or of unknown direction.

        Raises
        ------
        TrainingError
            Naming those that there are.
        """
        name = self._monitor.name
        if name == "val/loss" or not name.startswith("val/"):
            return
        self._module.eval()
        with own_random(self._device), closing(self._source.batches(self._source.plan(0)[:1])) as batches:
            known = {f"val/{part}" for part in self._stepper.loss(next(batches))[1]}
            self._monitor.check(known if name in known else known | self._measured().keys(), parts=known)

    def _measured(self) -> Metrics:
        measure = self._measure
        if measure is None or not self._monitor.name.startswith("val/"):
            return {}
        found = self._world.once(lambda: dict(measure(self._module)))
        measured = {f"val/{name}": value if isfinite(value) else None for name, value in found.items()}
        return self._monitor.named(measured)
