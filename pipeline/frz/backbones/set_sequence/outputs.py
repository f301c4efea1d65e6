"""What a batch comes to, and what of it is kept as features.

Axes: E stays, S sets, D features; K members and W units of the small nets.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from frz.backbones.contract import Batch
from frz.backbones.set_sequence import losses, pooling
from frz.backbones.set_sequence.settings import SetSequenceConfig
from frz.backbones.set_sequence.times import MINUTE
from frz.store.schema import Array


@dataclass(frozen=True)
class Encoded:
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


def features(found: Encoded, batch: Batch) -> Batch:
    """Features of a batch, those that `outputs` describes."""
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


def outputs(config: SetSequenceConfig) -> dict[str, Array]:
    """Posterior and state of each set, and pooled vectors of the stay; D = `config.dim` columns unless said."""
    dim = config.dim
    blocks = ", ".join(f"{name} of {of}" for of in ("states", "mu") for name in pooling.STATISTICS)
    units = sum(nets.members * nets.width for nets in (config.summary, config.graded))
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


def _joined(summaries: tuple[Tensor, ...]) -> Tensor:
    """(E, sum K W) of units (K, E, W)."""
    return torch.cat([units.transpose(0, 1).flatten(1) for units in summaries], 1)


def _feature(text: str, *shape: int, dtype: str = "float32", unit: str = "") -> Array:
    return Array(dtype=dtype, shape=shape, role="feature", group="features", description=text, unit=unit)
