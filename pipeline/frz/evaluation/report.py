"""A report in one HTML file: where numbers come from, how training went, tracking, and every field of a head.

Particular: it only writes down and plots what evaluation has counted, or counts it with the same functions;
the same artifacts give the same bytes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from frz import artifacts as names
from frz import seen
from frz.evaluation import curves, page, plots
from frz.evaluation.classification import Judged
from frz.evaluation.head_section import Card, head_pieces
from frz.heads.features import trained_on
from frz.heads.run import load_head
from frz.location import is_remote, make_place
from frz.store.atomic import sweep, write_file
from frz.store.reader import EventStore
from frz.training.history import history, kept
from frz.training.record import METRICS

SLOTS: Mapping[str, tuple[str, str]] = {
    "hit_efficiency_of_true": ("hit efficiency", "mean of shared / true hits, over all true tracks"),
    "hit_purity_of_true": ("hit purity", "mean of shared / claimed hits, over all true tracks"),
    "hit_purity_of_claiming": ("hit purity, claiming slots", "the same, over true tracks whose slot claims a hit"),
    "double_match_of_true": ("double match (≥ 0.5)", "shares at least half of the hits both ways, of all true tracks"),
    "double_match_strict_of_true": (
        "double match (> 0.5)",
        "shares more than half of the hits both ways, of all true tracks",
    ),
    "validity_efficiency": ("validity efficiency", "slot calls itself a track, of all true tracks"),
    "validity_fakes_of_valid_slots": (
        "validity fakes",
        "slots without a true track, of all that call themselves a track",
    ),
    "validity_fakes_of_slots": ("validity fakes, all slots", "the same, of all slots"),
    "validity_auc": ("validity AUC", "a slot with a true track scores higher than one without"),
}
TRACKING: Mapping[str, tuple[str, str]] = {
    "efficiency_strict": ("efficiency (> 0.5)", "found with > half of the hits both ways, of all true tracks"),
    "efficiency_inclusive": ("efficiency (≥ 0.5)", "found with ≥ half of the hits both ways, of all true tracks"),
    "perfect_of_true": ("perfect", "found with exactly their hits, of all true tracks"),
    "fakes_of_predicted_strict": ("fakes (> 0.5)", "without a double majority, of all predicted tracks"),
    "fakes_of_predicted_inclusive": ("fakes (≥ 0.5)", "the same with at least half, of all predicted tracks"),
    "duplicates_of_predicted_strict": (
        "duplicates (> 0.5)",
        "of a particle that is found already, of all predicted tracks",
    ),
    "duplicates_of_predicted_inclusive": ("duplicates (≥ 0.5)", "the same with ≥ half, of all predicted tracks"),
    "hit_efficiency_of_matched": ("hit efficiency, matched", "mean of shared / true hits, over matched true tracks"),
    "hit_efficiency_of_true": ("hit efficiency", "the same, over all true tracks (0 if unmatched)"),
    "hit_purity_of_matched": ("hit purity, matched", "mean of shared / predicted hits, over matched true tracks"),
    "hit_purity_of_true": ("hit purity", "the same, over all true tracks (0 if unmatched)"),
}
"""What each number is called, and what it is a fraction of or a mean over."""
STAGES = ("Stage 1: the backbone", "Stage 2: the head")
INTERVALS = "Intervals are 68.3 %: Wilson score intervals for fractions (k of n), standard errors for means (n)."


def write_report(
    path: Path,
    title: str,
    artifacts: Path,
    *,
    backbone: str | None = None,
    head: str | None = None,
    tracking: Mapping[str, Any] | None = None,
    judged: Sequence[Judged] = (),
    split: str = "test",
) -> None:
    """Write the report; a file that is there is replaced as a whole.

    Parameters
    ----------
    path : Path
        The HTML file; its folder is made if missing.
    title : str
        Heading of the page.
    artifacts : Path
        Where artifacts lie.
    backbone, head : str, optional
        Names of runs; without one its parts are left out.
    tracking : mapping, optional
        What `evaluate` (or `evaluate_tracking`) says of the backbone's features.
    judged : sequence of Judged
        What `evaluate_head` says of the head's fields of classes.
    split : str
        Events that the head is measured on, or `all`.

    Raises
    ------
    ConfigError
        If `path` cannot be a file.
    FrzError
        If an artifact is missing or damaged.
    """
    if not is_remote(path):  # of a demo it lies beside the artifacts
        make_place(path)
    stage1 = names.backbone(backbone, artifacts) if backbone else None
    stage2 = names.head(head, artifacts) if head else None
    loaded = load_head(str(stage2.path / f"{stage2.weights}.safetensors"), artifacts) if stage2 else None
    stores: dict[str, EventStore] = {}
    if tracking is not None and "features" in tracking:
        stores["tracking"] = EventStore(tracking["features"], tracking.get("version"))
    if loaded:
        stores["the head"] = trained_on(loaded[1]["features"], artifacts)
    runs = {name: run for name, run in ((STAGES[0], stage1), (STAGES[1], stage2)) if run}
    leaks = dict.fromkeys(seen.warning(store, artifacts, split=split) for store in stores.values())
    origin = [*_origin(stage1, stage2, stores), *(page.paragraph(leak, "warning") for leak in leaks if leak)]
    sections = [("Where the numbers come from", origin)]
    if runs:
        sections.append(("Training", list(_training(runs))))
    if tracking is not None:
        sections.append(("Tracking", list(_tracking(tracking))))
    if loaded:
        store = stores["the head"]
        positions = np.arange(store.n_events) if split == "all" else store.split(split)
        pieces = list(head_pieces(loaded[0], store, positions, split, judged))
        begin = page.paragraph(f"Split {split!r}: {len(positions):,} events. No backbone is run, features are read.")
        sections.append(("Head", [begin, *pieces]))
    if not is_remote(path):
        sweep(path.parent)  # begun by a report that was killed
    write_file(path, page.page(title, sections))


def _origin(stage1: names.Run | None, stage2: names.Run | None, stores: Mapping[str, EventStore]) -> Iterator[str]:
    """Data set, runs and features with their hashes, and a warning if they are not of one descent."""
    cards = {kind: names.card(run.path) for kind, run in (("backbone", stage1), ("head", stage2)) if run}
    snapshots = {use: store.snapshot for use, store in stores.items()}
    data = {use: _data(snapshot.about["data"]) for use, snapshot in snapshots.items()}
    if "data" in cards.get("backbone", {}):
        data = {"the backbone": _data(cards["backbone"]["data"])} | data
    rows = _same_once("data set of", data)
    weights = {f"the features of {use}": s.about["fingerprint"]["value"] for use, s in snapshots.items()}
    if stage1:
        rows += _about_run("backbone", stage1, cards["backbone"].get("family", "unfinished"), cards["backbone"])
        # The card has the fingerprint of the best weights alone.
        if stage1.weights == "best" and "fingerprint" in cards["backbone"]:
            weights["the backbone"] = cards["backbone"]["fingerprint"]
            rows.append(("backbone weights", f"fingerprint {weights['the backbone'][:12]}"))
    texts = {
        use: f"{s.name} version {s.version} (hash {s.hash[:12]}), {s.n_events:,} events, written by weights "
        f"{s.about['fingerprint']['value'][:12]}"
        for use, s in snapshots.items()
    }
    rows += _same_once("features of", texts)
    if stage2:
        rows += _about_run("head", stage2, cards["head"].get("head", "unfinished"), cards["head"])
    made = {kind: ", ".join(f"{n} {v}" for n, v in card.get("versions", {}).items()) for kind, card in cards.items()}
    rows += _same_once("software of", {f"the {kind}": text for kind, text in made.items() if text})
    yield page.table(("what", "which"), rows)
    if len(set(weights.values())) > 1:
        who = "; ".join(f"{use}: {value[:12]}" for use, value in weights.items())
        yield page.paragraph(f"These are not of one descent: the weights differ. {who}.", "warning")
    for kind, run in (("backbone", stage1), ("head", stage2)):
        if run and (run.path / "config.yaml").is_file():
            yield page.folded(f"config of the {kind}", (run.path / "config.yaml").read_text())


def _same_once(what: str, texts: Mapping[str, str]) -> list[tuple[str, str]]:
    """A row per text; uses that say the same share one."""
    uses: dict[str, list[str]] = {}
    for use, text in texts.items():
        uses.setdefault(text, []).append(use)
    return [(f"{what} {' and '.join(use)}", text) for text, use in uses.items()]


def _run(run: names.Run) -> str:
    return f"{run.path.parent.name}@{run.path.name}"


def _data(data: Mapping[str, Any]) -> str:
    return f"{data['name']} version {data['version']} (hash {str(data['hash'])[:12]})"


def _about_run(what: str, run: names.Run, kind: str, card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A run, and how long it was trained if it is finished."""
    rows = [(what, f"{_run(run)}: {kind}, {run.weights} weights")]
    if "parameters" in card:
        early = ", stopped early" if card.get("stopped_early") else ""
        text = f"{card['parameters']:,} parameters, {card['epochs']} epochs ({card['steps']:,} steps{early})"
        rows.append((f"{what} training", f"{text}, {card['created']} to {card['ended']}"))
    return rows


def _training(runs: Mapping[str, names.Run]) -> Iterator[str]:
    """Loss and learning rate of the runs."""
    cards: list[Card] = []
    for name, run in runs.items():
        epochs = history(run.path)
        if not epochs:
            yield page.paragraph(f"{name}: the run has left no {METRICS}.", "note")
            continue
        best = kept(run.path, epochs, run.weights)
        caption = (
            f"{name}, run {_run(run)}. Mean loss at {len(epochs)} points: on the training split since the point "
            f"before, while the weights change and dropout is on; on the validation split there. Below: the parts "
            f"of the loss there, and the learning rate. The weights of epoch {best:g} are the ones measured here."
        )
        cards.append((curves.figure(run.path, run.weights), f"training curves, {name}", caption))
    if cards:
        yield page.plots(cards)


def _tracking(result: Mapping[str, Any]) -> Iterator[str]:
    """Tables in truth order and in inference order, and efficiency in bins."""
    yield page.paragraph(
        f"Split {result['split']!r}: {result['events']:,} events, {result['true_tracks']:,} true tracks, "
        f"{result['predicted_tracks']:,} predicted tracks. {INTERVALS}"
    )
    yield page.heading("In inference order: what a user gets")
    yield _numbers(result["tracking"], TRACKING)
    if "tracking_long" in result:
        yield page.heading("In inference order, long tracks")
        note = "True tracks are those that cross the whole detector (isLong); predicted tracks are all of them."
        yield page.paragraph(note, "note") + _numbers(result["tracking_long"], TRACKING)
    yield page.heading("In truth order: each true track judged by the slot that the training's matching gave it")
    yield _numbers(result["slots"], SLOTS)
    yield page.heading("Efficiency")
    if not result["binned"]:
        yield page.paragraph("The truth has no eta, phi or pT to bin by.")
        return
    yield page.plots([_efficiency(name, found) for name, found in result["binned"].items()])


def _efficiency(name: str, found: Mapping[str, Any]) -> Card:
    outside, inside = found["outside"]["total"], sum(b["total"] for b in found["bins"])
    empty = sum(1 for b in found["bins"] if b["value"] is None)
    caption = (
        f"True tracks found (given to a predicted track that shares more than half of the hits both ways) over all "
        f"true tracks, in bins of true {plots.label(name)}: {inside:,} true tracks, {outside:,} more lie outside the "
        f"bins. Bars: 68.3 % Wilson intervals, and the bin.{f' {empty} empty bins are left out.' if empty else ''}"
    )
    x = f"true {plots.label(name, found.get('unit', ''))}"
    figure = plots.proportions(found["edges"], {"backbone": found["bins"]}, x, "efficiency (> 0.5)")
    return figure, f"efficiency against {name}", caption


def _numbers(values: Mapping[str, Any], words: Mapping[str, tuple[str, str]]) -> str:
    """A table of proportions, means and plain numbers with their denominators."""
    rows = []
    for key, number in values.items():
        name, of = words.get(key, (key.replace("_", " "), ""))
        value, count = written(number)
        rows.append((name, value, count, of))
    return page.table(("quantity", "value", "counted", "of what"), rows, numbers=(1, 2))


def written(number: Any) -> tuple[str, str]:
    """A number from an evaluation with its interval, and the counts it is made of.

    Parameters
    ----------
    number : mapping, float or None
        JSON of a `Proportion` or a `Mean`, or a plain number.

    Returns
    -------
    (str, str)
        `0.9123 +0.0024 −0.0025` and `912 of 1,000`, say.
    """
    if not isinstance(number, Mapping):
        return ("undefined" if number is None else f"{number:.4f}"), ""
    value = number["value"]
    if "total" in number:
        errors = [] if value is None else [number["high"] - value, value - number["low"]]
        count = f"{number['successes']:,} of {number['total']:,}"
    else:
        errors = [math.nan if number["error"] is None else number["error"]]
        count = f"{number['count']:,}"
    return ("undefined" if value is None else page.plus_minus(value, *errors)), count
