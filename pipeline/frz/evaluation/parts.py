"""Parts of the events by a column of few values: one per kind of intensive care unit, of region, of trigger.

Particular: the column need not be among the features. An array of events that they do not carry is read from the data
set that they were made of, event by event.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frz import artifacts as names
from frz.errors import ConfigError, nearest
from frz.store.reader import EventStore
from frz.store.schema import EVENT, ID, KEY, axis_of

MOST = 20
"""Values of a column that is still told apart value by value."""
UNKNOWN = "unknown"


def parts_of(
    name: str, store: EventStore, positions: NDArray[np.int64], artifacts: Path
) -> dict[str, NDArray[np.bool_]]:
    """Which of the events at `positions` have which value.

    Parameters
    ----------
    name : str
        An array of events, with a column if it has several: `event/static.icu_type`.
    store : EventStore
        Features.
    positions : int64 array (n,)
    artifacts : Path
        Where the data set is looked for.

    Returns
    -------
    dict
        By value, ascending, bool (n,); `unknown` last, if there is any.

    Raises
    ------
    ConfigError
        If there is no such array or column, or it has more than 20 values.
    """
    array, _, column = name.partition(".")
    where = f"by = {name}"
    if axis_of(array) != EVENT:
        raise ConfigError("not an array of events", where=where, way_out="name an array event/...")
    holder, rows = _where(array, store, positions, artifacts, where)
    spec = holder.schema.arrays[array]
    values = holder.events(rows, [array])[array]
    if spec.columns:
        if column not in spec.columns:
            what = f"{array} has no column {column!r}" if column else f"{array} has columns: name one"
            raise ConfigError(what, where=where, way_out=nearest(column, spec.columns))
        values = values[:, spec.columns.index(column)]
    elif column or spec.shape:
        raise ConfigError(f"{array} has no named columns", where=where, way_out="name an array of one number per event")
    exact = values.astype(np.float64)
    known = np.unique(exact[~np.isnan(exact)])
    if len(known) > MOST:
        raise ConfigError(
            f"{len(known):,} different values", where=where, way_out=f"name a column of at most {MOST} values"
        )
    parts = {f"{value:g}": exact == value for value in known.tolist()}
    return parts | ({UNKNOWN: np.isnan(exact)} if np.isnan(exact).any() else {})


def _where(
    array: str, store: EventStore, positions: NDArray[np.int64], artifacts: Path, where: str
) -> tuple[EventStore, NDArray[np.int64]]:
    """The store that holds the array, and where the events are in it."""
    if array in store.schema.arrays:
        return store, positions
    about = store.snapshot.about["data"]
    place = names.store_path(artifacts, "datasets", about["name"])
    here = about["version"] in names.versions(place)
    if not here or EventStore(place, about["version"]).snapshot.hash != about["hash"]:
        way_out = "name an array of the features, or put the data set beside them"
        raise ConfigError(
            f"the features hold no {array}, and their data set {about['name']}@{about['version']} is not here",
            where=where,
            way_out=way_out,
        )
    data = EventStore(place, about["version"])
    if array not in data.schema.arrays:
        known = [name for name in (*store.schema.arrays, *data.schema.arrays) if axis_of(name) == EVENT]
        raise ConfigError(f"neither features nor data set hold {array}", where=where, way_out=nearest(array, known))
    identity = KEY if KEY in store.schema.arrays and KEY in data.schema.arrays else ID
    wanted = store.events(positions, [identity])[identity].reshape(len(positions), -1)
    there = data.array(identity).reshape(data.n_events, -1)
    place_of = {row.tobytes(): index for index, row in enumerate(there)}
    return data, np.array([place_of[row.tobytes()] for row in wanted], np.int64)
