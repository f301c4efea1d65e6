"""The regression head: query embedding and pooled hits of a slot to the parameters of its track.

Particular: two trainable nets see each assigned hit once (scaled raw fields, stored embedding); their outputs
are pooled over the hits of each slot and joined to its query embedding. Pooling, sets and edge cases are as in
the padded form, but only assigned pairs are touched. Aggregated order:
[query, raw avg, sum, max, min, encoded avg, sum, max, min].
"""

# Axes: N slots, M hits, P pairs of a batch; D embedding width, F fields, O raw outputs.

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frz.errors import ConfigError, TrainingError, nearest
from frz.heads.contract import Batch, Head
from frz.heads.lines import line_coordinates
from frz.heads.pairs import assignment_arrays, check_threshold
from frz.heads.pooling import segment_pool, slot_of_pairs
from frz.heads.residuals import area_under_curve, summary, wrapped
from frz.heads.settings import RegressionConfig
from frz.heads.slots import (
    MATCH,
    VALID,
    counted,
    hits_of_slots,
    matched_rows,
    owners,
    physical_targets,
    valid_slots,
)
from frz.heads.targets import TINY, Targets, to_goals
from frz.store.ragged import edges, offsets_of
from frz.store.schema import GROUP, ID, Array, Axis, EventArrays, Schema, axis_of

QUERY = "query/embedding"
HIT_ARRAYS = {"raw": "hit/scaled", "encoded": "hit/embedding"}
POOLS = 4
N_LINE = 3
"""Inputs of the raw hit net from the line: along, across (clipped), across (compressed)."""
FAR = 10.0
"""Where the linear form of a distance is clipped, in typical distances."""


class RegressionHead(Head):
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
    not_in_prefix = frozenset(
        (
            "hit_net_hidden",
            "dim",
            "regression_hidden_dim",
            "regression_num_layers",
            "dropout",
            "periodic_output",
            "beta",
        )
        + ("loss_weight", "field_weights")
    )
    field_weights: Tensor
    line_scale: Tensor

    def __init__(self, config: RegressionConfig, schema: Schema) -> None:
        super().__init__(config, schema)
        self.config, self.schema = config, schema
        self.labels = tuple(name.replace("/", "_over_") for name in config.fields)
        self.truth = bool(schema.with_role("target"))
        self._check_arrays()
        width = schema.arrays[QUERY].shape[-1]
        if config.dim not in (None, width):
            raise ConfigError(
                f"dim is {config.dim} but {QUERY} is {width} wide", way_out=f"set dim: {width} or leave it out"
            )
        self.width = width
        self.columns = _columns(schema, HIT_ARRAYS["raw"], config.hit_fields) if "raw" in config.hit_nets else []
        self.target_columns = {
            name: _columns(schema, config.target, name.split("/", 1)) if self.truth else [] for name in config.fields
        }
        if "raw" in config.hit_nets:
            self.raw_hit_net = _hit_net(len(self.columns) + N_LINE * bool(config.line), config.hit_net_hidden, width)
        if "encoded" in config.hit_nets:
            stored = schema.arrays[HIT_ARRAYS["encoded"]].shape[-1]
            self.encoded_hit_net = _hit_net(stored, config.hit_net_hidden, width)
        self.targets = Targets(config.kinds, config.beta, config.periodic_output == "vector")
        aggregated = width * (1 + POOLS * len(config.hit_nets))
        self.net = _mlp(
            aggregated,
            config.regression_hidden_dim or max(1, aggregated // 2),
            self.targets.n_output,
            config.regression_num_layers,
            config.dropout,
        )
        self.line_columns = _columns(schema, HIT_ARRAYS["raw"], config.line) if config.line else []
        if config.line:
            self.register_buffer("line_scale", torch.ones(2))
        weights = torch.tensor([config.field_weights.get(name, 1.0) for name in config.fields])
        self.register_buffer("field_weights", weights, persistent=False)

    def _check_arrays(self) -> None:
        if self.config.hit_nets:
            try:
                assignment_arrays(self.schema)
            except ConfigError as error:
                way_out = f"{error.way_out}, or leave the hit nets out (hit_nets: [])"
                raise ConfigError(error.what, way_out=way_out) from None
            check_threshold(self.schema, self.config.assignment_threshold)
        for name in self.needs:
            if name not in self.schema.arrays:
                raise ConfigError(f"the features hold no array {name!r}", way_out=nearest(name, self.schema.arrays))

    @property
    def needs(self) -> tuple[str, ...]:
        """Stored arrays that `prepare` reads."""
        names = [ID, GROUP, QUERY, *([VALID] if VALID in self.schema.arrays else [])]
        names += [HIT_ARRAYS[kind] for kind in self.config.hit_nets]
        if self.config.hit_nets or self.config.slots == "double_matched":
            names += assignment_arrays(self.schema)
        if self.truth:
            names += [MATCH, self.config.target]
            names += [self.config.members] if self.config.slots == "double_matched" else []
        return tuple(names)

    @property
    def prepared(self) -> Schema:
        """Slots with their targets; below them pairs; and the hits the pairs refer to.

        Embeddings and scaled fields keep the stored dtype (float16 halves the memory; the forward casts a batch).
        """
        n_field = len(self.config.fields)
        stored = self.schema.arrays
        arrays = {name: stored[name] for name in (ID, GROUP)}
        arrays |= {
            "slot/query": Array(dtype="int32", role="meta", description="position of the query in its event"),
            "slot/embedding": stored[QUERY].model_copy(update={"group": "events"}),
            "slot/valid": Array(dtype="bool", role="feature", description="called a track by the backbone"),
            "slot/counts": Array(dtype="bool", role="target", description="counts in loss and metrics"),
            "slot/target": Array(dtype="float32", shape=(n_field,), role="target", columns=self.labels),
            "slot/goal": Array(dtype="float32", shape=(n_field,), role="target", columns=self.labels),
        }
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

    def prepare(self, events: EventArrays) -> EventArrays:
        """Keep the slots that count or are valid, their targets, pairs and hits.

        Raises
        ------
        StoreError
            If a target that counts is not finite, naming event and field.
        """
        event = owners(edges(events, self.schema, "query"))
        queries = np.arange(len(event)) - edges(events, self.schema, "query")[event]
        valid = valid_slots(events, len(event))
        truth, counts = np.full(len(event), -1), np.zeros(len(event), bool)
        if self.truth:
            truth = matched_rows(events, self.schema, axis_of(self.config.target))
            counts = counted(events, self.schema, truth, self.config.slots, self.config.members)
        kept = np.nonzero(counts | valid)[0]
        target = physical_targets(
            events, self.config.target, np.where(counts, truth, -1)[kept], self.target_columns, event[kept]
        )
        goal = to_goals(target, self.config.kinds)
        goal[~counts[kept]] = 0
        result = {
            ID: events[ID],
            GROUP: events[GROUP],
            "slot/offsets": offsets_of(np.bincount(event[kept], minlength=len(events[ID]))),
            "slot/query": queries[kept].astype(np.int32),
            "slot/embedding": events[QUERY][kept],
            "slot/valid": valid[kept],
            "slot/counts": counts[kept],
            "slot/target": target,
            "slot/goal": goal,
        }
        if self.config.hit_nets:
            result |= hits_of_slots(events, self.schema, kept, self.config.assignment_threshold)
            hit = result.pop("hit/row")
            if self.config.line:
                result["pair/line"] = self._line(events, result, hit)
            for kind in self.config.hit_nets:
                values = events[HIT_ARRAYS[kind]][hit]
                result[HIT_ARRAYS[kind]] = np.ascontiguousarray(values[:, self.columns]) if kind == "raw" else values
        return result

    def _line(self, events: EventArrays, prepared: EventArrays, hit: NDArray[np.int64]) -> NDArray[np.float32]:
        """Line coordinates of the pairs; `hit` are the rows of the kept hits."""
        slot = owners(prepared["pair/offsets"])
        first = prepared["hit/offsets"][owners(prepared["slot/offsets"])[slot]]
        row = hit[first + prepared["pair/hit"]]
        x, y = (events[HIT_ARRAYS["raw"]][row, column].astype(np.float64) for column in self.line_columns)
        weight = prepared["pair/weight"].astype(np.float64)
        return line_coordinates(x, y, weight, slot, len(prepared["slot/query"]))

    def fit(self, prepared: Iterable[EventArrays]) -> None:
        """Measure target statistics on the slots that count.

        Raises
        ------
        TrainingError
            If the features carry no truth, no slot counts, or a class field does not have two classes.
        """
        if not self.truth:
            raise TrainingError("the features carry no targets", way_out="extract from a data set with truth")
        found, lines = [], []
        for block in prepared:
            found.append(block["slot/target"][block["slot/counts"]])
            lines.append(block["pair/line"] if self.config.line else np.zeros((0, 2), np.float32))
        typical = np.median(np.abs(np.concatenate(lines)), axis=0) if sum(map(len, lines)) else np.zeros(2)
        if self.config.line:
            self.line_scale.copy_(torch.from_numpy(np.where(typical > 0, typical, 1.0)))
        self.targets.measure(np.concatenate(found) if found else np.zeros((0, len(self.labels)), np.float32))

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
                found.append(self.raw_hit_net(scaled).index_select(0, hit))
        if "encoded" in self.config.hit_nets:
            values = self.encoded_hit_net(batch[HIT_ARRAYS["encoded"]].float())
            found.append(values.index_select(0, batch["pair/hit"]))
        return found

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted mean over fields of the mean over the slots that count, and each field's part."""
        losses = self.targets.losses(self(batch), batch["slot/goal"], batch["slot/counts"])  # (F,)
        total = self.config.loss_weight * (losses @ self.field_weights) / self.field_weights.sum()
        return total, dict(zip(self.labels, losses.detach(), strict=True))

    def predict(self, batch: Batch) -> Batch:
        """Physical value `slot/<field>` (N,) of every kept slot; class fields add `slot/<field>_probability`.

        A ratio is called `q_over_pt`. Inverse and log fields stay within the range of the training targets.
        """
        with torch.no_grad():
            raw = self(batch)
            values, probability = self.targets.decode(raw), self.targets.probability(raw)
        result = {f"slot/{label}": values[:, field] for field, label in enumerate(self.labels)}
        classes = [label for label, kind in zip(self.labels, self.config.kinds, strict=True) if kind == "class"]
        return result | {f"slot/{label}_probability": probability[:, i] for i, label in enumerate(classes)}

    def predict_mean(self, prepared: EventArrays) -> EventArrays:
        """The yardstick: what a head without features predicts, the training mean (classes: the likelier one)."""
        values = self.targets.decode(self.targets.mean_outputs(len(prepared["slot/counts"])))
        return {f"slot/{label}": values[:, field].numpy() for field, label in enumerate(self.labels)}

    def metrics(self, predictions: EventArrays, prepared: EventArrays) -> dict[str, float]:
        """Metrics over the slots that count.

        `slots` and `slots_empty` (no assigned hit) are counts. Per field `bias`, `width`, `clipped_rms`, `rmse` of
        prediction - truth (phi wrapped); the same with `relative_` of (prediction - truth) / truth where all training
        targets are positive; `accuracy` where there are two classes, and `auc` with a probability.
        """
        counts = prepared["slot/counts"]
        result = {"slots": float(counts.sum())}
        if "pair/offsets" in prepared:
            result["slots_empty"] = float((np.diff(prepared["pair/offsets"])[counts] == 0).sum())
        for field, (label, kind) in enumerate(zip(self.labels, self.config.kinds, strict=True)):
            truth = prepared["slot/target"][counts, field].astype(np.float64)
            found = predictions[f"slot/{label}"][counts].astype(np.float64)
            if kind == "class":
                result[f"{label}/accuracy"] = _fraction((found > 0) == (truth > 0))
                score = predictions.get(f"slot/{label}_probability")
                if score is not None:
                    result[f"{label}/auc"] = area_under_curve(score[counts], truth > 0)
                continue
            residual = wrapped(found - truth) if kind == "periodic" else found - truth
            result |= {f"{label}/{name}": value for name, value in summary(residual).items()}
            if kind in ("inverse", "log") or (kind == "identity" and self.targets.low[field] > 0):
                relative = residual / np.maximum(truth, TINY)
                result |= {f"{label}/relative_{name}": value for name, value in summary(relative).items()}
            elif len(np.unique(truth)) == 2:
                middle = (truth.min() + truth.max()) / 2
                result[f"{label}/accuracy"] = _fraction((found > middle) == (truth > middle))
        return result


def _columns(schema: Schema, array: str, names: Sequence[str] | None) -> list[int]:
    """Positions of the named columns (None = all) of a stored array."""
    known = schema.arrays[array].columns
    for name in names or ():
        if name not in known:
            raise ConfigError(f"{array} has no column {name!r}", way_out=nearest(name, known))
    return list(range(schema.arrays[array].shape[-1])) if names is None else [known.index(name) for name in names]


def _fraction(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if len(hits) else 0.0


def _hit_net(n_input: int, hidden: int | None, width: int) -> nn.Sequential:
    hidden = hidden or 2 * n_input
    return nn.Sequential(nn.Linear(n_input, hidden), nn.SiLU(), nn.Linear(hidden, width))


def _mlp(n_input: int, hidden: int, n_output: int, n_layer: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(n_layer - 1):
        layers += [nn.Linear(n_input, hidden), nn.ReLU(), nn.LayerNorm(hidden), nn.Dropout(dropout)]
        n_input = hidden
    return nn.Sequential(*layers, nn.Linear(n_input, n_output))
