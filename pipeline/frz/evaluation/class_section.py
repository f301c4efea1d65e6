"""The part of a report that is about classes: how they are ranked, whether probabilities are true, and parts apart."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from frz.evaluation import class_plots, page, plots
from frz.evaluation.bootstrap import Floats
from frz.evaluation.classes import ClassField
from frz.evaluation.classification import Judged, reliability
from frz.heads.scores import SPECIFICITY, Ranking

RAW, SOFT = "head", "head, temperature scaled"
SCALED: Mapping[str, str] = {"log_loss": "log-loss", "ece": "calibration error", "brier": "Brier score"}
MOST_CURVES = 6
"""Classes whose curves are drawn beside each other."""


def class_pieces(judged: Judged, split: str) -> Iterator[str]:
    """Plots and tables of a field of classes."""
    field, told = judged.field, judged.told
    of, rare = told["classes"], told["intervals"]
    counted = ", ".join(f"{value}: {number:,}" for value, number in of.items())
    sentence = f"{told['counted']:,} {field.axis}s of the split {split!r} ({counted})"
    if told["left_out"]:
        sentence += f"; {told['left_out']:,} more are left out, because their class is not known"
    if "not_finite" in told:
        sentence += f"; of {told['not_finite']:,} the head says nothing finite"
    drawn = f"intervals: {100 * rare['level']:.3g} % of {rare['resamples']:,} samples drawn with replacement"
    yield page.paragraph(f"{sentence}. Errors in the tables are bootstrap {drawn}.")
    if reasons := {n["reason"] for n in told["metrics"].values() if "reason" in n}:
        yield page.paragraph(f"{'; '.join(sorted(reasons))}.", "note")
    yield page.plots(_cards(field, judged.scaled, told))
    yield from _calibration(told["calibration"], split)
    for name, parts in told.get("by", {}).items():
        yield page.heading(f"{plots.label(field.name)} by {name}")
        yield _parts(parts)


def interval(number: Mapping[str, Any]) -> str:
    """A number with its errors, or without; `undefined` where it is None."""
    if number["value"] is None or number["low"] is None:
        return plain(number["value"])
    up, down = number["high"] - number["value"], number["value"] - number["low"]
    return page.plus_minus(number["value"], max(up, 0.0), max(down, 0.0))


def plain(value: float | None) -> str:
    """Four digits, or `undefined`."""
    return "undefined" if value is None else f"{value:.4g}"


def _cards(field: ClassField, scaled: Floats | None, told: Mapping[str, Any]) -> list[tuple[Figure, str, str]]:
    cards = []
    n_class = len(field.values)
    looked_at = range(1, 2) if n_class == 2 else range(n_class)
    counts = {f"{field.values[k]:g}": (field.true == k) for k in looked_at}
    both = {name: on for name, on in counts.items() if 0 < on.sum() < len(on)}
    rankings = {
        (RAW if n_class == 2 else f"class {name}"): Ranking(field.probability[:, k], both[name]).counts()
        for k, name in zip(looked_at, counts, strict=True)
        if name in both
    }
    shown = dict(list(rankings.items())[:MOST_CURVES])
    left = len(rankings) - len(shown)
    more = f" {left} further classes are not drawn." if left else ""
    if shown:
        numbers = told["metrics"]
        against = "the other class" if n_class == 2 else "all others"
        recall = interval(numbers["recall_at_spec95"])
        caption = (
            f"Share of a class found against the share of {against} taken with it, from the highest score on. Area: "
            f"{interval(numbers['auc'])}; diagonal: a coin toss. Dotted: {100 * SPECIFICITY:.0f} % specificity, where "
            f"recall is {recall}.{more}"
        )
        cards.append((class_plots.roc(shown), f"ROC curve of {field.name}", caption))
        shares = {name: float(both[key].mean()) for name, key in zip(shown, both, strict=False)}
        caption = (
            f"Precision against recall, one step per distinct score. Area: {interval(numbers['auprc'])}; dashed: the "
            f"share of the class among all, which is what a coin toss gets.{more}"
        )
        cards.append((class_plots.precision_recall(shown, shares), f"precision-recall curve of {field.name}", caption))
    series: dict[str, Sequence[Mapping[str, Any]]] = {RAW: told["reliability"]}
    if scaled is not None:
        series[SOFT] = reliability(scaled, field.true)
    what = "the upper class" if n_class == 2 else "the likeliest class"
    caption = (
        f"How often {what} came true, against the probability claimed for it, in 15 equal bins (empty ones left out); "
        "bars: 68.3 % Wilson intervals. Below: how many were claimed so."
    )
    if told["counted"]:
        cards.append((class_plots.reliability(series, field.axis), f"reliability of {field.name}", caption))
    return cards


def _calibration(told: Mapping[str, Any], split: str) -> Iterator[str]:
    if told["temperature"] is None:
        yield page.paragraph(f"No temperature is fitted: {told['reason']}.", "note")
        return
    yield page.paragraph(
        f"Temperature {told['temperature']:.4g}, fitted by the log-loss on {told['members']:,} members of the split "
        f"{told['fitted_on']!r}; the table is of the split {split!r}. It changes no ranking."
    )
    if "note" in told:
        yield page.paragraph(f"{told['note']}.", "note")
    rows = [(word, plain(told[name]["before"]), plain(told[name]["after"])) for name, word in SCALED.items()]
    yield page.table(("quantity", "as trained", "scaled"), rows, numbers=(1, 2))


def _parts(parts: Sequence[Mapping[str, Any]]) -> str:
    """A row per part; what has a reason instead of a number says it."""
    two = any("positives" in part for part in parts)
    rows = []
    for part in parts:
        counts = [f"{part['members']:,}", *([f"{part['positives']:,}"] if two else [])]
        numbers = [interval(part[name]) for name in ("auc", "auprc")]
        notes = dict.fromkeys(part[name].get("reason", "") for name in ("auc", "auprc"))
        rows.append((part["part"], *counts, *numbers, "; ".join(note for note in notes if note)))
    header = ("part", "members", *(["positives"] if two else []), "AUROC", "AUPRC", "note")
    return page.table(header, rows, numbers=range(1, len(header) - 1))
