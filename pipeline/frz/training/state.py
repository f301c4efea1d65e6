"""The moving parts of a run as flat tensors and JSON, and back: optimiser and random generators.

The parameter groups follow from the config and are no part of the state, but for the counters that a schedule-free
optimiser keeps in them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

COUNTERS = ("k", "weight_sum", "lr_max", "scheduled_lr", "train_mode")
"""Entries of a parameter group that a schedule-free optimiser changes."""


def state_tensors(optimiser: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State of an optimiser: tensors by `<parameter>/<name>`, and the values that are not tensors."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, state in optimiser.state_dict()["state"].items():
        for name, value in state.items():
            (tensors if isinstance(value, Tensor) else values)[f"{index}/{name}"] = value
    for index, group in enumerate(optimiser.param_groups):
        values |= {f"group/{index}/{name}": group[name] for name in COUNTERS if name in group}
    return tensors, values


def restore_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Undo `state_tensors` on an optimiser that was built alike."""
    state: dict[int, dict[str, Any]] = {}
    groups = optimiser.state_dict()["param_groups"]
    for key, value in {**tensors, **values}.items():
        index, _, name = key.removeprefix("group/").partition("/")
        if key.startswith("group/"):
            groups[int(index)][name] = value
            continue
        # a copy, since the optimiser would work in the tensors it is given
        state.setdefault(int(index), {})[name] = value.clone() if isinstance(value, Tensor) else value
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def random_tensors(device: torch.device) -> dict[str, Tensor]:
    """State of torch's generators: the CPU's, and the device's where it has its own."""
    tensors = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    return tensors


def restore_random(tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Undo `random_tensors`; a run that moved to another kind of device keeps the generators it has there."""
    torch.set_rng_state(tensors["cpu"])
    if device.type == "cuda" and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"], device)


@contextmanager
def own_random(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Give a block torch's generators for itself, seeded if asked; the caller's go on where they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        if seed is not None:
            torch.manual_seed(seed)
        yield
