"""The event store: arrays on named axes, cut into parts of whole events, in versions. See README.md.

No module of this package imports torch.
"""

from frz.store.catalogue import Catalogue, PartEntry, Piece
from frz.store.part import CommitRecord, PartRef, find_part, write_part
from frz.store.reader import EventStore
from frz.store.schema import Array, Axis, EventArrays, Schema
from frz.store.snapshot import Snapshot
from frz.store.split import Split
from frz.store.table import EventTable, Reader

__all__ = [
    "Array",
    "Axis",
    "Catalogue",
    "CommitRecord",
    "EventArrays",
    "EventStore",
    "EventTable",
    "PartEntry",
    "PartRef",
    "Piece",
    "Reader",
    "Schema",
    "Snapshot",
    "Split",
    "find_part",
    "write_part",
]
