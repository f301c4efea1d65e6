"""Which heads of a sweep share a pass over the events, which of these are stacked, and which train alone.

A pass is one order of the same prepared events in the same batches. In a pass, heads whose config differs in
numbers alone are one stack; stacks of other shapes see each batch one after the other.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from frz.config import canonical_json
from frz.heads.run import HeadRun
from frz.sweep.space import Point
from frz.training.config import TrainerConfig, pick_device
from frz.training.loop import resumable
from frz.training.schedules import ScheduleConfig

PER_HEAD = frozenset(
    {"seed", "lr", "weight_decay", "clip_norm", "patience", "monitor", "monitor_mode", *ScheduleConfig.model_fields}
)
"""Keys of `trainer` that heads of one stack may differ in."""
PER_STACK = frozenset({"betas", "eps"})
"""Keys that stacks of one pass may differ in."""
PER_PASS = frozenset({"data_seed", "batch_size", "max_epochs", "val_every", "balance", "device"})
"""Keys that a pass has in common."""
ANY = frozenset({"checkpoint_minutes", "tensorboard"})
"""Keys that do not matter: a pass is not saved half-way, and event files are made of a head's whole metrics."""
OWN_RATE = "dropout"
"""Setting of a head that is its dropout layers' rate."""

T = TypeVar("T")


class Member(NamedTuple):
    """One head of a sweep that is to be trained."""

    point: Point
    run: HeadRun

    @property
    def name(self) -> str:
        """Of the head."""
        return self.point.config.name

    @property
    def trainer(self) -> TrainerConfig:
        """Its training."""
        return self.point.config.trainer


def alone_because(member: Member) -> str | None:
    """Why a head cannot be part of a pass, in words; None if it can."""
    trainer, head = member.trainer, member.run.head
    if resumable(member.run.folder):
        return "its run was begun by train-head and goes on from the state saved there"
    known = PER_HEAD | PER_STACK | PER_PASS | ANY
    for key, field in TrainerConfig.model_fields.items():
        if key not in known and getattr(trainer, key) != field.get_default(call_default_factory=True):
            return f"trainer.{key} = {getattr(trainer, key)}"
    if trainer.monitor.startswith("train/"):
        return f"trainer.monitor = {trainer.monitor}"
    if trainer.val_every < 1:
        return f"trainer.val_every = {trainer.val_every}"
    if trainer.schedule == "schedule_free":
        return f"trainer.schedule = {trainer.schedule}"
    for name, part in head.named_modules():
        if isinstance(part, nn.modules.dropout._DropoutNd) and type(part) is not nn.Dropout:
            return f"{name} is a {type(part).__name__}"
        if isinstance(part, nn.MultiheadAttention) and part.dropout > 0:
            return f"{name} has a dropout of its own"
    if not any(parameter.requires_grad for parameter in head.parameters()):
        return "it has no trainable parameter"
    return None


def passes(members: Iterable[Member]) -> list[list[Member]]:
    """Members that share a pass, in the order of the sweep but for what shares prepared events."""
    return [sharing for same in _grouped(members, prefix_key) for sharing in _grouped(same, pass_key)]


def stacks(members: Iterable[Member]) -> list[list[Member]]:
    """Members of a pass that can be stacked."""
    return _grouped(members, _stack_key)


def _grouped(members: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    groups: dict[Hashable, list[T]] = {}
    for member in members:
        groups.setdefault(key(member), []).append(member)
    return list(groups.values())


def prefix_key(member: Member) -> str:
    """What decides what prepared events are, and where they lie."""
    kind, asked = type(member.run.head), member.run.asked
    return canonical_json(
        {
            "head": f"{kind.__module__}:{kind.__qualname__}",
            "features": asked["features"]["hash"],
            "settings": {key: value for key, value in asked["model"].items() if key not in kind.not_in_prefix},
            "prepared": member.run.head.prepared.model_dump(mode="json"),
            "loading": member.point.config.loading.model_dump(mode="json"),
            "device": str(pick_device(member.trainer.device)),
        }
    )


def pass_key(member: Member) -> str:
    """What decides in which batches they come, and how often."""
    trainer = member.run.asked["trainer"]
    return canonical_json({key: trainer.get(key) for key in sorted(PER_PASS - {"device"})})


def _stack_key(member: Member) -> str:
    """What decides which operations a head does: all its settings but those that are numbers of its own."""
    head, trainer = member.run.head, member.trainer
    settings: dict[str, Any] = dict(member.run.asked["model"])
    rates = {part.p for part in head.modules() if isinstance(part, nn.Dropout)}
    asked = settings.get(OWN_RATE)
    if rates and rates == set(asked if isinstance(asked, list) else [asked]):
        del settings[OWN_RATE]
    shapes = {name: [list(value.shape), value.requires_grad] for name, value in head.named_parameters()}
    return canonical_json({"settings": settings, "shapes": shapes, "betas": trainer.betas, "eps": trainer.eps})


def device_of(members: list[Member]) -> torch.device:
    """Where a pass trains."""
    return pick_device(members[0].trainer.device)
