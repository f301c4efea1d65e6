"""How good the classes of a head are: numbers with bootstrap intervals, calibration, and the same by parts of events.

Particular: a number that is not defined (one class alone in the split) is None with its reason, and not 0.5. The
temperature is fitted on the validation split alone and judged on the evaluated split, which it never saw.
"""

# Axes: N members whose class is known, K classes, R drawn samples, B bins.

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.evaluation import temperature
from frz.evaluation.bootstrap import Floats, interval, weights
from frz.evaluation.classes import ClassField, class_fields
from frz.evaluation.intervals import Proportion
from frz.evaluation.settings import EvaluateSettings
from frz.heads.contract import Head
from frz.heads.prefix import prepare
from frz.heads.run import predict
from frz.heads.scores import N_BINS, NAMES, RANKED, ClassScores
from frz.progress import progress
from frz.store.reader import EventStore
from frz.store.schema import GROUP, EventArrays
from frz.store.table import EventTable

VAL = "val"
SCALED = ("log_loss", "ece", "brier")
"""What a temperature changes."""
IN_PARTS = ("auc", "auprc")
"""What is told of each part of the events."""


@dataclass(frozen=True)
class Judged:
    """A field of classes with everything that is known of it."""

    field: ClassField
    scaled: Floats | None
    """Its probabilities (N, K) at the fitted temperature."""
    told: dict[str, Any]
    """JSON: `counted`, `left_out`, `classes`, `intervals`, `metrics`, `calibration`, `reliability`, `by`."""


def judge(
    head: Head,
    store: EventStore,
    table: EventTable,
    predictions: EventArrays,
    options: EvaluateSettings,
    by: Mapping[str, Mapping[str, NDArray[np.bool_]]],
) -> list[Judged]:
    """Measure every field of classes of a head.

    Parameters
    ----------
    head : Head
        Trained.
    store : EventStore
        The features.
    table : EventTable
        The events of the split `options.split`, prepared.
    predictions : EventArrays
        Of the head, for these.
    options : EvaluateSettings
        `split`, `resamples` and `level` are looked at.
    by : mapping
        By name of a column: parts of these events, bool (n_event,) by label.
    """
    fields = class_fields(predictions, head.predict_mean(table.arrays), table.arrays, head.prepared)
    if not fields:
        return []
    held_out, reason = _held_out(head, store, options.split)
    judged = []
    with progress("bootstrap", total=options.resamples * len(fields), unit="sample") as bar:
        for field in fields:
            calibration, scaled = _calibration(field, held_out.get(field.name), reason)
            drawn = Drawn(field, table.arrays[GROUP], by, options.level)
            for rows in weights(table.arrays[GROUP], options.resamples):
                drawn.add(rows)
                bar.advance(len(rows))
            told = {
                "counted": len(field.true),
                "left_out": field.left_out,
                **({"not_finite": field.dropped} if field.dropped else {}),
                "classes": field.counts,
                "intervals": {"level": options.level, "resamples": options.resamples},
                "metrics": drawn.metrics(),
                "calibration": calibration,
                "reliability": reliability(field.probability, field.true),
                **({"by": drawn.parts()} if by else {}),
            }
            judged.append(Judged(field, scaled, told))
    return judged


def _held_out(head: Head, store: EventStore, split: str) -> tuple[dict[str, ClassField], str]:
    """Fields of classes on the validation split, or why there are none."""
    if split in (VAL, "all"):
        return {}, f"{split!r} holds the events that the temperature would be fitted on"
    positions = store.split(VAL) if VAL in store.snapshot.split.fractions else np.zeros(0, np.int64)
    if not len(positions):
        return {}, "there is no validation split to fit the temperature on"
    table = prepare(head, store, positions)
    made = predict(head, table, np.arange(len(positions)))
    return {field.name: field for field in class_fields(made, {}, table.arrays, head.prepared)}, ""


def _calibration(field: ClassField, held_out: ClassField | None, reason: str) -> tuple[dict[str, Any], Floats | None]:
    """The temperature, and what it changes on the members of `field`, which it was not fitted on."""
    if held_out is not None and len(np.unique(held_out.true)) < 2:
        reason = "the validation split shows one class only"
    if held_out is None or reason:
        return {"temperature": None, "reason": reason}, None
    fitted = temperature.fit(held_out.probability, held_out.true)
    scaled = temperature.scaled(field.probability, fitted)
    before, after = (_numbers(ClassScores(p, field.true)) for p in (field.probability, scaled))
    changed = {name: {"before": before[name], "after": after[name]} for name in SCALED}
    told = {"temperature": fitted, **({"note": note} if (note := temperature.bound(fitted)) else {})}
    return told | {"fitted_on": VAL, "members": len(held_out.true), **changed}, scaled


def _numbers(scores: ClassScores) -> dict[str, float | None]:
    """Numbers of members that count once each; None where one is not defined."""
    found = {name: float(values[0]) for name, values in scores.metrics().items()}
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


class Drawn:
    """Numbers of a field on all of its members and in parts of them, and on samples that are drawn.

    Parameters
    ----------
    field : ClassField
    groups : int64 array (n_event,)
        Groups of the events that are drawn.
    by : mapping
        By name of a column: parts of the events, bool (n_event,) by label.
    level : float
        Share of the samples inside an interval.
    """

    def __init__(
        self,
        field: ClassField,
        groups: NDArray[np.int64],
        by: Mapping[str, Mapping[str, NDArray[np.bool_]]],
        level: float,
    ) -> None:
        self.field, self.level = field, level
        everything = np.ones(len(groups), bool)
        chosen = {("", ""): everything} | {(name, part): on for name, of in by.items() for part, on in of.items()}
        self.members = {key: np.flatnonzero(on[field.event]) for key, on in chosen.items()}
        self.scores = {key: ClassScores(field.probability[m], field.true[m]) for key, m in self.members.items()}
        self.values = {key: _numbers(scores) for key, scores in self.scores.items()}
        self.drawn: dict[tuple[str, str], list[dict[str, Floats]]] = {key: [] for key in self.members}

    def add(self, rows: Floats) -> None:
        """Take in samples: weights (rows, n_event)."""
        for key, members in self.members.items():
            self.drawn[key].append(self.scores[key].metrics(rows[:, self.field.event[members]]))

    def metrics(self) -> dict[str, dict[str, Any]]:
        """Every number on all members with its interval, beside the yardstick's."""
        mean = self.field.yardstick
        yardstick = _numbers(ClassScores(mean, self.field.true)) if mean is not None else {}
        return {name: self._one(("", ""), name) | {"yardstick": yardstick.get(name)} for name in NAMES}

    def parts(self) -> dict[str, list[dict[str, Any]]]:
        """By column: a row per part."""
        rows: dict[str, list[dict[str, Any]]] = {}
        for (name, part), members in self.members.items():
            if name:
                rows.setdefault(name, []).append(self._part(name, part, members))
        return rows

    def _part(self, name: str, part: str, members: NDArray[np.int64]) -> dict[str, Any]:
        true, n_class = self.field.true[members], len(self.field.values)
        counts = {"positives": int((true == 1).sum())} if n_class == 2 else {}
        numbers = {key: self._one((name, part), key) for key in IN_PARTS}
        return {"part": part, "members": len(members), **counts, **numbers}

    def _one(self, key: tuple[str, str], name: str) -> dict[str, Any]:
        value = self.values[key][name]
        found: dict[str, Any] = {"value": value, "low": None, "high": None}
        if value is None:
            shown = len(np.unique(self.scores[key].true))
            return found | {"reason": "all members are of one class" if shown else "no member"}
        samples = [block[name] for block in self.drawn[key]]
        if samples and (both := interval(name, value, np.concatenate(samples), self.level)):
            found["low"], found["high"] = both
        elif samples and name in RANKED:
            found["reason"] = "no interval: so few members of a class that some samples hold none"
        return found


def reliability(probability: Floats, true: NDArray[np.int64]) -> list[dict[str, Any]]:
    """What came of each claimed probability, in the bins of the calibration error; empty bins are left out.

    Parameters
    ----------
    probability : float64 array (N, K)
    true : int64 array (N,)

    Returns
    -------
    list of dict
        `low`, `high` (edges), `claimed` (mean), and the share that came true as a `Proportion`.
    """
    scores = ClassScores(probability, true)
    claimed, came = scores.claimed
    return list(_bins(scores.bins, claimed, came > 0))


def _bins(bins: NDArray[np.int64], claimed: Floats, came: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    for k in range(N_BINS):
        inside = bins == k
        if inside.any():
            place = {"low": k / N_BINS, "high": (k + 1) / N_BINS, "claimed": float(claimed[inside].mean())}
            yield place | {"came": Proportion.of(came[inside]).to_json()}
