"""What differs between two versions of event stores, event by event.

Parts that both point at are equal unread; events of which both point at the same rows are too. Only what is left is
read: ids and event keys to find out who is who, then the arrays in which events of one key can differ.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.store import ragged
from frz.store.ragged import Index
from frz.store.reader import EventStore
from frz.store.schema import GROUP, ID, KEY, Schema, axis_of

BLOCK = 2048
"""Events that are compared at once."""
_Ids = NDArray[np.int64]


@dataclass
class Difference:
    """What it takes to get from store `a` to store `b`; events by id, sorted."""

    n_events: tuple[int, int]
    added: _Ids
    """Only in `b`."""
    removed: _Ids
    """Only in `a`."""
    changed: _Ids
    """In both with other inputs: another event key."""
    amended: _Ids
    """In both with one key, and other values in arrays that are no inputs."""
    moved: dict[str, _Ids]
    """In both, in other splits; by `train -> val`."""
    reordered: bool
    """Events that are in both follow each other in another order."""
    arrays: dict[str, int]
    """In how many events that are in both the values of an array differ."""
    schema: dict[str, list[str]] = field(default_factory=dict)
    """`added`, `removed` and `changed` arrays, axes, static arrays and split, in words."""

    def __bool__(self) -> bool:
        """Is there any difference?"""
        events = (self.added, self.removed, self.changed, self.amended, *self.moved.values())
        return self.reordered or any(map(len, events)) or any(self.schema.values())

    def summary(self, most_ids: int) -> dict[str, Any]:
        """Numbers, and up to so many ids of each kind, as JSON."""
        events = {name: getattr(self, name) for name in ("added", "removed", "changed", "amended")} | self.moved
        counts = dict(zip(("a", "b"), self.n_events, strict=True)) | {name: len(ids) for name, ids in events.items()}
        return {
            "events": {**counts, "reordered": self.reordered},
            "arrays": self.arrays,
            "schema": self.schema,
            "ids": {name: ids[:most_ids].tolist() for name, ids in events.items() if len(ids)},
        }


def diff(a: EventStore, b: EventStore) -> Difference:
    """Compare two versions of event stores, of one store or of two.

    Events are the same if they have the same id. Arrays that only one store has, or that differ in dtype, shape or
    axes, are listed in `schema` and not compared.
    """
    (whole_a, whole_b), (at_a, at_b) = _paired_parts(a, b)
    rest_a, rest_b = _others(a, whole_a, at_a), _others(b, whole_b, at_b)
    ids_a, ids_b = a.events(rest_a, [ID])[ID], b.events(rest_b, [ID])[ID]
    _, in_a, in_b = np.intersect1d(ids_a, ids_b, assume_unique=True, return_indices=True)
    at_a, at_b = np.append(at_a, rest_a[in_a]), np.append(at_b, rest_b[in_b])
    order = np.argsort(at_a)
    at_a, at_b = at_a[order], at_b[order]

    comparable = _comparable(a.schema, b.schema)
    keys = _differing(a, b, at_a, at_b, [KEY])[KEY]
    inputs = {name for name in comparable if "input" in (a.schema.arrays[name].role, b.schema.arrays[name].role)}
    differing = _differing(a, b, at_a, at_b, [name for name in comparable if name not in inputs])
    amended = np.flatnonzero(~keys & np.any([np.zeros_like(keys), *differing.values()], axis=0))
    changed = np.flatnonzero(keys)
    counts = {name: int(mask.sum()) for name, mask in differing.items()}
    # events of one key have the same inputs
    counts |= {n: int(m.sum()) for n, m in _differing(a, b, at_a[changed], at_b[changed], sorted(inputs)).items()}
    all_a, all_b = np.append(at_a, _events_of(a, whole_a)), np.append(at_b, _events_of(b, whole_b))
    return Difference(
        n_events=(a.n_events, b.n_events),
        added=np.sort(np.delete(ids_b, in_b)),
        removed=np.sort(np.delete(ids_a, in_a)),
        changed=np.sort(a.events(at_a[changed], [ID])[ID]),
        amended=np.sort(a.events(at_a[amended], [ID])[ID]),
        moved=_moved(a, b, at_a, at_b) if a.snapshot.split == b.snapshot.split else _moved(a, b, all_a, all_b),
        reordered=bool((np.diff(all_b[np.argsort(all_a)]) < 0).any()),
        arrays={name: n for name, n in sorted(counts.items()) if n},
        schema=_schema_difference(a, b),
    )


def _paired_parts(a: EventStore, b: EventStore) -> tuple[tuple[list[int], list[int]], tuple[Index, Index]]:
    """Parts that are equal as they stand, and the positions of events of parts that hold the same keys in order."""
    ours, theirs = a.snapshot.parts, b.snapshot.parts
    where = {events: part for part, events in enumerate(theirs.events) if events}
    pairs = [(part, where[events]) for part, events in enumerate(ours.events) if events in where]
    same_schema = a.schema == b.schema
    equal = [same_schema and ours[i].groups == theirs[j].groups for i, j in pairs]
    whole = [pair for pair, is_equal in zip(pairs, equal, strict=True) if is_equal]
    rest = [pair for pair, is_equal in zip(pairs, equal, strict=True) if not is_equal]
    return (
        ([i for i, _ in whole], [j for _, j in whole]),
        (_events_of(a, [i for i, _ in rest]), _events_of(b, [j for _, j in rest])),
    )


def _events_of(store: EventStore, parts: Iterable[int]) -> Index:
    """Positions of the events of parts."""
    bounds = store.part_bounds
    return np.concatenate([np.empty(0, np.int64), *(np.arange(*bounds[part : part + 2]) for part in parts)])


def _others(store: EventStore, whole: list[int], positions: Index) -> Index:
    """Positions of all events but those of the parts and positions given."""
    others = np.ones(store.n_events, np.bool_)
    others[positions] = False
    others[_events_of(store, whole)] = False
    return np.flatnonzero(others)


def _comparable(a: Schema, b: Schema) -> list[str]:
    """Arrays that both have in the same layout."""

    def layout(schema: Schema, name: str) -> list[Any]:
        axes = [schema.axes[axis] for axis in schema.lineage(axis_of(name))]
        return [schema.arrays[name].dtype, schema.arrays[name].shape, schema.lineage(axis_of(name)), axes]

    both = sorted(a.arrays.keys() & b.arrays.keys() - {ID, KEY})
    return [name for name in both if layout(a, name) == layout(b, name)]


def _differing(
    a: EventStore, b: EventStore, at_a: Index, at_b: Index, names: list[str]
) -> dict[str, NDArray[np.bool_]]:
    """Per array, which events of `a` differ from those of `b`, one with the other."""
    found = {name: np.zeros(len(at_a), np.bool_) for name in names}
    groups = {name: (a.schema.arrays[name].group, b.schema.arrays[name].group) for name in names}
    for pair in sorted(set(groups.values())):
        unread = np.flatnonzero(~_same_rows(a, b, at_a, at_b, *pair))
        wanted = [name for name in names if groups[name] == pair]
        for begin in range(0, len(unread), BLOCK):
            rows = unread[begin : begin + BLOCK]
            ours, theirs = a.events(at_a[rows], wanted), b.events(at_b[rows], wanted)
            for name in wanted:
                found[name][rows] = ~ragged.equal_events(ours, theirs, a.schema, [name])
    return found


def _same_rows(a: EventStore, b: EventStore, at_a: Index, at_b: Index, group_a: str, group_b: str) -> NDArray[np.bool_]:
    """Which events both stores read from the same row of the same part."""
    ours, theirs = a.snapshot.parts.groups[group_a], b.snapshot.parts.groups[group_b]
    known = {ref: number for number, ref in enumerate(ours.parts())}
    number = np.array([known.get(ref, -1) for ref in theirs.parts()], np.int64)
    (part_a, row_a), (part_b, row_b) = ours.locate(at_a), theirs.locate(at_b)
    same: NDArray[np.bool_] = (part_a == number[part_b]) & (row_a == row_b)
    return same


def _moved(a: EventStore, b: EventStore, at_a: Index, at_b: Index) -> dict[str, _Ids]:
    """Ids of events that stand in other splits, by the names of both."""
    ours, theirs = a.events(at_a, [ID, GROUP]), b.events(at_b, [GROUP])
    one, two = a.snapshot.split, b.snapshot.split
    from_, to = np.array(one.names)[one.which(ours[GROUP])], np.array(two.names)[two.which(theirs[GROUP])]
    rows = np.flatnonzero(from_ != to)
    ways = [f"{x} -> {y}" for x, y in zip(from_[rows].tolist(), to[rows].tolist(), strict=True)]
    names, way = np.unique(np.array(ways, np.str_), return_inverse=True)
    return {str(name): np.sort(ours[ID][rows[way == number]]) for number, name in enumerate(names)}


def _schema_difference(a: EventStore, b: EventStore) -> dict[str, list[str]]:
    """Arrays, axes, static arrays and splits that differ, in words."""

    def things(store: EventStore) -> dict[str, dict[str, Any]]:
        described = {
            name: array.model_dump(mode="json", exclude={"group", "description"})
            for name, array in store.schema.arrays.items()
        }
        described |= {f"axis {name}": axis.model_dump(mode="json") for name, axis in store.schema.axes.items()}
        described |= {f"static {name}": {"digest": digest[:12]} for name, digest in store.snapshot.static.items()}
        return described | {"split": store.snapshot.split.model_dump(mode="json")}

    ours, theirs = things(a), things(b)
    changed = [
        f"{name}: {key} {ours[name][key]} -> {theirs[name][key]}"
        for name in sorted(ours.keys() & theirs.keys())
        for key in ours[name]
        if ours[name][key] != theirs[name][key]
    ]
    added, removed = sorted(theirs.keys() - ours.keys()), sorted(ours.keys() - theirs.keys())
    found = {"added": added, "removed": removed, "changed": changed}
    return {kind: names for kind, names in found.items() if names}
