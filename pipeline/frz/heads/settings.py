"""What a regression head can be told, field by field."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from frz.config import StrictModel
from frz.errors import nearest
from frz.heads.slots import Counting
from frz.heads.targets import Kind


class RegressionConfig(StrictModel):
    """Settings of the regression head."""

    fields: tuple[str, ...] = Field(default=("eta", "phi", "pt", "q"), min_length=1)
    """Targets in output order: columns of `target`, or a ratio of two such as `q/pt`."""
    target: str = "track/parameters"
    """Array of the true parameters."""
    members: str = "member/hit"
    """Array of the true hits of each track; read for `slots: double_matched` alone."""
    slots: Counting = "all_true"
    """Which slots count in loss and metrics: those of true tracks; of these, valid ones; or double-matched ones."""
    hit_nets: tuple[Literal["raw", "encoded"], ...] = ("raw", "encoded")
    """What is pooled: scaled hit fields, hit embeddings, both, or nothing (query embedding alone)."""
    hit_fields: tuple[str, ...] | None = None
    """Columns of `hit/scaled` in the order used; None = all."""
    hit_net_hidden: int | None = Field(default=None, ge=1)
    """Hidden width of a hit net; None = twice its input."""
    dim: int | None = Field(default=None, ge=1)
    """Width D of the query embedding; checked when given."""
    assignment_threshold: float = Field(default=0.1, ge=0, lt=1)
    """Least assignment probability (inclusive) with which a hit is pooled."""
    regression_hidden_dim: int | None = Field(default=None, ge=1)
    """Width of the hidden layers; None = half of the aggregated width (9 D with both hit nets)."""
    regression_num_layers: int = Field(default=3, ge=1)
    """Linear layers; 1 = one linear map."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout after each hidden layer."""
    inverse_fields: tuple[str, ...] = ()
    """Fields regressed as 1/x."""
    log_fields: tuple[str, ...] = ()
    """Fields regressed as ln x."""
    bce_fields: tuple[str, ...] = ()
    """Fields of two classes (x > 0 or not), trained with binary cross-entropy."""
    line: tuple[str, str] | None = None
    """Two columns of `hit/scaled` in whose plane tracks are nearly straight, the first growing outward: the raw hit net
    also sees where a hit stands along and across the robust straight line through the hits of its slot."""
    periodic_fields: tuple[str, ...] | None = None
    """Angles in rad; None = `phi` where it is a field."""
    periodic_output: Literal["angle", "vector"] = "angle"
    """An angle is one output compared modulo a turn, or two outputs whose direction it is."""
    beta: float = Field(default=1.0, gt=0)
    """Smooth-L1 is quadratic below this many widths."""
    loss_weight: float = Field(default=1.0, ge=0)
    """Factor on the loss."""
    field_weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Weight of a field in the mean over fields (default 1 each)."""

    @model_validator(mode="after")
    def _check(self) -> "RegressionConfig":
        for what, names in (("fields", self.fields), ("hit_nets", self.hit_nets)):
            if len(set(names)) != len(names):
                raise ValueError(f"{what} name something twice: {', '.join(names)}")
        special = [*self.inverse_fields, *self.log_fields, *self.bce_fields, *(self.periodic_fields or ())]
        for name in (*special, *self.field_weights):
            if name not in self.fields:
                raise ValueError(f"{name!r} is treated specially but no field; {nearest(name, self.fields)}")
        twice = {name for name in special if special.count(name) > 1}
        if twice:
            raise ValueError(f"{', '.join(sorted(twice))} is treated in two ways; a field has one")
        if self.line and "raw" not in self.hit_nets:
            raise ValueError("line feeds the raw hit net, which hit_nets leaves out")
        if not any(self.field_weights.get(name, 1.0) > 0 for name in self.fields):
            raise ValueError("field_weights leave no field with a weight above 0")
        return self

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """How each field is treated, in their order."""
        special: dict[str, Kind] = {"phi": "periodic"} if self.periodic_fields is None else {}
        groups: dict[Kind, tuple[str, ...]] = {
            "periodic": self.periodic_fields or (),
            "inverse": self.inverse_fields,
            "log": self.log_fields,
            "class": self.bce_fields,
        }
        special |= {name: kind for kind, names in groups.items() for name in names}
        return tuple(special.get(name, "identity") for name in self.fields)
