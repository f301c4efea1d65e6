"""Figures: points stand where their bins are, histograms hold what they say, odd input gives a picture, no warning."""

import math

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from frz.evaluation import plots
from frz.evaluation.binning import binned
from frz.evaluation.fields import Spread, spread_in_bins
from frz.evaluation.page import png

NOTHING = math.nan


def drawn(figure: Figure) -> bytes:
    """The figure as PNG: drawing is where warnings and errors come up."""
    data = png(figure)
    assert data.startswith(b"\x89PNG")
    return data


def points(figure: Figure, which: int = 0, series: int = 0) -> np.ndarray:
    """x and y (2, n) of a series with error bars."""
    return np.array(figure.axes[which].containers[series].lines[0].get_data())


def words(figure: Figure, which: int = 0) -> list[str]:
    legend = figure.axes[which].get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def bins_of(*pairs):
    """Bins of an evaluation from (successes, total)."""
    values = np.repeat(np.arange(len(pairs)) + 0.5, [n for _, n in pairs])
    flags = np.concatenate([np.arange(n) < k for k, n in pairs])
    return binned(values, flags, list(range(len(pairs) + 1))).to_json()


def test_efficiency_points_stand_at_the_middles_of_the_bins_that_are_not_empty():
    found = bins_of((3, 4), (0, 0), (0, 5), (2, 2), (0, 0))
    figure = plots.proportions(found["edges"], {"backbone": found["bins"]}, "x", "y")
    np.testing.assert_allclose(points(figure), [[0.5, 2.5, 3.5], [0.75, 0, 1]])
    assert words(figure) == []
    drawn(figure)


def test_error_bars_end_at_the_interval():
    found = bins_of((3, 4), (0, 0), (1, 5))
    figure = plots.proportions(found["edges"], {"backbone": found["bins"]}, "x", "y")
    _, _, (across, upright) = figure.axes[0].containers[0]
    ends = np.array([segment[:, 1] for segment in upright.get_segments()])
    filled = [b for b in found["bins"] if b["total"]]
    np.testing.assert_allclose(ends, [[b["low"], b["high"]] for b in filled])
    np.testing.assert_allclose([segment[:, 0] for segment in across.get_segments()], [[0, 1], [2, 3]])


def test_two_series_are_told_apart_and_named():
    found = bins_of((3, 4), (1, 5))
    figure = plots.proportions(found["edges"], {"head": found["bins"], "training mean": found["bins"]}, "x", "y")
    assert words(figure) == ["head", "training mean"]
    colors = {container.lines[0].get_color() for container in figure.axes[0].containers}
    assert colors == {plots.BLUE, plots.ORANGE}


@pytest.mark.parametrize(
    ("edges", "scale", "middles"),
    [
        ([4, 9, 100], "log", [6, 30]),
        ([0, 4, 100], "symlog", [2, 20]),
        ([5, 10, 40], "linear", [7.5, 25]),
        ([0, 10, 40], "linear", [5, 25]),
        ([-2, 0, 40], "linear", [-1, 20]),
    ],
)
def test_bins_over_a_decade_and_more_get_a_logarithmic_axis(edges, scale, middles):
    bins = bins_of((1, 2), (2, 3))["bins"]
    figure = plots.proportions(edges, {"backbone": bins}, "x", "y")
    assert figure.axes[0].get_xscale() == scale
    np.testing.assert_allclose(points(figure)[0], middles)
    low, high = figure.axes[0].get_xlim()
    assert low < edges[0] < edges[-1] < high
    drawn(figure)


@pytest.mark.parametrize(
    ("edges", "ticks"),
    [
        ([5, 10, 15, 20, 100, 200], [5, 10, 20, 50, 100, 200]),
        ([0, 0.2, 1, 5, 10], [0, 0.2, 0.5, 1, 2, 5, 10]),
        ([1e-3, 1, 1e4], [1e-3, 0.01, 0.1, 1, 10, 100, 1000, 1e4]),
    ],
)
def test_logarithmic_axes_have_plain_numbers(edges, ticks):
    bins = bins_of(*[(1, 2)] * (len(edges) - 1))["bins"]
    axis = plots.proportions(edges, {"backbone": bins}, "x", "y").axes[0].xaxis
    np.testing.assert_allclose(axis.get_majorticklocs(), ticks)
    assert [axis.get_major_formatter()(tick) for tick in ticks[:2]] == [f"{tick:g}" for tick in ticks[:2]]


def test_the_axis_ends_with_the_bins_that_hold_something():
    found = bins_of((0, 0), (3, 4), (1, 2), (0, 0), (0, 0))
    figure = plots.proportions(found["edges"], {"backbone": found["bins"]}, "x", "y")
    low, high = figure.axes[0].get_xlim()
    assert 0.9 < low < 1
    assert 3 < high < 3.1


def test_nothing_but_empty_bins_is_an_empty_plot():
    found = bins_of((0, 0), (0, 0))
    figure = plots.proportions(found["edges"], {"backbone": found["bins"]}, "x", "y")
    assert points(figure).shape == (2, 0)
    drawn(figure)


def test_widths_leave_out_bins_without_a_width_in_both_panels():
    bins = [Spread(50, 0.2, 0.01, 0.05, 0.02), Spread(3, *[NOTHING] * 4), Spread(40, 0.1, 0.01, -0.05, 0.02)]
    figure = plots.spreads([0, 1, 2, 3], bins, "x", "width")
    np.testing.assert_allclose(points(figure, 0), [[0.5, 2.5], [0.2, 0.1]])
    np.testing.assert_allclose(points(figure, 1), [[0.5, 2.5], [0.05, -0.05]])
    assert figure.axes[0].get_ylim()[0] == 0
    drawn(figure)


@pytest.mark.parametrize(("level", "is_drawn"), [(0.5, True), (7.0, False)])
def test_a_yardstick_far_above_is_written_and_one_near_is_drawn(level, is_drawn):
    figure = plots.spreads([0, 1], [Spread(50, 0.2, 0.01, 0.0, 0.02)], "x", "width", level)
    (line,) = (line for line in figure.axes[0].lines if line.get_linestyle() == "--")
    assert (level in line.get_ydata()) == is_drawn
    assert (figure.axes[0].get_ylim()[1] > level) == is_drawn
    (text,) = (text for text in words(figure) if "training mean" in text)
    assert f"{level:g}" in text
    assert ("above the axis" in text) != is_drawn
    drawn(figure)


def test_histograms_and_what_lies_outside_add_up():
    values = np.random.default_rng(0).standard_cauchy(1000)
    limits = plots.robust_range(values)
    figure = plots.residuals({"head": values, "training mean": 10 * values}, limits, "x")
    filled, *steps = (p for p in figure.axes[0].patches if isinstance(p, StepPatch))
    below, above = plots.outside(values, limits)
    assert below > 0
    assert above > 0
    assert filled.get_data().values.sum() + below + above == 1000
    wide = steps[1].get_data().values.sum()
    assert wide + sum(plots.outside(10 * values, limits)) == 1000
    assert figure.axes[0].get_xlim() == pytest.approx(limits)
    assert words(figure) == ["head", "training mean"]
    drawn(figure)


def test_the_robust_range_is_five_widths_or_what_there_is():
    values = np.random.default_rng(1).standard_cauchy(2000)
    low, middle, high = np.quantile(values, (0.16, 0.5, 0.84))
    reach = 2.5 * (high - low)
    assert plots.robust_range(values) == pytest.approx((middle - reach, middle + reach))
    assert plots.robust_range(np.linspace(-1, 1, 11)) == (-1, 1)
    assert plots.robust_range(np.array([0.0] * 99 + [7.0])) == (0, 7)
    assert plots.robust_range(np.full(5, 2.0)) == (1, 3)
    assert plots.robust_range(np.zeros(0)) == (-1, 1)


def test_outside_counts_strictly_and_the_range_holds_its_ends():
    assert plots.outside(np.array([-1.0, 0, 1, 2, 3]), (0, 2)) == (1, 1)


@pytest.mark.parametrize(("limits", "scale"), [((-1.0, 2.0), "linear"), ((1.0, 50.0), "log")])
def test_truth_and_prediction_counts_what_is_inside_both_axes(limits, scale):
    rng = np.random.default_rng(2)
    truth, found = rng.uniform(-2, 60, (2, 500))
    truth[0], found[0] = limits  # on the edges: inside
    figure = plots.truth_and_prediction(truth, found, limits, "pT [GeV]", constant=1.5)
    (mesh,) = (c for c in figure.axes[0].collections if isinstance(c, QuadMesh))
    inside = [(v >= limits[0]) & (v <= limits[1]) for v in (truth, found)]
    assert np.ma.filled(mesh.get_array(), 0).sum() == (inside[0] & inside[1]).sum()
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == scale
    assert figure.axes[0].get_xlabel() == "true pT [GeV]"
    assert words(figure) == ["prediction = truth", "training mean"]
    drawn(figure)


def test_a_prediction_stands_above_its_truth():
    figure = plots.truth_and_prediction(np.array([0.1]), np.array([0.9]), (0.0, 1.0), "x")
    mesh = next(c for c in figure.axes[0].collections if isinstance(c, QuadMesh))
    row, column = np.argwhere(np.ma.filled(mesh.get_array(), 0).reshape(plots.N_BINS, plots.N_BINS) == 1)[0]
    assert column == pytest.approx(0.1 * plots.N_BINS, abs=1)
    assert row == pytest.approx(0.9 * plots.N_BINS, abs=1)
    assert words(figure) == ["prediction = truth"]


def test_central_range_holds_99_per_cent_and_is_never_empty():
    values = np.random.default_rng(3).normal(size=10_000)
    low, high = plots.central_range(values)
    assert ((values < low) | (values > high)).sum() == pytest.approx(100, abs=2)
    assert plots.central_range(np.full(3, 4.0)) == (3, 5)
    assert plots.central_range(np.zeros(0)) == (0, 1)


def test_training_curves_leave_out_what_an_epoch_has_not():
    epochs = [
        {"epoch": 1, "lr": 1e-3, "train/loss": 3.0},
        {"epoch": 2, "lr": 5e-4, "train/loss": 2.0, "val/loss": None},
        {"epoch": 3, "lr": 0.0, "train/loss": None, "val/loss": 1.5},
    ]
    figure = plots.training_curves(epochs, best=3)
    train, val, kept = figure.axes[0].lines
    np.testing.assert_array_equal(train.get_xydata(), [[1, 3], [2, 2]])
    np.testing.assert_array_equal(val.get_xydata(), [[3, 1.5]])
    assert set(kept.get_xdata()) == {3}
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_xydata(), [[1, 1e-3], [2, 5e-4], [3, 0]])
    assert words(figure) == ["training split", "validation split", "kept: epoch 3"]
    drawn(figure)


def test_parts_of_the_loss_and_the_metric_have_panels_of_their_own():
    parts = [f"part{i}" for i in range(9)]
    values = {f"{split}/{part}": 3.0 for split in ("train", "val") for part in parts}
    epochs = [{"epoch": e, "lr": 1e-3, "train/loss": 2.0, "val/loss": 1.0, **values} for e in (0.5, 1)]
    for line in epochs:
        line |= {"val/slots": 950.0, "val/q/auc": line["epoch"]}
    loss, others, metric, rate = plots.training_curves(epochs, 0.5, "val/q/auc").axes
    assert [line.get_label() for line in others.lines] == parts
    assert len({(line.get_color(), line.get_linestyle()) for line in others.lines}) == 9
    np.testing.assert_array_equal(metric.lines[0].get_xydata(), [[0.5, 0.5], [1, 1]])
    assert loss.lines[-1].get_label() == "kept: epoch 0.5"
    assert rate.get_ylabel() == "learning rate"
    assert len(plots.training_curves(epochs, 0.5, "val/part3").axes) == 3


def test_long_curves_have_no_marks():
    epochs = [{"epoch": i, "lr": 1e-3, "train/loss": 1 / i} for i in range(1, plots.MARKED + 2)]
    assert plots.training_curves(epochs).axes[0].lines[0].get_marker() == "None"
    assert plots.training_curves(epochs[:5]).axes[0].lines[0].get_marker() == "o"


@pytest.mark.parametrize(
    "figure",
    [
        lambda: plots.training_curves([]),
        lambda: plots.training_curves([{"epoch": 1, "lr": 0.0, "train/loss": 1.0}], best=1),
        lambda: plots.spreads([0, 1], [Spread(0, *[NOTHING] * 4)], "x", "width", 1.0),
        lambda: plots.spreads([0, 1], [Spread(9, 0.0, 0.0, 0.0, 0.0)], "x", "width", 0.0),
        lambda: plots.spreads([1, 100], spread_in_bins(np.full(20, 5.0), np.zeros(20), [1, 100]), "x", "width"),
        lambda: plots.residuals({"head": np.zeros(0)}, (-1.0, 1.0), "x"),
        lambda: plots.residuals({"head": np.full(9, 1e9)}, plots.robust_range(np.full(9, 1e9)), "x"),
        lambda: plots.truth_and_prediction(np.zeros(0), np.zeros(0), (0.0, 1.0), "x"),
        lambda: plots.truth_and_prediction(np.ones(3), np.ones(3), (5.0, 500.0), "x", constant=1.0),
    ],
)
def test_odd_input_gives_a_picture(figure):
    drawn(figure())


def test_labels_are_written_as_people_do():
    assert plots.label("pt", "GeV") == "pT [GeV]"
    assert plots.label("q_over_pt", "e/GeV") == "charge/pT [e/GeV]"
    assert plots.label("isLong") == "isLong"


def test_no_setting_outlives_a_figure():
    before = dict(matplotlib.rcParams)
    drawn(plots.residuals({"head": np.arange(9.0)}, (0.0, 8.0), "x"))
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_needed(fresh_python):
    code = "import sys, frz.evaluation.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert fresh_python("-c", code).returncode == 0
