"""A head behind its frozen backbone, without a store: the yardstick that cached training is held against.

`FrozenFeatures` reads like a feature store and runs the backbone at every read. With `batching="run"` it feeds
the very batches that extraction feeds, so features are the stored ones bit for bit (fp32, same machine and
threads); with `batching="read"` the events of a read make one batch, as in training behind a backbone.
"""

from collections.abc import Generator, Iterable
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frz.extract import engine
from frz.extract.settings import ANNOTATION, CARRIED, Settings, feature_schema
from frz.heads.contract import Head
from frz.loading.batch import to_batch, with_offsets
from frz.loading.frozen import FrozenBackbone
from frz.store import ragged
from frz.store.reader import EventStore
from frz.store.schema import KEY, EventArrays, Schema
from frz.store.table import EventTable, Reader, pick
from frz.training.source import Batch, BatchSource, Plan


class FrozenFeatures:
    """Features of a data set, made when they are read.

    Parameters
    ----------
    frozen : FrozenBackbone
        The backbone.
    source : EventStore
        The data set.
    settings : Settings
        As for extraction.
    batching : {'run', 'read'}
        Batches of extraction, or one batch per read.
    """

    def __init__(
        self, frozen: FrozenBackbone, source: EventStore, settings: Settings, batching: Literal["run", "read"]
    ) -> None:
        self.frozen, self.source, self.settings, self.batching = frozen, source, settings, batching
        self.schema: Schema = feature_schema(frozen.module, source.schema, settings)
        self._part = lru_cache(maxsize=None)(self._run_part)

    @property
    def n_events(self) -> int:
        """Number of events."""
        return self.source.n_events

    def lengths(self, axis: str) -> NDArray[np.int64]:
        """Members of an axis of the data set in each event."""
        return self.source.lengths(axis)

    def array(self, name: str) -> NDArray[Any]:
        """A whole array."""
        return self.range(0, self.n_events, [name])[name]

    def range(self, first: int, last: int, names: Iterable[str] | None = None) -> EventArrays:
        """Events [first, last)."""
        return self.events(np.arange(first, last), names)

    def events(self, positions: NDArray[Any], names: Iterable[str] | None = None) -> EventArrays:
        """The events at `positions`, in that order."""
        wanted = list(self.schema.arrays if names is None else names)
        if self.batching == "read":
            return pick(self._run_events(np.asarray(positions, np.int64)), self.schema, wanted)
        part_of = np.searchsorted(self.source.part_bounds, positions, side="right") - 1
        pieces, order = [], []
        for index in np.unique(part_of).tolist():
            chosen = np.flatnonzero(part_of == index)
            local = positions[chosen] - self.source.part_bounds[index]
            pieces.append(ragged.take(pick(self._part(index), self.schema, wanted), self.schema, local))
            order.append(chosen)
        back = np.argsort(np.concatenate(order), kind="stable")
        return ragged.take(ragged.concat(pieces), self.schema, back)

    def _run_part(self, index: int) -> EventArrays:
        """A part as extraction makes it."""
        first, last = (int(edge) for edge in self.source.part_bounds[index : index + 2])
        run = np.arange(first, last)
        frozen = self.frozen
        arrays = engine.features_of(frozen.module, self.source, run, self.schema, self.settings, frozen.device)
        return self._whole(self.source, run, arrays)

    def _run_events(self, positions: NDArray[np.int64]) -> EventArrays:
        """The events of one read as one batch."""
        picked = self.source.events(positions)
        table = EventTable(self.source.schema, picked)
        module, device = self.frozen.module, self.frozen.device
        batch = to_batch(pick(picked, table.schema, with_offsets(module.inputs, table.schema)), table.schema)
        arrays = engine.to_numpy(engine.forward(module, batch, self.settings, device), engine.computed(self.schema))
        return self._whole(table, np.arange(len(positions)), arrays)

    def _whole(self, reader: Reader, run: NDArray[np.int64], features: EventArrays) -> EventArrays:
        """Features with annotations and what is carried from the data set."""
        made = dict(features)
        if any(spec.group == ANNOTATION for spec in self.schema.arrays.values()):
            module, device = self.frozen.module, self.frozen.device
            made |= engine.annotate(module, reader, run, features, self.schema, self.settings, device)
        carried = [name for name, spec in self.schema.arrays.items() if spec.group == CARRIED or name == KEY]
        return made | engine.read(reader, run, carried)


class OnTheFly:
    """Batches for a head made from features at every step: what cached training saves.

    Parameters
    ----------
    features : FrozenFeatures
        Runs the backbone.
    head : Head
        Its parameter-free prefix runs at every step too.
    plans : BatchSource
        Whose plans to follow; with those of the cached run the steps are the same.
    """

    def __init__(self, features: FrozenFeatures, head: Head, plans: BatchSource) -> None:
        self.features, self.head, self._plans = features, head, plans

    @property
    def n_events(self) -> int:
        """Events in the source."""
        return self._plans.n_events

    def plan(self, epoch: int) -> Plan:
        """The plan of the source that is followed."""
        return self._plans.plan(epoch)

    def batches(self, plan: Plan, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of `plan` from number `start` on."""
        for positions in plan[start:]:
            prepared = self.head.prepare(self.features.events(positions, self.head.needs))
            yield to_batch(prepared, self.head.prepared)
