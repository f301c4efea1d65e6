"""`set_sequence`: the family's backbone. Particular: two nested ragged axes, flat outside, bucketed inside.

Sets are encoded in buckets of like size, stays run through the transformer in buckets of like length; everything
returned is flat again, in the order of the batch. Whatever is drawn (latents, hidden elements, decoded sets) is drawn
in training mode only, so features are a function of the batch alone.

Axes: E stays (events), S sets, N elements, V variables, D features; in a bucket: B stays, M padded number of sets.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn

from frz.backbones import padding
from frz.backbones.contract import Backbone, Batch
from frz.backbones.set_sequence import losses, pooling
from frz.backbones.set_sequence.decoder import SetDecoder
from frz.backbones.set_sequence.encoder import Posterior, SetEncoder, sample
from frz.backbones.set_sequence.levels import levels, observations, trends
from frz.backbones.set_sequence.moments import Moments, TrimmedMoments
from frz.backbones.set_sequence.sequence import STATIC, Sequence, Statics
from frz.backbones.set_sequence.settings import SetSequenceConfig
from frz.backbones.set_sequence.summary import GradedSummary, Summary
from frz.backbones.set_sequence.tasks import Forecast, Supervised
from frz.backbones.set_sequence.times import TimeFeatures
from frz.backbones.set_sequence.tokens import PROBABILITIES, TABLE, VALUE, VARIABLE, Tokens
from frz.errors import ConfigError
from frz.store.schema import Array, EventArrays, Schema

MINUTE, VOCABULARY = "set/minute", "variable/code"


@dataclass(frozen=True)
class _Elements:
    """The elements of a batch, as the model sees them."""

    variable: Tensor
    """(N,) codes, int64."""
    scaled: Tensor
    """(N,) standardised values."""
    owner: Tensor
    """(N,) set of each element."""
    offsets: Tensor
    """(S + 1)."""

    def where(self, keep: Tensor) -> "_Elements":
        """Those of `keep` (N,), in the same sets."""
        counts = torch.cat((keep.new_zeros(1, dtype=torch.int64), keep.cumsum(0)))
        return _Elements(self.variable[keep], self.scaled[keep], self.owner[keep], counts[self.offsets])


@dataclass(frozen=True)
class _Encoded:
    """What a batch comes to."""

    mu: Tensor
    """(S, D)."""
    logvar: Tensor
    latent: Tensor
    """(S, D): a draw from the posterior, or its mean."""
    state: Tensor
    """(S, D)."""
    fast: Tensor
    """(E, D)."""
    pooled: Tensor
    """(E, 8 D)."""
    summaries: tuple[Tensor, ...]
    """(K, E, W) of those that there are."""


@final
class SetSequence(Backbone):
    """Set-level variational autoencoder and causal transformer over the sets of a stay.

    Parameters
    ----------
    config : SetSequenceConfig
        Settings.
    schema : Schema
        Of the data set: `set/minute`, `element/variable`, `element/value`, the vocabulary `variable/code`, and what the
        config asks for beside.

    Raises
    ------
    ConfigError
        If the data set lacks one of them.
    """

    Config = SetSequenceConfig
    sets = ("element",)

    def __init__(self, config: Any, schema: Schema) -> None:
        super().__init__(config, schema)
        assert isinstance(config, SetSequenceConfig)
        self.config = config
        for name in self.inputs:
            if name not in schema.arrays:
                way_out = "set model.static to false" if name == STATIC else "take a data set of sets in time"
                raise ConfigError(f"the data set has no array {name!r}", where="model", way_out=way_out)
        for name in self.constants:
            if name not in schema.static:
                way_out = "set model.embedding to learned" if name == TABLE else "take a data set of sets in time"
                raise ConfigError(f"the data set has no static array {name!r}", where="model", way_out=way_out)
        self._targets = tuple(name for name in self._asked if name in schema.arrays)
        n_variable = len(schema.static[VOCABULARY].columns)
        dim = config.dim
        table_width = schema.static[TABLE].shape[1] if config.embedding == "table" else None
        self.tokens = Tokens(config, n_variable, table_width)
        self.encoder = SetEncoder(config)
        self.posterior = Posterior(dim, config.dropout)
        self.times = TimeFeatures(dim, config.gap_buckets)
        self.statics = Statics(schema.arrays[STATIC].shape[0], dim) if config.static else None
        self.sequence = Sequence(config, n_variable)
        self.decoder = SetDecoder(config) if config.reconstruction.weight else None
        self.forecast = Forecast(config.forecast, dim, n_variable) if config.forecast.weight else None
        self.supervised = Supervised(config.supervised, 8 * dim, dim) if self._asked else None
        n_static = len(self.statics.mean) if self.statics is not None else 0
        self.summaries = nn.ModuleList(
            kind(settings, n_variable, n_static, len(self._asked))
            for kind, settings in ((Summary, config.summary), (GradedSummary, config.graded))
            if settings.members
        )
        self.register_buffer("batches_seen", torch.zeros((), dtype=torch.int64))

    batches_seen: Tensor

    @property
    def inputs(self) -> tuple[str, ...]:
        """Minutes, variables and values; static columns if asked for."""
        return (MINUTE, VARIABLE, VALUE, *([STATIC] if self.config.static else []))

    @property
    def constants(self) -> tuple[str, ...]:
        """The vocabulary, and the given embedding of its variables if asked for."""
        return (VOCABULARY, TABLE) if self.config.embedding == "table" else (VOCABULARY,)

    @property
    def _asked(self) -> tuple[str, ...]:
        return (*self.config.supervised.labels, *self.config.supervised.scores)

    @property
    def targets(self) -> tuple[str, ...]:
        """Those of the supervised loss, where the data set has them."""
        return self._targets

    @property
    def outputs(self) -> dict[str, Array]:
        """Posterior and state of each set, and pooled vectors of the stay."""
        dim = self.config.dim
        blocks = ", ".join(f"{name} of {of}" for of in ("states", "mu") for name in pooling.STATISTICS)
        units = sum(nets.members * nets.width for nets in (self.config.summary, self.config.graded))
        summary = _feature("units of small nets on what is known at the end", units)
        return {
            "set/mu": _feature("posterior mean of the set", dim),
            "set/logvar": _feature("posterior log-variance of the set", dim),
            "set/state": _feature("state after the set: it has seen this set and those before", dim),
            MINUTE: _feature("minutes since admission", unit="min"),
            "set/size": _feature("number of elements", dtype="int32"),
            "set/kl": _feature("divergence of the posterior from the standard normal", unit="nat"),
            "event/pooled_fast": _feature("states weighted with softmax <state, mean state>", dim),
            "event/pooled": _feature(f"over the sets, {dim} columns each: {blocks}", 8 * dim),
            **({"event/summary": summary} if units else {}),
        }

    def fit(self, events: Iterable[EventArrays]) -> None:
        """Measure means and widths of values, static columns and scores; take the given embedding."""
        if self.supervised is not None:
            self._need_targets()
        scores = tuple(self.config.supervised.scores)
        of_values = TrimmedMoments(self.tokens.n_variable)
        of_static = Moments(0 if self.statics is None else len(self.statics.mean))
        of_scores = Moments(len(scores))
        for arrays in events:
            of_values.see(arrays[VARIABLE], arrays[VALUE])
            if self.statics is not None:
                of_static.see(arrays[STATIC])
            if scores:
                rows = np.stack([arrays[name] for name in scores], 1).astype(np.float64)
                of_scores.see(np.log1p(np.where(rows < 0, np.nan, rows)))
            if TABLE in self.constants:
                self.tokens.table.copy_(torch.from_numpy(np.asarray(arrays[TABLE], np.float32)))
        if self.tokens.by_rank:
            self.tokens.knots.copy_(torch.from_numpy(of_values.quantiles(PROBABILITIES)))
        for module, moments in ((self.tokens, of_values), (self.statics, of_static), (self.supervised, of_scores)):
            if module is not None:
                mean, width = moments.result()
                module.mean.copy_(torch.from_numpy(mean))
                module.width.copy_(torch.from_numpy(width))

    def forward(self, batch: Batch) -> Batch:
        """Features of a batch (see `outputs`)."""
        found = self._encode(batch, self._elements(batch))
        return {
            "set/mu": found.mu.float(),
            "set/logvar": found.logvar.float(),
            "set/state": found.state.float(),
            MINUTE: batch[MINUTE].float(),
            "set/size": batch["element/offsets"].diff().int(),
            "set/kl": losses.divergence(found.mu.float(), found.logvar.float()).sum(1),
            "event/pooled_fast": found.fast.float(),
            "event/pooled": found.pooled.float(),
            **({"event/summary": _joined(found.summaries).float()} if found.summaries else {}),
        }

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the weighted losses; parts are weighted, but for two measures of collapse that have no weight.

        `active_units` (share of latent dimensions whose mean varies over the sets of the batch) and `nats` (mean
        divergence of a set) tell whether the posterior carries anything.
        """
        self._need_targets()
        config = self.config
        elements = self._elements(batch)
        stay = _owners(batch["set/offsets"])
        found = self._encode(batch, self._hide(elements, stay) if self.training else elements)
        parts: dict[str, Tensor] = {}
        if len(found.mu):
            kl = losses.divergence(found.mu.float(), found.logvar.float())
            divergence = losses.with_free_bits(kl, config.kl.free_bits, config.kl.free == "dimension")
            if config.kl.logvar_bonus:
                divergence = divergence - config.kl.logvar_bonus * found.logvar.mean()
            parts["kl"] = self._kl_weight() * divergence
            measures = {"nats": kl.sum(1).mean().detach(), "active_units": losses.active_units(found.mu.detach())}
        else:
            # no set: a loss without a gradient that every parameter can take part in
            parts["kl"], measures = (found.state.sum() + found.pooled.sum()) * 0.0, {}
        if self.decoder is not None:
            for name, value in self._reconstruct(batch, elements, found).items():
                parts[f"reconstruction/{name}"] = value
        if self.forecast is not None:
            first = _first_set(batch["set/offsets"])
            loss = self.forecast(found.state, first, elements.owner, elements.variable, elements.scaled)
            parts["forecast"] = config.forecast.weight * loss
        if self.supervised is not None:
            targets = {name: batch[name] for name in self._asked}
            named = self.supervised(found.pooled, found.state, stay, targets)
            if found.summaries:
                pairs = zip(self.summaries, found.summaries, strict=True)
                answers = torch.cat([cast(Summary, nets).answer(units) for nets, units in pairs])
                named |= self.supervised.of_members(answers, targets)
            parts |= {name.removeprefix("event/"): value for name, value in named.items()}
        total = torch.stack(list(parts.values())).sum()
        return total, {name: value.detach() for name, value in (parts | measures).items()}

    def _need_targets(self) -> None:
        missing = sorted(set(self._asked) - set(self._targets))
        if missing:
            asked = self.config.supervised
            weights = {"labels": asked.labels, "scores": asked.scores}
            without = [f"--set 'model.supervised.{key}={{}}'" for key in weights if set(missing) & set(weights[key])]
            what, way_out = f"the data set has no {', '.join(missing)} to learn from", " ".join(without)
            raise ConfigError(what, where="model.supervised", way_out=f"leave out what is not there: {way_out}")

    def _elements(self, batch: Batch) -> _Elements:
        variable = batch[VARIABLE].long()
        offsets = batch["element/offsets"]
        return _Elements(variable, self.tokens.scale(variable, batch[VALUE]), _owners(offsets), offsets)

    def _hide(self, elements: _Elements, stay: Tensor) -> _Elements:
        """The elements that the model sees in training; stay (S,) is the stay of each set."""
        config, n_variable = self.config, self.tokens.n_variable
        keep = torch.rand(elements.variable.shape, device=elements.variable.device) >= config.element_dropout
        if config.set_dropout:
            sets = torch.rand(len(stay), device=keep.device) >= config.set_dropout
            keep &= sets[elements.owner]
        if config.variable_dropout and len(stay):
            known = torch.rand(int(stay[-1]) + 1, n_variable, device=keep.device) >= config.variable_dropout
            keep &= known[stay[elements.owner], elements.variable]
        return elements if bool(keep.all()) else elements.where(keep)

    def _encode(self, batch: Batch, elements: _Elements) -> _Encoded:
        """Posterior, states and pooled vectors from the elements that are seen."""
        minute, offsets = batch[MINUTE].float(), batch["set/offsets"]
        owner, n_set = _owners(offsets), len(minute)
        tokens = self.tokens(elements.variable, elements.scaled)
        mu, logvar = self.posterior(self.encoder(tokens, elements.offsets))
        latent = sample(mu, logvar) if self.training and self.config.sample else mu
        first = _first_set(offsets) == torch.arange(n_set, device=minute.device)
        sets = latent + self.times(minute, elements.offsets.diff(), first)
        if self.statics is not None:
            sets = sets + self.statics(batch[STATIC])[owner]
        seen = None
        if self.config.levels or self.summaries:
            with torch.no_grad():
                seen = observations(elements.variable, elements.scaled, elements.owner, n_set, self.tokens.n_variable)
        buckets = padding.cut(offsets)
        states, fast, pooled, ends = [], [], [], []
        for bucket in buckets:
            known = None
            if seen is not None:
                with torch.no_grad():
                    observed = bucket.pad(seen[0]), bucket.pad(seen[1]), bucket.pad(minute)
                    known = levels(*observed)
                    if self.summaries:
                        ends.append(torch.cat((pooling.last(bucket, known), trends(*observed)), -1))
            state = self.sequence(bucket, sets, known)
            fast.append(pooling.fast(bucket, state, self.config.pooling_scaled))
            means = pooling.statistics(bucket, bucket.pad(mu))
            pooled.append(torch.cat((pooling.statistics(bucket, state), means), -1))
            states.append(bucket.flatten(state))
        return _Encoded(
            mu,
            logvar,
            latent,
            padding.join(buckets, states),
            padding.join_events(buckets, fast),
            padding.join_events(buckets, pooled),
            self._summarise(batch, padding.join_events(buckets, ends)) if self.summaries else (),
        )

    def _summarise(self, batch: Batch, end: Tensor) -> tuple[Tensor, ...]:
        """Units (K, E, W) of levels at the end and trends (E, 9 V), and of the static columns."""
        static = end[:, :0] if self.statics is None else self.statics.columns(batch[STATIC])
        return tuple(nets(end, static) for nets in self.summaries)

    def _kl_weight(self) -> float:
        """After the warm-up the configured weight; `batches_seen` counts training batches."""
        settings = self.config.kl
        if not settings.warmup:
            return settings.weight
        weight = settings.weight * min(1.0, int(self.batches_seen) / settings.warmup)
        if self.training:
            self.batches_seen += 1
        return weight

    def _reconstruct(self, batch: Batch, elements: _Elements, found: _Encoded) -> dict[str, Tensor]:
        """Losses of the decoded sets: of those that have elements, or of a share of them in training."""
        assert self.decoder is not None
        sizes = elements.offsets.diff()
        chosen, share = sizes > 0, self.config.reconstruction.share
        if self.training and share < 1:
            chosen &= torch.rand(len(sizes), device=sizes.device) < share
        shown = elements.where(chosen[elements.owner])
        # The target must not follow the model: it could shrink to nothing.
        true = self.tokens(shown.variable, shown.scaled).detach()
        return self.decoder.losses(self._source(batch, found)[chosen], true, sizes[chosen])

    def _source(self, batch: Batch, found: _Encoded) -> Tensor:
        """What each set is decoded from (S, D)."""
        if self.config.reconstruction.source == "latent":
            return found.latent
        if self.config.reconstruction.source == "state":
            return found.state
        before = torch.cat((found.state.new_zeros(1, found.state.shape[1]), found.state[:-1]))
        first = _first_set(batch["set/offsets"]) == torch.arange(len(before), device=before.device)
        return before.masked_fill(first[:, None], 0.0)


def _joined(summaries: tuple[Tensor, ...]) -> Tensor:
    """(E, sum K W) of units (K, E, W)."""
    return torch.cat([units.transpose(0, 1).flatten(1) for units in summaries], 1)


def _owners(offsets: Tensor) -> Tensor:
    """Parent of each member: [0, 0, 1] for offsets [0, 2, 3]."""
    return torch.repeat_interleave(torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff())


def _first_set(offsets: Tensor) -> Tensor:
    """First set of the stay of each set."""
    return torch.repeat_interleave(offsets[:-1], offsets.diff())


def _feature(text: str, *shape: int, dtype: str = "float32", unit: str = "") -> Array:
    return Array(dtype=dtype, shape=shape, role="feature", group="features", description=text, unit=unit)
