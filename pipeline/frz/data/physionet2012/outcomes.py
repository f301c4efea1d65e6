"""What became of the patients: `Outcomes-<x>.txt`, one row per stay."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frz.errors import SourceError

WHERE_FROM = "set source.path to the folder with your copy; data/README.md says where the data come from"
COLUMNS = {
    "event/saps": "SAPS-I",
    "event/sofa": "SOFA",
    "event/length_of_stay": "Length_of_stay",
    "event/survival": "Survival",
    "event/label": "In-hospital_death",
}
"""Column of each array."""
KEY = "RecordID"
_LEAST, _MOST = np.iinfo(np.int16).min, np.iinfo(np.int16).max


def read_outcomes(path: Path) -> tuple[NDArray[np.int64], dict[str, NDArray[np.int64]]]:
    """Numbers of the stays, rising, and their outcomes by array.

    Raises
    ------
    SourceError
        If the file is missing, or a row lacks a whole number in its range, or a stay stands twice: names file, stay
        and column.
    """
    try:
        lines = path.read_text("ascii").splitlines()
    except OSError as error:
        raise SourceError(f"cannot be opened: {error.strerror}", where=str(path), way_out=WHERE_FROM) from None
    except UnicodeDecodeError:
        raise SourceError("is not a text file", where=str(path), way_out=WHERE_FROM) from None
    header = lines[0].split(",") if lines else []
    for name in (KEY, *COLUMNS.values()):
        if name not in header:
            raise SourceError(f"has no column {name!r}", where=str(path), way_out=f"its first line must name {KEY} ...")
    if len(lines) == 1:
        raise SourceError("names no stay", where=str(path), way_out=WHERE_FROM)
    table = np.array([_row(line, header, path) for line in lines[1:]], np.int64)
    table = table[np.argsort(table[:, 0], kind="stable")]
    stays = table[:, 0]
    if len(twice := np.flatnonzero(stays[1:] == stays[:-1])):
        raise SourceError(f"stay {stays[twice[0]]} stands twice", where=str(path), way_out="remove one of the rows")
    return stays, {array: table[:, i] for i, array in enumerate(COLUMNS, start=1)}


def _row(line: str, header: list[str], path: Path) -> list[int]:
    """Stay and outcomes of a row."""
    fields = dict(zip(header, line.split(","), strict=False))
    stay = fields[KEY]
    found: list[int] = []
    for name in (KEY, *COLUMNS.values()):
        text = fields.get(name, "")
        try:
            value = int(text)
        except ValueError:
            what = f"stay {stay}: {name} = {text!r} is not a whole number"
            raise SourceError(what, where=str(path), way_out="mend the file") from None
        # of set-b a stay has a survival of -23 days: but for the label, numbers are taken as they are published
        least, most = (-1, 1) if name == COLUMNS["event/label"] else (_LEAST, _MOST)
        if name != KEY and not least <= value <= most:
            what = f"stay {stay}: {name} = {value} is not between {least} and {most}"
            raise SourceError(what, where=str(path), way_out="mend the file")
        found.append(value)
    return found
