"""The contract of a backbone: what Stage 1 trains and extraction runs frozen.

A batch is a plain dict of flat tensors by `axis/name`, with `axis/offsets` for ragged axes: the tensors
of the store's `EventArrays`, so what a reader gives is what a model gets and what it returns is what is
stored. In a batch `refers_to` positions count within the whole batch for inputs and targets (batching
shifted them); in returned features and annotations they are local to the event (as stored).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

from torch import Tensor, nn

from frz.config import StrictModel
from frz.store.schema import Array, Axis, EventArrays, Schema

BACKBONES: Mapping[str, str] = {
    "hit_track": "frz.backbones.hit_track.model:HitTrack",
    "set_sequence": "frz.backbones.set_sequence.model:SetSequence",
}
"""Known families; a config may also give `package.module:Class`."""

Batch: TypeAlias = dict[str, Tensor]


class Backbone(nn.Module, ABC):
    """A model that turns events into features.

    Rules, checked by the contract suite for every family: padding and batch composition never change a
    result beyond rounding; two runs are bit-equal; a permutation of the members of an axis in `sets`
    permutes outputs on that axis alike and leaves others unchanged; events with zero members give finite
    outputs; normalisation constants are buffers, measured by `fit`, applied by the backbone itself.
    """

    Config: ClassVar[type[StrictModel]]
    sets: ClassVar[tuple[str, ...]] = ()
    """Axes whose members have no order."""

    @abstractmethod
    def __init__(self, config: Any, schema: Schema) -> None:
        """Build from a validated `Config` and the schema of the data set.

        Raises
        ------
        ConfigError
            If the config asks for arrays or columns that the data set lacks.
        """
        super().__init__()

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """Arrays of the data set that `forward` reads."""

    @property
    def constants(self) -> tuple[str, ...]:
        """Static arrays of the data set that the model depends on: a vocabulary, values that `fit` keeps in buffers."""
        return ()

    @property
    def targets(self) -> tuple[str, ...]:
        """Arrays of the data set that `loss` and `annotate` read beside the inputs."""
        return ()

    @property
    def axes(self) -> dict[str, Axis]:
        """Axes of the outputs that the data set lacks (`query`, `pair`)."""
        return {}

    @property
    @abstractmethod
    def outputs(self) -> dict[str, Array]:
        """What `forward` returns, by `axis/name`."""

    @property
    def annotations(self) -> dict[str, Array]:
        """What `annotate` returns, by `axis/name`."""
        return {}

    @abstractmethod
    def forward(self, batch: Batch) -> Batch:
        """Features of a batch: every array of `outputs`, and the offsets of new ragged axes."""

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss (scalar) and its named parts, for Stage 1."""

    def fit(self, events: Iterable[EventArrays]) -> None:  # noqa: B027 - optional on purpose
        """Measure constants (means, widths) on the training split before Stage 1, into buffers.

        The events hold inputs, targets and, with each of them, the static arrays of `constants`.
        """

    def annotate(self, batch: Batch, features: Batch) -> Batch:
        """Arrays that need truth beside the features (`query/match`); never seen by `forward`."""
        del batch, features
        return {}

    def overflow(self, maxima: Mapping[str, int]) -> str:
        """Say why a data set does not fit ('' if it does), from the largest member count per axis in an event."""
        del maxima
        return ""
