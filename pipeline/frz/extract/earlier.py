"""Rows of earlier versions of a feature store: which are still valid for which events.

Features are valid for an event of the same key. Carried rows are valid if the data set's rows are still what was
carried; annotations if besides the features the truth that they read is.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from frz.extract.settings import ANNOTATION, CARRIED, FEATURES
from frz.store import ragged
from frz.store.catalogue import Catalogue
from frz.store.ragged import Index
from frz.store.reader import EventStore
from frz.store.schema import KEY, Schema
from frz.store.snapshot import Snapshot


class Earlier:
    """Parts of earlier snapshots, searched by event key.

    Parameters
    ----------
    root : Path
        The feature store.
    held : sequence of (Snapshot, int)
        Parts of its snapshots, those of newer ones first.
    identity : mapping
        See `make_plan`.
    out : Schema
        Of the features.
    targets : sequence of str
        Arrays that annotations read.
    """

    def __init__(
        self,
        root: Path,
        held: Sequence[tuple[Snapshot, int]],
        identity: Mapping[str, str],
        out: Schema,
        targets: Sequence[str],
    ) -> None:
        entries = Catalogue.of(snapshot.parts[index] for snapshot, index in held)
        self.store = EventStore.of(root, held[0][0].model_copy(update={"parts": entries}))
        keys = _words(self.store.array(KEY))
        self._order = np.lexsort((np.arange(len(keys)), keys[:, 0]))  # of equal keys the newest first
        self._keys = keys[self._order]
        self.carried = [name for name, spec in out.arrays.items() if spec.group == CARRIED]
        self.truth = [name for name in targets if name in self.carried]
        per_part = np.diff(self.store.part_bounds)

        def per_event(flags: list[bool]) -> NDArray[np.bool_]:
            return np.repeat(flags, per_part)

        self._same = {
            group: per_event([snapshot.about["identity"].get(group) == value for snapshot, _ in held])
            for group, value in identity.items()
        }
        self._has_truth = per_event(
            [all(name in snapshot.event_schema.arrays for name in self.truth) for snapshot, _ in held]
        )

    def find(self, source: EventStore, part: int) -> tuple[Index, dict[str, NDArray[np.bool_]]]:
        """Look the events of a part of the data set up.

        Returns
        -------
        found : int64 array (n_event,)
            Position in `store`, -1 = nowhere.
        valid : dict of bool arrays (n_event,)
            Per group, whether its row there is valid.
        """
        begin, end = source.part_bounds[part : part + 2].tolist()
        keys = _words(source.range(begin, end, [KEY])[KEY])
        place = np.minimum(np.searchsorted(self._keys[:, 0], keys[:, 0]), len(self._keys) - 1)
        # keys are hashes: their first word leads to the place, the second one confirms it
        found = np.where((self._keys[place] == keys).all(axis=1), self._order[place], -1)
        known = found >= 0
        valid = {FEATURES: known}

        same = known & self._same[CARRIED][found]
        valid[CARRIED] = self._agree(source, begin, found, same, self.carried)
        if ANNOTATION in self._same:
            same = known & self._same[ANNOTATION][found] & self._has_truth[found]
            unsure = same & ~valid[CARRIED]
            valid[ANNOTATION] = (same & valid[CARRIED]) | self._agree(source, begin, found, unsure, self.truth)
        return found, valid

    def _agree(
        self, source: EventStore, begin: int, found: Index, which: NDArray[np.bool_], names: list[str]
    ) -> NDArray[np.bool_]:
        """Of the chosen events of a part, those whose named arrays are what was stored."""
        result = np.zeros(len(found), bool)
        rows = np.flatnonzero(which)
        if len(rows):
            ours, theirs = source.events(begin + rows, names), self.store.events(found[rows], names)
            result[rows] = ragged.equal_events(ours, theirs, source.schema.select(names), names)
        return result


def _words(keys: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Event keys as two 64-bit words each."""
    return np.ascontiguousarray(keys).view(np.uint64)
