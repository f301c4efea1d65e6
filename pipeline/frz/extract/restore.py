"""Making lost parts of a feature store again: the backbone on exactly the events that a part held, in the same batches.

On one machine a part that was made whole comes out with the same bytes. Elsewhere last bits differ, and annotations,
which are functions of the features as stored, are made again wherever they do not fit these any more.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from frz import artifacts as names
from frz.errors import IdentityError, StoreError
from frz.extract import engine
from frz.extract.opening import check_inputs
from frz.extract.settings import ANNOTATION, FEATURES, Settings, group_of
from frz.loading.frozen import FrozenBackbone
from frz.store import repair as store_repair
from frz.store.keys import content_digest
from frz.store.lost import Share, in_order, open_checked, shares
from frz.store.mend import Outcome
from frz.store.part import CommitRecord, PartRef, part_name, read_record
from frz.store.reader import EventStore
from frz.store.repair import LostPart
from frz.store.schema import KEY, EventArrays, Schema
from frz.store.snapshot import Snapshot
from frz.store.table import EventTable
from frz.store.verify import Report
from frz.training.config import pick_device


def repair(root: Path, artifacts: Path, report: Report) -> tuple[list[Outcome], Snapshot | None]:
    """Mend a feature store; data set and backbone are found among the artifacts. See `frz.store.repair.repair`."""
    report.damages.sort(key=lambda damage: damage.group == ANNOTATION)  # annotations are made of features
    restore = Restore(root, artifacts)
    return store_repair.repair(root, report, restore.remake, follow=restore.follow)


class Restore:
    """Makes what a feature store has lost.

    Parameters
    ----------
    root : Path
        The feature store.
    artifacts : Path
        Where artifacts lie.
    """

    def __init__(self, root: Path, artifacts: Path) -> None:
        self.root, self.artifacts = root, artifacts
        self._version = cache(partial(open_checked, root))
        self._data = cache(open_checked)
        self._parts = cache(_parts_by_events)
        self._frozen = cache(self._load)

    def remake(self, lost: LostPart) -> EventArrays:
        """All arrays of a part.

        Raises
        ------
        FrzError
            If the weights or the events that it was made from are gone, or are not what they were.
        """
        made = self._version(lost.written_for)
        assert made is not None, "the part was found through it"
        held, out, about = list(self._held(lost)), made.schema, made.snapshot.about
        if lost.group not in (FEATURES, ANNOTATION):
            return _gather(held, group_of(out, lost.group).arrays).arrays
        frozen, settings = self._frozen(made, held[0].store), Settings.of_store(about["recipe"], out)
        module, device = frozen.module, frozen.device
        read = [*module.inputs, KEY] if lost.group == FEATURES else [*module.inputs, *module.targets]
        table = _gather(held, dict.fromkeys(read))
        run = range(table.n_events)
        with _threads(int(about["made_with"]["threads"])):
            if lost.group == ANNOTATION:
                return engine.annotate(module, table, run, self._features(lost, out), out, settings, device)
            return engine.features_of(module, table, run, out, settings, device) | engine.read(table, run, [KEY])

    def follow(self, changed: Collection[PartRef]) -> dict[LostPart, EventArrays]:
        """Annotations of the newest version that do not fit the features any more, made again.

        Raises
        ------
        FrzError
            See `remake`.
        """
        newest = self._version(names.versions(self.root)[-1])
        assert newest is not None, "something of it was repaired"
        groups = newest.snapshot.parts.groups
        of = groups[FEATURES]
        runs = [run for stored, part in enumerate(of.parts()) if part in changed for run in of.events_of(stored)]
        if not runs or ANNOTATION not in groups:
            return {}
        events = np.concatenate([np.arange(*run) for run in runs])
        stale = {}
        for stored in np.unique(groups[ANNOTATION].locate(events)[0]).tolist():
            part = groups[ANNOTATION].part(stored)
            lost = LostPart(ANNOTATION, part, tuple(self._events_of(part)), None)
            arrays = self.remake(lost)
            if content_digest(arrays) != self._record(ANNOTATION, part.key).digest:
                stale[lost] = arrays
        return stale

    def _events_of(self, part: PartRef) -> Iterator[tuple[int, int, int]]:
        """Version and events [first, last) that point at a part of annotations."""
        for version in names.versions(self.root):
            store = self._version(version)
            pieces = store.snapshot.parts.groups.get(ANNOTATION) if store else None
            if pieces and part in pieces.parts():
                yield from ((version, *run) for run in pieces.events_of(pieces.parts().index(part)))

    def _record(self, group: str, key: str) -> CommitRecord:
        """What lies in the place of a part now."""
        return read_record(self.root / "events.zarr" / part_name(group, key))

    def _held(self, lost: LostPart) -> Iterator[Share]:
        """The events of a part, as the data set holds them."""
        for share in shares(lost, self._version):
            bounds = share.store.part_bounds
            part_of = np.searchsorted(bounds, share.positions, side="right") - 1
            for part in np.unique(part_of).tolist():
                data, begin = self._find(share.store.snapshot, part, exact=lost.group != FEATURES)
                chosen = part_of == part
                yield Share(data, share.rows[chosen], begin - bounds[part] + share.positions[chosen])

    def _find(self, made: Snapshot, part: int, exact: bool) -> tuple[EventStore, int]:
        """A version of the data set that holds the events of a part, and where they begin.

        `exact`: with the very rows that were carried along; else the same inputs are enough.
        """
        told, entry = made.about["data"], made.parts[part]
        root = names.dataset(told["name"], self.artifacts).path
        for version in sorted(names.versions(root), key=lambda version: (version != told["version"], -version)):
            data = self._data(root, version)
            if data is None or (at := self._parts(data).get(entry.events)) is None:
                continue
            if not exact or data.snapshot.parts[at].content() == entry.origin:
                return data, int(data.part_bounds[at])
        what = f"version {told['version']}, which it was made from, is gone or was changed by a repair"
        raise StoreError(what, where=str(root), way_out="run 'frz extract' on the newest version")

    def _features(self, lost: LostPart, out: Schema) -> EventArrays:
        """Features of the events of a part as they are stored now, also if no version names them yet."""
        arrays, rows = [], []
        for store, chosen, positions in shares(lost, self._version):
            parts = store.snapshot.parts
            pieces = parts.groups[FEATURES]
            digest = list(pieces.digest)
            for stored in np.unique(pieces.locate(positions)[0]).tolist():
                digest[stored] = self._record(FEATURES, pieces.key[stored]).digest
            now = replace(parts, groups={**parts.groups, FEATURES: replace(pieces, digest=digest)})
            reader = EventStore.of(self.root, store.snapshot.model_copy(update={"parts": now}))
            reader.verify = True
            arrays.append(reader.events(positions, engine.computed(out).arrays))
            rows.append(chosen)
        return in_order(arrays, rows, out)

    def _load(self, made: EventStore, data: EventStore) -> FrozenBackbone:
        """The backbone that made a version, for a version of the data set, on the kind of device that it ran on."""
        about = made.snapshot.about
        wanted, path = about["fingerprint"]["value"], Path(about["backbone"]["checkpoint"])
        device = pick_device("cpu" if about["made_with"]["device"].startswith("cpu") else "auto")
        if not path.is_file() or FrozenBackbone(path, device).fingerprint.value != wanted:
            path = names.weights_of(about["backbone"]["name"], wanted, self.artifacts)
        frozen = FrozenBackbone(path, device, data.schema)
        if frozen.fingerprint.value != wanted:
            what = f"has fingerprint {frozen.fingerprint.value[:12]}, its card says {wanted[:12]}"
            raise IdentityError(what, where=str(path), way_out="bring back the weights that made the features")
        check_inputs(frozen, data.schema)
        return frozen


def _parts_by_events(data: EventStore) -> dict[str, int]:
    """Which part of a version holds which events."""
    return {events: part for part, events in enumerate(data.snapshot.parts.events)}


def _gather(held: list[Share], names: Iterable[str]) -> EventTable:
    """Arrays of events of the data set, in the order of the part."""
    schema = held[0].store.schema.select(names)
    arrays = [share.store.events(share.positions, schema.arrays) for share in held]
    return EventTable(schema, in_order(arrays, [share.rows for share in held], schema))


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Run with as many threads as the features were made with: last bits depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
