"""Heads on one vector of fixed length per member: pooling has no parameters, so it is done once, by `prepare`.

Arrays of the member itself (a query's embedding, an event's) are taken as they are, arrays of what it holds (hits of a
slot, hits or sets of an event) are pooled, and all are joined. What is left to train on is a plain matrix.
"""

# Axes: R kept members, P pairs (member, what it holds) sorted by member, D columns, V vector.

from abc import abstractmethod
from math import prod
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from frz.errors import ConfigError, nearest
from frz.heads.contract import Batch
from frz.heads.descriptors import DescriptorSettings
from frz.heads.lines import N_CURVE, curve_of, line_coordinates
from frz.heads.nets import Standard
from frz.heads.pooling import segment_pool, segment_softmax
from frz.heads.rowhead import RowHead
from frz.heads.rows import SCALED, RowAxis, Rows, at
from frz.heads.settings import MemberSettings
from frz.heads.slots import columns_of, owners
from frz.store.ragged import edges
from frz.store.schema import EVENT, Array, Axis, EventArrays, Schema, axis_of

Pooling: TypeAlias = Literal["mean", "sum", "max", "min", "softmax"]
PLACES = {"mean": 0, "sum": 1, "max": 2, "min": 3}
OWN: dict[RowAxis, str] = {"slot": "query", "event": EVENT}
"""Axis whose arrays belong to the member itself."""


class VectorSettings(DescriptorSettings):
    """What a head on vectors sees."""

    rows: RowAxis = "slot"
    """What it answers for: slots (queries that stand for tracks) or events."""
    inputs: tuple[str, ...] = Field(default=("query/embedding", "hit/scaled", "hit/embedding"), min_length=1)
    """Stored arrays that it sees: of the slot (`query/...`) or event (`event/...`) itself, taken as they are; of
    assigned hits (`hit/...`) for a slot, of any axis for an event, pooled."""
    pooling: tuple[Pooling, ...] = Field(default=("mean", "sum", "max", "min"), min_length=1)
    """How: mean and sum (for slots weighted with the assignment probability), max, min, and `softmax`: the mean
    weighted with softmax(<x, mean of x>)."""
    softmax_scaled: bool = True
    """Divide <x, mean of x> by the root of the width; without it the weights are nearly those of one member alone."""
    log_variances: tuple[str, ...] = ()
    """Inputs that hold ln sigma^2: sigma stands in for them. The mean over sets of mu and that of sigma are the
    Wasserstein-2 barycentre of their diagonal Gaussians (M. Agueh, G. Carlier, SIAM J. Math. Anal. 43 (2011) 904)."""
    line: tuple[str, str] | None = None
    """Two columns of `hit/scaled` in whose plane tracks are nearly straight, the first growing outward: the vector also
    says how the hits of the slot bend away from their straight line."""

    @model_validator(mode="after")
    def _check_inputs(self) -> "VectorSettings":
        for what, names in (("inputs", self.inputs), ("pooling", self.pooling)):
            if len(set(names)) != len(names):
                raise ValueError(f"{what} name something twice: {', '.join(names)}")
        for name in self.log_variances:
            if name not in self.inputs:
                raise ValueError(
                    f"log_variances name {name!r}, which is none of the inputs; {nearest(name, self.inputs)}"
                )
        if self.line and self.rows == "event":
            raise ValueError("line is about the hits of a slot; leave it out with rows: event")
        return self


class VectorHead(RowHead):
    """A net on one vector per slot or event.

    Parameters
    ----------
    config : VectorSettings and MemberSettings
    schema : Schema
        Of the feature store.
    """

    takes_stacked_rows = True

    def __init__(self, config: MemberSettings, schema: Schema) -> None:
        assert isinstance(config, VectorSettings)
        self.vectors: VectorSettings = config
        super().__init__(config, schema, config.rows)
        self.own = [name for name in config.inputs if axis_of(name) == OWN[config.rows]]
        self.pooled = [name for name in config.inputs if name not in self.own]
        self.line_columns = columns_of(schema, SCALED, config.line) if config.line else []
        self.n_input = sum(width_of(schema, name) for name in self.own) + N_CURVE * bool(config.line)
        self.n_input += len(config.pooling) * sum(width_of(schema, name) for name in self.pooled)
        self.standard = Standard(self.n_input)
        self.net = self.make_net(self.n_input + self.n_described, self.targets.n_output)

    @abstractmethod
    def make_net(self, n_input: int, n_output: int) -> nn.Module:
        """The net on standardised vectors (N, V), and what describes their members, that gives raw outputs (N, O)."""

    @property
    def reads(self) -> tuple[str, ...]:
        """The inputs."""
        own = (OWN[self.vectors.rows], "hit" if self.axis == "slot" else None)
        for name in self.vectors.inputs:
            if self.axis == "slot" and axis_of(name) not in own:
                raise ConfigError(
                    f"{name} belongs neither to a query nor to its hits", way_out="take inputs query/... or hit/..."
                )
        return (*self.vectors.inputs, *([SCALED] if self.vectors.line else []))

    @property
    def uses_pairs(self) -> bool:
        """Whether hits of slots are pooled."""
        hits = any(axis_of(name) == "hit" for name in self.vectors.inputs)
        return self.axis == "slot" and (hits or bool(self.vectors.line))

    @property
    def without_pairs(self) -> str:
        """Take the query alone."""
        return "leave the hits out (inputs: [query/embedding])"

    @property
    def feature_schema(self) -> Schema:
        """The vector."""
        text = f"pooled from {', '.join(self.vectors.inputs)}"
        vector = Array(dtype="float32", shape=(self.n_input,), role="feature", description=text)
        return Schema(axes={"slot": Axis()} if self.axis == "slot" else {}, arrays={f"{self.axis}/vector": vector})

    def features(self, events: EventArrays, rows: Rows) -> EventArrays:
        """Join what is the member's own, what it holds, and how its hits bend."""
        stored = {
            name: torch.from_numpy(np.require(events[name], requirements=["C", "W"])) for name in self.vectors.inputs
        }
        weights = torch.from_numpy(rows.pairs["pair/weight"]) if self.uses_pairs else None
        return {f"{self.axis}/vector": self._vector(stored, weights, events, rows).numpy()}

    def carried(self, features: Batch, events: EventArrays, rows: Rows) -> Batch:
        """The same; no gradient passes how the hits bend."""
        weights = self.weights_of(features, rows) if self.uses_pairs else None
        return {f"{self.axis}/vector": self._vector(features, weights, events, rows)}

    def _vector(self, inputs: Batch, weights: Tensor | None, events: EventArrays, rows: Rows) -> Tensor:
        """Vectors (R, V) of the kept members, from the inputs as tensors and the weights (P,) of the pairs of slots."""
        pieces = [self._matrix(name, at(inputs[name], rows.row)) for name in self.own]
        for name in self.pooled:
            if self.axis == "slot":
                assert weights is not None
                values, shares = self._matrix(name, at(inputs[name], rows.pairs["pair/row"])), weights
                offsets = rows.pairs["pair/offsets"]
            else:
                values, offsets = self._matrix(name, inputs[name]), edges(events, self.schema, axis_of(name))
                shares = values.new_ones(len(values))
            owner = torch.from_numpy(owners(offsets)).to(values.device)
            pieces.append(pool(values, shares, owner, len(rows.row), self.vectors))
        if self.line_columns:
            device = inputs[self.vectors.inputs[0]].device
            pieces.append(torch.from_numpy(self._curve(events, rows.pairs)).to(device))
        return torch.cat(pieces, 1)

    def _matrix(self, name: str, values: Tensor) -> Tensor:
        """Rows of an input as a matrix; of ln sigma^2, sigma."""
        found = matrix(values)
        return (found / 2).exp() if name in self.vectors.log_variances else found

    def _curve(self, events: EventArrays, pairs: EventArrays) -> NDArray[np.float32]:
        x, y = (events[SCALED][pairs["pair/row"], c].astype(np.float64) for c in self.line_columns)
        slot, n_slot = owners(pairs["pair/offsets"]), len(pairs["pair/offsets"]) - 1
        weight = pairs["pair/weight"].astype(np.float64)
        along, across = line_coordinates(x, y, weight, slot, n_slot).astype(np.float64).T
        return curve_of(along, across, weight, slot, n_slot)

    def look(self, block: EventArrays) -> None:
        """Mean and width of the vectors."""
        self.standard.look(block[f"{self.axis}/vector"])

    def settle(self) -> None:
        """Set them."""
        self.standard.settle()

    def forward(self, batch: Batch) -> Tensor:
        """Raw outputs (N, O) in the normalised target space, for every member of the batch."""
        outputs: Tensor = self.net(self.described(self.standard(batch[f"{self.axis}/vector"]), batch))
        return outputs.float()


def pool(values: Tensor, weights: Tensor, owner: Tensor, n_owner: int, settings: VectorSettings) -> Tensor:
    """Pool the values of each owner, without parameters.

    Parameters
    ----------
    values : float32 Tensor (P, D)
    weights : float32 Tensor (P,)
        Non-negative; of mean and sum.
    owner : int64 Tensor (P,)
        Ascending.
    n_owner : int
        R.
    settings : VectorSettings
        Which poolings, in which order; `softmax` is sum_t w_t x_t with w = softmax_t(<x_t, q> / sqrt(D)) and q the
        plain mean of x (without the root if `softmax_scaled` is off). An owner without members gets 0.

    Returns
    -------
    Tensor (R, n_pooling D)
    """
    four = segment_pool(values, weights, owner, n_owner)  # (R, 4, D)
    pieces = []
    for name in settings.pooling:
        if name != "softmax":
            pieces.append(four[:, PLACES[name]])
            continue
        query = segment_pool(values, torch.ones_like(weights), owner, n_owner)[:, 0]
        scores = (values * query.index_select(0, owner)).sum(1, keepdim=True)
        if settings.softmax_scaled:
            scores = scores / values.shape[1] ** 0.5
        share = segment_softmax(scores, owner, n_owner)
        pieces.append(values.new_zeros(n_owner, values.shape[1]).index_add(0, owner, share * values))
    return torch.cat(pieces, 1)


def width_of(schema: Schema, name: str) -> int:
    """Columns of a stored array, its trailing shape laid out flat."""
    return prod(schema.arrays[name].shape)


def matrix(values: Tensor) -> Tensor:
    """Values (rows, ...) as float32 (rows, D)."""
    return values.reshape(len(values), prod(values.shape[1:])).float()
