"""NaN among what a net sees, refused before anything is trained: no weight and no metric would be a number after it."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from frz.errors import TrainingError
from frz.store.ragged import edges
from frz.store.schema import EventArrays, Schema, axis_of
from frz.store.table import Reader

LOOKED_AT = 4096
"""Events at once."""


def refuse_nan(
    store: Reader,
    reads: Iterable[str],
    prepared: Reader,
    seen: Iterable[str],
    splits: Mapping[str, NDArray[np.int64]],
) -> None:
    """Refuse events of which a net would see NaN.

    Parameters
    ----------
    store, reads
        The features, and the arrays of them that the net's inputs are made of.
    prepared, seen
        The same events after the prefix, and the arrays of them that the net sees.
    splits : mapping
        Positions of the events of each split.

    Raises
    ------
    TrainingError
        Naming the arrays that hold it, the split and how many of its events.
    """
    for split, positions in splits.items():
        blocks = [positions[begin : begin + LOOKED_AT] for begin in range(0, len(positions), LOOKED_AT)]
        found = [block[_with_nan(prepared.events(block, seen), prepared.schema, seen)] for block in blocks]
        if not sum(map(len, found)):
            continue
        bad = np.concatenate(found)
        some = bad[:LOOKED_AT]
        holding = [name for name in reads if _with_nan(store.events(some, [name]), store.schema, [name]).any()]
        what = f"{' and '.join(holding or reads)} hold NaN in {len(bad):,} of {len(positions):,} events of {split!r}"
        way_out = "take them out of the inputs; arrays event/... in which NaN means unknown go to descriptors"
        raise TrainingError(what, where="inputs", way_out=way_out)


def _with_nan(events: EventArrays, schema: Schema, names: Iterable[str]) -> NDArray[np.bool_]:
    """Which events (n_event,) have NaN in one of the named arrays."""
    owners = {axis: edges(events, schema, axis) for axis in {axis_of(name) for name in names}}
    found = np.zeros(len(next(iter(owners.values()))) - 1, bool)
    for name in names:
        values = events[name]
        if np.issubdtype(values.dtype, np.floating):
            rows = np.flatnonzero(np.isnan(values).reshape(len(values), -1).any(1))
            found[np.searchsorted(owners[axis_of(name)], rows, side="right") - 1] = True
    return found
