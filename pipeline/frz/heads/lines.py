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
