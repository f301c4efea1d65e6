"""Columns of a Parquet or CSV file: one value per event, found by event id.

Whole numbers stay whole where some are missing; every refusal names the column and the id.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frz.errors import ConfigError, SourceError, nearest
from frz.store.schema import EVENT, Array

if TYPE_CHECKING:
    import pandas

_NAME = re.compile(r"\w[\w.-]*", re.ASCII)


class Column(NamedTuple):
    """A column of a table: one value per event."""

    name: str
    spec: Array
    ids: NDArray[np.int64]
    """Event ids, rising."""
    values: NDArray[Any]
    """Their values; a missing one is NaN (floats) or -1."""

    def of(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """The values of events."""
        found = np.full(len(ids), _missing(self.spec), self.spec.dtype)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        known = self.ids[at] == ids
        found[known] = self.values[at[known]]
        return found

    @property
    def array(self) -> str:
        """`event/<name>`."""
        return f"{EVENT}/{self.name}"


def group_of(name: str) -> str:
    """The group of arrays of an added column."""
    return f"added-{name}"


def read_table(path: Path, on: str, columns: Iterable[str] | None = None) -> list[Column]:
    """The columns of a Parquet or CSV file, in order of event id.

    Raises
    ------
    ConfigError
        If pandas is not installed.
    SourceError
        If the file, the ids or a column cannot be used, naming the column and the row's id.
    """
    table = _read(path)
    names = [str(name) for name in table.columns]
    wanted = [name for name in names if name != on] if columns is None else list(columns)
    for name in (on, *wanted):
        if name not in names:
            raise SourceError(f"has no column {name!r}", where=str(path), way_out=nearest(name, names))
    if not wanted or len(table) == 0:
        raise SourceError("has no values to add", where=str(path), way_out=f"give columns beside {on!r}, and rows")
    ids = _ids(table[on], path, on)
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if len(twice):
        what = f"id {ids[twice[0]]} stands in rows {order[twice[0]] + 1} and {order[twice[0] + 1] + 1}"
        more = f" ({len(twice)} duplicates in all)" if len(twice) > 1 else ""
        raise SourceError(what + more, where=str(path), way_out="keep one row per event")
    found = []
    for name in wanted:
        spec, values = _values(table[name], path, name, ids, order)
        found.append(Column(name, spec, ids, values))
    return found


def _read(path: Path) -> "pandas.DataFrame":
    try:
        import pandas
    except ImportError:
        raise ConfigError("reading tables needs pandas", way_out="pip install 'frz[parquet]'") from None
    if path.suffix not in (".parquet", ".csv"):
        raise SourceError("is no table", where=str(path), way_out="give a .parquet or .csv file")
    try:
        # nullable types: whole numbers and booleans of which some are missing stay what they are
        read = pandas.read_csv if path.suffix == ".csv" else pandas.read_parquet
        table: pandas.DataFrame = read(path, dtype_backend="numpy_nullable")
    except FileNotFoundError:
        raise SourceError("no such file", where=str(path), way_out="check the path") from None
    except (ValueError, OSError) as error:  # pyarrow's and pandas' own errors are of these kinds
        raise SourceError(f"cannot be read: {error}", where=str(path), way_out="check the file") from None
    # an id that pandas wrote as the index of the table is a column like any other
    return table if table.index.name is None else table.reset_index()


def _ids(column: "pandas.Series[Any]", path: Path, on: str) -> NDArray[np.int64]:
    from pandas.api.types import is_integer_dtype

    if not is_integer_dtype(column.dtype) or column.isna().any():
        what = f"column {on!r} does not hold a whole number in every row ({column.dtype})"
        raise SourceError(what, where=str(path), way_out="give the column of event ids with --on")
    return column.to_numpy(np.int64)


def _values(
    column: "pandas.Series[Any]", path: Path, name: str, ids: NDArray[np.int64], order: NDArray[np.int64]
) -> tuple[Array, NDArray[Any]]:
    """How a column is stored, and its values in order of event id."""
    from pandas.api.types import is_bool_dtype, is_float_dtype, is_integer_dtype

    if not _NAME.fullmatch(name) or name == "offsets":
        way_out = "use letters, digits, '_', '.' and '-'"
        raise SourceError(f"column {name!r} cannot name an array", where=str(path), way_out=way_out)
    kinds = {"int8": is_bool_dtype, "int64": is_integer_dtype, "float32": is_float_dtype}
    dtype = next((dtype for dtype, is_kind in kinds.items() if is_kind(column.dtype)), None)
    if dtype is None:
        way_out = "code it as whole numbers, or leave it out with --columns"
        raise SourceError(f"column {name!r} is neither numbers nor booleans", where=str(path), way_out=way_out)
    text = "NaN" if dtype == "float32" else "-1"
    spec = Array(
        dtype=dtype,
        role="target",
        description=f"column {name} of {path.name}; {text} = missing",
        group=group_of(name),
    )
    values = np.full(len(column), _missing(spec), "float64" if dtype == "float32" else dtype)
    there = column.notna().to_numpy(bool)
    values[there] = column[there].to_numpy(values.dtype)
    values = values[order]
    if dtype == "float32" and len(beyond := np.flatnonzero(np.abs(values) > np.finfo(np.float32).max)):
        what = f"column {name!r} of id {ids[beyond[0]]} is {values[beyond[0]]}, beyond float32"
        raise SourceError(what, where=str(path), way_out="mend the table")
    return spec, values.astype(dtype)


def _missing(spec: Array) -> float:
    return np.nan if spec.dtype == "float32" else -1


def n_missing(values: NDArray[Any]) -> int:
    """How many values are missing."""
    return int(is_missing(values).sum())


def is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values are missing."""
    return np.asarray(np.isnan(values) if values.dtype.kind == "f" else values == -1)
