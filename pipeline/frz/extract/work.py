"""What all jobs of an extraction have in common."""

from dataclasses import dataclass
from pathlib import Path

from frz.extract.settings import FEATURES, Settings, group_of
from frz.loading.frozen import FrozenBackbone
from frz.store.reader import EventStore
from frz.store.schema import Schema, axis_of


@dataclass(frozen=True)
class Work:
    """Backbone, data set, store and settings."""

    frozen: FrozenBackbone
    source: EventStore
    earlier: EventStore | None
    """What `Job.stored` points into."""
    root: Path
    out: Schema
    settings: Settings

    @property
    def event_bytes(self) -> float:
        """Mean bytes of an event's features (axes that only the backbone fills count as one member each)."""
        total = 0.0
        for name, spec in group_of(self.out, FEATURES).arrays.items():
            members = 1.0
            for axis in self.out.lineage(axis_of(name)):
                length = self.out.axes[axis].length
                if length is not None:
                    members *= length
                elif axis in self.source.schema.axes:
                    members = sum(self.source.snapshot.parts.counts[axis]) / max(self.source.n_events, 1)
            total += members * spec.row_bytes
        return total
