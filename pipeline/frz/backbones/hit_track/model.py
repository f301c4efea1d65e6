"""`hit_track`: the family's backbone. Particular: flat ragged batches outside, length buckets inside.

Hits are embedded flat, encoded and decoded bucket by bucket (see `padding`), and everything returned is flat
again, in the order of the batch. An event without hits is computed as one with a single hit of zero
embedding whose own outputs are dropped, so its query outputs are finite and the same in every batch.

Axes: E events, N hits, Q queries, F model fields, D features; in a bucket: B events, M hits, P true tracks.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from frz.backbones import padding
from frz.backbones.contract import Backbone, Batch
from frz.backbones.hit_track import losses, tasks
from frz.backbones.hit_track.decoder import Decoded, Decoder
from frz.backbones.hit_track.encoder import Encoder, HitEmbedding
from frz.backbones.hit_track.fields import HitFields
from frz.backbones.hit_track.matching import match
from frz.backbones.hit_track.pairs import from_pairs, to_pairs
from frz.backbones.hit_track.queries import HitSeed, Seeding, SeedQueries, seed_losses
from frz.backbones.hit_track.settings import DENSE_LIMIT, HitTrackConfig
from frz.backbones.hit_track.truth import Truth, true_tracks
from frz.backbones.layers import logit_of
from frz.errors import ConfigError
from frz.store.schema import Array, Axis, EventArrays, Schema

VALID, MASK, SEED = "track_valid", "track_hit_valid", "hit_seed"


@final
class HitTrack(Backbone):
    """Transformer from hits to tracks with learned queries and mask attention.

    Parameters
    ----------
    config : HitTrackConfig
        Settings.
    schema : Schema
        Of the data set: `config.array` is read, and for training the members of the true tracks.

    Raises
    ------
    ConfigError
        If the data set lacks the array or a column.
    """

    Config = HitTrackConfig
    sets = ("hit",)

    def __init__(self, config: Any, schema: Schema) -> None:
        super().__init__(config, schema)
        assert isinstance(config, HitTrackConfig)
        self.config = config
        self.has_truth = config.members in schema.arrays and config.tracks in schema.axes
        self.dense = config.num_queries <= DENSE_LIMIT
        self.seeded = config.queries == "seeds"
        extra = (*config.pos_fields, config.seed_field) if self.seeded else config.pos_fields
        self.fields = HitFields(schema, config.array, config.fields, extra, config.position)
        self.embedding = HitEmbedding(config, self.fields)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.tasks = nn.ModuleDict(
            {VALID: tasks.TrackValid(config.dim), MASK: tasks.TrackHitValid(config.dim, self.seeded)}
        )
        if self.seeded:
            self.tasks[SEED] = HitSeed(config)
            self.seeds = SeedQueries(config)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The hits."""
        return (self.config.array,)

    @property
    def targets(self) -> tuple[str, ...]:
        """The hits of each true track, where the data set has them."""
        return (self.config.members,) if self.has_truth else ()

    @property
    def axes(self) -> dict[str, Axis]:
        """`query`, and `pair` where logits are kept as pairs."""
        query = {"query": Axis(length=self.config.num_queries)}
        return query if self.dense else {**query, "pair": Axis(parent="hit")}

    @property
    def outputs(self) -> dict[str, Array]:
        """Embeddings, final logits and the standardised fields."""
        dim, n_query, names = self.config.dim, self.config.num_queries, self.fields.names
        found = {
            "query/embedding": _feature("final query embedding, normalised", dim),
            "query/valid_logit": _feature("logit of a track standing behind the query"),
            "hit/embedding": _feature("hit embedding after the decoder, normalised", dim),
            "hit/scaled": _feature("model fields, (x - mean) / width", len(names), columns=names),
        }
        if self.dense:
            found["hit/assignment_logit"] = _feature("logit of the hit belonging to each query", n_query)
        else:
            found["pair/query"] = _feature("query", dtype="int32", refers_to="query")
            floor = self.config.pair_floor
            text = f"logit of the hit belonging to the query, kept where p >= {floor:g}"
            found["pair/logit"] = _feature(text, floor=logit_of(floor))
        return found

    @property
    def annotations(self) -> dict[str, Array]:
        """`query/match`, where the data set has truth."""
        if not self.has_truth:
            return {}
        text = f"position in the event (axis {self.config.tracks}) of the true track matched to the query, or -1"
        return {"query/match": Array(dtype="int32", role="target", description=text, group="annotation")}

    def fit(self, events: Iterable[EventArrays]) -> None:
        """Measure mean and width of every model field."""
        self.fields.fit(events)

    def overflow(self, maxima: Mapping[str, int]) -> str:
        """More tracks in an event than queries."""
        most, n_query = maxima.get(self.config.tracks, 0), self.config.num_queries
        if most <= n_query:
            return ""
        return (
            f"an event holds {most} true tracks but the model has {n_query} queries: "
            f"set num_queries to at least {most}, or overflow: skip_event"
        )

    def forward(self, batch: Batch) -> Batch:
        """Features of a batch (see `outputs`)."""
        buckets = padding.cut(batch["hit/offsets"])
        flat, scaled, field = self._embed(batch)
        query, valid, hit, assignment = [], [], [], []
        for bucket, decoded, _ in self._decode(buckets, flat, field, every_look=False):
            query.append(decoded.query)
            valid.append(self._valid_logit(decoded))
            hit.append(bucket.flatten(decoded.hit))
            assignment.append(bucket.flatten(decoded.mask_logits[-1].transpose(1, 2)))
        logit = padding.join(buckets, assignment)  # (N, Q)
        features = {
            "query/embedding": padding.join_events(buckets, query).flatten(0, 1).float(),
            "query/valid_logit": padding.join_events(buckets, valid).flatten(),
            "hit/embedding": padding.join(buckets, hit).float(),
            "hit/scaled": scaled,
        }
        if self.dense:
            return {**features, "hit/assignment_logit": logit}
        return {**features, **to_pairs(logit, self.config.pair_floor)}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the weighted losses, and each of them as `task/loss`, earlier looks as `task/loss/layer<i>`.

        Validity is averaged over all queries of the batch, a mask loss over its true tracks, the seed loss
        over its hits. Earlier looks count with the matching of the final one: it costs nothing and keeps a
        query's goal the same in every layer.
        """
        if not self.has_truth:
            raise ConfigError(
                f"the data set has no array {self.config.members!r} on axis {self.config.tracks!r} to train on",
                where="model.members",
            )
        buckets = padding.cut(batch["hit/offsets"])
        truths = true_tracks(batch, buckets, self.config.tracks, self.config.members)
        flat, _, field = self._embed(batch)
        counts = {
            VALID: (len(batch["hit/offsets"]) - 1) * self.config.num_queries,
            MASK: sum(int(truth.n_track.clamp(max=self.config.num_queries).sum()) for truth in truths),
            SEED: len(flat),
        }
        sums: dict[str, Tensor] = {}
        decoding = self._decode(buckets, flat, field, every_look=self.config.intermediate_losses)
        for truth, (_, decoded, seeding) in zip(truths, decoding, strict=True):
            for name, value in self._losses(decoded, seeding, truth).items():
                sums[name] = sums[name] + value if name in sums else value
        parts = {name: value / max(counts[name.partition("/")[0]], 1) for name, value in sums.items()}
        total = torch.stack(list(parts.values())).sum()
        return total, {name: value.detach() for name, value in parts.items()}

    def annotate(self, batch: Batch, features: Batch) -> Batch:
        """`query/match` by the matching of the loss, from final logits as stored.

        From pairs, an assignment that was not stored counts with the logit of `pair_floor`.
        """
        buckets = padding.cut(batch["hit/offsets"])
        truths = true_tracks(batch, buckets, self.config.tracks, self.config.members)
        n_query = self.config.num_queries
        if self.dense:
            flat = features["hit/assignment_logit"].float()
        else:
            flat = from_pairs(features, n_query, self.config.pair_floor)
        valid = features["query/valid_logit"].float().view(-1, n_query)
        found = []
        for bucket, truth in zip(buckets, truths, strict=True):
            mask = bucket.pad(flat).transpose(1, 2)
            if bucket.keep is not None:
                mask = mask.masked_fill(~bucket.keep[:, None], losses.PADDED)
            found.append(_track_of_query(self._match(valid[bucket.events], mask, truth), n_query))
        return {"query/match": padding.join_events(buckets, found).flatten().int()}

    def _embed(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """Hit embeddings (N, D) before the encoder, standardised fields (N, F), and the seed field (N,) if used."""
        raw = self.fields.raw(batch[self.config.array])
        scaled = self.fields.scale(raw)
        field = raw[:, self.fields.index(self.config.seed_field)] if self.seeded else None
        return self.embedding(raw, scaled), scaled[:, : len(self.fields.names)], field

    def _decode(
        self, buckets: list[padding.Bucket], flat: Tensor, field: Tensor | None, every_look: bool
    ) -> Iterator[tuple[padding.Bucket, Decoded, Seeding | None]]:
        """Encode and decode the embedded hits (N, D) bucket by bucket."""
        mask_task = self.tasks[MASK]
        assert isinstance(mask_task, tasks.TrackHitValid)
        for bucket in buckets:
            hit = self.encoder(bucket.pad(flat), bucket.keys)
            query, seeding = self.decoder.queries.expand(len(hit), -1, -1), None
            if field is not None:
                seeding = Seeding(self.tasks[SEED](hit, bucket.keep), bucket.pad(field))
                query = self.seeds(hit, bucket.keep, seeding, self.decoder.queries)
            yield bucket, self.decoder(query, hit, bucket.keep, bucket.keys, mask_task, every_look), seeding

    def _valid_logit(self, decoded: Decoded) -> Tensor:
        logit: Tensor = self.tasks[VALID](decoded.query)
        return logit

    def _match(self, valid: Tensor, mask: Tensor, truth: Truth) -> Tensor:
        """Query of each true track (B, P) from logits (B, Q) and (B, Q, M)."""
        with torch.no_grad(), torch.autocast(valid.device.type, enabled=False):
            cost = tasks.valid_cost(valid, self.config.cost.track_valid)
            cost = cost + tasks.mask_cost(mask, truth, self.config.cost.track_hit_valid)
            return match(cost, truth.n_track)

    def _losses(self, decoded: Decoded, seeding: Seeding | None, truth: Truth) -> dict[str, Tensor]:
        """Weighted losses of a bucket, summed over slots, matched tracks or hits."""
        valid = self._valid_logit(decoded)
        final = decoded.mask_logits[-1]
        matched = self._match(valid, final, truth)
        weights = self.config.loss
        found = {}
        with torch.autocast(valid.device.type, enabled=False):
            is_track = (_track_of_query(matched, valid.shape[1]) >= 0).float()
            by_task = {VALID: tasks.valid_losses(valid, is_track, weights.track_valid, self.config.null_weight)}
            if seeding is not None:
                by_task[SEED] = seed_losses(seeding, truth, weights.hit_seed)
            for task, values in by_task.items():
                found.update({f"{task}/{name}": value for name, value in values.items()})
            for look, logit in enumerate(decoded.mask_logits):
                suffix = "" if logit is final else f"/layer{look}"
                for name, value in tasks.mask_losses(logit, truth, matched, weights.track_hit_valid).items():
                    found[f"{MASK}/{name}{suffix}"] = value
        return found


def _track_of_query(match: Tensor, n_query: int) -> Tensor:
    """Track of each query (B, Q), or -1, from the query of each track (B, P)."""
    found = match.new_full((len(match), n_query), -1)
    event, track = (match >= 0).nonzero(as_tuple=True)
    found[event, match[event, track]] = track
    return found


def _feature(text: str, *shape: int, dtype: str = "float32", **more: Any) -> Array:
    return Array(dtype=dtype, shape=shape, role="feature", group="features", description=text, **more)
