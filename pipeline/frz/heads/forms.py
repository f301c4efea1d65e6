"""In which form a field is answered: a number, several quantiles, or a mean and a variance.

Everything here is about one field in units of its normalised goal; `Targets` knows what a goal is.
"""

# Axes: N members, K quantile levels.

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from frz.heads.losses import PointLoss, Weighting, beta_nll, log_variance, pinball

Form: TypeAlias = Literal["point", "quantiles", "gaussian"]


@dataclass(frozen=True)
class Options:
    """How the fields of a head are answered and judged; the defaults are those of a plain regression."""

    loss: PointLoss = "smooth_l1"
    """Of numbers, on the normalised difference."""
    forms: tuple[Form, ...] = ()
    """One form per field; () = numbers."""
    levels: tuple[float, ...] = ()
    """Of the quantiles of the physical value, ascending; 0.5, which is the prediction, among them."""
    nll_beta: float = 0.5
    """Exponent of the variance that weighs a gaussian field."""
    weighting: Weighting | tuple[float, ...] | None = None
    """Weights of the two classes of a class field."""
    gamma: float = 0.0
    """Focal exponent of class fields; 0 = cross-entropy."""

    def n_more(self, form: Form) -> int:
        """Raw outputs that a field needs beside the first, which is the number, median or mean."""
        return {"point": 0, "quantiles": len(self.levels) - 1, "gaussian": 1}[form]

    def goal_levels(self, *, falling: bool) -> tuple[float, ...]:
        """Levels of the quantiles of the goal; where it falls with the physical value, 1 - level, ascending."""
        return tuple(1 - level for level in reversed(self.levels)) if falling else self.levels

    def spread_loss(self, form: Form, difference: Tensor, more: Tensor, levels: Tensor, *, falling: bool) -> Tensor:
        """Loss (...) of quantiles (mean pinball over the levels) or of mean and variance (beta-NLL).

        Parameters
        ----------
        form : {'quantiles', 'gaussian'}
        difference : Tensor (...)
            Median or mean - truth.
        more : Tensor (..., K - 1) or (..., 1)
            Further raw outputs.
        levels : Tensor (K,)
            `goal_levels`, on the device.
        falling : bool
            Whether the goal falls with the physical value.
        """
        if form == "gaussian":
            return beta_nll(difference, log_variance(more[..., 0]), self.nll_beta)
        return pinball(-self.quantiles(difference, more, falling=falling), levels).mean(-1)

    def quantiles(self, middle: Tensor, more: Tensor, *, falling: bool) -> Tensor:
        """Quantiles (..., K) of the goal, ascending, from the median (...) and further raw outputs (..., K - 1)."""
        place = self.levels.index(0.5)
        return ordered_quantiles(middle, more, len(self.levels) - 1 - place if falling else place)


def ordered_quantiles(middle: Tensor, steps: Tensor, place: int) -> Tensor:
    """Quantiles (..., K) that cannot cross: the middle one and softplus steps away from it.

    Parameters
    ----------
    middle : Tensor (...)
        The quantile at position `place`.
    steps : Tensor (..., K - 1)
        Softplus of them are the distances between neighbours, in ascending order of the levels.
    place : int
        Position of the middle level.
    """
    gaps = functional.softplus(steps)
    below = gaps[..., :place].flip(-1).cumsum(-1).flip(-1)
    middle = middle.unsqueeze(-1)
    return torch.cat((middle - below, middle, middle + gaps[..., place:].cumsum(-1)), -1)
