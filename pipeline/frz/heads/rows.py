"""What heads on slots and heads on events prepare alike: the members that are kept, their targets, their features.

A subclass says which stored arrays it sees (`reads`) and what its parameter-free prefix makes of them (`features`).
Prepared arrays are called `slot/...` or `event/...`.
"""

# Axes: R kept members (slots or events), P pairs (slot, hit).

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frz.errors import ConfigError, nearest
from frz.heads.contract import Batch, Head
from frz.heads.descriptors import Descriptors, DescriptorSettings
from frz.heads.finite import refuse_nan
from frz.heads.offsets import Offsets, innermost
from frz.heads.pairs import assignment_arrays, check_threshold
from frz.heads.pooling import rows_of
from frz.heads.settings import FieldSettings, MemberSettings, after_prefix
from frz.heads.slots import (
    MATCH,
    VALID,
    columns_of,
    counted,
    hits_of_slots,
    matched_rows,
    owners,
    physical_targets,
    valid_slots,
)
from frz.loading.batch import to_batch
from frz.store.ragged import edges, offsets_of
from frz.store.schema import EVENT, GROUP, ID, Array, Axis, EventArrays, Schema, axis_of, labelled
from frz.store.table import Reader

RowAxis: TypeAlias = Literal["slot", "event"]
SCALED = "hit/scaled"


class Rows(NamedTuple):
    """Members that are kept, R of them."""

    event: NDArray[np.int64]
    """Event of each (R,)."""
    row: NDArray[np.int64]
    """Row of each in the flat arrays of axis `query` or `event` (R,), ascending."""
    truth: NDArray[np.int64]
    """Row in the target array, -1 where it does not count (R,)."""
    pairs: EventArrays
    """Of slots, where they are used: what `hits_of_slots` gives."""


def at(values: Tensor, rows: NDArray[np.int64]) -> Tensor:
    """Rows of a tensor, with gradients."""
    return rows_of(values, torch.from_numpy(rows).to(values.device))


class RowPrefix(Head):
    """The parameter-free part of a head that answers for slots or for events.

    Parameters
    ----------
    config : MemberSettings
    schema : Schema
        Of the feature store. Without any target array (recorded data) the head can predict but not be fitted.
    axis : {'slot', 'event'}
        What it answers for.

    Raises
    ------
    ConfigError
        If arrays or columns are missing, or the threshold is below the stored floor.
    """

    config: MemberSettings
    field_weights: Tensor

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "Config" in vars(cls):
            cls.not_in_prefix = after_prefix(cls.Config)

    def __init__(self, config: MemberSettings, schema: Schema, axis: RowAxis = "slot") -> None:
        super().__init__(config, schema)
        self.config, self.schema, self.axis = config, schema, axis
        self.truth = bool(schema.with_role("target"))
        self.targets = config.answers()
        self.labels = self.targets.labels
        fields = config if isinstance(config, FieldSettings) else None
        self.references = dict(fields.offset_fields) if fields else {}
        described = config.descriptors if isinstance(config, DescriptorSettings) else ()
        self.descriptors = Descriptors(described, schema) if described else None
        self._check()
        key = "fields" if fields else "field"
        self.target_columns = {
            name: columns_of(schema, config.target, name.split("/", 1), key) if self.truth else []
            for name in config.target_names
        }
        weights = [fields.field_weights.get(name, 1.0) if fields else 1.0 for name in config.target_names]
        self.register_buffer("field_weights", torch.tensor(weights), persistent=False)
        if fields and self.references:
            self.reference_columns = columns_of(schema, SCALED, (fields.offset_hit, *self.references.values()))
            places = [fields.fields.index(name) for name in self.references]
            self.offsets = Offsets(len(fields.fields), places, [fields.kinds[place] == "periodic" for place in places])

    @property
    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """Stored arrays that `features` reads beside the assignment."""

    @property
    @abstractmethod
    def uses_pairs(self) -> bool:
        """Whether `features` reads the pairs of the slots."""

    @property
    @abstractmethod
    def feature_schema(self) -> Schema:
        """Axes and arrays that `features` gives."""

    @abstractmethod
    def features(self, events: EventArrays, rows: Rows) -> EventArrays:
        """Parameter-free prefix: what the net sees of the kept members."""

    @property
    def _pairs(self) -> bool:
        return self.uses_pairs or bool(self.references)

    def _check(self) -> None:
        config, axis = self.config, axis_of(self.config.target)
        if self.truth and (self.axis == EVENT) != (axis == EVENT):
            found = "one value per event" if axis == EVENT else f"an array of axis {axis!r}"
            other = "slot" if self.axis == EVENT else "event"
            raise ConfigError(
                f"target {config.target} is {found}, the head answers for {self.axis}s",
                way_out=f"set rows: {other} in a head that has it, or name another target",
            )
        if self.references and self.axis == EVENT:
            raise ConfigError("offset_fields need the hits of a slot", way_out="leave them out for a head on events")
        if self._pairs:
            try:
                assignment_arrays(self.schema)
            except ConfigError as error:
                raise ConfigError(error.what, way_out=f"{error.way_out}, or {self.without_pairs}") from None
            check_threshold(self.schema, config.assignment_threshold)
        for name in self.needs:
            if name not in self.schema.arrays:
                raise ConfigError(f"the features hold no array {name!r}", way_out=nearest(name, self.schema.arrays))
        for name in self.reads:
            if self.schema.arrays[name].role == "target":
                raise ConfigError(f"{name} is truth", where="inputs", way_out="leave it out: it gives the answer")

    @property
    @abstractmethod
    def without_pairs(self) -> str:
        """How to configure the head for a store without assignment, as advice."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Stored arrays that `prepare` reads."""
        config, slots = self.config, self.axis == "slot"
        names = [ID, GROUP, *self.reads, *(self.descriptors.names if self.descriptors else ())]
        names += [VALID] if slots and VALID in self.schema.arrays else []
        names += [SCALED] if self.references else []
        matched = slots and config.slots == "double_matched"
        if self._pairs or matched:
            names += assignment_arrays(self.schema)
        if self.truth:
            names += [config.target]
            names += [MATCH] if slots else []
            names += [config.members] if matched else []
        return tuple(dict.fromkeys(names))

    @property
    def prepared(self) -> Schema:
        """Members with their targets, and what `features` gives."""
        n_field, axis, more = len(self.labels), self.axis, self.feature_schema
        fields = Array(dtype="float32", shape=(n_field,), role="target", columns=self.labels)
        arrays = {name: self.schema.arrays[name] for name in (ID, GROUP)}
        if axis == "slot":
            text = "position of the query in its event"
            arrays["slot/query"] = Array(dtype="int32", role="meta", description=text)
            text = "called a track by the backbone"
            arrays["slot/valid"] = Array(dtype="bool", role="feature", description=text)
        text = "counts in loss and metrics"
        arrays |= {
            f"{axis}/counts": Array(dtype="bool", role="target", description=text),
            f"{axis}/target": fields,
            f"{axis}/goal": fields,
        }
        if self.references:
            names = tuple(self.references)
            text = "columns of the innermost hit"
            arrays["slot/reference"] = Array(
                dtype="float32", shape=(len(names),), role="feature", columns=names, description=text
            )
        if self.descriptors is not None:
            columns = self.descriptors.columns
            text = "NaN where unknown"
            arrays[f"{axis}/descriptors"] = Array(
                dtype="float32", shape=(len(columns),), role="feature", columns=columns, description=text
            )
        axes = {"slot": Axis()} if axis == "slot" else {}
        return Schema(axes=axes | more.axes, arrays=arrays | more.arrays)

    def carried(self, features: Batch, events: EventArrays, rows: Rows) -> Batch:
        """What `features` gives, of tensors and with their gradients; what none can pass is left out.

        Raises
        ------
        ConfigError
            If none passes: the default.
        """
        del rows
        return super().live(events, features)

    def live(self, events: EventArrays, features: Batch) -> Batch:
        """`prepare` and `to_batch` with the gradients that `carried` passes on.

        Which members are kept and which hits belong to a slot is decided by thresholds, and passes none.
        """
        rows, base = self._prefix(events)
        device = next(iter(features.values())).device
        batch = to_batch(base | self.features(events, rows), self.prepared)
        return {name: values.to(device) for name, values in batch.items()} | self.carried(features, events, rows)

    def weights_of(self, features: Batch, rows: Rows) -> Tensor:
        """Assignment probability (P,) of each pair of the slots."""
        logit = features[assignment_arrays(self.schema)[-1]]
        return at(logit.flatten(), rows.pairs["pair/place"]).sigmoid()

    def prepare(self, events: EventArrays) -> EventArrays:
        """Keep the members that count (of slots also those called a track), their targets and features.

        Raises
        ------
        StoreError
            If a target that counts is not finite, naming event and field.
        """
        rows, base = self._prefix(events)
        return base | self.features(events, rows)

    def check(self, store: Reader, prepared: Reader, splits: Mapping[str, NDArray[np.int64]]) -> None:
        """Refuse NaN among what the net sees; descriptors may be unknown."""
        refuse_nan(store, self.reads, prepared, self.feature_schema.arrays, splits)

    def _prefix(self, events: EventArrays) -> tuple[Rows, EventArrays]:
        """The members that are kept, and what is prepared of them beside `features`."""
        config, axis = self.config, self.axis
        rows, base = self._slots(events) if axis == "slot" else self._events(events)
        counts = rows.truth >= 0
        target = physical_targets(events, config.target, rows.truth, self.target_columns, rows.event)
        goal = self.targets.goals(target)
        goal[~counts] = 0
        base |= {ID: events[ID], GROUP: events[GROUP], f"{axis}/counts": counts}
        base |= {f"{axis}/target": target, f"{axis}/goal": goal}
        if self.references:
            fields = events[SCALED][rows.pairs["pair/row"]][:, self.reference_columns].astype(np.float64)
            base["slot/reference"] = innermost(fields[:, 1:], fields[:, 0], rows.pairs["pair/offsets"])
        if self.descriptors is not None:
            base[f"{axis}/descriptors"] = self.descriptors.values(events, rows.event)
        return rows, base

    def _slots(self, events: EventArrays) -> tuple[Rows, EventArrays]:
        config, schema = self.config, self.schema
        queries = edges(events, schema, "query")
        event = owners(queries)
        valid = valid_slots(events, len(event))
        truth, counts = np.full(len(event), -1), np.zeros(len(event), bool)
        if self.truth:
            truth = matched_rows(events, schema, axis_of(config.target))
            counts = counted(events, schema, truth, config.slots, config.members)
        kept = np.nonzero(counts | valid)[0]
        pairs = hits_of_slots(events, schema, kept, config.assignment_threshold) if self._pairs else {}
        base: EventArrays = {
            "slot/offsets": offsets_of(np.bincount(event[kept], minlength=len(events[ID]))),
            "slot/query": (kept - queries[event[kept]]).astype(np.int32),
            "slot/valid": valid[kept],
        }
        return Rows(event[kept], kept, np.where(counts, truth, -1)[kept], pairs), base

    def _events(self, events: EventArrays) -> tuple[Rows, EventArrays]:
        every = np.arange(len(events[ID]))
        known = labelled(events[self.config.target]) if self.truth else np.zeros(len(every), bool)
        return Rows(every, every, np.where(known, every, -1), {}), {}
