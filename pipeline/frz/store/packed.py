"""What the arrays of a version take where they are stored, and how they are packed there.

Particular: commit records say it. A snapshot says what was asked for when it was made, which what earlier versions
wrote need not follow.
"""

from collections import defaultdict
from typing import NamedTuple

from frz.store.codecs import Codec
from frz.store.part import part_name, read_records
from frz.store.reader import EventStore


class Packed(NamedTuple):
    """An array in the committed parts that a version points at."""

    bytes: int
    """Of its files; also where the version points at some events of a part alone."""
    codecs: list[Codec]
    """Every one that there is, in the order of the parts."""


def packed(store: EventStore) -> dict[str, Packed]:
    """Sizes and codecs of all arrays, and of offsets; parts that are missing or damaged count for nothing."""
    sizes: dict[str, int] = defaultdict(int)
    codecs: dict[str, list[Codec]] = defaultdict(list)
    for group, pieces in store.snapshot.parts.groups.items():
        for record in read_records([store.root / "events.zarr" / part_name(group, key) for key in pieces.key]):
            for name, array in record.arrays.items() if record else ():
                sizes[name] += sum(size for size, _ in array.files.values())
                if array.codec not in codecs[name]:
                    codecs[name].append(array.codec)
    return {name: Packed(sizes[name], codecs[name]) for name in sizes}
