"""What a stay in intensive care is on disk: sets of measurements in time, the same for every clinical source.

An event is a stay. A set is all that was measured in one minute, an element one variable in it. A variable that was
measured more than once in a minute becomes one element, the mean: the rows of a minute have no order.
"""

# Axes: S stays, T sets of all stays, N elements of all sets, R rows as read, V variables.

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.store.ragged import offsets_of
from frz.store.schema import Array, Axis, EventArrays, Schema

STATIC, LABEL = "event/static", "event/label"
DESCRIPTORS = ("age", "gender", "height", "icu_type", "weight")
"""Columns of `event/static`, as PhysioNet 2012 has them."""


def stay_schema(
    variables: Sequence[str], arrays: dict[str, Array], static: dict[str, Array] | None = None, unit: str = "1"
) -> Schema:
    """Axes and arrays of a source of stays.

    Parameters
    ----------
    variables : sequence of str
        Names of the variables; the place of a name is its code.
    arrays : dict
        Arrays of the source's own, on the axis `event`.
    static : dict, optional
        Static arrays of the source's own.
    unit : str
        Units of the variables, in order, where they are known.
    """
    return Schema(
        axes={"set": Axis(), "element": Axis(parent="set")},
        arrays={
            "event/id": Array(dtype="int64", role="meta", description="number of the stay"),
            "event/group": Array(dtype="int64", role="meta", description="number of the stay: stays are independent"),
            LABEL: Array(
                dtype="int8", role="target", description="1 = died in hospital, 0 = left it alive, -1 = not known"
            ),
            **arrays,
            "set/minute": Array(dtype="float32", role="input", unit="min", description="time since admission"),
            "element/variable": Array(
                dtype="int16", role="input", description="what was measured: its place in the columns of variable/code"
            ),
            "element/value": Array(dtype="float32", role="input", unit=unit, description="as measured"),
        },
        static={
            "variable/code": Array(
                dtype="int16",
                shape=(len(variables),),
                role="meta",
                columns=tuple(variables),
                description="codes of element/variable; the columns are the names",
            ),
            **(static or {}),
        },
    )


def descriptors() -> dict[str, Array]:
    """The array of what is known of a patient on admission."""
    return {
        STATIC: Array(
            dtype="float32",
            shape=(len(DESCRIPTORS),),
            role="input",
            unit="a, 1, cm, 1, kg",
            columns=DESCRIPTORS,
            description="on admission; NaN = not known; gender 0 female, 1 male; icu_type 1 coronary care, 2 cardiac "
            "surgery recovery, 3 medical, 4 surgical",
        )
    }


def codes(variables: Sequence[str]) -> EventArrays:
    """The static array that lists the codes."""
    return {"variable/code": np.arange(len(variables), dtype=np.int16)}


def sets_of(
    n_stays: int, stay: NDArray[Any], minute: NDArray[Any], variable: NDArray[Any], value: NDArray[np.float64]
) -> tuple[EventArrays, int]:
    """Rows of stays as sets and elements, ordered by stay, minute and variable.

    Parameters
    ----------
    n_stays : int
        S; a stay without rows has no sets.
    stay : int array (R,)
        Number of the stay in the batch, 0 to S - 1.
    minute : array (R,)
        Since admission, not negative; float32 is what is kept, and what tells minutes apart.
    variable : int array (R,)
        Codes.
    value : float64 array (R,)
        Finite.

    Returns
    -------
    EventArrays
        Arrays and offsets of the axes set (T,) and element (N,).
    int
        R - N, the rows that went into the mean of another.
    """
    minute = minute.astype(np.float32) + np.float32(0)  # there is a -0.0
    # floats that are not negative rise with their bits
    key = stay.astype(np.uint64) << np.uint64(32) | minute.view(np.uint32).astype(np.uint64)
    order = np.lexsort((variable, key)) if len(key) else np.zeros(0, np.int64)
    key, variable, value = key[order], variable[order], value[order]
    new_set = _begins(key)
    first = np.flatnonzero(new_set | _begins(variable))
    sets = np.flatnonzero(new_set)
    n_rows = np.diff(first, append=len(key))
    if len(first) < len(key):
        value = np.add.reduceat(value, first) / n_rows
    owner = np.cumsum(new_set)[first] - 1
    arrays = {
        "set/offsets": offsets_of(np.bincount(stay[order[sets]], minlength=n_stays)),
        "set/minute": minute[order[sets]],
        "element/offsets": offsets_of(np.bincount(owner, minlength=len(sets))),
        "element/variable": variable[first].astype(np.int16),
        "element/value": value.astype(np.float32),
    }
    return arrays, len(key) - len(first)


def _begins(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a run of equal values begins."""
    begins = np.ones(len(values), np.bool_)
    begins[1:] = values[1:] != values[:-1]
    return begins
