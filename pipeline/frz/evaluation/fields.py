"""A head's predictions beside the truth, field by field, and how wide and how biased they are in bins.

Particular: no head is known by name. The prediction `axis/name` is compared with the truth of that name, which is
the array `axis/name` of the prepared events or the column `name` of `axis/target`; `axis/counts`, where there is
one, says which members count.
"""

# Axes: N members (slots) that count, B bins.

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from frz.heads.residuals import wrapped
from frz.store.schema import EventArrays, Schema, axis_of

Floats = NDArray[np.float64]

LEAST = 10
"""Fewer residuals than this have no width worth plotting."""
ETA_STEP, ETA_LARGEST = 0.5, 6.0
PT_EDGES = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 100.0, 200.0)
"""GeV."""
OUTER = 0.16
"""Half of the width is between this quantile and its mirror image."""


@dataclass(frozen=True)
class Field:
    """One field of the predictions on the N members that count."""

    axis: str
    name: str
    unit: str
    kind: Literal["number", "angle", "class"]
    """Angles (rad) are compared modulo a turn; classes have two values, or probabilities."""
    truth: Floats
    found: Floats
    mean: Floats | None
    """The yardstick: what is predicted without features."""
    against: Mapping[str, Floats]
    """True quantities of the same members, to bin by."""
    dropped: int
    """Members left out because a number is not finite."""

    @property
    def relative(self) -> bool:
        """Whether residuals are (prediction - truth) / truth: where every truth is positive."""
        return self.kind == "number" and len(self.truth) > 0 and bool(self.truth.min() > 0)

    def residual(self, values: Floats) -> Floats:
        """Values (N,) - truth, wrapped to [-pi, pi) for angles, over the truth where `relative`."""
        difference = values - self.truth
        if self.kind == "angle":
            return np.asarray(wrapped(difference), np.float64)
        return difference / self.truth if self.relative else difference

    def right(self, values: Floats) -> NDArray[np.bool_]:
        """Whether values (N,) fall on the side of the middle between the two classes that the truth is on.

        Of more classes: whether they are the truth.
        """
        if len(np.unique(self.truth)) > 2:
            return np.asarray(values == self.truth)
        known = self.truth if len(np.unique(self.truth)) == 2 else np.concatenate([self.truth, self.found])
        middle = (known.min() + known.max()) / 2 if len(known) else 0.0
        return np.asarray((values > middle) == (self.truth > middle))


def compare(
    predictions: EventArrays,
    yardstick: EventArrays,
    prepared: EventArrays,
    schema: Schema,
    units: Mapping[str, str],
    quantities: Mapping[str, Mapping[str, Floats]],
) -> list[Field]:
    """Pair predictions with their truth; what has none (a probability) is left out.

    Parameters
    ----------
    predictions, yardstick : EventArrays
        From `Head.predict` and `Head.predict_mean`.
    prepared : EventArrays
        The events as `Head.prepare` left them.
    schema : Schema
        Of `prepared`.
    units : mapping
        Unit of a field by its name; absent = none.
    quantities : mapping
        By axis: true quantities (of all members of the axis) to bin by.

    Returns
    -------
    list of Field
        In the order of the predictions.
    """
    fields = []
    for key, values in predictions.items():
        axis, name = axis_of(key), key.partition("/")[2]
        truth = truth_of(key, prepared, schema)
        if truth is None or truth.shape != values.shape:
            continue
        counts = prepared.get(f"{axis}/counts", np.ones(len(truth), bool))
        columns = {"truth": truth, "found": values}
        if key in yardstick:
            columns["mean"] = yardstick[key]
        columns |= {f"by {q}": of for q, of in quantities.get(axis, {}).items()}
        chosen = {c: of[counts].astype(np.float64) for c, of in columns.items()}
        finite = np.all([np.isfinite(of) for of in chosen.values()], axis=0)
        chosen = {c: of[finite] for c, of in chosen.items()}
        unit = units.get(name, "")
        kind: Literal["number", "angle", "class"] = "number"
        if any(other.startswith(f"{key}_probability") for other in predictions) or len(np.unique(chosen["truth"])) == 2:
            kind = "class"
        elif unit == "rad" or name == "phi":
            kind = "angle"
        fields.append(
            Field(
                axis=axis,
                name=name,
                unit=unit,
                kind=kind,
                truth=chosen["truth"],
                found=chosen["found"],
                mean=chosen.get("mean"),
                against={q: chosen[f"by {q}"] for q in quantities.get(axis, {})},
                dropped=int((~finite).sum()),
            )
        )
    return fields


def truth_of(key: str, prepared: EventArrays, schema: Schema) -> NDArray[np.generic] | None:
    """Truth of the prediction `key`: the array of that name or the column of that name of `axis/target`, or None."""
    if key in prepared:
        return prepared[key]
    axis, name = axis_of(key), key.partition("/")[2]
    target = f"{axis}/target"
    if target in prepared and name in schema.arrays[target].columns:
        column: NDArray[np.generic] = prepared[target][:, schema.arrays[target].columns.index(name)]
        return column
    return None


@dataclass(frozen=True)
class Spread:
    """Width and median of residuals with their standard errors; NaN for fewer than 10 residuals."""

    count: int
    width: float
    """(q84 - q16) / 2: half of the range that holds the central 68 %."""
    width_error: float
    median: float
    median_error: float

    @classmethod
    def of(cls, residual: Floats) -> "Spread":
        """Measure residuals (N,).

        The standard error of a sample quantile q_p is sqrt(p (1 - p) / n) / f(q_p); two of them, p < r, have the
        correlation sqrt(p (1 - r) / (r (1 - p))) (H. Cramer, Mathematical Methods of Statistics, 1946, 28.5). The
        density f is taken from the data: the quantiles one binomial standard deviation to either side of p.
        """
        n = len(residual)
        if n < LEAST:
            return cls(n, *(math.nan,) * 4)
        places = np.array([OUTER, 0.5, 1 - OUTER])
        step = np.sqrt(places * (1 - places) / n)
        low, middle, high = np.quantile(residual, np.stack([places - step, places, places + step]))
        error = (high - low) / 2
        correlation = OUTER / (1 - OUTER)
        variance = error[0] ** 2 + error[2] ** 2 - 2 * correlation * error[0] * error[2]
        width = float(middle[2] - middle[0]) / 2
        return cls(n, width, math.sqrt(variance) / 2, float(middle[1]), float(error[1]))


def spread_in_bins(values: Floats, residual: Floats, edges: Sequence[float]) -> list[Spread]:
    """Spread of the residuals (N,) in bins of `values` (N,); bin i holds edge i <= value < edge i + 1.

    The last bin holds its upper edge too, as in `binned`.
    """
    bounds = np.asarray(edges, np.float64)
    place = np.searchsorted(bounds, values, side="right") - 1
    place[values == bounds[-1]] = len(bounds) - 2
    return [Spread.of(residual[place == index]) for index in range(len(bounds) - 1)]


def bin_edges(name: str, values: Floats, unit: str) -> tuple[float, ...]:
    """Edges to bin a true quantity by, in its unit, over its range.

    Parameters
    ----------
    name : {'pt', 'eta'}
        pT in bins that widen (GeV, or MeV if the unit says so), from the bin of the smallest value on; eta in steps of
        0.5 to either side.
    values : float64 array (N,)
        At least one.
    unit : str
        Of the values.
    """
    if name == "eta":
        n = max(1, int(np.ceil(min(ETA_LARGEST, float(np.abs(values).max())) / ETA_STEP)))
        return tuple((ETA_STEP * np.arange(-n, n + 1)).tolist())
    scale = 1000.0 if unit == "MeV" else 1.0
    begin = int(np.searchsorted(PT_EDGES, values.min() / scale, side="right")) - 1
    return tuple(edge * scale for edge in PT_EDGES[min(max(begin, 0), len(PT_EDGES) - 2) :])
