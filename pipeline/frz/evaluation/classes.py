"""What a head says of classes beside what is true, field by field.

Particular: no head is known by name. A prediction is of classes where a probability comes with it: `axis/q` with
`axis/q_probability` (of the upper of two), or with `axis/q_probability_<value>` for each of more.
"""

# Axes: N members whose class is known, K classes.

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from frz.evaluation.bootstrap import Floats
from frz.evaluation.fields import truth_of
from frz.store import ragged
from frz.store.schema import EVENT, ID, EventArrays, Schema, axis_of

MARK = "_probability"


@dataclass(frozen=True)
class ClassField:
    """One field of classes on the N members whose class is known."""

    axis: str
    name: str
    values: Floats
    """The classes (K,), ascending."""
    probability: Floats
    """(N, K)"""
    true: NDArray[np.int64]
    """Place of the true class among `values` (N,)."""
    yardstick: Floats | None
    """Probabilities (N, K) of someone who knows the training split and no features: its shares of the classes."""
    event: NDArray[np.int64]
    """Place of the event of each member (N,)."""
    left_out: int
    """Members whose class is not known."""
    dropped: int
    """Members of a known class of which the head says nothing finite."""

    @property
    def counts(self) -> dict[str, int]:
        """Members of each class."""
        numbers = np.bincount(self.true, minlength=len(self.values)).tolist()
        return {f"{value:g}": number for value, number in zip(self.values.tolist(), numbers, strict=True)}


def class_fields(
    predictions: EventArrays, yardstick: EventArrays, prepared: EventArrays, schema: Schema
) -> list[ClassField]:
    """Find the fields of classes among the predictions of a head.

    Parameters
    ----------
    predictions, yardstick : EventArrays
        From `Head.predict` and `Head.predict_mean`.
    prepared : EventArrays
        The events as `Head.prepare` left them.
    schema : Schema
        Of `prepared`.

    Returns
    -------
    list of ClassField
        In the order of the predictions; what has no truth of its name is left out.
    """
    return [
        _field(key, predictions, yardstick, prepared, schema, truth)
        for key in predictions
        if any(other.startswith(f"{key}{MARK}") for other in predictions)
        and (truth := truth_of(key, prepared, schema)) is not None
    ]


def _field(
    key: str,
    predictions: EventArrays,
    yardstick: EventArrays,
    prepared: EventArrays,
    schema: Schema,
    truth: NDArray[np.generic],
) -> ClassField:
    axis, name = axis_of(key), key.partition("/")[2]
    known = prepared.get(f"{axis}/counts", np.ones(len(truth), bool))
    owner = np.arange(len(prepared[ID]))
    if axis != EVENT:
        owner = np.repeat(owner, ragged.lengths(prepared, schema, axis))
    probability = _probabilities(key, predictions)
    exact = truth.astype(np.float64)
    if f"{key}{MARK}" in predictions:
        said = [each for each in (predictions, yardstick) if f"{key}{MARK}" in each]
        likelier, upper = (np.concatenate([each[name] for each in said]) for name in (key, f"{key}{MARK}"))
        values = _two_values(likelier.astype(np.float64), upper.astype(np.float64), exact[known])
    else:
        values = np.array([float(other.removeprefix(f"{key}{MARK}_")) for other in _columns(key, predictions)])
    finite = np.isfinite(probability).all(1)
    chosen = known & finite
    return ClassField(
        axis=axis,
        name=name,
        values=values,
        probability=probability[chosen],
        true=np.abs(exact[chosen, None] - values).argmin(1),
        yardstick=_probabilities(key, yardstick)[chosen] if key in yardstick else None,
        event=owner[chosen],
        left_out=int((~known).sum()),
        dropped=int((known & ~finite).sum()),
    )


def _columns(key: str, made: Mapping[str, object]) -> list[str]:
    """Probabilities of more than two classes."""
    return [other for other in made if other.startswith(f"{key}{MARK}_")]


def _probabilities(key: str, made: EventArrays) -> Floats:
    if f"{key}{MARK}" in made:
        upper = made[f"{key}{MARK}"].astype(np.float64)
        return np.stack([1 - upper, upper], 1)
    return np.stack([made[other].astype(np.float64) for other in _columns(key, made)], 1)


def _two_values(likelier: Floats, upper: Floats, truth: Floats) -> Floats:
    """The two classes: a likelier class with more than half of the probability tells its value; else the truth does."""
    sides = [np.unique(likelier[side]) for side in (upper < 0.5, upper > 0.5)]
    known = np.unique(np.concatenate([*sides, truth]))
    low = sides[0][0] if len(sides[0]) else None
    high = sides[1][-1] if len(sides[1]) else None
    if low is None:
        below = known if high is None else known[known < high]
        low = below[0] if len(below) else (0.0 if high is None else high - 1)
    if high is None:
        above = known[known > low]
        high = above[-1] if len(above) else low + 1
    return np.array([low, high])
