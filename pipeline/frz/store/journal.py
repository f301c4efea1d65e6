"""The journal of a build: which units of a source are already parts, so that they are not read again.

One sealed JSON file per unit, put in place whole and named by the unit's key, so that two builds never write
into one file. A record that is damaged or whose parts are gone counts as absent: the unit is read again, and
parts that exist under its keys are kept.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from frz.config import StrictModel, canonical_json
from frz.location import children, read_bytes
from frz.store import atomic
from frz.store.catalogue import PartEntry
from frz.store.part import seal, unseal


class UnitRecord(StrictModel):
    """A unit of a source that became parts."""

    key: str
    """Digest of the unit, the source's settings and version, and the cutting."""
    name: str
    entries: tuple[PartEntry, ...]
    counted: dict[str, int] = {}
    """What the source told of its reading."""


class Journal:
    """Records of finished units, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> UnitRecord | None:
        """The record of a unit, or None if it was never finished."""
        return _read(self.folder / f"{key[:32]}.json")

    def records(self) -> Iterator[UnitRecord]:
        """Every unit that was ever finished."""
        files = (path for path in children(self.folder) if path.suffix == ".json")
        return (record for file in files if (record := _read(file)) is not None)

    def add(self, unit: UnitRecord) -> None:
        """Record a finished unit durably."""
        atomic.make_folder(self.folder)
        text = canonical_json(seal(unit.model_dump(mode="json")))
        atomic.write_file(self.folder / f"{unit.key[:32]}.json", text.encode(), self.folder.parent / "tmp")


def _read(file: Path) -> UnitRecord | None:
    try:
        return UnitRecord.model_validate(unseal(json.loads(read_bytes(file))))
    except (FileNotFoundError, ValueError):
        return None
