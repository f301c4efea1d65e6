"""Draws the learning-rate schedules, from the very code that training uses: `python -m benchmarks schedules`.

Makes the figure of the training README. Keys are the defaults, but for a longer warm-up and shorter cycles, so that
both can be seen in a run of 14 epochs.
"""

import argparse
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

from matplotlib.figure import Figure
from PIL import Image

from frz.evaluation.plots import BLUE, INK, ORANGE
from frz.training.schedules import Schedule, ScheduleConfig

EPOCHS, STEPS = 14, 12
COLOURS = 24
FIGURE = Path("pipeline/frz/training/schedules.png")
KEYS: dict[str, dict[str, Any]] = {
    "cosine_restarts": {"restart_epochs": 4},
    "plateau": {"plateau_patience": 1},
}
NOTES = {
    "cosine_restarts": "restart_epochs: 4",
    "plateau": "patience 1, no progress after epoch 5",
    "schedule_free": "weights are averaged",
}


def rates(schedule: str, per: str) -> list[float]:
    """Rate of every step; validations find progress in the first five epochs and none afterwards."""
    keys = {"schedule": schedule, "schedule_per": per, "warmup": 0.15, **KEYS.get(schedule, {})}
    run = Schedule(ScheduleConfig.model_validate(keys), EPOCHS, STEPS)
    found = []
    for epoch in range(EPOCHS):
        found += [run.factor(step) for step in range(epoch * STEPS, (epoch + 1) * STEPS)]
        run.validated(1 / (1 + min(epoch, 4)))
    return found


def draw() -> Figure:
    """One panel per schedule: per step, and per epoch where that differs."""
    names = get_args(ScheduleConfig.model_fields["schedule"].annotation)
    figure = Figure(figsize=(7.0, 6.2), layout="constrained")
    panels = figure.subplots(3, 2, sharex=True, sharey=True).flat
    steps = [step / STEPS for step in range(EPOCHS * STEPS)]
    for axes, name in zip(panels, names, strict=True):
        per_step, per_epoch = rates(name, "step"), rates(name, "epoch")
        if per_epoch != per_step:
            axes.stairs(per_epoch[::STEPS], range(EPOCHS + 1), baseline=None, color=ORANGE, label="per epoch")
        axes.plot(steps, per_step, color=BLUE, linewidth=1.8, label="per step")
        axes.set_title(name, loc="left", fontsize=11, color=INK, fontweight="bold")
        axes.text(1.0, 1.03, NOTES.get(name, ""), transform=axes.transAxes, ha="right", fontsize=8, color=INK)
        axes.set(xlim=(0, EPOCHS), ylim=(0, 1.08), xticks=range(0, EPOCHS + 1, 2))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(linewidth=0.4, alpha=0.5)
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel("learning rate / lr", fontsize=10)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FIGURE, help="PNG to write (default: %(default)s)")
    out = parser.parse_args().out
    drawn = BytesIO()
    draw().savefig(drawn, format="png", dpi=110)
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(out, optimize=True)  # a third of the size
    print(f"wrote {out} ({out.stat().st_size / 1000:.1f} kB)")


if __name__ == "__main__":
    main()
