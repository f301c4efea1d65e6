"""The part of a report that is about a head: its metrics beside the yardstick's, and plots of every field.

Particular: what a head has no truth for, or what cannot be binned (no true pT), is a sentence and not an error.
Only the events of the split are prepared.
"""

# Axes: N members (slots) that count.

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from frz.evaluation import page, plots
from frz.evaluation.binning import binned
from frz.evaluation.class_section import class_pieces, interval, plain
from frz.evaluation.classification import Judged
from frz.evaluation.fields import LEAST, Field, Floats, Spread, bin_edges, compare, spread_in_bins
from frz.evaluation.intervals import Proportion
from frz.heads.contract import Head
from frz.heads.prefix import prepare
from frz.heads.run import predict
from frz.heads.slots import MATCH, matched_rows, owners
from frz.store.ragged import edges
from frz.store.schema import EVENT, EventArrays, Schema, axis_of
from frz.store.table import Reader

QUANTITIES = ("pt", "eta")
"""True quantities that widths and accuracies are binned by."""
TRACK = "track"
"""Axis that `query/match` points into."""
STATS: Mapping[str, str] = {
    "bias": "mean of prediction − truth",
    "width": "robust width (q84 − q16) / 2",
    "clipped_rms": "RMS after clipping at 3 RMS",
    "rmse": "RMS, all slots",
    "relative_bias": "mean of (prediction − truth) / truth",
    "relative_width": "relative robust width (q84 − q16) / 2",
    "relative_clipped_rms": "relative RMS after clipping at 3 RMS",
    "relative_rmse": "relative RMS, all slots",
    "accuracy": "fraction on the right side",
    "auc": "area under the ROC curve",
    "auprc": "area under the precision-recall curve",
    "brier": "Brier score (mean square of probability − class)",
    "recall_at_spec95": "recall at 95 % specificity",
    "log_loss": "mean of −ln of the probability of the true class",
    "ece": "calibration error (15 equal bins of probability)",
    "coverage": "share of truth between the outermost quantiles",
    "pull_width": "robust width of (prediction − truth) / σ",
}
IN_UNITS = ("bias", "width", "clipped_rms", "rmse")
"""Those that have the unit of the field."""
HEAD, YARDSTICK = "head", "training mean"

Card = tuple[Figure, str, str]


def head_pieces(
    head: Head, store: Reader, positions: NDArray[np.int64], split: str, judged: Sequence[Judged] = ()
) -> Iterator[str]:
    """Metrics and plots of a head on the events of a store at `positions`, as pieces of HTML."""
    if not len(positions):
        yield page.paragraph(f"The split {split!r} holds no events: there is nothing to measure the head on.")
        return
    table = prepare(head, store, positions)
    everything = np.arange(len(positions))
    predictions, yardstick = predict(head, table, everything), head.predict_mean(table.arrays)
    units = units_of(store.schema)
    of_mean = head.metrics(yardstick, table.arrays) if yardstick else {}
    classes = {each.field.name: each for each in judged}
    yield _metrics_table(head.metrics(predictions, table.arrays), of_mean, units, classes)
    quantities = true_quantities(table.arrays, head.prepared, store, positions)
    fields = compare(predictions, yardstick, table.arrays, head.prepared, units, quantities)
    if not fields:
        yield page.paragraph("No prediction has a truth of the same name: there is nothing to plot.")
    for field in fields:
        yield page.heading(plots.label(field.name))
        yield from field_pieces(field, units, split)
        if field.name in classes:
            yield from class_pieces(classes[field.name], split)


def units_of(schema: Schema) -> dict[str, str]:
    """Unit of each named column of the targets and of their ratios (`q_over_pt`); what has none is left out."""
    units: dict[str, str] = {}
    for name in schema.with_role("target"):
        array = schema.arrays[name]
        listed = [unit.strip() for unit in array.unit.split(",")]
        if len(listed) == len(array.columns):
            units = dict(zip(array.columns, listed, strict=True)) | units
    ratios = {f"{a}_over_{b}": f"{units[a]}/{units[b]}" for a in units for b in units if units[b] not in ("", "1")}
    return {name: unit for name, unit in (ratios | units).items() if unit not in ("", "1")}


def true_quantities(
    prepared: EventArrays, schema: Schema, store: Reader, positions: NDArray[np.int64]
) -> dict[str, dict[str, Floats]]:
    """True pT and eta of the members of each axis of the prepared events, as far as they can be known.

    They are taken from the targets themselves, else from the true track that `query/match` gives to
    `<axis>/query`; NaN for a member without a true track.

    Parameters
    ----------
    prepared : EventArrays
        What the head's `prepare` made of the events of `store` at `positions`.
    schema : Schema
        Of `prepared`.
    store : Reader
        The features.
    positions : int64 array
        Events, in the order of `prepared`.

    Returns
    -------
    dict
        By axis and name: float64 arrays with one entry per member.
    """
    result: dict[str, dict[str, Floats]] = {}
    for axis in (EVENT, *schema.axes):
        found: dict[str, Floats] = {}
        target = f"{axis}/target"
        for name in QUANTITIES:
            if target in prepared and name in schema.arrays[target].columns:
                found[name] = prepared[target][:, schema.arrays[target].columns.index(name)].astype(np.float64)
            elif f"{axis}/{name}" in prepared:
                found[name] = prepared[f"{axis}/{name}"].astype(np.float64)
            elif f"{axis}/query" in prepared and (array := _truth_array(store.schema, name)):
                found[name] = _of_matched_track(prepared, axis, store, positions, array, name)
        result[axis] = found
    return result


def _truth_array(schema: Schema, name: str) -> str | None:
    """The array of true tracks that has a column `name`; None if there is none or queries have no match."""
    known = [a for a in schema.with_role("target") if axis_of(a) == TRACK and name in schema.arrays[a].columns]
    return known[0] if known and MATCH in schema.arrays else None


def _of_matched_track(
    prepared: EventArrays, axis: str, store: Reader, positions: NDArray[np.int64], array: str, name: str
) -> Floats:
    events = store.events(positions, [MATCH, array])
    first = edges(events, store.schema, "query")[owners(prepared[f"{axis}/offsets"])]
    row = matched_rows(events, store.schema, TRACK)[first + prepared[f"{axis}/query"]]
    values = events[array][:, store.schema.arrays[array].columns.index(name)].astype(np.float64)
    return np.append(values, np.nan)[row]  # -1 reads the appended NaN


def _metrics_table(
    of_head: Mapping[str, float],
    of_mean: Mapping[str, float],
    units: Mapping[str, str],
    classes: Mapping[str, Judged],
) -> str:
    """Every metric that belongs to a field, of classes with its interval; plain counts are a sentence."""
    counts = ", ".join(f"{name.replace('_', ' ')}: {value:,.0f}" for name, value in of_head.items() if "/" not in name)
    rows = []
    for key, value in of_head.items():
        name, slash, stat = key.partition("/")
        if slash:
            mean = f"{of_mean[key]:.4g}" if key in of_mean else ""
            unit = units.get(name, "") if stat in IN_UNITS else ""
            shown = f"{value:.4g}"
            if name in classes and stat in classes[name].told["metrics"]:
                number = classes[name].told["metrics"][stat]
                shown, mean = interval(number), plain(number["yardstick"])
            rows.append((plots.label(name, unit), STATS.get(stat, stat.replace("_", " ")), shown, mean))
    said = f"All numbers are over the slots that count ({counts})." if counts else ""
    mean = "predicting the training mean (of classes: how frequent each is in the training split)"
    yardstick = f"Beside the head stands its yardstick: {mean}."
    return page.paragraph(f"{said} {yardstick}") + page.table(
        ("field", "quantity", HEAD, YARDSTICK), rows, numbers=(2, 3)
    )


def field_pieces(field: Field, units: Mapping[str, str], split: str) -> Iterator[str]:
    """Plots of one field."""
    if field.dropped:
        text = f"{field.dropped:,} {field.axis}s are left out because the truth or a prediction is not finite."
        yield page.paragraph(text, "warning")
    if not len(field.truth):
        yield page.paragraph(f"No {field.axis} counts: there is nothing to plot.")
        return
    cards = [] if field.kind == "class" else [_residuals(field, split), _truth(field)]
    missing = []
    for name in QUANTITIES:
        if name not in field.against:
            missing.append(plots.label(name))
            continue
        unit = units.get(name, "")
        edges = bin_edges(name, field.against[name], unit)
        cards.append((_accuracy if field.kind == "class" else _spreads)(field, name, unit, edges))
    if cards:
        yield page.plots(cards)
    # Of events without tracks nobody asks for a pT.
    if missing and (field.kind != "class" or len(missing) < len(QUANTITIES)):
        reason = "the true value is not known here"
        yield page.paragraph(f"Not binned by {' and '.join(missing)}: {reason}.", "note")


def _what(field: Field) -> str:
    """Label of the residual."""
    symbol = plots.label(field.name)
    if field.relative:
        return f"(predicted − true {symbol}) / true"
    return f"predicted − true {plots.label(field.name, field.unit)}"


def _residuals(field: Field, split: str) -> Card:
    series = {HEAD: field.residual(field.found)}
    if field.mean is not None:
        series[YARDSTICK] = field.residual(field.mean)
    limits = plots.robust_range(series[HEAD])
    named, texts = {}, []
    for name, values in series.items():
        spread = Spread.of(values)
        known = spread.count >= LEAST
        named[f"{name}: width {spread.width:.3g}" if known else name] = values
        width, median = (
            page.plus_minus(spread.width, spread.width_error),
            page.plus_minus(spread.median, spread.median_error),
        )
        below, above = plots.outside(values, limits)
        numbers = f"width {width}, median {median}" if known else f"too few for a width (least {LEAST})"
        texts.append(f"{name}: {numbers}; outside the plot {below:,} below, {above:,} above.")
    caption = (
        f"Residuals of the {len(field.truth):,} {field.axis}s that count in the split {split!r}. "
        f"Width = (q84 − q16) / 2. {' '.join(text[0].upper() + text[1:] for text in texts)}"
    )
    return plots.residuals(named, limits, _what(field), f"{field.axis}s"), f"residuals of {field.name}", caption


def _truth(field: Field) -> Card:
    low, high = plots.central_range(field.truth)
    constant = None
    if field.mean is not None and (field.mean == field.mean[0]).all():
        constant = float(field.mean[0])
    inside = [(values >= low) & (values <= high) for values in (field.truth, field.found)]
    out = int((~(inside[0] & inside[1])).sum())
    caption = (
        f"Prediction against truth of {len(field.truth):,} {field.axis}s; the axes hold the central 99 % of the truth, "
        f"{out:,} {field.axis}s lie outside in truth or prediction."
    )
    label = plots.label(field.name, field.unit)
    figure = plots.truth_and_prediction(field.truth, field.found, (low, high), label, constant, f"{field.axis}s")
    return figure, f"predicted against true {field.name}", caption


def _spreads(field: Field, name: str, unit: str, edges: Sequence[float]) -> Card:
    values, residual = field.against[name], field.residual(field.found)
    bins = spread_in_bins(values, residual, edges)
    level = Spread.of(field.residual(field.mean)).width if field.mean is not None and len(values) >= LEAST else None
    few = sum(1 for b in bins if b.count < LEAST)
    left_out = f" {few} bins with fewer than {LEAST} {field.axis}s are left out." if few else ""
    dashed = " Training mean: over all of them, because in one bin a constant is only as wide as the bin."
    caption = (
        f"Width (q84 − q16) / 2 and median of the residuals in bins of true {plots.label(name)}, over "
        f"{sum(b.count for b in bins):,} of {len(values):,} {field.axis}s (the others lie outside the bins). Bars: one "
        f"standard error, and the bin.{left_out}{'' if level is None else dashed}"
    )
    symbol = plots.label(field.name)
    width = f"relative width of {symbol}" if field.relative else f"width of {plots.label(field.name, field.unit)}"
    figure = plots.spreads(edges, bins, f"true {plots.label(name, unit)}", width, level)
    return figure, f"width of {field.name} residuals against true {name}", caption


def _accuracy(field: Field, name: str, unit: str, edges: Sequence[float]) -> Card:
    values = field.against[name]
    right = {HEAD: field.right(field.found)}
    if field.mean is not None:
        right[YARDSTICK] = field.right(field.mean)
    counted = {who: binned(values, flags, edges) for who, flags in right.items()}
    series = {who: [b.to_json() for b in found.bins] for who, found in counted.items()}
    whole = {who: Proportion.of(flags) for who, flags in right.items()}
    totals = "; ".join(
        f"{who} {page.plus_minus(p.value, p.high - p.value, p.value - p.low)}" for who, p in whole.items()
    )
    caption = (
        f"Fraction of {field.axis}s with the right {plots.label(field.name)} in bins of true {plots.label(name)}; "
        f"{counted[HEAD].outside.total:,} of {len(values):,} {field.axis}s lie outside the bins. Bars: 68.3 % Wilson "
        f"intervals, and the bin; empty bins are left out. Over all: {totals}."
    )
    figure = plots.proportions(edges, series, f"true {plots.label(name, unit)}", f"right {plots.label(field.name)}")
    return figure, f"accuracy of {field.name} against true {name}", caption
