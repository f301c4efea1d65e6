"""Text files of many stays as arrays at once: bytes are compared and gathered, no line is looked at by itself.

A file has the header `Time,Parameter,Value` and rows such as `07:15,HR,88`: hours and minutes since admission, up to
48:00. What is known of the patient on admission stands among the rows of 00:00, wherever there: the first row of each
of Age, Gender, Height, ICUType and Weight is a descriptor and no measurement; a later Weight is a measurement.
"""

# Axes: S stays (files), R rows of all of them, W bytes of the longest value.

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from frz.data.stays import STATIC, sets_of
from frz.errors import SourceError
from frz.store.schema import EventArrays

HEADER: Final = b"Time,Parameter,Value\n"
VARIABLES: Final = (
    "ALP", "ALT", "AST", "Albumin", "BUN", "Bilirubin", "Cholesterol", "Creatinine", "DiasABP", "FiO2", "GCS",
    "Glucose", "HCO3", "HCT", "HR", "K", "Lactate", "MAP", "MechVent", "Mg", "NIDiasABP", "NIMAP", "NISysABP", "Na",
    "PaCO2", "PaO2", "Platelets", "RespRate", "SaO2", "SysABP", "Temp", "TroponinI", "TroponinT", "Urine", "WBC",
    "Weight", "pH",
)  # fmt: skip
"""In the order of their codes."""
UNITS: Final = (
    "IU/L, IU/L, IU/L, g/dL, mg/dL, mg/dL, mg/dL, mg/dL, mmHg, 1, 1, mg/dL, mmol/L, %, 1/min, mmol/L, mmol/L, mmHg, 1, "
    "mmol/L, mmHg, mmHg, mmHg, mmol/L, mmHg, mmHg, 1/nL, 1/min, %, mmHg, degC, ug/L, ug/L, mL, 1/nL, kg, 1"
)
ON_ADMISSION: Final = ("Age", "Gender", "Height", "ICUType", "Weight")
"""In the order of the columns of `event/static`."""

_WEIGHT: Final = VARIABLES.index("Weight")
_RECORD: Final = len(VARIABLES)
_NAMES: Final = (*VARIABLES, "RecordID", *ON_ADMISSION[:-1], "")
_EMPTY: Final = len(_NAMES) - 1
_LONGEST_NAME: Final = 16
_LONGEST_VALUE: Final = 32
_ROW: Final = re.compile(rb"(\d\d):([0-5]\d),([^,]*),([^,]*)")


def _name_keys(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One number per name (R,) of the two words (R, 2) that hold its bytes."""
    return words[:, 0] ^ (words[:, 1] * np.uint64(0x9E3779B97F4A7C15))


_WORDS: Final = np.array([name.encode() for name in _NAMES], f"S{_LONGEST_NAME}").view(np.uint64).reshape(-1, 2)
_ORDER: Final = np.argsort(_name_keys(_WORDS))
_KEYS: Final = _name_keys(_WORDS)[_ORDER]


def parse(names: Sequence[str], texts: Sequence[bytes], counts: Counter[str]) -> EventArrays:
    """Sets, elements and descriptors of stays.

    Parameters
    ----------
    names : sequence of str
        Number of each stay (S), as it stands in the name of its file.
    texts : sequence of bytes
        Contents of the files.
    counts : Counter
        Is told what was left out or merged.

    Returns
    -------
    EventArrays
        Axes set and element, and `event/static`.

    Raises
    ------
    SourceError
        If a row cannot be read: names the stay, the row and what is wrong with it.
    """
    bodies = [_body(name, text) for name, text in zip(names, texts, strict=True)]
    stay = np.repeat(np.arange(len(bodies)), [body.count(b"\n") for body in bodies])
    blob = b"".join(bodies)
    minute, name, value = _columns(blob, names, stay)
    _check_numbers(names, stay, name, value)

    # the first row of a name in a stay stands on admission; written backwards, it is what stays
    static = np.full((len(bodies), len(ON_ADMISSION)), np.nan)
    is_element = name < _RECORD
    weight = np.flatnonzero((name == _WEIGHT) & (minute == 0))
    weight = weight[np.diff(stay[weight], prepend=-1) != 0]
    is_element[weight] = False
    for column, rows in enumerate([*(np.flatnonzero(name == _RECORD + 1 + i) for i in range(4)), weight]):
        rows = rows[::-1]
        static[stay[rows], column] = value[rows]
    static[static < 0] = np.nan

    negative = is_element & (value < 0)
    kept = np.flatnonzero(is_element & ~negative)
    arrays, n_merged = sets_of(len(bodies), stay[kept], minute[kept], name[kept], value[kept])
    counts["stays"] += len(bodies)
    counts["stays without observations"] += int((np.diff(arrays["set/offsets"]) == 0).sum())
    counts["rows without a parameter, left out"] += int((name == _EMPTY).sum())
    counts["negative values, left out"] += int(negative.sum())
    counts["values of one variable in one minute, merged into another"] += n_merged
    arrays[STATIC] = static.astype(np.float32)
    return arrays


def _body(name: str, text: bytes) -> bytes:
    """The rows of a file, each with its end of line."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    if not text.startswith(HEADER):
        raise SourceError(f"the first line is not {HEADER.decode().strip()}", where=f"stay {name}")
    return text[len(HEADER) :] if text.endswith(b"\n") else text[len(HEADER) :] + b"\n"


def _columns(
    blob: bytes, names: Sequence[str], stay: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Minute, place in `_NAMES` and value of each row (R,); the value of a row without a parameter is 0."""
    data = np.frombuffer(blob + bytes(_LONGEST_VALUE), np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    begins = np.append(0, ends[:-1] + 1)[: len(ends)]
    commas = np.flatnonzero(data == ord(","))
    sound = len(commas) == 2 * len(ends)
    if sound:
        first, second = commas[0::2], commas[1::2]
        length = ends - second - 1
        digits = data[begins[:, None] + np.array([0, 1, 3, 4])].astype(np.int64) - ord("0")  # (R, 4)
        sound = bool(
            ((first == begins + 5) & (second < ends) & (length <= _LONGEST_VALUE)).all()
            and ((length > 0) | (second == first + 1)).all()
            and ((digits >= 0) & (digits <= 9)).all()
            and (digits[:, 2] < 6).all()
            and (data[begins + 2] == ord(":")).all()
        )
    if not sound:
        raise _unreadable(blob, names, stay)
    minute = digits @ np.array([600, 60, 10, 1])
    words = _gather(data, first + 1, second - first - 1, _LONGEST_NAME).view(np.uint64)
    name = _ORDER[np.minimum(np.searchsorted(_KEYS, _name_keys(words)), len(_KEYS) - 1)]
    known = (_WORDS[name] == words).all(1) & (second - first - 1 <= _LONGEST_NAME)
    if not known.all():
        row = int(np.argmin(known))
        what = f"unknown parameter {blob[first[row] + 1 : second[row]].decode('ascii', 'replace')!r}"
        raise _at(what, blob, names, stay, row)
    value = np.zeros(len(ends))
    rows = np.flatnonzero(name != _EMPTY)
    width = max(int(length.max(initial=1)), 1)
    text = _gather(data, second[rows] + 1, length[rows], width).view(f"S{width}")[:, 0]
    try:
        value[rows] = text.astype(np.float64)
    except ValueError:
        row = next(row for row in rows.tolist() if not _is_number(blob[second[row] + 1 : ends[row]]))
        raise _at("the value is not a number", blob, names, stay, row) from None
    if len(bad := np.flatnonzero(~(np.abs(value) <= np.finfo(np.float32).max))):  # also true for NaN
        raise _at("the value is not a finite number", blob, names, stay, int(bad[0]))
    return minute, name, value


def _gather(
    data: NDArray[np.uint8], begins: NDArray[np.int64], lengths: NDArray[np.int64], width: int
) -> NDArray[np.uint8]:
    """Bytes of texts (R, width), with zeros behind."""
    steps = np.arange(width)
    found = np.take(data, begins[:, None] + steps, mode="clip")
    found[steps >= lengths[:, None]] = 0
    return found


def _is_row(text: bytes) -> bool:
    found = _ROW.fullmatch(text)
    return found is not None and len(found[4]) <= _LONGEST_VALUE and (found[3] == b"" or found[4] != b"")


def _is_number(text: bytes) -> bool:
    try:
        np.array([text]).astype(np.float64)
    except ValueError:
        return False
    return True


def _unreadable(blob: bytes, names: Sequence[str], stay: NDArray[np.int64]) -> SourceError:
    """The first row that is not of the form of a row."""
    rows = blob.split(b"\n")[:-1]
    row = next(i for i, text in enumerate(rows) if not _is_row(text))
    return _at("cannot be read, expected HH:MM,parameter,value", blob, names, stay, row)


def _at(what: str, blob: bytes, names: Sequence[str], stay: NDArray[np.int64], row: int) -> SourceError:
    """The error of a row, with its stay, its number in the file and its text."""
    line = row - int(np.searchsorted(stay, stay[row])) + 2
    text = blob.split(b"\n", row + 1)[row].decode("ascii", "replace")
    return SourceError(f"line {line} ({text[:60]!r}): {what}", where=f"stay {names[stay[row]]}")


def _check_numbers(
    names: Sequence[str], stay: NDArray[np.int64], name: NDArray[np.int64], value: NDArray[np.float64]
) -> None:
    """A file must be of the stay that it is called after."""
    rows = np.flatnonzero(name == _RECORD)[::-1]
    record = np.full(len(names), -1.0)
    record[stay[rows]] = value[rows]
    if len(wrong := np.flatnonzero(record != np.array(names, np.float64))):
        found = f"says {record[wrong[0]]:.0f}" if record[wrong[0]] >= 0 else "is missing"
        raise SourceError(f"RecordID {found}", where=f"stay {names[wrong[0]]}")
