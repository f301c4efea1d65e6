"""Where the prepared events of a head lie while it trains: on its device, in memory, or mapped from disk.

Decided from measured sizes, and said with the reason. It changes no result: order and batches are the same.
"""

import os
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import torch

from frz.errors import TrainingError
from frz.progress import size

Residency: TypeAlias = Literal["device", "ram", "mapped"]

SHARE = 0.7
"""Share of what is free that events may take; the rest is for the head, its gradients and other programs."""
BUFFERS = 2.5
"""Shuffle buffers of a mapped data set: one is in use, one is being filled; both hold some events of other splits."""


class ResidencyPlan(NamedTuple):
    """Where events will lie, and why."""

    mode: Residency
    why: str

    def __str__(self) -> str:
        return f"residency: {self.mode}; {self.why}"


class _Option(NamedTuple):
    """What a mode takes of which memory."""

    needs: int
    free: int
    where: str

    @property
    def fits(self) -> bool:
        return self.needs <= SHARE * self.free

    def __str__(self) -> str:
        return f"{size(self.needs)} of {size(self.free)} free {self.where}"


def plan_residency(
    n_bytes: int, buffer_bytes: int, device: torch.device, asked: Residency | None = None, free: int | None = None
) -> ResidencyPlan:
    """Choose where events lie: as near to the arithmetic as they fit.

    Parameters
    ----------
    n_bytes : int
        Bytes of the prepared events.
    buffer_bytes : int
        Bytes of those that are shuffled together (`OrderConfig.window` events).
    device : torch.device
        Where the head trains. On the CPU `device` is `ram`.
    asked : {'device', 'ram', 'mapped'}, optional
        Take this one.
    free : int, optional
        Bytes of memory that are free, if not as found.

    Raises
    ------
    TrainingError
        If events do not fit as asked, or not at all, with what would fit.
    """
    free = free_memory() if free is None else free
    held = _Option(n_bytes, free, "memory")
    options: dict[Residency, _Option] = {}
    if device.type == "cuda":
        options["device"] = _Option(n_bytes, torch.cuda.mem_get_info(device)[0], "device memory")
    options |= {"ram": held, "mapped": _Option(min(int(BUFFERS * buffer_bytes), n_bytes), free, "memory")}
    options.setdefault("device", held)
    fitting = [mode for mode, option in options.items() if option.fits]
    mode = asked or (fitting or ["mapped"])[0]
    option = options[mode]
    if not option.fits:
        what = f"the prepared events do not fit: {mode} takes {option}"
        lower = f"lower loading.shuffle_blocks {max(1, option.needs // max(int(SHARE * free), 1)) + 1}-fold"
        way_out = f"take --residency {fitting[0]}" if fitting else lower
        raise TrainingError(what, where=f"residency {mode}", way_out=way_out)
    if asked == "device" and device.type == "cpu":
        return ResidencyPlan(mode, f"as asked, which is ram, for the device is the CPU; {option}")
    if asked:
        return ResidencyPlan(mode, f"as asked, {option}")
    nearer = [f"{other} would take {options[other]}" for other in options if other not in fitting and other != mode]
    return ResidencyPlan(mode, "; ".join([f"takes {option}", *nearer]))


def fits_in_memory(n_bytes: int) -> bool:
    """Whether so much may be held in memory."""
    return n_bytes <= SHARE * free_memory()


def free_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process can still take: of the machine, and of every control group that it is in."""
    try:
        free = [_numbers(proc / "meminfo")["MemAvailable:"] * 1024]
    except (OSError, KeyError):  # not Linux: all that there is
        free = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    groups = (proc / "self/cgroup").read_text().splitlines() if (proc / "self/cgroup").is_file() else []
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = cgroups / controllers
        group = top / path.lstrip("/")
        limits = (_left(place) for place in (group, *group.parents) if place.is_relative_to(top))
        free += [left for left in limits if left is not None]
    return max(0, min(free))


def _left(group: Path) -> int | None:
    """Bytes that a control group may still take; what it keeps of files can be given back."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            text = (group / limit).read_text().strip()
            if text == "max":
                return None
            taken = int((group / used).read_text()) - _numbers(group / "memory.stat").get(cache, 0)
            return int(text) - taken
        except OSError:
            continue
    return None


def _numbers(file: Path) -> dict[str, int]:
    """`name number` by line."""
    lines = (line.split() for line in file.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1}
