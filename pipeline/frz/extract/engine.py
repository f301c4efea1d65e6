"""The frozen forward pass over a run of events: batches by length, features back in event order.

The batches are a pure function of the run's lengths and the settings, never of memory or load: on one
machine type the same run gives the same bytes.
"""

from collections.abc import Iterable

import numpy as np
import torch

from frz.backbones.contract import Backbone, Batch
from frz.extract.cast import cast
from frz.extract.settings import ANNOTATION, FEATURES, Settings, group_of
from frz.loading.batch import to_batch, with_offsets
from frz.loading.plan import plan_part
from frz.store import ragged
from frz.store.ragged import Index
from frz.store.schema import KEY, EventArrays, Schema, axis_of
from frz.store.table import Reader


def members_axis(backbone: Backbone, schema: Schema) -> str | None:
    """The ragged input axis that batches are sorted by: the first below `event`, in the order of the inputs."""
    for name in backbone.inputs:
        for axis in schema.lineage(axis_of(name)):
            if schema.axes[axis].length is None:
                return axis
    return None


def batches_of(backbone: Backbone, reader: Reader, positions: range | Index, settings: Settings) -> list[Index]:
    """Batches of the events at `positions`, the longest first, as indices into `positions`."""
    return plan_part(lengths_of(backbone, reader, positions), settings.batch_size, settings.max_members)


def lengths_of(backbone: Backbone, reader: Reader, positions: range | Index) -> Index:
    """What padding depends on: members of each event (n_event,), 1 where no input is ragged."""
    axis = members_axis(backbone, reader.schema)
    if axis is None:
        return np.ones(len(positions), np.int64)
    return ragged.lengths(read(reader, positions, [f"{axis}/offsets"]), reader.schema, axis)


def read(reader: Reader, positions: range | Index, names: Iterable[str]) -> EventArrays:
    """Arrays of events; those of a range are not copied where they lie together."""
    if isinstance(positions, range):
        return reader.range(positions.start, positions.stop, names)
    return reader.events(positions, names)


@torch.inference_mode()
def forward(backbone: Backbone, batch: Batch, settings: Settings, device: torch.device) -> Batch:
    """Features of a batch, on the device, with the offsets of every axis of the batch."""
    on_device = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        features: Batch = backbone(on_device)
    return {name: values for name, values in batch.items() if name.endswith("/offsets")} | features


@torch.inference_mode()
def annotate(
    backbone: Backbone,
    reader: Reader,
    positions: range | Index,
    features: EventArrays,
    out: Schema,
    settings: Settings,
    device: torch.device,
) -> EventArrays:
    """Annotations of events: a function of truth and of features as stored; no forward pass.

    Parameters
    ----------
    features : EventArrays
        Of these events, in this order.
    """
    names = dict.fromkeys([*backbone.inputs, *backbone.targets])
    schema = reader.schema.select(names)
    pieces = []
    for begin in range(0, len(positions), settings.batch_size):
        some = positions[begin : begin + settings.batch_size]
        batch = to_batch(read(reader, some, names), schema)
        stored = ragged.slice_events(features, out, begin, begin + len(some))
        given = {name: torch.from_numpy(np.require(values, requirements=["C", "W"])) for name, values in stored.items()}
        given = {name: values.float() if values.dtype == torch.float16 else values for name, values in given.items()}
        made = backbone.annotate(
            {name: values.to(device) for name, values in batch.items()},
            {name: values.to(device) for name, values in given.items()},
        )
        pieces.append(to_numpy({**batch, **made}, group_of(out, ANNOTATION)))
    return ragged.concat(pieces)


def to_numpy(features: Batch, out: Schema) -> EventArrays:
    """Store-ready arrays: declared dtypes, the offsets of every ragged axis."""
    arrays: EventArrays = {}
    for name, spec in out.arrays.items():
        arrays[name] = cast(name, features[name], spec)
        for axis in out.lineage(axis_of(name)):
            if out.axes[axis].length is None:
                arrays[f"{axis}/offsets"] = features[f"{axis}/offsets"].cpu().numpy()
    return arrays


def features_of(
    backbone: Backbone, reader: Reader, positions: range | Index, out: Schema, settings: Settings, device: torch.device
) -> EventArrays:
    """Features of the events at `positions`, in that order, in the batches that extraction takes for them."""
    made, schema, inputs = [], computed(out), with_offsets(backbone.inputs, reader.schema)
    plan = batches_of(backbone, reader, positions, settings)
    for rows in plan:
        batch = to_batch(reader.events(np.asarray(positions)[rows], inputs), reader.schema)
        made.append(to_numpy(forward(backbone, batch, settings, device), schema))
    return in_order(made, plan, schema)


def computed(out: Schema) -> Schema:
    """The arrays that the backbone itself gives."""
    features = group_of(out, FEATURES)
    return features.select([name for name in features.arrays if name != KEY])


def in_order(made: list[EventArrays], plan: list[Index], schema: Schema) -> EventArrays:
    """Batches put together in the order of their events."""
    return ragged.take(ragged.concat(made), schema, np.argsort(np.concatenate(plan)))
