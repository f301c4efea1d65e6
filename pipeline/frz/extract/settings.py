"""What decides the bytes of a feature store, and what it is made of.

Particular: imports no torch, because the help of `frz extract` is made of `Settings`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import ConfigDict

from frz.config import StrictModel
from frz.errors import ConfigError
from frz.store.schema import Array, Schema

if TYPE_CHECKING:
    from frz.backbones.contract import Backbone

Precision = Literal["fp32", "bf16"]


class Settings(StrictModel):
    """Settings of an extraction; everything but `device` and `out` is part of a feature's identity."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    batch_size: int = 256
    """Most events in a batch."""
    max_members: int = 32_768
    """Most members (hits) in a padded batch: events times the longest one."""
    embedding_dtype: Literal["float16", "float32"] = "float16"
    """Type that arrays called `…/embedding` are stored in."""
    precision: Precision = "fp32"
    """`bf16` runs the forward pass under autocast."""
    device: str = "auto"
    """`auto` takes a GPU if there is one."""
    out: Path | None = None
    """Folder of the feature store, in place of `features/<backbone>-<fingerprint>` among the artifacts."""

    def recipe(self) -> dict[str, Any]:
        """The part of the settings that results depend on."""
        return self.model_dump(mode="json", exclude={"device", "out"})


FEATURES, CARRIED, ANNOTATION = "features", "carried", "annotation"


def feature_schema(backbone: "Backbone", data: Schema, settings: Settings) -> Schema:
    """Schema of the feature store: outputs, annotations, and the targets and book-keeping of the data set.

    Raises
    ------
    ConfigError
        If an output has the name of an array of the data set that is carried along.
    """
    arrays: dict[str, Array] = {}
    for name, spec in backbone.outputs.items():
        embedding = name.endswith("/embedding") and np.dtype(spec.dtype).kind == "f"
        dtype = settings.embedding_dtype if embedding else spec.dtype
        arrays[name] = spec.model_copy(update={"dtype": dtype, "role": "feature", "group": FEATURES})
    for name, spec in backbone.annotations.items():
        arrays[name] = spec.model_copy(update={"group": ANNOTATION})
    for name in data.with_role("target", "meta"):
        if name in arrays:
            raise ConfigError(f"output {name!r} has the name of an array of the data set", way_out="rename the output")
        arrays[name] = data.arrays[name].model_copy(update={"group": CARRIED})
    return Schema(axes={**data.axes, **backbone.axes}, arrays=arrays)


def group_of(schema: Schema, group: str) -> Schema:
    """The arrays of one group."""
    return schema.select([name for name, spec in schema.arrays.items() if spec.group == group])
