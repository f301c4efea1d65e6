"""The frozen forward pass over a run of events: batches by length, features back in event order.

The batches are a pure function of the run's lengths and the settings, never of memory or load: on one
machine type the same run gives the same bytes.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from frz.backbones.contract import Backbone, Batch
from frz.errors import ConfigError
from frz.extract.settings import ANNOTATION, FEATURES, Settings, group_of
from frz.loading.batch import to_batch
from frz.loading.execute import iterate
from frz.loading.plan import plan_part
from frz.store import ragged
from frz.store.schema import EventArrays, Schema, axis_of, count_events
from frz.store.table import Reader


def members_axis(backbone: Backbone, schema: Schema) -> str | None:
    """The ragged input axis that batches are sorted by: the first below `event`, in the order of the inputs."""
    for name in backbone.inputs:
        for axis in schema.lineage(axis_of(name)):
            if schema.axes[axis].length is None:
                return axis
    return None


def plan_run(backbone: Backbone, reader: Reader, first: int, last: int, settings: Settings) -> list[NDArray[np.int64]]:
    """Batches (positions in the reader) for events [first, last)."""
    axis = members_axis(backbone, reader.schema)
    lengths = np.ones(last - first, np.int64)
    if axis:  # of these events alone: the whole store's lengths for each run would cost its number of parts squared
        lengths = ragged.lengths(reader.range(first, last, [f"{axis}/offsets"]), reader.schema, axis)
    return [first + batch for batch in plan_part(lengths, settings.batch_size, settings.max_members)]


@torch.inference_mode()
def run(
    backbone: Backbone,
    reader: Reader,
    plan: list[NDArray[np.int64]],
    out: Schema,
    settings: Settings,
    device: torch.device,
) -> Iterator[tuple[NDArray[np.int64], EventArrays]]:
    """Features of each batch of a plan.

    Parameters
    ----------
    backbone : Backbone
        Frozen.
    reader : Reader
        Events of the data set.
    plan : list of int64 arrays
        Positions of the events of each batch.
    out : Schema
        From `feature_schema`: names, dtypes and groups of what comes out.
    settings : Settings
        Precision.
    device : torch.device
        Where the backbone is.

    Yields
    ------
    positions : int64 array (n,)
    features : EventArrays
        Of these events, in this order, in the dtypes they are stored in.
    """
    for positions, batch in zip(plan, iterate(reader, plan, backbone.inputs), strict=True):
        on_device = {name: values.to(device) for name, values in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            features = backbone(on_device)
        yield positions, _to_numpy(features, batch, group_of(out, FEATURES))


@torch.inference_mode()
def annotate(
    backbone: Backbone, reader: Reader, first: int, last: int, features: EventArrays, out: Schema, settings: Settings
) -> EventArrays:
    """Annotations of events [first, last): a function of truth and of features as stored; no forward pass."""
    names = dict.fromkeys([*backbone.inputs, *backbone.targets])
    schema = reader.schema.select(names)
    device = next(iter(backbone.parameters())).device
    pieces = []
    for begin in range(first, last, settings.batch_size):
        end = min(begin + settings.batch_size, last)
        batch = to_batch(reader.range(begin, end, names), schema)
        stored = ragged.slice_events(features, out, begin - first, end - first)
        given = {name: torch.from_numpy(np.require(values, requirements=["C", "W"])) for name, values in stored.items()}
        given = {name: values.float() if values.dtype == torch.float16 else values for name, values in given.items()}
        made = backbone.annotate(
            {name: values.to(device) for name, values in batch.items()},
            {name: values.to(device) for name, values in given.items()},
        )
        pieces.append(_to_numpy(made, batch, group_of(out, ANNOTATION)))
    return ragged.concat(pieces)


def _to_numpy(features: Batch, batch: Batch, out: Schema) -> EventArrays:
    """Store-ready arrays: declared dtypes, the offsets of every ragged axis."""
    arrays: EventArrays = {}
    for name, spec in out.arrays.items():
        values = features[name].float() if features[name].dtype == torch.bfloat16 else features[name]
        arrays[name] = _cast(name, values.cpu().numpy(), spec.dtype)
        for axis in out.lineage(axis_of(name)):
            if out.axes[axis].length is None and (key := f"{axis}/offsets") not in arrays:
                arrays[key] = (features[key] if key in features else batch[key]).cpu().numpy()
    return arrays


def _cast(name: str, values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Cast, refusing what the stored type cannot hold."""
    with np.errstate(over="ignore"):
        cast = values.astype(dtype, copy=False)
    if cast.dtype.kind == "f" and not np.isfinite(cast).all():
        if np.isfinite(values).all():
            largest = float(np.abs(values).max())
            way_out = "--set embedding_dtype=float32"
            raise ConfigError(f"values up to {largest:.3g} do not fit {dtype}", where=name, way_out=way_out)
        raise ConfigError("the backbone gave values that are not finite", where=name, way_out="check its training")
    return cast


def run_of(
    backbone: Backbone, reader: Reader, first: int, last: int, out: Schema, settings: Settings, device: torch.device
) -> EventArrays:
    """Features of events [first, last), in the order of the data set."""
    plan = plan_run(backbone, reader, first, last, settings)
    pieces = list(run(backbone, reader, plan, out, settings, device))
    positions = np.concatenate([positions for positions, _ in pieces])
    arrays = ragged.take(ragged.concat([features for _, features in pieces]), out, np.argsort(positions))
    assert count_events(arrays, out) == last - first
    return arrays
