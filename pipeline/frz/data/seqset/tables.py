"""The tables beside the stays: variables and their scales, their embeddings, and the labels."""

# Axes: S rows of labels, V variables, E columns of an embedding.

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.config import import_extra
from frz.errors import SourceError, nearest

WHERE_FROM = "set source.path to the folder of your copy"


def read_stats(path: Path) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Names of the variables, in the order of the file, and their means and standard deviations (V, 2).

    A mean that is lacking is 0; a standard deviation that is lacking or not above 0 is 1.

    Raises
    ------
    SourceError
        If the file is missing, is no such table, or names a variable twice.
    """
    table = _read(path, {"variable": "string", "mean": "float64", "std": "float64"})
    names = _names(table, "variable", path)
    mean, std = (_floats(table, column) for column in ("mean", "std"))
    stats = np.stack([np.nan_to_num(mean), np.where(std > 0, std, 1.0)], axis=1)
    _refuse_beyond(stats, names, path)
    return names, stats.astype(np.float32)


def read_embedding(path: Path, names: tuple[str, ...]) -> NDArray[np.float32]:
    """The embedding (V, E) of each variable: the columns beside `Key`.

    Raises
    ------
    SourceError
        If the file is missing, is no such table, or lacks a variable.
    """
    table = _read(path, {"Key": "string"})
    keys = _names(table, "Key", path)
    if lacking := [name for name in names if name not in keys]:
        what = f"has no row for variable {lacking[0]!r} ({len(lacking)} such variables)"
        raise SourceError(what, where=str(path), way_out=nearest(lacking[0], keys))
    columns = [name for name in table.column_names if name != "Key"]
    try:
        values = np.stack([_floats(table, column) for column in columns], axis=1)
    except ValueError as error:
        raise SourceError(f"is no table of numbers: {error}", where=str(path), way_out="check the file") from None
    row = {key: i for i, key in enumerate(keys)}
    chosen = values[[row[name] for name in names]]
    _refuse_beyond(chosen, names, path)
    return chosen.astype(np.float32)


def read_labels(path: Path) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Numbers of stays (S,), rising, and whether the patient died (S,): 1, 0, or -1 where the field is empty.

    Raises
    ------
    SourceError
        If the file is missing or is no such table, a stay stands twice, or a label is neither 0 nor 1.
    """
    table = _read(path, {"ts_id": "float64", "in_hospital_mortality": "float64"})
    number, label = (_floats(table, column) for column in ("ts_id", "in_hospital_mortality"))
    if len(bad := np.flatnonzero(number % 1 != 0)):  # also true for NaN
        raise SourceError(f"ts_id of row {bad[0] + 1} is no whole number", where=str(path), way_out="mend the table")
    label = np.where(np.isnan(label), -1, label)
    if len(bad := np.flatnonzero((label != 0) & (label != 1) & (label != -1))):
        what = f"stay {number[bad[0]]:.0f}: in_hospital_mortality is {label[bad[0]]:g}, neither 0 nor 1"
        raise SourceError(what, where=str(path), way_out="mend the table")
    order = np.argsort(number, kind="stable")
    stays = number[order].astype(np.int64)
    if len(twice := np.flatnonzero(stays[1:] == stays[:-1])):
        raise SourceError(f"stay {stays[twice[0]]} stands twice", where=str(path), way_out="keep one row per stay")
    return stays, label[order].astype(np.int8)


def _read(path: Path, types: dict[str, str]) -> Any:
    """A CSV file as an Arrow table, which has these columns with these types."""
    arrow, csv = import_extra("pyarrow", "parquet"), import_extra("pyarrow.csv", "parquet")
    columns = {name: getattr(arrow, dtype)() for name, dtype in types.items()}
    try:
        table = csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=columns))
    except FileNotFoundError:
        raise SourceError("no such file", where=str(path), way_out=WHERE_FROM) from None
    except (ValueError, OSError) as error:  # pyarrow's own errors are of these kinds
        raise SourceError(f"cannot be read: {error}", where=str(path), way_out="check the file") from None
    for name in types:
        if name not in table.column_names:
            raise SourceError(f"has no column {name!r}", where=str(path), way_out=nearest(name, table.column_names))
    return table


def _names(table: Any, column: str, path: Path) -> tuple[str, ...]:
    """The names in a column, each once."""
    names = tuple(table[column].to_pylist())
    twice = {name for name in names if names.count(name) > 1}
    if not names or None in names or twice:
        wrong = f"names {sorted(twice)[0]!r} twice" if twice - {None} else "lacks names" if names else "is empty"
        raise SourceError(f"column {column!r} {wrong}", where=str(path), way_out="one row per variable")
    return names


def _floats(table: Any, column: str) -> NDArray[np.float64]:
    """A column of numbers; NaN where a field is empty."""
    return np.asarray(table[column].to_numpy(), np.float64)


def _refuse_beyond(values: NDArray[np.float64], names: tuple[str, ...], path: Path) -> None:
    sound = (np.abs(values) <= np.finfo(np.float32).max).all(axis=1)  # False for NaN
    if not sound.all():
        what = f"a number of variable {names[int(np.argmin(sound))]!r} is missing or beyond float32"
        raise SourceError(what, where=str(path), way_out="mend the table")
