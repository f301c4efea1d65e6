"""Heads that look at the members of a slot or event one by one, however many there are, and are trained on them.

Members stay flat and keep their stored dtype until the batch; what runs over the members of one slot or event is a
segment operation (`frz.heads.pooling`), so the work grows with the members alone.
"""

# Axes: N slots or events, M members of them sorted, D input columns of a member.

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from frz.errors import ConfigError
from frz.heads.contract import Batch
from frz.heads.descriptors import DescriptorSettings
from frz.heads.nets import Standard
from frz.heads.rowhead import RowHead
from frz.heads.rows import RowAxis, Rows, at
from frz.heads.settings import MemberSettings
from frz.heads.vectors import OWN, matrix, width_of
from frz.store.ragged import edges
from frz.store.schema import Array, Axis, EventArrays, Schema, axis_of


class BagSettings(DescriptorSettings):
    """Which members a head looks at."""

    rows: RowAxis = "slot"
    """What the head answers for: slots or events."""
    inputs: tuple[str, ...] = Field(default=("hit/scaled", "hit/embedding"), min_length=1)
    """Arrays of one axis whose members are looked at, joined: hits assigned to a slot, anything of an event."""
    own: str | None = None
    """Array of the slot (`query/...`) or event itself, joined to what is found among its members."""

    @model_validator(mode="after")
    def _check_inputs(self) -> "BagSettings":
        if len({axis_of(name) for name in self.inputs}) > 1 or len(set(self.inputs)) != len(self.inputs):
            raise ValueError(f"inputs must be different arrays of one axis: {', '.join(self.inputs)}")
        return self


class BagHead(RowHead):
    """A head on the members of slots or events.

    Parameters
    ----------
    config : BagSettings and MemberSettings
    schema : Schema
        Of the feature store.
    """

    def __init__(self, config: MemberSettings, schema: Schema) -> None:
        assert isinstance(config, BagSettings)
        self.bags: BagSettings = config
        super().__init__(config, schema, config.rows)
        self.widths = [width_of(schema, name) for name in config.inputs]
        self.standard = Standard(sum(self.widths))
        self.standard_own = Standard(width_of(schema, config.own)) if config.own else None

    @property
    def reads(self) -> tuple[str, ...]:
        """Members and the slot's own array."""
        config, own = self.bags, OWN[self.axis]
        if self.axis == "slot" and axis_of(config.inputs[0]) != "hit":
            raise ConfigError(f"{config.inputs[0]} is not of hits", way_out="take inputs hit/... or rows: event")
        if config.own and axis_of(config.own) != own:
            raise ConfigError(f"own is {config.own}, not of axis {own!r}", way_out=f"take an array {own}/...")
        return (*config.inputs, *([config.own] if config.own else []))

    @property
    def uses_pairs(self) -> bool:
        """Slots look at their assigned hits."""
        return self.axis == "slot"

    @property
    def without_pairs(self) -> str:
        """Look at all hits of an event."""
        return "answer for events (rows: event)"

    @property
    def feature_schema(self) -> Schema:
        """Members with their weights, each array in its stored dtype; the slot's own array."""
        config, axis = self.bags, self.axis
        arrays = {"member/weight": Array(dtype="float32", role="feature", description="assignment probability")}
        for name in config.inputs:
            like = self.schema.arrays[name]
            arrays[_member(name)] = Array(dtype=str(like.in_memory), shape=like.shape, role="feature", description=name)
        if config.own:
            shape = (width_of(self.schema, config.own),)
            arrays[f"{axis}/own"] = Array(dtype="float32", shape=shape, role="feature", description=config.own)
        axes = {"member": Axis(parent=axis)} | ({"slot": Axis()} if axis == "slot" else {})
        return Schema(axes=axes, arrays=arrays)

    def features(self, events: EventArrays, rows: Rows) -> EventArrays:
        """Members of the kept slots or of all events, in order."""
        config = self.bags
        if self.axis == "slot":
            picked, offsets = rows.pairs["pair/row"], rows.pairs["pair/offsets"]
            members = {name: events[name][picked] for name in config.inputs}
            weight = rows.pairs["pair/weight"]
        else:
            offsets = edges(events, self.schema, axis_of(config.inputs[0]))
            members = {name: events[name] for name in config.inputs}
            weight = np.ones(int(offsets[-1]), np.float32)
        result = {"member/offsets": offsets, "member/weight": weight}
        result |= {_member(name): values for name, values in members.items()}
        if config.own:
            result[f"{self.axis}/own"] = matrix(torch.from_numpy(events[config.own][rows.row])).numpy()
        return result

    def carried(self, features: Batch, events: EventArrays, rows: Rows) -> Batch:
        """Members, their assignment probabilities, and the slot's own array."""
        del events
        config, result = self.bags, {}
        for name in config.inputs:
            values = features[name]
            result[_member(name)] = at(values, rows.pairs["pair/row"]) if self.axis == "slot" else values
        if self.axis == "slot":
            result["member/weight"] = self.weights_of(features, rows)
        if config.own:
            result[f"{self.axis}/own"] = matrix(at(features[config.own], rows.row))
        return result

    def look(self, block: EventArrays) -> None:
        """Mean and width of what members and slots say."""
        self.standard.look(*(block[_member(name)] for name in self.bags.inputs))
        if self.standard_own is not None:
            self.standard_own.look(block[f"{self.axis}/own"])

    def settle(self) -> None:
        """Set them."""
        self.standard.settle()
        if self.standard_own is not None:
            self.standard_own.settle()

    def columns(self, batch: Batch) -> Tensor:
        """What the members say, (M, D) float32, as it is stored."""
        pairs = zip(self.bags.inputs, self.widths, strict=True)
        return torch.cat([(values := batch[_member(name)]).reshape(len(values), n).float() for name, n in pairs], 1)

    def joined(self, found: Tensor, batch: Batch) -> Tensor:
        """What was found (N, ...) among the members and, joined to it, the own array and the descriptors."""
        if self.standard_own is not None:
            found = torch.cat((found, self.standard_own(batch[f"{self.axis}/own"])), 1)
        return self.described(found, batch)

    @property
    def n_joined(self) -> int:
        """Numbers that `joined` adds."""
        return (len(self.standard_own.centre) if self.standard_own else 0) + self.n_described


def _member(name: str) -> str:
    """What an input is called among the prepared arrays."""
    return f"member/{name.partition('/')[2]}"
