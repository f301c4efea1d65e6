"""The contract of a head: what Stage 2 trains on stored features.

A head never sees the backbone. It names the stored arrays it `needs`, runs its parameter-free prefix
once (`prepare`, numpy in, numpy out, events stay whole), and trains on batches of what is left.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from frz.config import StrictModel
from frz.errors import ConfigError
from frz.store.schema import EventArrays, Schema
from frz.store.table import Reader

HEADS: Mapping[str, str] = {
    "regression": "frz.heads.regression:RegressionHead",
    "pooled": "frz.heads.pooled:PooledHead",
    "linear": "frz.heads.probe:LinearHead",
    "linear-classifier": "frz.heads.probe:LinearClassifier",
    "attention": "frz.heads.attention:AttentionHead",
    "attention-classifier": "frz.heads.attention:AttentionClassifier",
    "mlp-classifier": "frz.heads.classifier:ClassifierHead",
    "fusion-classifier": "frz.heads.fusion:FusionClassifier",
    "gaussian-mil": "frz.heads.mil:GaussianMil",
}
"""Known heads; a config may also give `package.module:Class`."""

COUNTS = frozenset({"slots", "slots_empty", "events", "events_empty"})
"""Metrics that say how many members there are, not how good a head is."""
Batch: TypeAlias = dict[str, Tensor]


class Head(nn.Module, ABC):
    """A light model on frozen features.

    Rules, checked by the contract suite: batch composition never changes a result beyond rounding; events
    without members give finite outputs; `prepare` of joined events equals joined `prepare`s; constants
    measured by `fit` are buffers and travel with the checkpoint.
    """

    Config: ClassVar[type[StrictModel]]
    not_in_prefix: ClassVar[frozenset[str]] = frozenset()
    """Keys of `Config` that `needs`, `prepared` and `prepare` do not look at: heads that differ in nothing else share
    what `prepare` left in a store."""
    takes_stacked_rows: ClassVar[bool] = False
    """Whether `loss` is right also where the linear layers hold the weights of K heads and give rows (K, N, O): then it
    is (K,), and so are its parts. Such heads are stacked in a sweep without `torch.vmap`."""

    @abstractmethod
    def __init__(self, config: Any, schema: Schema) -> None:
        """Build from a validated `Config` and the schema of the feature store."""
        super().__init__()

    @property
    @abstractmethod
    def needs(self) -> tuple[str, ...]:
        """Stored arrays that `prepare` reads."""

    @property
    @abstractmethod
    def prepared(self) -> Schema:
        """Schema of what `prepare` returns."""

    @abstractmethod
    def prepare(self, events: EventArrays) -> EventArrays:
        """Parameter-free prefix, run once per event: from `needs` to what a batch holds."""

    def live(self, events: EventArrays, features: Batch) -> Batch:
        """`prepare` and `to_batch` with gradients, for training together with the backbone.

        Parameters
        ----------
        events : EventArrays
            As for `prepare`.
        features : dict of Tensor
            The float arrays among them that the backbone has just made, with its gradients.

        Returns
        -------
        dict of Tensor
            What a batch of prepared events holds, on the device of the features.

        Raises
        ------
        ConfigError
            If no gradient can pass this head's prefix: the default.
        """
        del events, features
        raise ConfigError(
            f"no gradient can pass what {type(self).__name__} prepares, so it cannot be trained with its backbone",
            way_out="give it a method `live` (frz.heads.contract), or take a head that has one",
        )

    def check(  # noqa: B027 - optional on purpose
        self, store: Reader, prepared: Reader, splits: Mapping[str, NDArray[np.int64]]
    ) -> None:
        """Refuse, before anything is trained, events that the head can neither train nor be measured on.

        Parameters
        ----------
        store, prepared : Reader
            The features, and what `prepare` made of them.
        splits : mapping
            Positions of the events of each split.

        Raises
        ------
        TrainingError
            Naming them.
        """

    def fit(self, prepared: Iterable[EventArrays]) -> None:  # noqa: B027 - optional on purpose
        """Measure target statistics on the prepared training split, into buffers."""

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Raw outputs in the normalised target space."""

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Training loss (scalar) and its named parts."""

    @abstractmethod
    def predict(self, batch: Batch) -> Batch:
        """Predictions in physical units, by `axis/name`."""

    @abstractmethod
    def metrics(self, predictions: EventArrays, prepared: EventArrays) -> dict[str, float]:
        """Metrics of predictions against the targets that `prepare` kept."""

    def predict_mean(self, prepared: EventArrays) -> EventArrays:
        """The yardstick: predictions without features, from what `fit` measured; {} if there is none."""
        del prepared
        return {}
