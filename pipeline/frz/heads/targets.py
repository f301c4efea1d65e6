"""Target fields of a regression: transform, normalisation, loss, and the way back to physical units.

Physical value -> goal (`to_goals`, numpy, once per slot) -> normalised with mean and width of the training
split (buffers) -> loss. The way back clamps inverse and log goals to the range seen in training, so that
a network output of the wrong sign gives the largest known pT and not 10^6 GeV.
"""

# Axes: N slots, F fields, O raw outputs (F, and one more per periodic field that is predicted as a vector).

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from frz.errors import TrainingError

Kind: TypeAlias = Literal["identity", "inverse", "log", "periodic", "class"]

TINY = 1e-6
"""Inverse and log goals take max(x, TINY): pT -> 0 stays finite."""
TURN = 2 * math.pi
CENTRAL = (0.005, 0.995)
"""Quantiles between which mean and width are measured: one absurd target does not set the scale."""


def wrap(angle: Tensor) -> Tensor:
    """Angle difference (rad) brought to [-pi, pi); the gradient is 1."""
    return torch.remainder(angle + math.pi, TURN) - math.pi


def to_goals(values: NDArray[np.float32], kinds: Sequence[Kind]) -> NDArray[np.float32]:
    """Physical values (N, F) to goals (N, F), field by field.

    identity and periodic keep x; inverse is 1 / max(x, 1e-6); log is ln max(x, 1e-6); class is 1 where x > 0, else
    0 (charges -1 / +1 and flags 0 / 1 alike).
    """
    goals = values.astype(np.float32, copy=True)
    for field, kind in enumerate(kinds):
        if kind == "inverse":
            goals[:, field] = 1 / np.maximum(values[:, field], TINY)
        elif kind == "log":
            goals[:, field] = np.log(np.maximum(values[:, field], TINY))
        elif kind == "class":
            goals[:, field] = values[:, field] > 0
    return goals


class Targets(nn.Module):
    """The fields of a head, their statistics, loss and decoding.

    Parameters
    ----------
    kinds : sequence of Kind
        How each of the F fields is treated.
    beta : float
        Where smooth-L1 turns from quadratic to linear, in widths of the normalised target.
    vector : bool
        Predict a periodic field as the angle of a vector (two outputs; no jump at +-pi for the network to
        learn) instead of as a number that is compared modulo a turn (one output).
    """

    mean: Tensor
    width: Tensor
    low: Tensor
    high: Tensor
    classes: Tensor
    upper: Tensor
    is_class: Tensor
    is_periodic: Tensor
    periodic: Tensor

    def __init__(self, kinds: Sequence[Kind], beta: float, vector: bool) -> None:
        super().__init__()
        self.kinds, self.beta = tuple(kinds), beta
        n_field, n_periodic = len(kinds), sum(kind == "periodic" for kind in kinds)
        self.vector = vector and n_periodic > 0
        self.n_output = n_field + (n_periodic if self.vector else 0)
        logs = torch.tensor([kind == "log" for kind in kinds])
        self.register_buffer("mean", torch.zeros(n_field))
        self.register_buffer("width", torch.ones(n_field))
        self.register_buffer("low", torch.where(logs, math.log(TINY), TINY))
        self.register_buffer("high", torch.where(logs, -math.log(TINY), 1 / TINY))
        self.register_buffer("classes", torch.tensor([[0.0, 1.0]]).repeat(n_field, 1))
        self.register_buffer("upper", torch.full((n_field,), 0.5))
        is_periodic = torch.tensor([kind == "periodic" for kind in kinds])
        self.register_buffer("is_class", torch.tensor([kind == "class" for kind in kinds]), persistent=False)
        self.register_buffer("is_periodic", is_periodic, persistent=False)
        self.register_buffer("periodic", is_periodic.nonzero()[:, 0], persistent=False)

    def measure(self, values: NDArray[np.float32]) -> None:
        """Take means, widths and ranges from the physical targets (N, F) of the training split.

        Numbers: mean and standard deviation of the goals between the 0.5 % and 99.5 % quantiles. Periodic: the
        circular mean, and the root mean square of the wrapped difference to it. A field without spread has width 1.

        Raises
        ------
        TrainingError
            If there is no slot to measure, or a field of classes does not show exactly one value on each side of 0.
        """
        if not len(values):
            raise TrainingError(
                "no slot of the training split counts", way_out="check query/match and the option slots of the head"
            )
        goals = to_goals(values, self.kinds).astype(np.float64)
        for field, kind in enumerate(self.kinds):
            goal = goals[:, field]
            if kind == "class":
                mean, width = 0.0, 1.0  # the goal of a class is compared as it is
                self._measure_classes(field, values[:, field], goal)
            elif kind == "periodic":
                mean = math.atan2(float(np.sin(goal).mean()), float(np.cos(goal).mean()))
                width = float(np.sqrt(np.mean(np.square((goal - mean + math.pi) % TURN - math.pi))))
            else:
                edges = np.quantile(goal, CENTRAL)
                central = goal[(goal >= edges[0]) & (goal <= edges[1])]
                mean, width = float(central.mean()), float(central.std())
            self.mean[field] = mean
            self.width[field] = width if width > TINY * max(1.0, abs(mean)) else 1.0
            self.low[field], self.high[field] = float(goal.min()), float(goal.max())

    def _measure_classes(self, field: int, values: NDArray[np.float32], goal: NDArray[np.float64]) -> None:
        names = [np.unique(values[goal == side]) for side in (0, 1)]
        if any(len(name) != 1 for name in names):
            raise TrainingError(
                f"target field {field} is not of two classes: the training split shows {len(names[0])} values <= 0 "
                f"and {len(names[1])} above",
                way_out="leave it out of bce_fields, or train on events that show both classes",
            )
        self.upper[field] = float(goal.mean())
        self.classes[field] = torch.tensor([float(name[0]) for name in names])

    def losses(self, raw: Tensor, goals: Tensor, counts: Tensor) -> Tensor:
        """Mean loss of each field over the slots that count.

        Smooth-L1 of the normalised difference; periodic fields compare modulo a turn, or as unit vectors; classes
        take the binary cross-entropy of their logit. A batch where nothing counts gives zeros that still
        have a (zero) gradient.

        Parameters
        ----------
        raw : Tensor (N, O)
        goals : Tensor (N, F)
        counts : bool Tensor (N,)

        Returns
        -------
        Tensor (F,)
            In the order of the fields.
        """
        n_field = len(self.kinds)
        found = raw[:, :n_field]
        difference = found - (goals - self.mean) / self.width
        if "periodic" in self.kinds and not self.vector:
            difference = torch.where(self.is_periodic, wrap(difference * self.width) / self.width, difference)
        loss = self._smooth(difference)  # (N, F)
        if "class" in self.kinds:
            entropy = functional.binary_cross_entropy_with_logits(found, goals, reduction="none")
            loss = torch.where(self.is_class, entropy, loss)
        if self.vector:
            # Components of a random unit vector have width 1/sqrt(2); scaled, the loss starts near 1 like the others.
            angle = goals.index_select(1, self.periodic)
            cosine = found.index_select(1, self.periodic) - angle.cos()
            sine = raw[:, n_field:] - angle.sin()
            loss = loss.index_copy(1, self.periodic, self._smooth(2**0.5 * cosine) + self._smooth(2**0.5 * sine))
        scale = counts.to(loss.dtype) / counts.sum().clamp(min=1)  # (N,)
        return scale @ loss

    def _smooth(self, difference: Tensor) -> Tensor:
        return functional.smooth_l1_loss(difference, torch.zeros_like(difference), reduction="none", beta=self.beta)

    def decode(self, raw: Tensor) -> Tensor:
        """Physical values (N, F) of raw outputs (N, O); a class gives the value of the likelier class."""
        values = raw[:, : len(self.kinds)] * self.width + self.mean
        for field, kind in enumerate(self.kinds):
            if kind == "inverse":
                values[:, field] = 1 / values[:, field].clamp(self.low[field], self.high[field])
            elif kind == "log":
                values[:, field] = values[:, field].clamp(self.low[field], self.high[field]).exp()
            elif kind == "class":
                values[:, field] = self.classes[field][(raw[:, field] >= 0).long()]
        for place, field in enumerate(self.periodic.tolist()):
            angle = torch.atan2(raw[:, len(self.kinds) + place], raw[:, field]) if self.vector else values[:, field]
            values[:, field] = wrap(angle)
        return values

    def mean_outputs(self, n_slot: int) -> Tensor:
        """Raw outputs (n_slot, O) that decode to the training mean of every field, for classes to the likelier one."""
        numbers = torch.where(self.is_class, torch.logit(self.upper), 0.0)
        angle = self.mean.index_select(0, self.periodic)
        if self.vector:
            numbers = torch.cat((numbers.index_copy(0, self.periodic, angle.cos()), angle.sin()))
        return numbers.expand(n_slot, -1)

    def probability(self, raw: Tensor) -> Tensor:
        """Probability (N, n_class_field) of the upper class of each field of classes, in their order."""
        return torch.sigmoid(raw[:, : len(self.kinds)][:, self.is_class])
