"""Target fields of a regression: transform, normalisation, loss, and the way back to physical units.

Physical value -> goal (`to_goals`, numpy, once per slot) -> normalised with mean and width of the training
split (buffers) -> loss. The way back clamps inverse and log goals to the range seen in training, so that
a network output of the wrong sign gives the largest known pT and not 10^6 GeV. A field may also be answered
by several quantiles or by a mean and a variance, of the goal.
"""

# Axes: N slots, F fields, O raw outputs: F, one more per periodic field that is predicted as a vector, and what the
# forms need: K - 1 steps per field of K quantiles, a log variance per gaussian field.

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from frz.errors import TrainingError
from frz.heads.answers import Answers, Floats
from frz.heads.fieldmetrics import field_metrics
from frz.heads.forms import Form, Options
from frz.heads.losses import class_loss, class_weights, log_variance, point_loss

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


class Targets(Answers):
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
    options : Options
        Losses and forms.
    labels : sequence of str
        Names of the fields.
    """

    mean: Tensor
    width: Tensor
    low: Tensor
    high: Tensor
    classes: Tensor
    upper: Tensor
    class_weight: Tensor
    levels: Tensor
    is_class: Tensor
    is_periodic: Tensor
    periodic: Tensor

    def __init__(
        self,
        kinds: Sequence[Kind],
        beta: float,
        vector: bool,
        options: Options | None = None,
        labels: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.kinds, self.beta, self.options = tuple(kinds), beta, options or Options()
        self.labels = tuple(labels) or tuple(f"field{field}" for field in range(len(kinds)))
        self.forms: tuple[Form, ...] = self.options.forms or tuple("point" for _ in kinds)
        n_field, n_periodic = len(kinds), sum(kind == "periodic" for kind in kinds)
        self.vector = vector and n_periodic > 0
        self.n_output = n_field + (n_periodic if self.vector else 0)
        self.more: dict[int, slice] = {}
        """Further raw outputs of the fields that are no plain numbers."""
        for field, form in enumerate(self.forms):
            if n_more := self.options.n_more(form):
                self.more[field] = slice(self.n_output, self.n_output + n_more)
                self.n_output += n_more
        logs = torch.tensor([kind == "log" for kind in kinds])
        self.register_buffer("mean", torch.zeros(n_field))
        self.register_buffer("width", torch.ones(n_field))
        self.register_buffer("low", torch.where(logs, math.log(TINY), TINY))
        self.register_buffer("high", torch.where(logs, -math.log(TINY), 1 / TINY))
        self.register_buffer("classes", torch.tensor([[0.0, 1.0]]).repeat(n_field, 1))
        self.register_buffer("upper", torch.full((n_field,), 0.5))
        weighted = self.options.weighting is not None
        self.register_buffer("class_weight", torch.ones(n_field, 2), persistent=weighted)
        levels = [self.options.goal_levels(falling=kind == "inverse") for kind in kinds]
        self.register_buffer("levels", torch.tensor(levels), persistent=False)  # (F, K)
        is_periodic = torch.tensor([kind == "periodic" for kind in kinds])
        self.register_buffer("is_class", torch.tensor([kind == "class" for kind in kinds]), persistent=False)
        self.register_buffer("is_periodic", is_periodic, persistent=False)
        self.register_buffer("periodic", is_periodic.nonzero()[:, 0], persistent=False)

    def goals(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Goals (N, F) of physical values (N, F), see `to_goals`."""
        return to_goals(values, self.kinds)

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
        n_upper = int(goal.sum())
        self.class_weight[field] = class_weights([len(goal) - n_upper, n_upper], self.options.weighting)
        self.classes[field] = torch.tensor([float(name[0]) for name in names])

    def losses(self, raw: Tensor, goals: Tensor, counts: Tensor) -> Tensor:
        """Mean loss of each field over the slots that count.

        Numbers: the point loss of the normalised difference; periodic fields compare modulo a turn, or as unit vectors;
        quantiles take the mean pinball loss over their levels, gaussian fields beta-NLL, classes the (focal,
        weighted) cross-entropy of their logit. A batch where nothing counts gives zeros that still have a (zero)
        gradient.

        Parameters
        ----------
        raw : Tensor (..., N, O)
        goals : Tensor (N, F)
        counts : bool Tensor (N,)

        Returns
        -------
        Tensor (..., F)
            In the order of the fields.
        """
        n_field = len(self.kinds)
        found = raw[..., :n_field]
        difference = found - (goals - self.mean) / self.width
        if "periodic" in self.kinds and not self.vector:
            difference = torch.where(self.is_periodic, wrap(difference * self.width) / self.width, difference)
        loss = self._point(difference)  # (N, F)
        if "class" in self.kinds:
            true = goals > 0.5
            weight = torch.where(true, self.class_weight[:, 1], self.class_weight[:, 0])
            log_p = functional.logsigmoid(torch.where(true, found, -found))
            loss = torch.where(self.is_class, class_loss(log_p, weight, self.options.gamma), loss)
        if self.vector:
            # Components of a random unit vector have width 1/sqrt(2); scaled, the loss starts near 1 like the others.
            angle = goals.index_select(1, self.periodic)
            second = raw[..., n_field : n_field + len(self.periodic)]
            cosine = found.index_select(-1, self.periodic) - angle.cos()
            sine = second - angle.sin()
            loss = loss.index_copy(-1, self.periodic, self._point(2**0.5 * cosine) + self._point(2**0.5 * sine))
        if self.more:
            columns = list(loss.unbind(-1))
            for field, place in self.more.items():
                given = difference[..., field], raw[..., place], self.levels[field]
                columns[field] = self.options.spread_loss(
                    self.forms[field], *given, falling=self.kinds[field] == "inverse"
                )
            loss = torch.stack(columns, -1)
        scale = counts.to(loss.dtype) / counts.sum().clamp(min=1)  # (N,)
        return scale @ loss

    def _point(self, difference: Tensor) -> Tensor:
        return point_loss(difference, self.options.loss, self.beta)

    def decode(self, raw: Tensor, shift: Tensor | None = None) -> Tensor:
        """Physical values (N, F) of raw outputs (N, O); a class gives the value of the likelier class.

        A `shift` (N, F) is added to identity and periodic fields.
        """
        scaled = raw[:, : len(self.kinds)] * self.width + self.mean
        moved = scaled if shift is None else scaled + shift
        values = torch.stack([self._physical(moved[:, field], field) for field in range(len(self.kinds))], 1)
        for field, kind in enumerate(self.kinds):
            if kind == "class":
                values[:, field] = self.classes[field][(raw[:, field] >= 0).long()]
        for place, field in enumerate(self.periodic.tolist() if self.vector else ()):
            angle = torch.atan2(raw[:, len(self.kinds) + place], raw[:, field])
            values[:, field] = wrap(angle if shift is None else angle + shift[:, field])
        return values

    def _physical(self, goal: Tensor, field: int) -> Tensor:
        """From a goal to the physical value of a number."""
        if self.kinds[field] == "inverse":
            return 1 / goal.clamp(self.low[field], self.high[field])
        if self.kinds[field] == "log":
            return goal.clamp(self.low[field], self.high[field]).exp()
        return wrap(goal) if self.kinds[field] == "periodic" else goal

    def predictions(self, raw: Tensor, shift: Tensor | None = None) -> dict[str, Tensor]:
        """Physical values (N,) by label; with them what is known of their spread.

        `<label>_probability` of the upper class; `<label>_q5` etc. for quantiles at 5 %; `<label>_sigma` of a gaussian
        field, brought to physical units by the slope of the transform at the mean.
        """
        values, probability = self.decode(raw, shift), self.probability(raw)
        result = {label: values[:, field] for field, label in enumerate(self.labels)}
        classes = [label for label, kind in zip(self.labels, self.kinds, strict=True) if kind == "class"]
        result |= {f"{label}_probability": probability[:, place] for place, label in enumerate(classes)}
        for field, place in self.more.items():
            width, label, falling = self.width[field], self.labels[field], self.kinds[field] == "inverse"
            if self.forms[field] == "gaussian":
                sigma = width * (log_variance(raw[:, place.start]) / 2).exp()
                slope = {"inverse": values[:, field].square(), "log": values[:, field]}.get(self.kinds[field])
                result[f"{label}_sigma"] = sigma if slope is None else sigma * slope
                continue
            goals = self.options.quantiles(raw[:, field], raw[:, place], falling=falling) * width + self.mean[field]
            if shift is not None:
                goals = goals + shift[:, field : field + 1]
            quantiles = self._physical(goals.flip(1) if falling else goals, field)
            names = [f"{label}_q{100 * level:g}" for level in self.options.levels]
            result |= dict(zip(names, quantiles.unbind(1), strict=True))
        return result

    def mean_outputs(self, n_member: int) -> Tensor:
        """Raw outputs (n_member, O) that decode to the training mean of every field, of classes to the likelier one."""
        numbers = torch.where(self.is_class, torch.logit(self.upper), 0.0)
        angle = self.mean.index_select(0, self.periodic)
        if self.vector:
            numbers = torch.cat((numbers.index_copy(0, self.periodic, angle.cos()), angle.sin()))
        numbers = torch.cat((numbers, numbers.new_zeros(self.n_output - len(numbers))))  # steps and variance of one
        return numbers.expand(n_member, -1)

    def probability(self, raw: Tensor) -> Tensor:
        """Probability (N, n_class_field) of the upper class of each field of classes, in their order."""
        return torch.sigmoid(raw[:, : len(self.kinds)][:, self.is_class])

    def metrics(self, found: dict[str, Floats], truth: Floats) -> dict[str, float]:
        """Metrics of each field, see `field_metrics`."""
        result: dict[str, float] = {}
        for field, (label, kind) in enumerate(zip(self.labels, self.kinds, strict=True)):
            positive = kind in ("inverse", "log") or (kind == "identity" and bool(self.low[field] > 0))
            result |= field_metrics(label, kind, found, truth[:, field], relative=positive)
        return result
