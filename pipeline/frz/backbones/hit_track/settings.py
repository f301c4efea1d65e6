"""Settings of the family `hit_track`, documented field by field."""

from typing import Literal

from pydantic import Field, model_validator

from frz.backbones.layers import NormName
from frz.config import StrictModel

DENSE_LIMIT = 16
"""Up to this many queries assignment logits are stored densely, beyond it as (hit, query) pairs."""


class ValidWeights(StrictModel):
    """Weights of the losses of task `track_valid`."""

    bce: float = Field(default=1.0, ge=0)
    """Binary cross-entropy: is there a track behind this query?"""


class MaskWeights(StrictModel):
    """Weights of the losses of task `track_hit_valid`; a loss of weight 0 is not computed."""

    bce: float = Field(default=1.0, ge=0)
    """Binary cross-entropy per (true track, hit), averaged over the hits of the event."""
    dice: float = Field(default=1.0, ge=0)
    """Dice loss 1 - (2 p.t + 1) / (sum p + sum t + 1) per true track."""
    focal: float = Field(default=0.0, ge=0)
    """Focal loss with gamma 2 per (true track, hit), averaged over the hits of the event."""


class SeedWeights(StrictModel):
    """Weights of the losses of task `hit_seed`."""

    bce: float = Field(default=1.0, ge=0)
    """Binary cross-entropy: is the hit the first one of a track?"""


class LossWeights(StrictModel):
    """Loss weights: task -> loss -> weight."""

    track_valid: ValidWeights = ValidWeights()
    track_hit_valid: MaskWeights = MaskWeights()
    hit_seed: SeedWeights = SeedWeights()


class ValidCosts(StrictModel):
    """Weights of the matching costs of task `track_valid`."""

    probability: float = Field(default=10.0, ge=0)
    """-p of the query being valid."""


class MaskCosts(StrictModel):
    """Weights of the matching costs of task `track_hit_valid`."""

    bce: float = Field(default=1.0, ge=0)
    """Binary cross-entropy between a query's hit logits and a track's hits."""
    dice: float = Field(default=0.0, ge=0)
    """Dice loss of the same pair."""
    reduction: Literal["sum", "mean"] = "sum"
    """`bce` summed or averaged over the hits of the event."""


class CostWeights(StrictModel):
    """Matching costs: task -> cost -> weight."""

    track_valid: ValidCosts = ValidCosts()
    track_hit_valid: MaskCosts = MaskCosts()


class HitTrackConfig(StrictModel):
    """Everything that shapes a `hit_track` model."""

    array: str = Field(default="hit/raw", pattern="^hit/[^/]+$")
    """Array of the data set that holds the hits, float, one named column per field."""
    fields: tuple[str, ...] = ()
    """Model fields in order: columns of `array` or derived ones (r, s, theta, phi, eta); empty = every column."""
    position: tuple[str, str, str] | None = None
    """Columns x, y, z that the derived fields are computed from; lengths keep their unit, angles are in radians."""

    dim: int = Field(default=32, ge=2)
    """Width D of query and hit embeddings."""
    heads: int = Field(default=2, ge=1)
    """Attention heads; must divide `dim`. Few wide heads run faster than many narrow ones."""
    encoder_layers: int = Field(default=2, ge=0)
    """Self-attention layers among hits."""
    decoder_layers: int = Field(default=2, ge=1)
    """Layers in which queries read hits."""
    ffn_multiple: float = Field(default=2.0, gt=0)
    """Hidden width of the feed-forward nets, in units of `dim`."""
    input_hidden: int | None = Field(default=None, ge=1)
    """Hidden width of the input net; None = twice the number of fields."""
    norm: NormName = "layer"
    """Layer norm or root-mean-square norm."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in attention and feed-forward nets while training."""

    pos_fields: tuple[str, ...] = ()
    """Fields encoded by sines and cosines and added to the hit embedding; empty = no positional encoding."""
    periodic_fields: tuple[str, ...] = ("phi",)
    """Those of `pos_fields` that are angles in radians; they enter raw, the others standardised."""
    pos_alpha: float = Field(default=1000.0, gt=0)
    """Highest frequency: per width of an ordinary field, per unit of sin and cos of a periodic one."""
    pos_base: float = Field(default=100.0, gt=1)
    """Frequencies span from `pos_alpha` down to nearly `pos_alpha / pos_base`."""

    num_queries: int = Field(default=2, ge=1)
    """Largest number Q of tracks that an event can hold."""
    queries: Literal["learned", "seeds"] = "learned"
    """What queries start from: a learned vector each, or the hits that most look like the first one of a track
    (more hits than `num_queries` never start; slots left over start from learned vectors)."""
    seed_field: str = "r"
    """With `queries: seeds`: the first hit of a track is the one with the smallest value of this field."""
    mask_attention: bool = True
    """Queries read only hits that their mask of the layer before admits."""
    mask_threshold: float = Field(default=0.1, gt=0, lt=1)
    """A hit is admitted from this probability on; a row that admits none is opened fully."""
    bidirectional: bool = True
    """Hits read queries too, after each decoder layer."""

    loss: LossWeights = LossWeights()
    """Loss weights by task and loss."""
    cost: CostWeights = CostWeights()
    """Matching costs by task and cost."""
    null_weight: float = Field(default=1.0, gt=0)
    """Weight of queries without a track in the validity loss."""
    intermediate_losses: bool = True
    """Add the mask losses of every decoder layer's first look, with the final matching."""

    tracks: str = "track"
    """Axis of the true tracks."""
    members: str = "member/hit"
    """Array that lists the hits of each true track (`refers_to` the hits)."""

    pair_floor: float = Field(default=0.01, gt=0, lt=1)
    """With more than 16 queries only assignments of at least this probability are stored."""

    @model_validator(mode="after")
    def _check(self) -> "HitTrackConfig":
        if self.dim % self.heads:
            raise ValueError(f"dim = {self.dim} is not a multiple of heads = {self.heads}")
        if 2 * len(self.pos_fields) > self.dim:
            raise ValueError(f"{len(self.pos_fields)} pos_fields need dim >= {2 * len(self.pos_fields)}")
        if len(set(self.fields)) < len(self.fields):
            raise ValueError("a name stands twice in fields")
        return self
