"""One optimiser step from the losses of its batches: precision, accumulation, clipping, what is skipped.

The gradient of a step is the mean of the gradients of its batches weighted by their numbers of events,
`sum_i n_i grad(loss_i) / sum_i n_i`, also where the last group of an epoch has fewer batches, or smaller ones.
Where the loss is a mean over events, that is the gradient of one batch of all those events (up to rounding); a
loss that is a mean over something else of the batch (its hits, its tracks) is averaged with the weights of
the events all the same. Layers that look at the whole batch (BatchNorm) see each batch for itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import cast

import torch
from torch import Tensor, nn

from frz.errors import Diverged
from frz.training.config import TrainerConfig
from frz.training.distributed import World
from frz.training.source import Batch, Trainable
from frz.training.steplog import StepLog

SMALLEST_SCALE = 2.0**-14
"""A float16 loss scale below this one no longer mends anything."""


@dataclass(frozen=True)
class Taken:
    """What came of a step."""

    moved: bool
    """Whether the weights changed: not where every batch was skipped, or the gradient overflowed float16."""
    skipped: tuple[int, ...]
    """Batches (number in the epoch) whose loss or gradient was not finite."""


class Stepper:
    """Moves the weights of a module.

    Parameters
    ----------
    module : nn.Module
        A `Trainable`, on `device`.
    optimiser : torch.optim.Optimizer
        Of its parameters.
    config : TrainerConfig
        `precision`, `clip_norm` and `skip_nonfinite` are looked at.
    device : torch.device
        Where batches go.
    world : World
        The processes that take every step together, each on its part of the batches.
    """

    def __init__(
        self,
        module: nn.Module,
        optimiser: torch.optim.Optimizer,
        config: TrainerConfig,
        device: torch.device,
        world: World,
    ) -> None:
        self._module, self._loss = module, cast(Trainable, module).loss
        self.optimiser, self._config, self._device, self._world = optimiser, config, device, world
        self._parameters: list[Tensor] = [p for group in optimiser.param_groups for p in group["params"]]
        self._autocast = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss in the precision asked for, and with it what is logged."""
        batch = {name: value.to(self._device, non_blocking=True) for name, value in batch.items()}
        with torch.autocast(self._device.type, self._autocast, enabled=self._autocast is not None):
            loss, parts = self._loss(batch)
        return loss, {**parts, "loss": loss}

    def take(self, batches: Iterable[tuple[int, int, Batch | None]], n_events: int, log: StepLog) -> Taken:
        """One step.

        Parameters
        ----------
        batches : iterable of (int, int, Batch or None)
            Number in the epoch, events, this process's part of the batch (None if it has no events).
        n_events : int
            Events of all of them.
        log : StepLog
            Gets the scalars of every batch that was not skipped, the norm of the gradient before clipping
            (`grad_norm`), and whether it was clipped (`clipped`, 0 or 1; not where `clip_norm` is 0) or overflowed
            (`overflow`, fp16).

        Raises
        ------
        Diverged
            If float16 overflows at every scale.
        """
        self.optimiser.zero_grad(set_to_none=True)
        skipped: list[int] = []
        lost = last = 0
        for last, n, batch in batches:
            part = self._world.count(n)
            good, values = self._add(batch, part / n_events)
            if not good:
                skipped.append(last)
                lost += n
            elif values:
                log.add(last, part, values)
        if lost == n_events:
            return Taken(False, tuple(skipped))
        self._world.sum_gradients(self._parameters)
        self._world.copy_first(self._module.buffers())
        if lost:
            torch._foreach_mul_(self._gradients(), n_events / (n_events - lost))
        return Taken(self._move(last, n_events - lost, log), tuple(skipped))

    def _add(self, batch: Batch | None, share: float) -> tuple[bool, dict[str, Tensor]]:
        """Add the share of a batch to the gradient of the step, unless it is not finite and may be left out.

        A batch is left out by all processes if it is not finite in one.
        """
        if not self._config.skip_nonfinite:
            return True, self._backward(batch, share)
        gradients = [parameter.grad for parameter in self._parameters]
        buffers = {name: value.clone() for name, value in self._module.named_buffers()}
        self.optimiser.zero_grad(set_to_none=True)
        values = self._backward(batch, share)
        good = not values or (bool(values["loss"].isfinite()) and self._gradient_is_finite())
        good = not self._world.any(not good)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            if not good or parameter.grad is None:
                parameter.grad = gradient
            elif gradient is not None:
                parameter.grad += gradient
        if not good:  # the statistics of BatchNorm have seen the batch
            for name, value in buffers.items():
                self._module.get_buffer(name).copy_(value)
        return good, values

    def _gradient_is_finite(self) -> bool:
        # an overflow of float16 is the scaler's to mend
        return self.scaler.is_enabled() or all(bool(gradient.isfinite().all()) for gradient in self._gradients())

    def _backward(self, batch: Batch | None, share: float) -> dict[str, Tensor]:
        """What a batch says, its share added to the gradient; nothing without events."""
        if batch is None:
            return {}
        loss, values = self.loss(batch)
        scaled: Tensor = self.scaler.scale(loss if share == 1.0 else loss * share)
        scaled.backward()  # type: ignore[no-untyped-call]
        return values

    def _move(self, batch: int, n_events: int, log: StepLog) -> bool:
        """Clip and step; False if the gradient overflowed float16."""
        scale = self.scaler.get_scale()
        self.scaler.unscale_(self.optimiser)
        clip = self._config.clip_norm
        norm = nn.utils.clip_grad_norm_(self._parameters, clip or inf)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        overflow = self.scaler.get_scale() < scale
        said: dict[str, Tensor] = {}
        if clip and not overflow:
            said["clipped"] = norm > clip
        if self.scaler.is_enabled():
            said["overflow"] = torch.tensor(float(overflow))
        if self._world.first:  # all processes have the same gradient
            log.add(batch, 1.0, said)  # a share of steps
            if not overflow:
                log.add(batch, n_events, {"grad_norm": norm})
        if self.scaler.get_scale() < SMALLEST_SCALE:
            way_out = "lower lr, or set precision to bf16 or fp32"
            raise Diverged("the gradient overflows float16 however it is scaled", way_out=way_out)
        return not overflow

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]
