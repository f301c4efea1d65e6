"""Figures of a report. Numbers in, a matplotlib figure out; no pyplot, no settings that outlive the call.

Particular: a point stands where its bin is, whatever bins around it are empty, and a histogram never hides what
lies outside: the caller gets the counts from `outside` and says them.
"""

# Axes: N entries, B bins.

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from frz.evaluation.fields import Floats, Spread

SIZE = (5.2, 3.5)
"""Inches; narrow, so that the letters can be read on a phone."""
INK = "#222222"
BLUE, ORANGE = "#0072b2", "#d55e00"
"""Told apart by colour-blind people (Okabe and Ito)."""
COLOURS = (BLUE, ORANGE, "#009e73", "#cc79a7", "#56b4e9", "#e69f00", INK)
DASHES = ("-", "--", ":")
"""Of curves beside each other; the colours are Okabe's and Ito's too."""
MARKS = (
    {"color": BLUE, "marker": "o", "markersize": 4.5},
    {"color": ORANGE, "marker": "D", "markersize": 4, "markerfacecolor": "white"},
)
"""What is measured, then its yardstick."""
SYMBOLS = {"pt": "pT", "eta": "η", "phi": "φ", "q": "charge"}
N_BINS = 60
WORDY = 3.2
"""Decades up to which a logarithmic axis shows 1, 2, 5 and not powers of ten alone."""
MARKED = 30
"""Curves of more epochs are drawn without marks."""
REACH = 5.0
"""A histogram reaches so many robust widths to either side of the median."""
FAR = 4.0
"""A yardstick that is so many times higher than all points is written instead of drawn."""


def label(name: str, unit: str = "") -> str:
    """A quantity as people write it: `pT [GeV]` for `pt`, `charge/pT` for `q_over_pt`."""
    symbol = "/".join(SYMBOLS.get(part, part) for part in name.split("_over_"))
    return f"{symbol} [{unit}]" if unit not in ("", "1") else symbol


def training_curves(epochs: Sequence[Mapping[str, Any]], best: float | None = None, metric: str = "val/loss") -> Figure:
    """Loss on the training and validation split, its parts in validation, a metric, and learning rate, by epoch.

    Parameters
    ----------
    epochs : sequence of mapping
        Lines of `metrics.jsonl`: `epoch`, `lr`, `train/loss`, `val/loss`, `train/...` and `val/...` of its parts; what
        is missing or None is left out.
    best : float, optional
        Epoch to mark: that of the weights that were kept.
    metric : str
        The one that decides which weights are best; has a panel if it is neither the loss nor a part of it.
    """
    known = dict.fromkeys(key for e in epochs for key in e)
    both = [key for key in known if key.startswith("val/") and key.replace("val/", "train/", 1) in known]
    parts = [key for key in both if key != "val/loss"]
    metrics = [metric] if metric in known and metric not in (*both, "train/loss") else []
    shares = (3, *[2 for group in (parts, metrics) if group], 1)
    figure = Figure(figsize=(SIZE[0], SIZE[1] * sum(shares) / 4), layout="constrained")
    loss, *others, rate = figure.subplots(len(shares), 1, sharex=True, height_ratios=shares)
    for key, name, mark in (("train/loss", "training split", MARKS[0]), ("val/loss", "validation split", MARKS[1])):
        _curve(loss, epochs, key, name, mark)
    for index, key in enumerate(parts):
        line = {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index // len(COLOURS) % len(DASHES)]}
        _curve(others[0], epochs, key, label(key.removeprefix("val/")), line | {"marker": "."})
    for key in metrics:
        _curve(others[-1], epochs, key, key, MARKS[1])
    points = [(e["epoch"], e["lr"]) for e in epochs if e.get("lr") is not None]
    if points:
        rate.plot(*zip(*points, strict=True), color=INK, linewidth=1.5, marker="." if len(points) < 3 else "")
    if best is not None:
        loss.axvline(best, color=INK, linestyle=":", linewidth=1.2, label=f"kept: epoch {best:g}")
    dress(loss, "", "loss")
    if parts:
        dress(others[0], "", "parts, validation")
        others[0].margins(y=0.3)  # room for the names
        others[0].legend(fontsize=7.5, labelcolor=INK, ncols=min(4, len(parts)), edgecolor="none", framealpha=0.7)
    if metrics:
        dress(others[-1], "", "metric")
        legend(others[-1])
    dress(rate, "epoch", "learning rate")
    rate.set_ylim(bottom=0)
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    rate.yaxis.get_offset_text().set_fontsize(8)
    rate.yaxis.label.set_fontsize(8.5)
    rate.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    legend(loss)
    return figure


def _curve(axes: Axes, epochs: Sequence[Mapping[str, Any]], key: str, name: str, style: Mapping[str, Any]) -> None:
    """One entry of the lines of metrics against the epoch; marks where there are few."""
    points = [(e["epoch"], e[key]) for e in epochs if e.get(key) is not None]
    if points:
        bare = {kind: value for kind, value in style.items() if not kind.startswith("marker")}
        chosen = style if len(points) <= MARKED else bare
        axes.plot(*zip(*points, strict=True), label=name, linewidth=1.5, **chosen)


def proportions(edges: Sequence[float], series: Mapping[str, Sequence[Mapping[str, Any]]], x: str, y: str) -> Figure:
    """Fractions in bins with their intervals; bins that hold nothing are left out.

    Parameters
    ----------
    edges : sequence of float
        B + 1 rising edges.
    series : mapping
        One or two lists of B bins by name, each bin with `value` (None = empty), `low` and `high`.
    x, y : str
        Labels of the axes.
    """
    figure, axes = _one()
    lowest, shown = 1.0, []
    for (name, bins), mark in zip(series.items(), MARKS, strict=False):
        filled = [(i, b) for i, b in enumerate(bins) if b["value"] is not None]
        value, low, high = (np.array([b[key] for _, b in filled], np.float64) for key in ("value", "low", "high"))
        _points(axes, edges, [i for i, _ in filled], value, np.stack([value - low, high - value]), name, mark)
        lowest = min(lowest, *low) if len(low) else lowest
        shown += [i for i, _ in filled]
    _bin_axis(axes, edges, shown)
    dress(axes, x, y)
    bottom = max(0.0, math.floor((lowest - 0.02) * 20) / 20)
    axes.set_ylim(bottom, 1 + 0.04 * (1 - bottom))
    if len(series) > 1:
        legend(axes)
    return figure


def spreads(edges: Sequence[float], bins: Sequence[Spread], x: str, y: str, yardstick: float | None = None) -> Figure:
    """Width of residuals in bins, and their median below it; bins without a width are left out.

    Parameters
    ----------
    edges : sequence of float
        B + 1 rising edges.
    bins : sequence of Spread
        One per bin.
    x, y : str
        Labels of the axis and of the width.
    yardstick : float, optional
        Width of the yardstick over all entries: a dashed line, or words if it is far above all points.
    """
    figure = Figure(figsize=(SIZE[0], SIZE[1] * 1.15), layout="constrained")
    width, median = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    kept = [i for i, b in enumerate(bins) if not math.isnan(b.width)]
    chosen = [bins[i] for i in kept]
    value, error, middle, middle_error = (
        np.array([getattr(b, name) for b in chosen], np.float64)
        for name in ("width", "width_error", "median", "median_error")
    )
    _points(width, edges, kept, value, np.stack([error, error]), "head", MARKS[0])
    _points(median, edges, kept, middle, np.stack([middle_error, middle_error]), "head", MARKS[0])
    median.axhline(0, color=INK, linewidth=0.8)
    top = float((value + error).max()) if len(value) else 0.0
    if yardstick is not None:
        far = len(value) > 0 and yardstick > FAR * top
        text = f"training mean over all: {yardstick:.3g}{' (above the axis)' if far else ''}"
        # A line without points stands in the legend alone.
        height = [math.nan] if far else [yardstick] * 2
        width.plot([edges[0], edges[-1]][: len(height)], height, color=ORANGE, linestyle="--", label=text)
        top = top if far else max(top, yardstick)
    _bin_axis(median, edges, kept)
    dress(width, "", y)
    dress(median, x, "median")
    width.set_ylim(0, 1.25 * top or 1.0)
    legend(width)
    return figure


def residuals(series: Mapping[str, Floats], limits: tuple[float, float], x: str, counted: str = "slots") -> Figure:
    """Histograms of residuals (N,) of the head and of its yardstick, over `limits`.

    Parameters
    ----------
    series : mapping
        One or two arrays by name.
    limits : (float, float)
        From `robust_range`.
    x : str
        Label of the axis.
    counted : str
        What the entries are.
    """
    figure, axes = _one()
    edges = np.linspace(*limits, N_BINS + 1)
    for (name, values), mark in zip(series.items(), MARKS, strict=False):
        counts, _ = np.histogram(values, edges)
        fill = mark is MARKS[0]
        color = str(mark["color"])
        if fill:
            axes.stairs(counts, edges, fill=True, color=color, alpha=0.25)
        axes.stairs(counts, edges, color=color, label=name, linestyle="-" if fill else "--", linewidth=1.5)
    axes.set_xlim(*limits)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.2)
    dress(axes, x, f"{counted} per bin")
    legend(axes)
    return figure


def truth_and_prediction(
    truth: Floats,
    found: Floats,
    limits: tuple[float, float],
    quantity: str,
    constant: float | None = None,
    counted: str = "slots",
) -> Figure:
    """Predictions (N,) over truth (N,): how many in each cell, the diagonal, and a constant prediction.

    Parameters
    ----------
    truth, found : array (N,)
        Truth and prediction.
    limits : (float, float)
        Of both axes; logarithmic if positive and a factor of 10 or more apart.
    quantity : str
        Its label with its unit.
    constant : float, optional
        A prediction that is the same for all: a dashed line.
    counted : str
        What the entries are.
    """
    figure = Figure(figsize=(SIZE[0], SIZE[1] * 1.15), layout="constrained")
    axes = figure.subplots()
    scale = _scale(limits)
    edges = (np.geomspace if scale == "log" else np.linspace)(*limits, N_BINS + 1)
    edges[[0, -1]] = limits
    counts, _, _ = np.histogram2d(truth, found, (edges, edges))
    shown = np.ma.masked_less(counts.T, 1)
    norm = LogNorm(1, max(10, counts.max()))
    mesh = axes.pcolormesh(edges, edges, shown, norm=norm, cmap="viridis_r")
    bar = figure.colorbar(mesh, ax=axes, pad=0.02)
    bar.set_label(f"{counted} per cell", color=INK, fontsize=9)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.plot(limits, limits, color=INK, linewidth=1, label="prediction = truth")
    if constant is not None and limits[0] <= constant <= limits[1]:
        axes.axhline(constant, color=ORANGE, linestyle="--", linewidth=1.5, label="training mean")
    for which in ("x", "y"):
        _set_scale(axes, which, scale, limits)
    axes.set(xlim=limits, ylim=limits)
    dress(axes, f"true {quantity}", f"predicted {quantity}")
    legend(axes, loc="upper left")
    return figure


def robust_range(values: Floats) -> tuple[float, float]:
    """Median +- 5 robust widths, as far as there are values; +-1 around it where all are equal."""
    if not len(values):
        return -1.0, 1.0
    lowest, low, middle, high, highest = (float(q) for q in np.quantile(values, (0, 0.16, 0.5, 0.84, 1)))
    if lowest == highest:
        return middle - 1.0, middle + 1.0
    reach = REACH * (high - low) / 2 or highest - lowest
    return max(middle - reach, lowest), min(middle + reach, highest)


def central_range(values: Floats) -> tuple[float, float]:
    """What holds 99 % of the values, widened a little; never empty."""
    if not len(values):
        return 0.0, 1.0
    low, high = (float(q) for q in np.quantile(values, (0.005, 0.995)))
    if low == high:
        return low - 1.0, high + 1.0
    return low, high


def outside(values: NDArray[Any], limits: tuple[float, float]) -> tuple[int, int]:
    """How many values lie below and above the limits."""
    return int((values < limits[0]).sum()), int((values > limits[1]).sum())


def _one() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.subplots()


def _points(
    axes: Axes,
    edges: Sequence[float],
    kept: Sequence[int],
    value: Floats,
    error: Floats,
    name: str,
    mark: Mapping[str, Any],
) -> None:
    """Points with errors (2, n) in the middle of the bins `kept` (as the axis shows it); the bar across is the bin."""
    bounds = np.asarray(edges, np.float64)
    middle = (bounds[:-1] + bounds[1:]) / 2
    if (scale := _scale(edges)) != "linear":
        first = 1 if scale == "symlog" else 0
        middle[first:] = np.sqrt(bounds[first:-1] * bounds[first + 1 :])
    low, centre, high = bounds[:-1][kept], middle[kept], bounds[1:][kept]
    spread = np.stack([centre - low, high - centre])
    axes.errorbar(centre, value, np.maximum(error, 0), spread, label=name, linestyle="", linewidth=1.2, **mark)


def _scale(edges: Sequence[float]) -> Literal["linear", "log", "symlog"]:
    """Logarithmic from a decade on; with a first bin that begins at 0, linear there and logarithmic above."""
    if edges[0] > 0:
        return "log" if edges[-1] >= 10 * edges[0] else "linear"
    return "symlog" if edges[0] == 0 and edges[-1] >= 10 * edges[1] else "linear"


def _bin_axis(axes: Axes, edges: Sequence[float], kept: Sequence[int]) -> None:
    """Scale and range of the horizontal axis: from the first to the last bin with a point."""
    low, high = (edges[min(kept)], edges[max(kept) + 1]) if kept else (edges[0], edges[-1])
    scale = _scale(edges)
    _set_scale(axes, "x", scale, (low, high), edges[1])
    if scale == "linear" or low == 0:
        margin = 0.03 * (high - low if scale == "linear" else edges[1])
        axes.set_xlim(low - margin, high + margin if scale == "linear" else high * 1.06)
    else:
        axes.set_xlim(low / 1.06, high * 1.06)


def _set_scale(axes: Axes, which: str, scale: str, limits: tuple[float, float], first: float = 1.0) -> None:
    """Plain numbers 1, 2, 5, 10 ... at the ticks of a logarithmic axis; `first` is where a linear beginning ends."""
    if scale == "linear":
        return
    options = {"linthresh": first, "linscale": 0.4} if scale == "symlog" else {}
    (axes.set_xscale if which == "x" else axes.set_yscale)(scale, **options)
    axis = axes.xaxis if which == "x" else axes.yaxis
    smallest = first if limits[0] == 0 else limits[0]
    n_decades = math.log10(limits[1] / smallest)
    steps = (1.0, 2.0, 5.0) if n_decades <= WORDY else (1.0,)
    powers = range(math.floor(math.log10(smallest)), math.ceil(math.log10(limits[1])) + 1)
    ticks = [step * 10.0**power for power in powers for step in steps]
    slack = 1e-9  # an edge is its own tick even if 0.2 is not exactly 2 / 10
    shown = [tick for tick in ticks if smallest * (1 - slack) <= tick <= limits[1] * (1 + slack)]
    axis.set_major_locator(FixedLocator([0.0, *shown] if limits[0] == 0 else shown))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def dress(axes: Axes, x: str, y: str) -> None:
    """Labels, and lines that do not shout."""
    axes.set_xlabel(x, color=INK, fontsize=10.5)
    axes.set_ylabel(y, color=INK, fontsize=10.5)
    axes.tick_params(labelsize=9, colors=INK, which="both")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.grid(True, color="#888888", alpha=0.25, linewidth=0.7)
    axes.set_axisbelow(True)


def legend(axes: Axes, loc: Literal["best", "upper left"] = "best") -> None:
    """Names of what is drawn, if anything has one."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8.5, labelcolor=INK, loc=loc, facecolor="white", framealpha=0.7, edgecolor="none")
