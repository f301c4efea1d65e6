"""What decides the bytes of a feature store, and what it is made of.

Particular: imports no torch, because the help of `frz extract` is made of `Settings`.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, field_serializer, field_validator

from frz.config import StrictModel
from frz.errors import ConfigError, nearest
from frz.location import location
from frz.store.codecs import ARCHIVE, FAST, Codec, parse, refuse_lossy
from frz.store.schema import EVENT, KEY, Array, Schema, axis_of

if TYPE_CHECKING:
    from frz.backbones.contract import Backbone

Precision = Literal["fp32", "bf16"]
Float = Literal["float16", "bfloat16", "float32", "float64"]
Rule = TypeVar("Rule")


class Settings(StrictModel):
    """Settings of an extraction; everything but `device` and `out` is part of a feature's identity."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    batch_size: int = Field(default=256, ge=1)
    """Most events in a batch."""
    max_members: int = Field(default=32_768, ge=1)
    """Most members (hits) in a padded batch: events times the longest one."""
    dtype: dict[str, Float] = {}
    """Types that float outputs are stored in, by name or pattern (`*/embedding`); one type alone is for all of them.
    Left out: `*/embedding` float16 (bfloat16, with logits, where the codec is `archive`), others as they come."""
    codec: dict[str, Annotated[Codec, BeforeValidator(parse)]] = {}
    """How arrays written from now on are packed, by name or pattern; one codec alone is for all: a preset (`fast`,
    `compact`, `archive`) or a list of Zarr v3 codecs. Left out: `fast`."""
    precision: Precision = "fp32"
    """`bf16` runs the forward pass under autocast."""
    device: str = "auto"
    """`auto` takes a GPU if there is one."""
    out: Path | None = None
    """Folder of the feature store, in place of `features/<backbone>-<fingerprint>` among the artifacts."""

    @field_validator("out", mode="plain")
    @classmethod
    def _located(cls, out: str | Path | None) -> Path | None:
        return None if out is None else location(out)

    @field_serializer("out")
    def _as_text(self, out: Path | None) -> str | None:
        return None if out is None else str(out)

    @field_validator("dtype", "codec", mode="before")
    @classmethod
    def _for_all(cls, rules: Any) -> Any:
        return rules if isinstance(rules, dict) else {"*": rules}

    def recipe(self) -> dict[str, Any]:
        """How features are computed. Types stand in the schema of the features, and codecs change no value."""
        return self.model_dump(mode="json", exclude={"device", "out", "dtype", "codec"})

    @classmethod
    def of_store(cls, recipe: Mapping[str, Any], schema: Schema) -> "Settings":
        """The settings that give the features of a store again, from its recipe and schema."""
        stored = group_of(schema, FEATURES).arrays.items()
        return cls.model_validate(
            {**recipe, "dtype": {name: spec.dtype for name, spec in stored if spec.in_memory.kind == "f"}}
        )


FEATURES, CARRIED, ANNOTATION = "features", "carried", "annotation"


def feature_schema(backbone: "Backbone", data: Schema, settings: Settings) -> Schema:
    """Schema of the feature store: outputs, annotations, and what is carried along from the data set.

    Targets and book-keeping are, and inputs that describe an event as a whole: heads may see these beside features.

    Raises
    ------
    ConfigError
        If an output has the name of an array of the data set that is carried along, if a type or codec is given for
        an array that there is not, or if a codec does not keep an array's values.
    """
    arrays: dict[str, Array] = {}
    floats = {name: spec for name, spec in backbone.outputs.items() if spec.in_memory.kind == "f"}
    _check_names("dtype", settings.dtype, floats)
    for name, spec in backbone.outputs.items():
        dtype = _dtype(name, spec, settings) if name in floats else spec.dtype
        arrays[name] = spec.model_copy(update={"dtype": dtype, "role": "feature", "group": FEATURES})
    for name, spec in backbone.annotations.items():
        arrays[name] = spec.model_copy(update={"group": ANNOTATION})
    descriptors = [name for name in data.with_role("input") if axis_of(name) == EVENT]
    for name in (*data.with_role("target", "meta"), *descriptors):
        if name in arrays:
            raise ConfigError(f"output {name!r} has the name of an array of the data set", way_out="rename the output")
        # features are found by event key, so the keys lie with them
        arrays[name] = data.arrays[name].model_copy(update={"group": FEATURES if name == KEY else CARRIED})
    packed = [name for name in arrays if name != KEY]  # planning reads the keys of all events
    _check_names("codec", settings.codec, packed)
    for name in packed:
        codec, spec = _fitting(settings.codec, name) or FAST, arrays[name]
        refuse_lossy(name, codec, spec.dtype, spec.shape)
        arrays[name] = spec.model_copy(update={"codec": codec})
    return Schema(axes={**data.axes, **backbone.axes}, arrays=arrays)


def _dtype(name: str, spec: Array, settings: Settings) -> str:
    """The type that a float output is stored in."""
    if found := _fitting(settings.dtype, name):
        return found
    if name.endswith(("/embedding", "logit")) and _fitting(settings.codec, name) == ARCHIVE:
        return "bfloat16"
    return "float16" if name.endswith("/embedding") else spec.dtype


def _fitting(rules: Mapping[str, Rule], name: str) -> Rule | None:
    """The rule of this very name, else of the longest pattern that fits."""
    fits = [pattern for pattern in rules if fnmatchcase(name, pattern)]
    return rules[max(fits, key=lambda pattern: (pattern == name, len(pattern)))] if fits else None


def _check_names(setting: str, rules: Iterable[str], known: Iterable[str]) -> None:
    for pattern in rules:
        if not any(fnmatchcase(name, pattern) for name in known):
            where = f"extract: {setting}"
            raise ConfigError(f"no array fits {pattern!r}", where=where, way_out=nearest(pattern, known))


def group_of(schema: Schema, group: str) -> Schema:
    """The arrays of one group."""
    return schema.select([name for name, spec in schema.arrays.items() if spec.group == group])
