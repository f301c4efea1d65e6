"""Where the hits of a slot stand relative to the straight line through them: a parameter-free prefix.

A track is nearly straight and what tells its charge and momentum is how far it is not: millimetres on metres, which a
net on absolute coordinates does not see. The line is fitted in a plane of two hit fields, robustly, because
assigned hits are partly wrong.
"""

# Axes: P pairs sorted by slot, S slots.

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDS = 4
"""Fits; each but the first weighs hits by their distance from the line before."""
N_CURVE = 7
"""Numbers that describe a curve."""
LEAST_SCALE = 0.005
"""Least scale of a distance, as a fraction of the extent along the line: hits closer than that weigh alike."""


def line_coordinates(x: Floats, y: Floats, weight: Floats, slot: NDArray[np.int64], n_slot: int) -> NDArray[np.float32]:
    """Coordinates of hits along and across the robust straight line of their slot.

    Total least squares (the main axis of the weighted covariance), repeated with Cauchy weights 1 / (1 + (d / s)^2),
    d the distance from the line before and s its weighted mean absolute value in the slot. The direction is the one
    in which x grows, so the sign of a distance means the same side for all tracks.

    Parameters
    ----------
    x, y : float64 arrays (P,)
        The two fields; x grows outward along a track.
    weight : float64 array (P,)
        Assignment probabilities; they enter squared, because improbable hits are many.
    slot : int64 array (P,)
        Slot of each pair, 0 <= slot < n_slot.
    n_slot : int
        S.

    Returns
    -------
    float32 array (P, 2)
        Along (from the centre of the slot) and across; 0 for a slot with a single hit.
    """

    def mean(values: Floats) -> Floats:
        """Weighted mean per slot, handed back to its pairs (P,)."""
        total = np.bincount(slot, weights, n_slot)
        found: Floats = (np.bincount(slot, weights * values, n_slot) / np.maximum(total, 1e-12))[slot]
        return found

    weights = start = np.square(weight)
    along, across = np.zeros_like(x), np.zeros_like(x)
    for _ in range(ROUNDS):
        dx, dy = x - mean(x), y - mean(y)
        angle = np.arctan2(2 * mean(dx * dy), mean(dx * dx) - mean(dy * dy)) / 2  # in [-pi/2, pi/2]: x grows
        cosine, sine = np.cos(angle), np.sin(angle)
        along, across = cosine * dx + sine * dy, cosine * dy - sine * dx
        scale = np.maximum(mean(np.abs(across)), LEAST_SCALE * np.sqrt(mean(np.square(along))))
        weights = start / (1 + np.square(across / np.maximum(scale, 1e-12)))
    return np.stack((along, across), 1).astype(np.float32)


def curve_of(
    along: Floats, across: Floats, weight: Floats, slot: NDArray[np.int64], n_slot: int
) -> NDArray[np.float32]:
    """How the hits of each slot bend away from their straight line: a robust parabola.

    Least squares of across = c0 + c1 u + c2 u^2 with u = along / extent, repeated with Cauchy weights as for the line;
    extent is the root mean square of `along`.

    Parameters
    ----------
    along, across : float64 arrays (P,)
        From `line_coordinates`.
    weight : float64 array (P,)
        Assignment probabilities; they enter squared.
    slot : int64 array (P,)
        Slot of each pair, 0 <= slot < n_slot.
    n_slot : int
        S.

    Returns
    -------
    float32 array (S, 7)
        asinh(c0 / h), asinh(c1 / h), asinh(c2 / h) with h = 0.002 and again with h = 0.02 for c2; c2 / extent^2 (extent
        at least 0.1); ln of the extent and of the mean distance from the parabola, both at least 1e-4. 0 without hits.
    """

    def total(values: Floats) -> Floats:
        return np.bincount(slot, values, n_slot).astype(np.float64)

    start = np.square(weight)
    sums = np.maximum(total(start), 1e-12)
    extent = np.sqrt(total(start * np.square(along)) / sums)
    u = along / np.maximum(extent, 1e-12)[slot]
    basis = np.stack((np.ones_like(u), u, np.square(u)), 1)  # (P, 3)
    weights, coefficients, distance = start, np.zeros((n_slot, 3)), np.zeros(n_slot)
    for _ in range(ROUNDS):
        normal = np.empty((n_slot, 3, 3))
        for i in range(3):
            for j in range(i + 1):
                normal[:, i, j] = normal[:, j, i] = total(weights * basis[:, i] * basis[:, j])
        right = np.stack([total(weights * across * basis[:, i]) for i in range(3)], 1)
        ridge = 1e-6 * np.trace(normal, axis1=1, axis2=2) + 1e-12  # two hits have no parabola
        coefficients = np.linalg.solve(normal + ridge[:, None, None] * np.eye(3), right[..., None])[..., 0]
        residual = np.abs(across - (basis * coefficients[slot]).sum(1))
        distance = total(weights * residual) / np.maximum(total(weights), 1e-12)
        scale = np.maximum(distance, LEAST_SCALE * extent * 0.1)
        weights = start / (1 + np.square(residual / np.maximum(scale, 1e-12)[slot]))
    c0, c1, c2 = coefficients.T
    some = np.bincount(slot, minlength=n_slot) > 0
    bend = c2 / np.maximum(np.square(extent), 1e-2)
    shape = [np.arcsinh(c / 0.002) for c in (c0, c1, c2)] + [np.arcsinh(c2 / 0.02), bend]
    sizes = [np.log(np.maximum(value, 1e-4)) for value in (extent, distance)]
    return (np.stack([*shape, *sizes], 1) * some[:, None]).astype(np.float32)
