"""The regression head: query embedding and pooled hits of a slot to the parameters of its track.

Particular: two trainable nets see each assigned hit once (scaled raw fields, stored embedding); their outputs
are pooled over the hits of each slot and joined to its query embedding. Pooling, sets and edge cases are as in
the padded form, but only assigned pairs are touched. Aggregated order:
[query, raw avg, sum, max, min, encoded avg, sum, max, min].
"""

# Axes: N slots, M hits, P pairs of a batch; D embedding width, O raw outputs.

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frz.errors import ConfigError
from frz.heads.contract import Batch
from frz.heads.lines import line_coordinates
from frz.heads.pooling import rows_of, segment_pool, slot_of_pairs
from frz.heads.rowhead import RowHead
from frz.heads.rows import Rows, at
from frz.heads.settings import RegressionConfig
from frz.heads.slots import columns_of, owners
from frz.store.schema import Array, Axis, EventArrays, Schema

QUERY = "query/embedding"
HIT_ARRAYS = {"raw": "hit/scaled", "encoded": "hit/embedding"}
POOLS = 4
N_LINE = 3
"""Inputs of the raw hit net from the line: along, across (clipped), across (compressed)."""
FAR = 10.0
"""Where the linear form of a distance is clipped, in typical distances."""


class RegressionHead(RowHead):
    """Regression of track parameters per slot from frozen features.

    Parameters
    ----------
    config : RegressionConfig
    schema : Schema
        Of the feature store. Without any target array (recorded data) the head can predict but not be fitted.

    Raises
    ------
    ConfigError
        If arrays or columns are missing, `dim` is not the stored width, or the threshold is below the stored floor.
    """

    Config = RegressionConfig
    config: RegressionConfig
    line_scale: Tensor

    def __init__(self, config: RegressionConfig, schema: Schema) -> None:
        super().__init__(config, schema)
        width = schema.arrays[QUERY].shape[-1]
        if config.dim not in (None, width):
            raise ConfigError(
                f"dim is {config.dim} but {QUERY} is {width} wide", way_out=f"set dim: {width} or leave it out"
            )
        self.width = width
        self.columns = columns_of(schema, HIT_ARRAYS["raw"], config.hit_fields) if "raw" in config.hit_nets else []
        if "raw" in config.hit_nets:
            self.raw_hit_net = _hit_net(len(self.columns) + N_LINE * bool(config.line), config.hit_net_hidden, width)
        if "encoded" in config.hit_nets:
            stored = schema.arrays[HIT_ARRAYS["encoded"]].shape[-1]
            self.encoded_hit_net = _hit_net(stored, config.hit_net_hidden, width)
        aggregated = width * (1 + POOLS * len(config.hit_nets))
        self.net = _mlp(
            aggregated,
            config.regression_hidden_dim or max(1, aggregated // 2),
            self.targets.n_output,
            config.regression_num_layers,
            config.dropout,
        )
        self.line_columns = columns_of(schema, HIT_ARRAYS["raw"], config.line) if config.line else []
        self._lines: list[NDArray[np.float32]] = []
        if config.line:
            self.register_buffer("line_scale", torch.ones(2))

    @property
    def reads(self) -> tuple[str, ...]:
        """Query embeddings, and what the hit nets see."""
        return (QUERY, *(HIT_ARRAYS[kind] for kind in self.config.hit_nets))

    @property
    def uses_pairs(self) -> bool:
        """Whether there are hit nets."""
        return bool(self.config.hit_nets)

    @property
    def without_pairs(self) -> str:
        """Leave the nets out."""
        return "leave the hit nets out (hit_nets: [])"

    @property
    def feature_schema(self) -> Schema:
        """Embeddings of the slots; below them pairs; and the hits the pairs refer to.

        Embeddings and scaled fields keep the stored dtype (float16 halves the memory; the forward casts a batch).
        """
        stored = self.schema.arrays
        arrays = {"slot/embedding": stored[QUERY].model_copy(update={"group": "events"})}
        axes = {"slot": Axis()}
        if self.config.hit_nets:
            axes |= {"hit": Axis(), "pair": Axis(parent="slot")}
            arrays["pair/hit"] = Array(dtype="int32", role="feature", refers_to="hit")
            arrays["pair/weight"] = Array(dtype="float32", role="feature", description="assignment probability")
        if self.config.line:
            text = "where the hit stands relative to the straight line of the slot"
            arrays["pair/line"] = Array(
                dtype="float32", shape=(2,), role="feature", columns=("along", "across"), description=text
            )
        for kind in self.config.hit_nets:
            like = stored[HIT_ARRAYS[kind]]
            shape = (len(self.columns),) if kind == "raw" else like.shape
            columns = tuple(like.columns[c] for c in self.columns) if kind == "raw" and like.columns else ()
            arrays[HIT_ARRAYS[kind]] = Array(dtype=like.dtype, shape=shape, role="feature", columns=columns)
        return Schema(axes=axes, arrays=arrays)

    def features(self, events: EventArrays, rows: Rows) -> EventArrays:
        """Embeddings, pairs and hits of the kept slots."""
        result = {"slot/embedding": events[QUERY][rows.row]}
        if not self.config.hit_nets:
            return result
        result |= {name: rows.pairs[name] for name in ("pair/offsets", "pair/hit", "pair/weight", "hit/offsets")}
        if self.config.line:
            result["pair/line"] = self._line(events, rows.pairs)
        hit = rows.pairs["hit/row"]
        for kind in self.config.hit_nets:
            values = events[HIT_ARRAYS[kind]][hit]
            result[HIT_ARRAYS[kind]] = np.ascontiguousarray(values[:, self.columns]) if kind == "raw" else values
        return result

    def carried(self, features: Batch, events: EventArrays, rows: Rows) -> Batch:
        """Embeddings, hits and assignment probabilities; no gradient passes the coordinates along and across."""
        del events
        result = {"slot/embedding": at(features[QUERY], rows.row)}
        if self.config.hit_nets:
            result["pair/weight"] = self.weights_of(features, rows)
        for kind in self.config.hit_nets:
            values = at(features[HIT_ARRAYS[kind]], rows.pairs["hit/row"])
            result[HIT_ARRAYS[kind]] = values[:, self.columns] if kind == "raw" else values
        return result

    def _line(self, events: EventArrays, pairs: EventArrays) -> NDArray[np.float32]:
        """Line coordinates of the pairs."""
        x, y = (events[HIT_ARRAYS["raw"]][pairs["pair/row"], c].astype(np.float64) for c in self.line_columns)
        offsets = pairs["pair/offsets"]
        return line_coordinates(x, y, pairs["pair/weight"].astype(np.float64), owners(offsets), len(offsets) - 1)

    def look(self, block: EventArrays) -> None:
        """Collect line coordinates."""
        if self.config.line:
            self._lines.append(block["pair/line"])

    def settle(self) -> None:
        """Measure what is typical along and across."""
        if self.config.line:
            typical = np.median(np.abs(np.concatenate(self._lines)), axis=0) if sum(map(len, self._lines)) else [0, 0]
            self.line_scale.copy_(torch.from_numpy(np.where(np.asarray(typical) > 0, typical, 1.0)))
            self._lines = []

    def forward(self, batch: Batch) -> Tensor:
        """Raw outputs (N, O) in the normalised target space, for every slot of the batch."""
        slots = batch["slot/embedding"].float()
        values = self._pooled_values(batch)
        if values:
            slot = slot_of_pairs(batch["pair/offsets"])
            together = torch.cat(values, 1).float()  # (P, n_net D), float32 under autocast too
            pooled = segment_pool(together, batch["pair/weight"], slot, len(slots))  # (N, 4, n_net D)
            pooled = pooled.view(len(slots), POOLS, len(values), self.width).transpose(1, 2)  # (N, n_net, 4, D)
            slots = torch.cat((slots, pooled.flatten(1)), 1)
        outputs: Tensor = self.net(slots)
        return outputs.float()

    def _pooled_values(self, batch: Batch) -> list[Tensor]:
        """What each hit net says of the hit of each pair, (P, D) each; a net runs once per hit where it can."""
        found = []
        if "raw" in self.config.hit_nets:
            scaled, hit = batch[HIT_ARRAYS["raw"]].float(), batch["pair/hit"]
            if self.config.line:
                along, across = (batch["pair/line"] / self.line_scale).unbind(1)
                line = torch.stack((along, across.clamp(-FAR, FAR), (4 * across).asinh()), 1)  # (P, 3)
                found.append(self.raw_hit_net(torch.cat((scaled.index_select(0, hit), line), 1)))
            else:
                found.append(rows_of(self.raw_hit_net(scaled), hit))
        if "encoded" in self.config.hit_nets:
            values = self.encoded_hit_net(batch[HIT_ARRAYS["encoded"]].float())
            found.append(rows_of(values, batch["pair/hit"]))
        return found


def _hit_net(n_input: int, hidden: int | None, width: int) -> nn.Sequential:
    hidden = hidden or 2 * n_input
    return nn.Sequential(nn.Linear(n_input, hidden), nn.SiLU(), nn.Linear(hidden, width))


def _mlp(n_input: int, hidden: int, n_output: int, n_layer: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(n_layer - 1):
        layers += [nn.Linear(n_input, hidden), nn.ReLU(), nn.LayerNorm(hidden), nn.Dropout(dropout)]
        n_input = hidden
    return nn.Sequential(*layers, nn.Linear(n_input, n_output))
