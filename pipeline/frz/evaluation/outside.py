"""What somebody else's model says of the same events: a file of scores that heads are compared with.

Particular: the file looks as `frz predict` writes it for a head on events, so what a head predicts can stand in for it.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.config import import_extra
from frz.errors import ConfigError
from frz.evaluation.classes import MARK
from frz.location import refuse_remote
from frz.store.schema import EVENT, EventArrays, axis_of

EVENT_ID = "event_id"


def scores_for(table: Any, path: Path, ids: NDArray[np.int64], like: EventArrays) -> EventArrays:
    """Predictions for the events `ids` from a file, in that order.

    Parameters
    ----------
    table : pyarrow.Table
        From `read_scores`: `event_id` and the columns that `frz predict` writes for a head of the same field
        (`event_label`, `event_label_probability`); one row per event, others than `ids` may be among them.
    path : Path
        Named in errors.
    ids : int64 array (n,)
    like : EventArrays
        Predictions of a head for these events: names and dtypes.

    Raises
    ------
    ConfigError
        If the file lacks a column or an event, holds one twice, or holds what is not a number, or a
        probability outside [0, 1].
    """
    if any(axis_of(name) != EVENT for name in like):
        raise ConfigError(
            "scores by event cannot stand beside a head on slots", where=str(path), way_out="compare heads on events"
        )
    columns = {EVENT_ID: EVENT_ID} | {name: name.replace("/", "_") for name in like}
    found = _columns(table, path, tuple(columns.values()))
    row_of = {event: row for row, event in enumerate(found[EVENT_ID].tolist())}
    if len(row_of) < len(found[EVENT_ID]):
        raise ConfigError("holds events twice", where=str(path), way_out="write one row per event")
    missing = [event for event in ids.tolist() if event not in row_of]
    if missing:
        what = f"has no scores of {len(missing):,} of {len(ids):,} events, among them {missing[0]}"
        raise ConfigError(what, where=str(path), way_out="write scores of all events of the split")
    rows = np.array([row_of[event] for event in ids.tolist()], np.int64)
    return {name: found[columns[name]][rows].astype(values.dtype) for name, values in like.items()}


def read_scores(path: Path) -> Any:
    """A `.parquet` or `.csv` file as a table of pyarrow.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    parquet, csv = (import_extra(name, "parquet") for name in ("pyarrow.parquet", "pyarrow.csv"))
    refuse_remote(path)
    readers = {".parquet": parquet.read_table, ".csv": csv.read_csv}
    if path.suffix not in readers:
        way_out = f"give a file that ends in {' or '.join(readers)}"
        raise ConfigError("cannot tell the format from the name", where=str(path), way_out=way_out)
    if not path.is_file():
        raise ConfigError("no such file", where=str(path), way_out="check the path")
    try:
        return readers[path.suffix](str(path))
    except (OSError, ValueError) as error:  # those of pyarrow are among them
        raise ConfigError(f"cannot be read ({error})", where=str(path), way_out="write it again") from None


def _columns(table: Any, path: Path, wanted: tuple[str, ...]) -> EventArrays:
    if absent := [name for name in wanted if name not in table.column_names]:
        way_out = f"columns as 'frz predict' writes them: {', '.join(wanted)}"
        raise ConfigError(f"has no column {', '.join(absent)}", where=str(path), way_out=way_out)
    arrays = {name: table.column(name).to_numpy() for name in wanted}
    for name, values in arrays.items():
        if not np.issubdtype(values.dtype, np.number) or not np.isfinite(values).all():
            raise ConfigError(f"column {name} holds what is not a number", where=str(path), way_out="write it again")
        if MARK in name and not ((values >= 0) & (values <= 1)).all():
            worst = values[np.abs(values - 0.5).argmax()]
            what, way_out = f"column {name} holds {worst:g}", "write probabilities, neither per cent nor logits"
            raise ConfigError(what, where=str(path), way_out=way_out)
    return arrays
