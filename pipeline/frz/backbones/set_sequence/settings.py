"""Settings of the family `set_sequence`, documented field by field."""

from typing import Literal

from pydantic import Field, model_validator

from frz.config import StrictModel


class ReconstructionSettings(StrictModel):
    """How the elements of a set are decoded and compared with the true ones."""

    weight: float = Field(default=1.0, ge=0)
    """Weight of the whole; 0 leaves the decoder out of the model."""
    source: Literal["latent", "state", "previous"] = "latent"
    """What a set is decoded from: its latent, the state after it, or the state before it, which has not seen it."""
    matching: Literal["chamfer", "sinkhorn"] = "chamfer"
    """Each element against the nearest of the other side, or a transport plan between both sides."""
    direction: float = Field(default=1.0, ge=0)
    """Weight of 1 - cos between decoded and true token: which variable."""
    magnitude: float = Field(default=1.0, ge=0)
    """Weight of the difference of their lengths."""
    full: float = Field(default=3.0, ge=0)
    """Weight of their squared distance."""
    variance: float = Field(default=0.1, ge=0)
    """Weight of the spread of the decoded elements of a set, which is rewarded."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the sets, drawn anew in each batch, that are decoded while training; validation decodes all."""
    levels: int = Field(default=1, ge=1)
    """Attention blocks of the decoder."""
    sinkhorn_epsilon: float = Field(default=0.1, gt=0)
    """Entropy of the transport plan."""
    sinkhorn_steps: int = Field(default=50, ge=1)
    """Iterations that find it."""


class KlSettings(StrictModel):
    """The divergence of the posterior from the standard normal, in nats."""

    weight: float = Field(default=0.05, ge=0)
    """Weight after the warm-up."""
    warmup: int = Field(default=8000, ge=0)
    """Training batches over which the weight grows from 0, in a straight line."""
    free_bits: float = Field(default=0.03, ge=0)
    """Nats per dimension that cost nothing."""
    free: Literal["dimension", "sum"] = "dimension"
    """Where they are free: in each dimension's mean over the batch, or (as the original) in the sum of a set."""
    logvar_bonus: float = Field(default=0.0, ge=0)
    """The original subtracts 0.1 times the mean log-variance."""


class ForecastSettings(StrictModel):
    """Values of later sets from the state, by smooth L1 on standardised values."""

    weight: float = Field(default=0.5, ge=0)
    """Weight; 0 leaves it out of the model."""
    ahead: tuple[int, ...] = Field(default=(1, 4), min_length=1)
    """How many sets ahead; each distance has a linear map of its own."""


class SupervisedSettings(StrictModel):
    """Targets of the training stays that shape the features; features are then no longer blind to them."""

    labels: dict[str, float] = {}
    """Weights of binary targets (`event/label: 1.0`): cross-entropy; stays with -1 are left out."""
    scores: dict[str, float] = {}
    """Weights of other targets (`event/saps: 0.1`): smooth L1 on log(1 + score), standardised; -1 is left out."""
    every_set: float = Field(default=0.0, ge=0)
    """Weight of the same losses from the state after each set, averaged over the sets of a stay, relative to those
    from the pooled states."""
    positive_weight: float = Field(default=1.0, gt=0)
    """Weight of the label 1 in the cross-entropy."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Dropout on what the targets are read from."""


class SummarySettings(StrictModel):
    """Small nets on what is known at the end of a stay: levels, trends, static columns."""

    members: int = Field(default=0, ge=0)
    """How many, each trained apart on the targets of `supervised`; 0 leaves them out of the model."""
    hidden: int = Field(default=128, ge=1)
    """Hidden units of a member."""
    width: int = Field(default=64, ge=1)
    """Units of a member that are kept as features."""
    dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of its units dropped while training."""
    input_dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of its inputs dropped while training."""


class GradedSettings(SummarySettings):
    """Such nets, narrower, that read each value by grades: how far it has come through six classes."""

    hidden: int = Field(default=64, ge=1)
    """Hidden units of a member."""
    width: int = Field(default=32, ge=1)
    """Units of a member that are kept as features, behind those of `summary`."""
    input_dropout: float = Field(default=0.4, ge=0, lt=1)
    """Share of its inputs dropped while training."""


class SetSequenceConfig(StrictModel):
    """Everything that shapes a `set_sequence` model."""

    dim: int = Field(default=64, ge=4)
    """Width D of tokens, latent and state."""
    heads: int = Field(default=2, ge=1)
    """Attention heads inside sets; must divide `dim`."""
    inducing: int = Field(default=4, ge=1)
    """Inducing points of a set block."""
    set_levels: int = Field(default=2, ge=1)
    """Set blocks of the encoder."""
    sequence_layers: int = Field(default=2, ge=1)
    """Layers of the causal transformer over the sets of a stay."""
    sequence_heads: int = Field(default=4, ge=1)
    """Its heads; must divide `dim`."""
    ffn_multiple: float = Field(default=2.0, gt=0)
    """Hidden width of the feed-forward nets, in units of `dim`."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout of posterior net and transformer while training."""
    residual: bool = True
    """Attention and feed-forward of a set block add to what they read; the original has neither sum."""

    embedding: Literal["learned", "table"] = "learned"
    """What a variable starts from: a learned vector, or its row of the data set's `variable/embedding`."""
    unit_embedding: bool = True
    """Bring the variable's direction to length 1 before it is scaled with the value."""
    token: Literal["shifted", "product"] = "shifted"
    """An element is direction * value + identity; `product`, as the original, leaves the identity out: an element at
    the mean of its variable is then the zero vector."""
    scaling: Literal["standard", "quantile"] = "standard"
    """Values enter as (value - mean) / width, without extremes, or as the normal score of their rank among the
    training stays' values of that variable, which knows no skew and no units."""
    clip: float = Field(default=5.0, gt=0)
    """Standardised values are kept within +- this."""

    static: bool = False
    """The sequence model sees `event/static`, standardised, and which of it is unknown."""
    levels: bool = False
    """The sequence model sees, of every variable and up to each set, the last, mean, least and greatest standardised
    value, how often it was measured and how long ago."""
    gap_buckets: int = Field(default=64, ge=2)
    """Classes of the time since the set before, their edges evenly spaced in log(1 + minutes) from 0.5 to 1440."""

    element_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of elements hidden from encoder and sequence model while training; they are still to be decoded."""
    set_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of sets whose elements are all hidden while training."""
    variable_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the variables of each stay that are hidden from all its sets while training."""
    sample: bool = True
    """Draw the latent from its posterior while training; features always take the mean."""

    reconstruction: ReconstructionSettings = ReconstructionSettings()
    kl: KlSettings = KlSettings()
    forecast: ForecastSettings = ForecastSettings()
    supervised: SupervisedSettings = SupervisedSettings()
    summary: SummarySettings = SummarySettings()
    graded: GradedSettings = GradedSettings()

    pooling_scaled: bool = True
    """`event/pooled_fast` divides the scores <state, mean state> by the root of D; the original does not."""

    @model_validator(mode="after")
    def _check(self) -> "SetSequenceConfig":
        for name in ("heads", "sequence_heads"):
            if self.dim % getattr(self, name):
                raise ValueError(f"dim = {self.dim} is not a multiple of {name} = {getattr(self, name)}")
        twice = set(self.supervised.labels) & set(self.supervised.scores)
        if twice:
            raise ValueError(f"supervised: {', '.join(sorted(twice))} stands among labels and scores")
        targets = (*self.supervised.labels.values(), *self.supervised.scores.values())
        if (self.summary.members or self.graded.members) and not targets:
            raise ValueError("summary, graded: no target trains its members: give supervised labels or scores")
        decoded = self.reconstruction.weight if self.reconstruction.source != "latent" else 0.0
        if not any((decoded, self.forecast.weight, *targets)):
            raise ValueError("no loss trains the states: give forecast or supervised a weight, or decode from states")
        return self
