"""Gaussian multiple-instance learning: each set of an event is a Gaussian, and gives evidence for one of two classes.

A class c has a prototype N(m_c, tau_c^2). With q = N(mu_t, sigma_t^2) of set t, the evidence of the set is the expected
log-likelihood ratio, in closed form, and the log-odds of the classes in the training split:

    s_t = l_1 - l_0 + ln(n_1 / n_0)    l_c = E_q[ln N(z; m_c, tau_c^2)] + const
                                           = -1/2 sum_d [(sigma_td^2 + (mu_td - m_cd)^2) / tau_cd^2 + ln tau_cd^2]

A gate a_t in (0, 1) says how much the set matters. The event's evidence is e = alpha sum a_t s_t / sum a_t
+ (1 - alpha) logit(1 - prod(1 - a_t sigmoid(s_t))): what sets say on the average, and whether any one of them says it.
"""

# Axes: N events, M sets of them sorted, D dimensions of the latent space.

from math import log
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from frz.errors import ConfigError
from frz.heads.bags import BagHead, BagSettings
from frz.heads.contract import Batch
from frz.heads.nets import mlp
from frz.heads.pooling import segment_softmax, slot_of_pairs
from frz.heads.settings import ClassSettings, NetSettings
from frz.store.schema import Schema

MOST_LOG_VARIANCE = 10.0
"""Largest |ln sigma^2| that is believed."""
LEAST = 1e-30
"""Least 1 - p that is told from 0."""


class GaussianMilConfig(ClassSettings, BagSettings, NetSettings):
    """Settings of Gaussian multiple-instance learning; `hidden`, `norm` and `dropout` are those of the gate."""

    AFTER_PREFIX: ClassVar[tuple[str, ...]] = ("prototype_width",)
    rows: Literal["event"] = "event"
    """It answers for events."""
    classes: Literal[2] = 2
    """Evidence is for one of two."""
    target: str = "event/label"
    """Array of the truth, on axis `event`."""
    field: str = "label"
    """Column of `target`, or the name of the array itself."""
    inputs: tuple[str, ...] = Field(default=("set/mu", "set/logvar", "set/minute"), min_length=2)
    """Means and ln variances of one Gaussian per set, and whatever else the gate shall see."""
    norm: Literal["batch", "layer", "none"] = "none"
    """Normalisation after each hidden layer of the gate."""
    prototype_width: float = Field(default=0.1, gt=0)
    """Prototypes begin at random with this width, in units of the latent space."""

    @model_validator(mode="after")
    def _no_own(self) -> "GaussianMilConfig":
        if self.own is not None:
            raise ValueError("own is not seen by this head; what is known of the event itself goes to descriptors")
        return self


class GaussianMil(BagHead):
    """Evidence for the upper class, added up over sets; the logits are (-e, e).

    Descriptors add their own log-odds, a linear map, to e. An event without sets has e = ln(n_1 / n_0).
    """

    Config = GaussianMilConfig

    def __init__(self, config: GaussianMilConfig, schema: Schema) -> None:
        super().__init__(config, schema)
        mean, log_variance, *_ = self.widths
        if mean != log_variance:
            what = f"{config.inputs[0]} has {mean} columns, {config.inputs[1]} {log_variance}"
            raise ConfigError(what, where="inputs", way_out="name means and ln variances of the same Gaussians first")
        self.n_latent = mean
        self.prototype = nn.Parameter(config.prototype_width * torch.randn(2, mean))
        """m (2, D)"""
        self.log_width = nn.Parameter(torch.zeros(2, mean))
        """ln tau^2 (2, D)"""
        self.gate = mlp(sum(self.widths) + 1, 1, config)
        self.balance = nn.Parameter(torch.zeros(1))
        """alpha = sigmoid of it."""
        self.odds = nn.Linear(self.n_described, 1) if self.n_described else None

    def evidence(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """l_1 - l_0 (M,) of Gaussians with means and ln variances (M, D)."""
        variance = log_variance.clamp(-MOST_LOG_VARIANCE, MOST_LOG_VARIANCE).exp()
        likelihood = [
            -((variance + (mean - centre).square()) * (-width).exp() + width).sum(1) / 2
            for centre, width in zip(self.prototype.unbind(), self.log_width.unbind(), strict=True)
        ]
        return likelihood[1] - likelihood[0]

    def forward(self, batch: Batch) -> Tensor:
        """Logits (N, 2) of every event of the batch."""
        n, owner = len(batch["event/counts"]), slot_of_pairs(batch["member/offsets"])
        columns = self.columns(batch)
        prior = self.targets.mean_outputs(1).diff().squeeze()  # ln of the ratio of their shares
        mean, log_variance = columns[:, : self.n_latent], columns[:, self.n_latent : 2 * self.n_latent]
        score = self.evidence(mean, log_variance) + prior  # (M,)
        gate = self.gate(torch.cat((self.standard(columns), score.unsqueeze(1)), 1)).squeeze(1).float()
        open_ = functional.logsigmoid(gate)  # ln a
        share = segment_softmax(open_.unsqueeze(1), owner, n).squeeze(1)  # a / sum a
        average = score.new_zeros(n).index_add(0, owner, share * score)
        none = score.new_zeros(n).index_add(0, owner, log_one_minus_exp(open_ + functional.logsigmoid(score)))
        alpha = self.balance.sigmoid()
        total = alpha * average + (1 - alpha) * (log_one_minus_exp(none) - none)
        total = torch.where(batch["member/offsets"].diff() > 0, total, prior)
        if self.odds is not None:
            assert self.descriptors is not None
            total = total + self.odds(self.descriptors(batch["event/descriptors"])).squeeze(1)
        return torch.stack((-total, total), 1).float()


def log_one_minus_exp(x: Tensor) -> Tensor:
    """ln(1 - e^x) of x <= 0 without loss of digits (M. Maechler, 2012); x above -1e-30 counts as that."""
    x = x.clamp(max=-LEAST)
    near = x > -log(2)  # e^x above 1/2; the other branch must be finite too, or its gradient would be NaN
    return torch.where(
        near, (-torch.expm1(torch.where(near, x, -1.0))).log(), torch.log1p(-torch.where(near, -1.0, x).exp())
    )
