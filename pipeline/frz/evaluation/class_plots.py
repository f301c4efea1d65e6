"""Figures of classes: ROC and precision-recall curves, step by step, and what came of claimed probabilities."""

# Axes: T thresholds, B bins.

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from frz.evaluation.plots import BLUE, COLOURS, INK, MARKS, SIZE, dress, legend
from frz.heads.scores import SPECIFICITY, Counts

MOST_POINTS = 2000
"""Of a curve: more cannot be seen."""


def roc(curves: Mapping[str, Counts]) -> Figure:
    """Recall against the false positive rate, curves by name; rows of counts beyond the first are not looked at."""
    figure, axes = _square()
    for (name, counts), colour in zip(curves.items(), COLOURS, strict=False):
        found, wrong = (np.append(0.0, each[0] / each[0, -1]) for each in counts)
        shown = _thinned(len(found))
        axes.plot(wrong[shown], found[shown], color=colour, linewidth=1.5, label=name)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    axes.axvline(1 - SPECIFICITY, color=INK, linestyle=":", linewidth=1)
    dress(axes, "false positive rate", "recall")
    _unit(axes)
    if len(curves) > 1:
        legend(axes)
    return figure


def precision_recall(curves: Mapping[str, Counts], shares: Mapping[str, float]) -> Figure:
    """Precision against recall, curves by name, and the share of each class: the precision of a coin toss."""
    figure, axes = _square()
    for (name, counts), colour in zip(curves.items(), COLOURS, strict=False):
        found, wrong = counts.positive[0], counts.negative[0]
        recall, precision = np.append(0.0, found / found[-1]), found / (found + wrong)
        shown = _thinned(len(precision))
        # Between two recalls the precision is that of the higher one, as the area counts it.
        axes.step(recall[np.append(0, shown + 1)], precision[np.append(shown[0], shown)], color=colour, label=name)
        axes.axhline(shares[name], color=colour, linestyle="--", linewidth=1)
    dress(axes, "recall", "precision")
    _unit(axes)
    if len(curves) > 1:
        legend(axes)
    return figure


def reliability(series: Mapping[str, Sequence[Mapping[str, Any]]], counted: str) -> Figure:
    """What came true against what was claimed, with Wilson intervals, one or two series by name; below, how many.

    Parameters
    ----------
    series : mapping
        Bins as `classification.reliability` gives them.
    counted : str
        What the members are.
    """
    figure = Figure(figsize=(SIZE[0], SIZE[1] * 1.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=INK, linewidth=0.8)
    for (name, bins), mark in zip(series.items(), MARKS, strict=False):
        claimed = np.array([b["claimed"] for b in bins])
        value, low, high = (np.array([b["came"][key] for b in bins]) for key in ("value", "low", "high"))
        upper.errorbar(
            claimed, value, np.stack([value - low, high - value]), label=name, linestyle="-", linewidth=1, **mark
        )
        edges = np.array([[b["low"], b["high"]] for b in bins])
        total = [b["came"]["total"] for b in bins]
        colour = str(mark["color"])
        filled = colour == BLUE
        lower.bar(
            edges[:, 0],
            total,
            edges[:, 1] - edges[:, 0],
            align="edge",
            color=colour if filled else "none",
            alpha=0.4 if filled else 1,
            edgecolor=colour,
        )
    lower.set_yscale("log")
    dress(upper, "", "came true")
    dress(lower, "probability claimed", f"{counted}s")
    _unit(upper)
    legend(upper)
    return figure


def _square() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(SIZE[0], SIZE[0] * 0.85), layout="constrained")
    return figure, figure.subplots()


def _unit(axes: Axes) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def _thinned(n: int) -> NDArray[np.int64]:
    """Places of at most `MOST_POINTS` of n points, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, MOST_POINTS)).round().astype(np.int64))
