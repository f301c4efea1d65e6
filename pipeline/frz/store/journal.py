"""The journal of a build: which units of a source are already parts, so that they are not read again.

One JSON line per unit. A line whose parts are gone or that was cut short by a crash is skipped: the unit
is read again, and parts that exist under its keys are kept.
"""

import json
from pathlib import Path

from frz.config import StrictModel
from frz.store import atomic
from frz.store.snapshot import PartEntry


class UnitRecord(StrictModel):
    """A unit of a source that became parts."""

    key: str
    """Digest of the unit, the source's settings and version, and the cutting."""
    name: str
    entries: tuple[PartEntry, ...]


class Journal:
    """Append-only record of finished units."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._units: dict[str, UnitRecord] = {}
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            try:
                unit = UnitRecord.model_validate(json.loads(line))
            except ValueError:
                continue
            self._units[unit.key] = unit
        if lines and not path.read_text().endswith("\n"):
            atomic.append_line(path, "")  # end a line that a crash cut short

    def find(self, key: str) -> UnitRecord | None:
        """The record of a unit, or None if it was never finished."""
        return self._units.get(key)

    def add(self, unit: UnitRecord) -> None:
        """Record a finished unit durably."""
        atomic.append_line(self.path, json.dumps(unit.model_dump(mode="json"), sort_keys=True))
        self._units[unit.key] = unit
