"""Metrics of one predicted field against its truth: residuals, classes, and whether a claimed spread is true."""

# Axes: N members that count.

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from frz.heads.answers import Floats
from frz.heads.residuals import robust_width, summary, wrapped
from frz.heads.scores import class_metrics

LEAST_TRUTH = 1e-6
"""Relative residuals divide by no less."""
LEAST_SIGMA = 1e-12


def field_metrics(
    label: str, kind: str, found: Mapping[str, Floats], truth: Floats, *, relative: bool
) -> dict[str, float]:
    """Metrics `label/name` of a field.

    Numbers: `bias`, `width`, `clipped_rms`, `rmse` of prediction - truth (angles wrapped), with `relative_` also of
    (prediction - truth) / truth; where the truth has two values `accuracy`. Quantiles: `coverage`, the share of truth
    between the outermost ones. Mean and sigma: `pull_width`, robust width of residual / sigma, 1 where sigma is true.
    Classes: `accuracy`, and with a probability the numbers of `class_metrics`.

    Parameters
    ----------
    label : str
        Name of the field.
    kind : str
        How it is treated (`frz.heads.targets.Kind`).
    found : mapping
        Predictions (N,) by label, with `<label>_probability`, `_sigma` or `_q<percent>` where the field has them.
    truth : array (N,)
    relative : bool
        Whether all training targets are positive.
    """
    exact: Floats = truth.astype(np.float64)
    value: Floats = found[label].astype(np.float64)
    result: dict[str, float] = {}
    if kind == "class":
        probability = found.get(f"{label}_probability")
        if probability is not None:
            both = np.stack((1 - probability, probability), 1)
            result = class_metrics(both, (exact > 0).astype(np.int64))
        result["accuracy"] = _fraction((value > 0) == (exact > 0))
        return {f"{label}/{name}": number for name, number in result.items()}
    residual = wrapped(value - exact) if kind == "periodic" else value - exact
    result = summary(residual)
    if relative:
        fraction = residual / np.maximum(exact, LEAST_TRUTH)
        result |= {f"relative_{name}": number for name, number in summary(fraction).items()}
    elif kind != "periodic" and len(np.unique(exact)) == 2:
        middle = (exact.min() + exact.max()) / 2
        result["accuracy"] = _fraction((value > middle) == (exact > middle))
    if f"{label}_sigma" in found:
        result["pull_width"] = robust_width(residual / np.maximum(found[f"{label}_sigma"], LEAST_SIGMA))
    if quantiles := _quantiles(label, found):
        ends: list[Floats] = [found[quantiles[place]].astype(np.float64) - value for place in (0, -1)]
        low, high = ends
        if kind == "periodic":
            low, high = wrapped(low), wrapped(high)
        result["coverage"] = _fraction((low <= -residual) & (-residual <= high))
    return {f"{label}/{name}": number for name, number in result.items()}


def _quantiles(label: str, found: Mapping[str, Floats]) -> list[str]:
    """Names of the quantiles of a field, the lowest first."""
    pattern = re.compile(rf"{re.escape(label)}_q([\d.]+(?:e-\d+)?)")
    levels = {name: float(match[1]) for name in found if (match := pattern.fullmatch(name))}
    return sorted(levels, key=levels.__getitem__)


def _fraction(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if len(hits) else 0.0
