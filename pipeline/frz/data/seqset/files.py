"""Parquet files of stays as sets and elements."""

# Axes: S stays (files), R rows of all of them.

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.config import import_extra
from frz.data.stays import sets_of
from frz.errors import SourceError, nearest
from frz.store.schema import EventArrays

NUMBERS = ("minute", "value")
INDEX = "set_index"


def read_stays(paths: Sequence[Path], names: Sequence[str], drop_unknown: bool, counts: Counter[str]) -> EventArrays:
    """Sets and elements of stays.

    Parameters
    ----------
    paths : sequence of Path
        A file per stay (S), with the columns variable, value, minute and, not necessarily, set_index.
    names : sequence of str
        The variables, in the order of their codes.
    drop_unknown : bool
        Whether a variable that is not among them is left out, not refused.
    counts : Counter
        Is told what was left out or merged.

    Raises
    ------
    SourceError
        If a file is missing or damaged or lacks a column, a variable is unknown, a time is missing or negative, a value
        is infinite, or the rows of one `set_index` are of several minutes: names the file, the row and the column.
    """
    tables = [_read(path) for path in paths]
    stay = np.repeat(np.arange(len(paths)), [table.num_rows for table in tables])
    minute, value = (_joined(table[column] for table in tables) for column in NUMBERS)
    code = _codes((table["variable"] for table in tables), names)

    def refuse(bad: NDArray[np.bool_], what: str, way_out: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            line = row - int(np.searchsorted(stay, stay[row])) + 1
            raise SourceError(f"row {line}: {what.format(row)}", where=str(paths[stay[row]]), way_out=way_out)

    unknown = code < 0
    if unknown.any() and not drop_unknown:
        row = int(np.argmax(unknown))
        table = tables[stay[row]]
        name = table["variable"][row - int(np.searchsorted(stay, stay[row]))].as_py()
        refuse(unknown, f"unknown variable {name!r}", f"{nearest(name, names)}, or set source.unknown=drop")
    refuse(~(minute >= 0) | np.isinf(minute), "minute is missing, negative or infinite", "mend the file")
    refuse(np.abs(value) > np.finfo(np.float32).max, "value is infinite or beyond float32", "mend the file")
    for number, (path, table) in enumerate(zip(paths, tables, strict=True)):
        if INDEX in table.column_names:
            _refuse_torn(_joined([table[INDEX]]), minute[stay == number], path)
    missing = np.isnan(value) & ~unknown
    kept = np.flatnonzero(~unknown & ~missing)
    arrays, n_merged = sets_of(len(paths), stay[kept], minute[kept], code[kept], value[kept])
    counts["stays"] += len(paths)
    counts["stays without observations"] += int((np.diff(arrays["set/offsets"]) == 0).sum())
    counts["rows of an unknown variable, left out"] += int(unknown.sum())
    counts["rows without a value, left out"] += int(missing.sum())
    counts["values of one variable in one minute, merged into another"] += n_merged
    return arrays


def _read(path: Path) -> Any:
    """A file as an Arrow table of text and float64."""
    arrow, parquet = import_extra("pyarrow", "parquet"), import_extra("pyarrow.parquet", "parquet")
    try:
        table = parquet.ParquetFile(path).read(use_threads=False)
        for name in ("variable", *NUMBERS):
            if name not in table.column_names:
                way_out = nearest(name, table.column_names)
                raise SourceError(f"has no column {name!r}", where=str(path), way_out=way_out)
        names = [name for name in ("variable", *NUMBERS, INDEX) if name in table.column_names]
        types = [arrow.string() if name == "variable" else arrow.float64() for name in names]
        return table.select(names).cast(arrow.schema(zip(names, types, strict=True)))
    except FileNotFoundError:
        raise SourceError("no such file", where=str(path), way_out="do not change the data meanwhile") from None
    except (ValueError, OSError, NotImplementedError) as error:  # pyarrow's own errors are of these kinds
        raise SourceError(f"cannot be read: {error}", where=str(path), way_out="check the file") from None


def _joined(columns: Iterable[Any]) -> NDArray[np.float64]:
    """Columns of numbers, one after the other; NaN where there is none."""
    return np.concatenate([column.to_numpy() for column in columns])


def _codes(columns: Iterable[Any], names: Sequence[str]) -> NDArray[np.int64]:
    """The code of each name in columns of text, one after the other; -1 if there is none."""
    arrow, compute = import_extra("pyarrow", "parquet"), import_extra("pyarrow.compute", "parquet")
    known = arrow.array(names, arrow.string())
    return np.concatenate([compute.index_in(column, known).fill_null(-1).to_numpy() for column in columns])


def _refuse_torn(index: NDArray[np.float64], minute: NDArray[np.float64], path: Path) -> None:
    """The rows of a set must be of one minute; sets of one minute are one."""
    order = np.argsort(index, kind="stable")
    index, minute = index[order], minute[order]
    torn = np.flatnonzero((index[1:] == index[:-1]) & (minute[1:] != minute[:-1]))
    if len(torn):
        what = f"{INDEX} {index[torn[0]]:g} has rows of minute {minute[torn[0]]:g} and {minute[torn[0] + 1]:g}"
        raise SourceError(what, where=str(path), way_out=f"remove the column {INDEX}: the minute tells the set")
