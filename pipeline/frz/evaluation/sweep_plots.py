"""Figures of a sweep: its points as parallel coordinates, and the learning curves of its heads.

Particular: colour is rank, not score, so that one bad head does not paint the others alike; the best are drawn last.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from frz.evaluation.plots import INK, SIZE

COLOURS = "viridis_r"
DASHED = (0, (3, 2))
TICKS = 8
"""Most values that an axis of choices names."""


def draw(folder: Path) -> list[str]:
    """Write `sweep.png` of a sweep's folder from its `results.json`; the paths of what was written."""
    found = json.loads((folder / "results.json").read_text())
    outcomes = [one for one in found["outcomes"] if one["score"] is not None]
    if not outcomes:
        return []
    figure = sweep_figure(outcomes)
    path = folder / "sweep.png"
    with path.open("wb") as file:
        figure.savefig(file, format="png", dpi=150)
    return [str(path)]


def sweep_figure(outcomes: Sequence[Mapping[str, Any]]) -> Figure:
    """Parallel coordinates on top, learning curves below.

    Parameters
    ----------
    outcomes : sequence of mapping
        `chosen` (values by key), `seed`, `score` (with `monitor` and `monitor_mode`), `status` and `lines` (of
        `metrics.jsonl`) of each head.
    """
    figure = Figure(figsize=(SIZE[0] * 1.6, SIZE[1] * 2), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    sign = -1 if outcomes[0].get("monitor_mode") == "max" else 1
    order = sorted(range(len(outcomes)), key=lambda i: -sign * outcomes[i]["score"])  # the worst first
    ranks = np.linspace(1, 0, len(outcomes)) if len(outcomes) > 1 else np.zeros(1)
    colours = {i: colormaps[COLOURS](float(1 - rank)) for i, rank in zip(order, ranks, strict=True)}
    parallel_coordinates(upper, outcomes, order, colours)
    learning_curves(lower, outcomes, order, colours)
    _legend(figure, outcomes, [colours[i] for i in order])
    return figure


def _legend(figure: Figure, outcomes: Sequence[Mapping[str, Any]], colours: Sequence[Any]) -> None:
    """What colours (the worst first) and dashes mean, as far as they occur."""
    entries = [Line2D([], [], color=colours[-1], label="the best head")]
    if len(colours) > 1:
        entries.append(Line2D([], [], color=colours[0], label="the worst (colour is rank)"))
    if not all(map(_whole, outcomes)):
        entries.append(Line2D([], [], color=INK, linestyle=DASHED, label="dropped or failed on the way"))
    figure.legend(handles=entries, loc="outside upper center", ncols=len(entries), frameon=False, fontsize=8)


def parallel_coordinates(
    axes: Axes, outcomes: Sequence[Mapping[str, Any]], order: Sequence[int], colours: Mapping[int, Any]
) -> None:
    """One line per head across an axis per key, and its score at the end; axes are scaled to what occurs."""
    keys = list(outcomes[0]["chosen"])
    if len({one["seed"] for one in outcomes}) > 1:
        keys.append("seed")
    columns = [[one["seed"] if key == "seed" else one["chosen"][key] for one in outcomes] for key in keys]
    columns.append([one["score"] for one in outcomes])
    heights = np.stack([_heights(axes, place, column) for place, column in enumerate(columns)])  # (keys + 1, N)
    for i in order:
        axes.plot(range(len(columns)), heights[:, i], color=colours[i], linewidth=1.2, alpha=0.8)
    labels = [key.rpartition(".")[2] for key in keys]
    axes.set_xticks(range(len(columns)), [*labels, outcomes[0].get("monitor", "score")])
    axes.set_yticks([])
    axes.set_xlim(-0.3, len(columns) - 0.5)
    axes.set_ylim(-0.08, 1.08)
    for place in range(len(columns)):
        axes.axvline(place, color=INK, linewidth=0.8)
    for side in ("left", "right", "top", "bottom"):
        axes.spines[side].set_visible(False)


def _heights(axes: Axes, place: int, column: Sequence[Any]) -> NDArray[np.float64]:
    """Heights in [0, 1] on one axis (N,), whose values are written beside it: few values evenly, many by size."""
    plain = all(isinstance(value, int | float) and not isinstance(value, bool) for value in column)
    values = sorted(set(column)) if plain else list(dict.fromkeys(map(str, column)))
    if not plain or len(values) <= TICKS:
        at = {value: i / max(len(values) - 1, 1) for i, value in enumerate(values)}
        heights = np.array([at[value if plain else str(value)] for value in column])
        told = [(height, value) for value, height in at.items()]
    else:
        numbers = np.array(column, float)
        logs = numbers.min() > 0 and numbers.max() > 30 * numbers.min()
        scale = np.log(numbers) if logs else numbers
        heights = (scale - scale.min()) / (scale.max() - scale.min())
        told = [(0.0, float(numbers.min())), (1.0, float(numbers.max()))]
    for height, value in told:
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        axes.text(place + 0.03, height, text, fontsize=7, color=INK, va="center", zorder=5)
    return heights


def learning_curves(
    axes: Axes, outcomes: Sequence[Mapping[str, Any]], order: Sequence[int], colours: Mapping[int, Any]
) -> None:
    """Validation loss (without one: training loss) by epoch; heads that did not reach the end are dashed."""
    for i in order:
        lines = outcomes[i]["lines"]
        curve = [(line["epoch"], value) for line in lines if (value := _loss(line)) is not None]
        epochs, losses = zip(*curve, strict=True)
        marker = "o" if len(curve) < 2 else ""
        dashes = "-" if _whole(outcomes[i]) else DASHED
        axes.plot(epochs, losses, color=colours[i], linestyle=dashes, marker=marker, linewidth=1.2, markersize=3)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation loss" if "val/loss" in outcomes[0]["lines"][-1] else "training loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _whole(outcome: Mapping[str, Any]) -> bool:
    """Whether a head reached the end of its training."""
    return bool(outcome["status"].startswith(("trained", "finished")))


def _loss(line: Mapping[str, Any]) -> float | None:
    found: float | None = line.get("val/loss", line.get("train/loss"))
    return found
