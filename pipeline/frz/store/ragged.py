"""Cutting, joining, picking and comparing events of flat ragged arrays.

Everything is index arithmetic on offsets; values are copied once, and looked at only to be compared.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.store.schema import EVENT, EventArrays, Schema, axis_of, count_events

Index = NDArray[np.int64]


def offsets_of(lengths: NDArray[Any]) -> Index:
    """Offsets (n + 1) of n runs of the given lengths."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def axes_in(arrays: Mapping[str, Any], schema: Schema) -> list[str]:
    """Axes below `event` that the arrays touch (by values or offsets), parents first."""
    used = {axis for name in arrays for axis in schema.lineage(axis_of(name))}
    return sorted(used, key=lambda axis: (len(schema.lineage(axis)), axis))


def rows(offsets: Index, parents: Index) -> tuple[Index, Index]:
    """Rows of the members of the given parents, in that order, and the new offsets."""
    return spread(offsets[parents], offsets[parents + 1])


def spread(begins: Index, ends: Index) -> tuple[Index, Index]:
    """Rows of the runs [begin, end), one after the other, and the offsets of the runs in them."""
    new = offsets_of(ends - begins)
    picked = np.arange(new[-1], dtype=np.int64)
    picked += np.repeat(begins - new[:-1], np.diff(new))
    return picked, new


def take(arrays: Mapping[str, NDArray[Any]], schema: Schema, events: NDArray[Any]) -> EventArrays:
    """The listed events, in the listed order; repeats are allowed.

    Parameters
    ----------
    arrays : mapping
        Flat arrays with the offsets of every ragged axis they touch.
    schema : Schema
        Tells the parent and length of each axis.
    events : int array (n,)
        Positions of events.
    """
    index: dict[str, Index] = {EVENT: np.asarray(events, np.int64)}
    result: EventArrays = {}
    for axis in axes_in(arrays, schema):
        parents, length = index[schema.axes[axis].parent], schema.axes[axis].length
        if length is None:
            index[axis], result[f"{axis}/offsets"] = rows(arrays[f"{axis}/offsets"], parents)
        else:
            index[axis] = (parents[:, None] * length + np.arange(length)).ravel()
    for name, values in arrays.items():
        if name not in result:
            result[name] = values.take(index[axis_of(name)], axis=0)
    return result


def bounds(arrays: Mapping[str, NDArray[Any]], schema: Schema, first: int, last: int) -> dict[str, tuple[int, int]]:
    """Rows [begin, end) of each axis that belong to events [first, last)."""
    found = {EVENT: (first, last)}
    for axis in axes_in(arrays, schema):
        begin, end = found[schema.axes[axis].parent]
        length = schema.axes[axis].length
        if length is None:
            offsets = arrays[f"{axis}/offsets"]
            found[axis] = int(offsets[begin]), int(offsets[end])
        else:
            found[axis] = begin * length, end * length
    return found


def slice_events(arrays: Mapping[str, NDArray[Any]], schema: Schema, first: int, last: int) -> EventArrays:
    """Events [first, last); values are views, offsets are copies that start at 0."""
    found = bounds(arrays, schema, first, last)
    result: EventArrays = {}
    for name, values in arrays.items():
        axis, _, rest = name.partition("/")
        if rest == "offsets":
            begin, end = found[schema.axes[axis].parent]
            result[name] = values[begin : end + 1] - values[begin]
        else:
            begin, end = found[axis]
            result[name] = values[begin:end]
    return result


def concat(pieces: Sequence[Mapping[str, NDArray[Any]]]) -> EventArrays:
    """Join pieces that hold the same arrays, one after the other."""
    if len(pieces) == 1:
        return dict(pieces[0])
    result: EventArrays = {}
    for name in pieces[0]:
        values = [piece[name] for piece in pieces]
        if name.endswith("/offsets"):
            result[name] = offsets_of(np.concatenate([np.diff(offsets) for offsets in values]))
        else:
            result[name] = np.concatenate(values)
    return result


def collect(pieces: Iterable[Mapping[str, NDArray[Any]]]) -> EventArrays:
    """`concat` of pieces as they come, in the memory of the whole: joined arrays grow where they lie."""
    result: EventArrays = {}
    for piece in pieces:
        for name, values in piece.items():
            if name not in result:
                result[name] = np.array(values)
                continue
            whole = result[name]
            begin = len(whole)
            new = values[1:] + whole[-1] if name.endswith("/offsets") else values
            whole.resize((begin + len(new), *whole.shape[1:]), refcheck=False)
            whole[begin:] = new
    return result


LONG_RUN = 1 << 16
"""Bytes per run from which numpy joins faster: below, it spends its time on the runs, above, on memory."""


def gather(
    parts: Sequence[Mapping[str, memoryview]], schema: Schema, which: Index, first: Index, last: Index
) -> EventArrays:
    """Runs of events from several parts, one after the other; values are copied once.

    Parameters
    ----------
    parts : sequence of mappings
        The same flat arrays of each part, with the offsets of every ragged axis they touch, as buffers (`values.data`).
    schema : Schema
        Tells the parent and length of each axis.
    which, first, last : int arrays (n,)
        Run i holds events [first, last) of parts[which].
    """
    part_of = which.tolist()
    spans = {EVENT: (first, last)}
    result: EventArrays = {}
    for axis in axes_in(parts[0], schema):
        begins, ends = spans[schema.axes[axis].parent]
        length, name = schema.axes[axis].length, f"{axis}/offsets"
        if length is None:
            joined = _join([arrays[name] for arrays in parts], part_of, begins, ends + 1)
            runs = offsets_of(ends + 1 - begins)
            spans[axis] = joined[runs[:-1]], joined[runs[1:] - 1]
            # The step from the last edge of a run to the first of the next is no number of members.
            result[name] = offsets_of(np.delete(np.diff(joined), runs[1:-1] - 1))
        else:
            spans[axis] = begins * length, ends * length
    for name in parts[0]:
        if name not in result:
            result[name] = _join([arrays[name] for arrays in parts], part_of, *spans[axis_of(name)])
    return result


def _join(values: Sequence[memoryview], part_of: list[int], begins: Index, ends: Index) -> NDArray[Any]:
    """Rows [begin, end) of values[part], one run after the other."""
    pairs = zip(part_of, begins.tolist(), ends.tolist(), strict=True)
    runs = [values[part][begin:end] for part, begin, end in pairs]
    like, n_rows = np.asarray(values[0]), int((ends - begins).sum())
    if n_rows * like.itemsize * prod(like.shape[1:]) > LONG_RUN * len(runs):
        return np.concatenate(runs)
    # Slices of buffers join in half the time of slices of arrays.
    return np.ndarray((n_rows, *like.shape[1:]), like.dtype, bytearray().join(runs))


def edges(arrays: Mapping[str, NDArray[Any]], schema: Schema, axis: str) -> Index:
    """Where the members of `axis` of each event begin and end, (n_event + 1,), whatever axes stand between."""
    found = np.arange(count_events(arrays, schema) + 1, dtype=np.int64)
    for step in schema.lineage(axis):
        length = schema.axes[step].length
        found = arrays[f"{step}/offsets"][found] if length is None else found * length
    return found


def lengths(arrays: Mapping[str, NDArray[Any]], schema: Schema, axis: str) -> Index:
    """Members of `axis` in each event (n_event,), summed over the axes between."""
    return np.diff(edges(arrays, schema, axis))


def equal_events(
    a: Mapping[str, NDArray[Any]], b: Mapping[str, NDArray[Any]], schema: Schema, names: Iterable[str]
) -> NDArray[np.bool_]:
    """Which events of `a` and `b` agree, one with the other, in the named arrays.

    Parameters
    ----------
    a, b : mapping
        The named arrays of equally many events, with the offsets of every ragged axis they touch.
    schema : Schema
        Of the named arrays in both.
    names : iterable of str
        Arrays to compare.

    Returns
    -------
    bool array (n_event,)
        True where all numbers of members agree and all values bit by bit: NaN equals the same NaN, -0 is not 0.
    """
    names = list(names)
    compared = [  # numbers of members, parents first, are values on the parent's axis
        (schema.axes[axis].parent, np.diff(a[f"{axis}/offsets"]), np.diff(b[f"{axis}/offsets"]))
        for axis in schema.ordered_axes(names)
        if schema.axes[axis].length is None
    ]
    compared += [(axis_of(name), a[name], b[name]) for name in names]
    same = np.ones(count_events(a, schema), np.bool_)
    assert count_events(b, schema) == len(same), "different numbers of events"
    for axis, x, y in compared:
        edges_x, edges_y = edges(a, schema, axis), edges(b, schema, axis)
        events = np.arange(len(same))
        if not np.array_equal(edges_x, edges_y):
            # events that agree so far have equally many members; the others need no further look
            events = np.flatnonzero(same)
            (rows_x, edges_x), (rows_y, _) = rows(edges_x, events), rows(edges_y, events)
            x, y = x[rows_x], y[rows_y]
        differ = np.flatnonzero((_bits(x) != _bits(y)).any(axis=1))
        same[events[np.searchsorted(edges_x, differ, side="right") - 1]] = False
    return same


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    """The values (n, ...) as unsigned integers (n, m)."""
    flat = np.ascontiguousarray(values).view(f"u{min(values.dtype.itemsize, 8)}")
    return flat.reshape(len(values), prod(flat.shape[1:]))


def event_bytes(arrays: Mapping[str, NDArray[Any]], schema: Schema) -> Index:
    """Bytes of values that each event holds (n_event,); offsets are left out."""
    total = np.zeros(count_events(arrays, schema), np.int64)
    for name, values in arrays.items():
        if not name.endswith("/offsets"):
            total += lengths(arrays, schema, axis_of(name)) * (values.nbytes // max(len(values), 1))
    return total


def check(arrays: Mapping[str, NDArray[Any]], schema: Schema) -> None:
    """Assert that the arrays are exactly what the schema says: names, dtypes, shapes, offsets."""
    n_events = count_events(arrays, schema)
    axes = schema.ordered_axes()
    expected = set(schema.arrays) | {f"{axis}/offsets" for axis in axes if schema.axes[axis].length is None}
    assert set(arrays) == expected, f"arrays differ from the schema: {sorted(set(arrays) ^ expected)}"
    count = {EVENT: n_events}
    for axis in axes:
        n_parents, length = count[schema.axes[axis].parent], schema.axes[axis].length
        if length is None:
            offsets = arrays[f"{axis}/offsets"]
            assert offsets.dtype == np.int64, f"{axis}/offsets: dtype"
            assert offsets.shape == (n_parents + 1,), f"{axis}/offsets: shape"
            assert offsets[0] == 0, f"{axis}/offsets must start at 0"
            assert (np.diff(offsets) >= 0).all(), f"{axis}/offsets must never fall"
            count[axis] = int(offsets[-1])
        else:
            count[axis] = n_parents * length
    for name, spec in schema.arrays.items():
        shape = (count[axis_of(name)], *spec.shape)
        found = arrays[name]
        assert found.dtype == spec.in_memory, f"{name}: dtype {found.dtype}, schema says {spec.dtype}"
        assert found.shape == shape, f"{name}: shape {found.shape}, schema says {shape}"
