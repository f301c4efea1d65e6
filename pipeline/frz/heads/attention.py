"""Attention pooling: trainable queries look at the members of a slot or event, however many there are.

Members stay flat; the softmax runs over ragged segments. Keys and values are linear maps of each member, so the work
grows with the members alone.
"""

# Axes: N slots or events, M members of them sorted, H attention heads, A width of a head, D input columns, O outputs.

import math
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from frz.config import StrictModel
from frz.errors import ConfigError
from frz.heads.contract import Batch
from frz.heads.nets import Standard, mlp
from frz.heads.pooling import segment_softmax, slot_of_pairs
from frz.heads.rows import RowAxis, RowHead, Rows, at
from frz.heads.settings import ClassSettings, FieldSettings, MemberSettings, NetSettings
from frz.heads.vectors import OWN, matrix, matrix_of, width_of
from frz.store.ragged import edges
from frz.store.schema import Array, Axis, EventArrays, Schema, axis_of

LEAST_WEIGHT = 1e-6
"""Assignment probabilities below it count as it in ln p."""


class AttentionSettings(StrictModel):
    """What attention sees, and its shape."""

    AFTER_PREFIX: ClassVar[tuple[str, ...]] = ("attention_heads", "attention_width")
    rows: RowAxis = "slot"
    """What the head answers for: slots or events."""
    inputs: tuple[str, ...] = Field(default=("hit/scaled", "hit/embedding"), min_length=1)
    """Arrays of one axis whose members are looked at, joined: hits assigned to a slot, anything of an event."""
    own: str | None = None
    """Array of the slot (`query/...`) or event itself, joined to what attention finds."""
    attention_heads: int = Field(default=4, ge=1)
    """Independent queries H."""
    attention_width: int = Field(default=16, ge=1)
    """Width A of each one's keys and values."""

    @model_validator(mode="after")
    def _check_inputs(self) -> "AttentionSettings":
        if len({axis_of(name) for name in self.inputs}) > 1 or len(set(self.inputs)) != len(self.inputs):
            raise ValueError(f"inputs must be different arrays of one axis: {', '.join(self.inputs)}")
        return self


class _AttentionHead(RowHead):
    """Attention pooling and an MLP.

    a_mh = softmax over the members m of a slot of (<query_h, key_h(x_m)> / sqrt(A) + ln p_m), p the assignment
    probability (events: 1); outputs = MLP([sum_m a_mh value_h(x_m) for each h, own]). A slot without members gets 0.
    """

    query: Tensor

    def __init__(self, config: MemberSettings, schema: Schema) -> None:
        assert isinstance(config, AttentionSettings)
        assert isinstance(config, NetSettings)
        self.attention: AttentionSettings = config
        super().__init__(config, schema, config.rows)
        heads, width = config.attention_heads, config.attention_width
        n_member = sum(width_of(schema, name) for name in config.inputs)
        n_own = width_of(schema, config.own) if config.own else 0
        self.standard = Standard(n_member)
        self.standard_own = Standard(n_own) if n_own else None
        self.keys = nn.Linear(n_member, heads * width, bias=False)  # a bias moves all scores of a query alike
        self.values = nn.Linear(n_member, heads * width)
        self.query = nn.Parameter(torch.randn(heads, width))
        self.net = mlp(heads * width + n_own, self.targets.n_output, config)

    @property
    def reads(self) -> tuple[str, ...]:
        """Members and the slot's own array."""
        config, own = self.attention, OWN[self.axis]
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
        config, axis = self.attention, self.axis
        arrays = {"member/weight": Array(dtype="float32", role="feature", description="assignment probability")}
        for name in config.inputs:
            like = self.schema.arrays[name]
            arrays[_member(name)] = Array(dtype=str(like.in_memory), shape=like.shape, role="feature", description=name)
        if self.standard_own is not None:
            shape = (self.standard_own.centre.numel(),)
            arrays[f"{axis}/own"] = Array(dtype="float32", shape=shape, role="feature", description=str(config.own))
        axes = {"member": Axis(parent=axis)} | ({"slot": Axis()} if axis == "slot" else {})
        return Schema(axes=axes, arrays=arrays)

    def features(self, events: EventArrays, rows: Rows) -> EventArrays:
        """Members of the kept slots or of all events, in order."""
        config = self.attention
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
            result[f"{self.axis}/own"] = matrix(events[config.own][rows.row])
        return result

    def carried(self, features: Batch, events: EventArrays, rows: Rows) -> Batch:
        """Members, their assignment probabilities, and the slot's own array."""
        del events
        config, result = self.attention, {}
        for name in config.inputs:
            values = features[name]
            result[_member(name)] = at(values, rows.pairs["pair/row"]) if self.axis == "slot" else values
        if self.axis == "slot":
            result["member/weight"] = self.weights_of(features, rows)
        if config.own:
            result[f"{self.axis}/own"] = matrix_of(at(features[config.own], rows.row))
        return result

    def look(self, block: EventArrays) -> None:
        """Mean and width of what members and slots say."""
        self.standard.look(*(block[_member(name)] for name in self.attention.inputs))
        if self.standard_own is not None:
            self.standard_own.look(block[f"{self.axis}/own"])

    def settle(self) -> None:
        """Set them."""
        self.standard.settle()
        if self.standard_own is not None:
            self.standard_own.settle()

    def forward(self, batch: Batch) -> Tensor:
        """Raw outputs (N, O) in the normalised target space, for every slot or event of the batch."""
        n_member, owner = len(batch[f"{self.axis}/counts"]), slot_of_pairs(batch["member/offsets"])
        heads, width = self.query.shape
        columns = [batch[_member(name)].flatten(1).float() for name in self.attention.inputs]
        members = self.standard(torch.cat(columns, 1))
        keys = self.keys(members).view(-1, heads, width)  # (M, H, A)
        scores = (keys * self.query).sum(2) / math.sqrt(width)  # (M, H)
        scores = scores + batch["member/weight"].clamp(min=LEAST_WEIGHT).log().unsqueeze(1)
        share = segment_softmax(scores.float(), owner, n_member).unsqueeze(2)  # (M, H, 1)
        seen = (share * self.values(members).view(-1, heads, width)).flatten(1).float()  # (M, H A)
        found = seen.new_zeros(n_member, heads * width).index_add(0, owner, seen)
        if self.standard_own is not None:
            found = torch.cat((found, self.standard_own(batch[f"{self.axis}/own"])), 1)
        outputs: Tensor = self.net(found)
        return outputs.float()


def _member(name: str) -> str:
    """What an input is called among the prepared arrays."""
    return f"member/{name.partition('/')[2]}"


class AttentionConfig(FieldSettings, AttentionSettings, NetSettings):
    """Settings of the regression by attention."""


class AttentionClassifierConfig(ClassSettings, AttentionSettings, NetSettings):
    """Settings of the classifier by attention."""


class AttentionHead(_AttentionHead):
    """Regression of fields by attention over members."""

    Config = AttentionConfig


class AttentionClassifier(_AttentionHead):
    """Classification by attention over members."""

    Config = AttentionClassifierConfig
