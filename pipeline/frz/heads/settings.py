"""What heads can be told about their members, targets and losses, and the settings of the regression head."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from frz.config import StrictModel
from frz.errors import nearest
from frz.heads.answers import Answers
from frz.heads.classes import Classes
from frz.heads.forms import Form, Options
from frz.heads.losses import PointLoss, Weighting
from frz.heads.slots import Counting
from frz.heads.targets import Kind, Targets

Share = Annotated[float, Field(gt=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]


class MemberSettings(StrictModel):
    """Which members of an event are answered for, and where their truth is."""

    AFTER_PREFIX: ClassVar[tuple[str, ...]] = ("loss_weight", "class_weights", "focal_gamma")
    """Keys that `prepare` does not look at; each class of settings names its own."""
    target: str = "track/parameters"
    """Array of the truth: of true objects, which slots find by `query/match`, or of events for a head on events."""
    members: str = "member/hit"
    """Array of the true hits of each track; read for `slots: double_matched` alone."""
    slots: Counting = "all_true"
    """Which slots count in loss and metrics: those of true tracks; of these, valid ones; or double-matched ones."""
    assignment_threshold: float = Field(default=0.1, ge=0, lt=1)
    """Least assignment probability (inclusive) with which a hit is pooled."""
    loss_weight: float = Field(default=1.0, ge=0)
    """Factor on the loss."""
    class_weights: Weighting | tuple[Weight, ...] | None = None
    """Weights of classes in the loss: `balanced`, `alpha_inverse` (focal: rare positives weigh more), `alpha_ratio`
    (focal: they weigh less), or numbers in ascending order of the classes; None = 1 each."""
    focal_gamma: float = Field(default=0.0, ge=0)
    """Focal loss (1 - p)^gamma (-ln p) of classes; 0 = cross-entropy."""

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the fields: columns of `target`, or ratios of two."""
        raise NotImplementedError

    def answers(self) -> Answers:
        """What the head answers."""
        raise NotImplementedError


_OF_FIELDS = (
    *("inverse_fields", "log_fields", "bce_fields", "periodic_fields"),
    *("quantile_fields", "gaussian_fields", "offset_fields", "field_weights"),
)
"""Keys that say something of fields."""


class FieldSettings(MemberSettings):
    """Fields of numbers and flags."""

    AFTER_PREFIX: ClassVar[tuple[str, ...]] = (
        *("periodic_output", "quantile_fields", "quantiles", "gaussian_fields", "nll_beta"),
        *("point_loss", "beta", "field_weights"),
    )
    fields: tuple[str, ...] = Field(default=("eta", "phi", "pt", "q"), min_length=1)
    """Targets in output order: columns of `target`, or a ratio of two such as `q/pt`."""
    inverse_fields: tuple[str, ...] = ()
    """Fields regressed as 1/x."""
    log_fields: tuple[str, ...] = ()
    """Fields regressed as ln x."""
    bce_fields: tuple[str, ...] = ()
    """Fields of two classes (x > 0 or not), trained with binary cross-entropy."""
    periodic_fields: tuple[str, ...] | None = None
    """Angles in rad; None = `phi` where it is a field."""
    periodic_output: Literal["angle", "vector"] = "angle"
    """An angle is one output compared modulo a turn, or two outputs whose direction it is."""
    offset_fields: dict[str, str] = {}
    """Fields regressed relative to a hit, each with the column of `hit/scaled` that says the same of it: {phi: phi}."""
    offset_hit: str = "r"
    """Column of `hit/scaled` that is least at the hit that offsets are relative to: the innermost assigned one."""
    quantile_fields: tuple[str, ...] = ()
    """Fields answered by quantiles that cannot cross."""
    quantiles: tuple[Share, ...] = (0.05, 0.16, 0.5, 0.84, 0.95)
    """Their levels, ascending, 0.5 among them: the prediction."""
    gaussian_fields: tuple[str, ...] = ()
    """Fields answered by mean and sigma (of the transformed value), trained with beta-NLL."""
    nll_beta: float = Field(default=0.5, ge=0, le=1)
    """0 = plain likelihood, 1 = the mean learns as with mean squares."""
    point_loss: PointLoss = "smooth_l1"
    """Loss of plain numbers on the normalised difference."""
    beta: float = Field(default=1.0, gt=0)
    """Smooth-L1 and Huber are quadratic below this many widths."""
    field_weights: dict[str, Weight] = {}
    """Weight of a field in the mean over fields (default 1 each)."""

    @model_validator(mode="after")
    def _check_fields(self) -> "FieldSettings":
        if len(set(self.fields)) != len(self.fields):
            raise ValueError(f"fields name something twice: {', '.join(self.fields)}")
        special = [*self.inverse_fields, *self.log_fields, *self.bce_fields, *(self.periodic_fields or ())]
        spread = [*self.quantile_fields, *self.gaussian_fields]
        for key in _OF_FIELDS:
            for name in getattr(self, key) or ():
                if name not in self.fields:
                    raise ValueError(f"{key} name {name!r}, which is none of the fields; {nearest(name, self.fields)}")
        for names in (special, spread, [*self.inverse_fields, *self.log_fields, *self.bce_fields, *self.offset_fields]):
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"{', '.join(sorted(twice))} is treated in two ways; a field has one")
        kinds = dict(zip(self.fields, self.kinds, strict=True))
        for name in spread:
            if kinds[name] == "class" or (kinds[name] == "periodic" and self.periodic_output == "vector"):
                raise ValueError(f"{name} is a {'class' if kinds[name] == 'class' else 'vector'}: it has no quantiles")
        if list(self.quantiles) != sorted(set(self.quantiles)) or 0.5 not in self.quantiles:
            raise ValueError("quantiles must ascend and hold 0.5, which is the prediction")
        if isinstance(self.class_weights, tuple) and len(self.class_weights) != 2:
            raise ValueError("class_weights of fields are two numbers: of x <= 0 and of x > 0")
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

    @property
    def target_names(self) -> tuple[str, ...]:
        """The fields."""
        return self.fields

    def answers(self) -> Targets:
        """The fields with their losses."""
        forms: dict[str, Form] = dict.fromkeys(self.quantile_fields, "quantiles")
        forms |= dict.fromkeys(self.gaussian_fields, "gaussian")
        options = Options(
            loss=self.point_loss,
            forms=tuple(forms.get(name, "point") for name in self.fields),
            levels=self.quantiles if self.quantile_fields else (),
            nll_beta=self.nll_beta,
            weighting=self.class_weights,
            gamma=self.focal_gamma,
        )
        labels = [label_of(name) for name in self.fields]
        return Targets(self.kinds, self.beta, self.periodic_output == "vector", options, labels)


class ClassSettings(MemberSettings):
    """One field of classes."""

    AFTER_PREFIX: ClassVar[tuple[str, ...]] = ("classes",)
    field: str = "q"
    """Column of `target`; the name of the array itself (`event/label`: `label`) where it has no columns."""
    classes: int = Field(default=2, ge=2)
    """How many values the field takes."""

    @model_validator(mode="after")
    def _check_classes(self) -> "ClassSettings":
        weights = self.class_weights
        if isinstance(weights, tuple) and len(weights) != self.classes:
            raise ValueError(f"class_weights are {len(weights)} numbers for {self.classes} classes")
        if isinstance(weights, str) and weights.startswith("alpha") and self.classes != 2:
            raise ValueError(f"class_weights {weights} is for two classes; take balanced or numbers")
        return self

    @property
    def target_names(self) -> tuple[str, ...]:
        """The one field."""
        return (self.field,)

    def answers(self) -> Classes:
        """The classes with their loss."""
        return Classes(label_of(self.field), self.classes, self.class_weights, self.focal_gamma)


class NetSettings(StrictModel):
    """The net between what a head sees and its answers."""

    AFTER_PREFIX: ClassVar[tuple[str, ...]] = ("hidden", "norm", "dropout", "xavier")
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (128,)
    """Widths of the hidden layers, in order; () = one linear map."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Normalisation after each hidden layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | tuple[Annotated[float, Field(ge=0, lt=1)], ...] = 0.1
    """Dropout after each hidden layer; one number, or one per layer."""
    xavier: bool = True
    """Weights from Xavier's uniform law and biases 0, instead of torch's own start."""

    @model_validator(mode="after")
    def _check_net(self) -> "NetSettings":
        if isinstance(self.dropout, tuple) and len(self.dropout) != len(self.hidden):
            raise ValueError(f"dropout has {len(self.dropout)} numbers for {len(self.hidden)} hidden layers")
        return self


def after_prefix(settings: type[StrictModel]) -> frozenset[str]:
    """Keys of a head's settings that its `prepare` does not look at: all `AFTER_PREFIX` of its bases."""
    return frozenset(key for base in settings.__mro__ for key in vars(base).get("AFTER_PREFIX", ()))


def label_of(field: str) -> str:
    """Name of a field in predictions: a ratio `q/pt` is called `q_over_pt`."""
    return field.replace("/", "_over_")


class RegressionConfig(FieldSettings):
    """Settings of the regression head."""

    AFTER_PREFIX: ClassVar[tuple[str, ...]] = (
        *("hit_net_hidden", "dim", "regression_hidden_dim", "regression_num_layers", "dropout"),
    )
    hit_nets: tuple[Literal["raw", "encoded"], ...] = ("raw", "encoded")
    """What is pooled: scaled hit fields, hit embeddings, both, or nothing (query embedding alone)."""
    hit_fields: tuple[str, ...] | None = None
    """Columns of `hit/scaled` in the order used; None = all."""
    hit_net_hidden: int | None = Field(default=None, ge=1)
    """Hidden width of a hit net; None = twice its input."""
    dim: int | None = Field(default=None, ge=1)
    """Width D of the query embedding; checked when given."""
    regression_hidden_dim: int | None = Field(default=None, ge=1)
    """Width of the hidden layers; None = half of the aggregated width (9 D with both hit nets)."""
    regression_num_layers: int = Field(default=3, ge=1)
    """Linear layers; 1 = one linear map."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout after each hidden layer."""
    line: tuple[str, str] | None = None
    """Two columns of `hit/scaled` in whose plane tracks are nearly straight, the first growing outward: the raw hit net
    also sees where a hit stands along and across the robust straight line through the hits of its slot."""

    @model_validator(mode="after")
    def _check_nets(self) -> "RegressionConfig":
        if len(set(self.hit_nets)) != len(self.hit_nets):
            raise ValueError(f"hit_nets name something twice: {', '.join(self.hit_nets)}")
        if self.line and "raw" not in self.hit_nets:
            raise ValueError("line feeds the raw hit net, which hit_nets leaves out")
        return self
