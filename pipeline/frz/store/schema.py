"""What an event store holds: named axes, arrays on them, and static arrays.

Axes: an array is called `axis/name` and its first dimension counts the members of `axis`. `event` is the
root. Every other axis has a parent; the number of members per parent is fixed (`length`) or ragged, and
then an int64 array `axis/offsets` (n_parent + 1) says where each parent's members begin and end. Arrays
are always flat: `query/embedding` of n events with 2 queries each is (2 n, D).

In memory events travel as `EventArrays`: a plain dict from `axis/name` (and `axis/offsets`) to arrays.
Positions that refer to another axis (`refers_to`) are local to their event, so that events can be cut
and joined without touching values.
"""

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from frz.config import StrictModel, digest_of
from frz.store import bfloat16
from frz.store.codecs import FAST, Codec

EventArrays: TypeAlias = dict[str, NDArray[Any]]
"""Flat arrays by `axis/name`, with `axis/offsets` (int64, starting at 0) for every ragged axis present."""

EVENT = "event"
ID, GROUP, KEY = "event/id", "event/group", "event/key"


class Axis(StrictModel):
    """An axis below `event`."""

    parent: str = EVENT
    length: int | None = Field(default=None, ge=0)
    """Members per parent; None = ragged, counted by `axis/offsets`."""


class Array(StrictModel):
    """An array on an axis: everything but its values."""

    dtype: str
    """A numpy dtype, or `bfloat16`: float32 in memory, stored in two bytes."""
    shape: tuple[int, ...] = ()
    """Trailing shape: what one member holds."""
    role: Literal["input", "target", "meta", "feature"] = "input"
    """`input` arrays make the event key; `target` is truth; `meta` is book-keeping; `feature` is a backbone's."""
    unit: str = ""
    description: str = ""
    columns: tuple[str, ...] = ()
    """Names of the entries of the last dimension."""
    refers_to: str | None = None
    """Axis whose members (counted within the event) the values are positions of."""
    floor: float | None = None
    """Members whose value is below it are not stored (`pair/logit` of a sparse assignment); None = all are."""
    group: str = "events"
    """Arrays of one group are written and committed together (see the format README)."""
    codec: Codec = FAST
    """How parts written from now on pack the values. It changes nothing that the array holds: no digest covers it."""

    @model_validator(mode="after")
    def _check(self) -> "Array":
        bfloat16.on_disk(self.dtype)
        if self.columns and (not self.shape or self.shape[-1] != len(self.columns)):
            raise ValueError(f"{len(self.columns)} columns do not fit the trailing shape {self.shape}")
        return self

    @property
    def in_memory(self) -> np.dtype[Any]:
        """dtype of the values in memory."""
        return bfloat16.in_memory(self.dtype)

    @property
    def row_bytes(self) -> int:
        """Bytes of one member as stored, before any codec."""
        return bfloat16.on_disk(self.dtype).itemsize * prod(self.shape)


class Schema(StrictModel):
    """Axes, arrays and static arrays of a store."""

    axes: dict[str, Axis] = {}
    arrays: dict[str, Array]
    static: dict[str, Array] = {}
    """Arrays without events (geometry, vocabulary); `shape` is the whole shape."""

    @model_validator(mode="after")
    def _check(self) -> "Schema":
        if EVENT in self.axes:
            raise ValueError("'event' is the root axis and is not declared")
        for name, axis in self.axes.items():
            if axis.parent != EVENT and axis.parent not in self.axes:
                raise ValueError(f"axis {name!r}: unknown parent {axis.parent!r}")
            self.lineage(name)
        for name, array in self.arrays.items():
            axis_name, slash, rest = name.partition("/")
            if not slash or not rest or "/" in rest or rest == "offsets":
                raise ValueError(f"array {name!r} is not of the form axis/name")
            if axis_name != EVENT and axis_name not in self.axes:
                raise ValueError(f"array {name!r}: unknown axis {axis_name!r}")
            if array.refers_to is not None and array.refers_to not in self.axes:
                raise ValueError(f"array {name!r} refers to unknown axis {array.refers_to!r}")
        return self

    def lineage(self, axis: str) -> tuple[str, ...]:
        """Axes from just below `event` down to `axis`: ('track', 'member') for 'member'; () for 'event'."""
        chain: list[str] = []
        while axis != EVENT:
            if axis in chain:
                raise ValueError(f"axis {axis!r} is its own ancestor")
            chain.append(axis)
            axis = self.axes[axis].parent
        return tuple(reversed(chain))

    def ordered_axes(self, names: Iterable[str] | None = None) -> list[str]:
        """Axes that the named arrays (default all) live on, parents before children, `event` left out."""
        used: dict[str, None] = {}
        for name in self.arrays if names is None else names:
            for axis in self.lineage(axis_of(name)):
                used.setdefault(axis)
        return sorted(used, key=lambda axis: (len(self.lineage(axis)), axis))

    def with_role(self, *roles: str) -> tuple[str, ...]:
        """Names of the arrays with one of the roles, sorted."""
        return tuple(sorted(name for name, array in self.arrays.items() if array.role in roles))

    def select(self, names: Iterable[str]) -> "Schema":
        """The part of the schema that the named arrays need."""
        names = list(names)
        axes = {axis: self.axes[axis] for axis in self.ordered_axes(names)}
        referred = {a for n in names if (a := self.arrays[n].refers_to) is not None}
        for axis in sorted(referred):
            axes |= {step: self.axes[step] for step in self.lineage(axis)}
        return Schema(axes=axes, arrays={name: self.arrays[name] for name in names})

    def digest(self) -> str:
        """SHA-256 (hex) of what the schema says of the values, whatever packs them."""
        return digest_of(self.content())

    def content(self) -> dict[str, Any]:
        """All that the schema says of the values, as JSON."""
        packing = {"__all__": {"codec"}}
        return self.model_dump(mode="json", exclude={"arrays": packing, "static": packing})


def axis_of(name: str) -> str:
    """`hit` of `hit/embedding`."""
    return name.partition("/")[0]


def column(schema: Schema, array: str, name: str) -> int:
    """Position of a named column of an array."""
    return schema.arrays[array].columns.index(name)


def labelled(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which events (n,) have a target: NaN among numbers and -1 among whole numbers mean that there is none."""
    flat = values.reshape(len(values), prod(values.shape[1:]))
    missing = np.isnan(flat) if np.issubdtype(values.dtype, np.floating) else flat == -1
    return np.asarray(~missing.any(1))


def count_events(arrays: Mapping[str, NDArray[Any]], schema: Schema) -> int:
    """Number of events that the arrays hold, read off the first array that tells."""
    for name, values in arrays.items():
        axis, _, rest = name.partition("/")
        if axis == EVENT:
            return len(values)
        per_event = 1
        for step in schema.lineage(axis):
            length = schema.axes[step].length
            if length is None:
                if f"{step}/offsets" in arrays:
                    return (len(arrays[f"{step}/offsets"]) - 1) // per_event
                per_event = 0
                break
            per_event *= length
            if per_event == 0:
                break
        if per_event and rest != "offsets":
            return len(values) // per_event
    raise ValueError("the arrays do not tell how many events they hold")
