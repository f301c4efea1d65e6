"""Targets relative to a hit: a track's angle is near that of its innermost hit, so the rest is small.

Hit fields of a store are standardised, and no head knows by what. The straight line from the hit's column back to
the target is measured on the training split and travels with the checkpoint.
"""

# Axes: N members, F fields, R fields that have a reference, P pairs sorted by slot.

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frz.heads.residuals import robust_width, wrapped

ROUNDS = 10
"""Fits of the line; each but the first takes what lies within two widths of the line before."""


def innermost(
    values: NDArray[np.floating], order: NDArray[np.floating], offsets: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Values (S, R) of the pair of each slot whose `order` is least; 0 for a slot without pairs.

    Parameters
    ----------
    values : float array (P, R)
    order : float array (P,)
    offsets : int64 array (S + 1,)
        Pairs of each slot.
    """
    counts = np.diff(offsets)
    slot = np.repeat(np.arange(len(counts)), counts)
    sorted_pairs = np.lexsort((order, slot))
    result = np.zeros((len(counts), values.shape[1]), np.float32)
    some = np.nonzero(counts)[0]
    result[some] = values[sorted_pairs[offsets[some]]]
    return result


class Offsets(nn.Module):
    """slope * reference + intercept, per field with a reference.

    Parameters
    ----------
    n_field : int
        F.
    fields : sequence of int (R,)
        Positions of the fields that have a reference.
    periodic : sequence of bool (R,)
        Whether they are angles.
    """

    slope: Tensor
    intercept: Tensor
    place: Tensor

    def __init__(self, n_field: int, fields: Sequence[int], periodic: Sequence[bool]) -> None:
        super().__init__()
        self.n_field, self.periodic = n_field, tuple(periodic)
        self.register_buffer("slope", torch.zeros(len(fields)))
        self.register_buffer("intercept", torch.zeros(len(fields)))
        self.register_buffer("place", torch.tensor(list(fields), dtype=torch.int64), persistent=False)

    def measure(self, values: NDArray[np.float32], reference: NDArray[np.float32]) -> None:
        """Fit the lines on the training split.

        Parameters
        ----------
        values : float32 array (N, F)
            Physical targets.
        reference : float32 array (N, R)
        """
        for number, (field, periodic) in enumerate(zip(self.place.tolist(), self.periodic, strict=True)):
            x, y = reference[:, number].astype(np.float64), values[:, field].astype(np.float64)
            slope, intercept = 0.0, 0.0
            use = np.ones(len(x), bool)
            for _ in range(ROUNDS if len(x) else 0):
                # Where an angle has passed +-pi, what is fitted is the truth's image nearest to the line so far.
                goal = slope * x + intercept + wrapped(y - slope * x - intercept) if periodic and slope else y
                step = x[use] - x[use].mean()
                slope = float(step @ goal[use] / max(float(step @ step), 1e-12))
                intercept = float(goal[use].mean() - slope * x[use].mean())
                difference = y - slope * x - intercept
                residual = np.asarray(wrapped(difference) if periodic else difference)
                use = np.abs(residual) <= max(2 * robust_width(residual), 1e-6)
                use = use if use.any() else np.ones(len(x), bool)
            self.slope[number], self.intercept[number] = slope, intercept

    def forward(self, reference: Tensor) -> Tensor:
        """Offsets (N, F) of references (N, R); 0 for fields without one."""
        found = reference * self.slope + self.intercept
        return found.new_zeros(len(reference), self.n_field).index_copy(1, self.place, found)
