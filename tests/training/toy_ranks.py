"""A small run by several processes: `torchrun --nproc_per_node 2 toy_ranks.py FOLDER [FATE]`.

Makes one run per entry of `SETTINGS` in a folder of that name; `interrupted` by a Ctrl-C that only the last process
hears, and continued; `left` likewise, and not continued. With a fate (`error`, `bug` or `kill`) that happens to the
last process alone in its fifth loss.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from toy_run import CONFIG, ToySource

from frz.errors import FrzError, TrainingError
from frz.training.config import TrainerConfig
from frz.training.distributed import ALONE, World, joined
from frz.training.loop import fit
from frz.training.result import Result
from frz.training.source import Batch

N_TRAIN, N_VAL = 25, 9  # the last batch has one event, so other processes have none of it
TECHNIQUES = {"accumulate": 3, "ema_decay": 0.9, "val_every": 0.5, "save_top_k": 2, "clip_norm": 0.5}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "techniques": TECHNIQUES,
    "interrupted": TECHNIQUES,
    "left": TECHNIQUES,
    "skip": {"skip_nonfinite": 3},
    "metric": {"monitor": "val/size", "monitor_mode": "max"},
}


class Branching(nn.Module):
    """A mean over events whose second branch only some events take, so that some processes have no gradient for it.

    The third is never taken: no weight decay may touch it.
    """

    def __init__(self, before: Callable[[int], None] = lambda call: None) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.trunk, self.rare, self.never = nn.Linear(3, 6), nn.Linear(6, 1), nn.Linear(6, 1)
        self.common = nn.Linear(6, 1)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.before, self.calls = before, 0

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        self.calls += 1
        self.before(self.calls)
        self.seen += self.training
        hidden = self.trunk(batch["event/x"]).tanh()
        found = self.common(hidden)[:, 0]
        parts = {}
        rare = batch["event/x"][:, 0] > 1.0
        if rare.any():
            found = found.index_add(0, rare.nonzero()[:, 0], self.rare(hidden[rare])[:, 0])
            parts["rare"] = found[rare].mean()
        return (found - batch["event/y"]).square().mean(), parts


def run(folder: Path, name: str, world: World = ALONE, before: Callable[[int], None] = lambda call: None) -> Result:
    train, val = ToySource(N_TRAIN, 1), ToySource(N_VAL, 2, shuffle=False)
    if name == "skip":
        train.x[7, 1] = torch.nan
    config = TrainerConfig.model_validate(CONFIG | SETTINGS[name])
    return fit(Branching(before), train, val, config, folder, measure=size_of, world=world)


def size_of(module: nn.Module) -> dict[str, float]:
    """A metric that only one process measures."""
    return {"size": sum(float(parameter.square().sum()) for parameter in module.parameters())}


def main(folder: str, fate: str = "") -> None:
    with joined("cpu") as world:
        last = world.rank == world.size - 1

        def before(call: int) -> None:
            if not last or call != 5:
                return
            match fate:
                case "error":
                    raise TrainingError("the fifth loss was asked for")
                case "bug":
                    raise ZeroDivisionError
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case _:
                    signal.raise_signal(signal.SIGINT)

        if fate:
            run(Path(folder), "plain", world, before)
            return
        for name in SETTINGS:
            if name in ("interrupted", "left"):
                try:
                    run(Path(folder) / name, name, world, before)
                except KeyboardInterrupt:
                    print(f"process {world.rank} was interrupted", flush=True)
            if name == "left":
                continue
            result = run(Path(folder) / name, name, world)
            assert result.resumed == (name == "interrupted")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except FrzError as error:  # as the command line does
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
