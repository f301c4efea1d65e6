"""VELO events, cut into phi wedges of a size that a small model takes.

Particular: the detector has no magnetic field, so tracks are straight: direction can be measured from these
hits, momentum cannot. Truth is a mask: a hit may belong to several particles or to none.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from frz.config import StrictModel, digest_of
from frz.data.source import Source, Unit
from frz.data.tarball import digest_of_files
from frz.data.velo.archive import WHERE_FROM, read_events
from frz.data.velo.wedges import ID_STRIDE, PARAMETERS, Wedges
from frz.errors import SourceError
from frz.store.ragged import concat
from frz.store.schema import Array, Axis, EventArrays, Schema

BATCH = 256
"""Events (wedges) that a batch reaches at most, but for the last collision in it."""
UNITS = {"phi": "rad", "p": "MeV", "pt": "MeV", "charge": "e"}


class VeloConfig(StrictModel):
    """Which archives, and how to cut them."""

    path: str | list[str]
    """A tar.gz archive, a folder of them, or a list of either; relative to the working directory."""
    wedges: int = Field(default=24, ge=1, le=ID_STRIDE)
    """Wedges per collision; 1 = the whole event, unrotated."""
    overlap: float = Field(default=0.1, ge=0.0)
    """How far a wedge reaches beyond its own edges on each side [rad]."""
    min_hits: int = Field(default=3, ge=1)
    """Hits that a particle needs in the collision, and a track in its wedge."""
    max_events: int | None = Field(default=None, ge=1)
    """Collisions read of each archive, from its beginning; default all."""


class Velo(Source):
    """LHCb VELO pixel hits with full truth.

    `event/id` is the collision's number (from the member's name) x 1000 + the wedge's number; `event/group`
    is the collision's number.
    """

    Config: ClassVar[type[StrictModel]] = VeloConfig
    version: ClassVar[str] = "2"
    licence: ClassVar[str] = "none stated by the publisher: for local use only"

    def __init__(self, config: VeloConfig) -> None:
        self.config = config
        self.wedges = Wedges(config.wedges, config.overlap, config.min_hits)

    @property
    def schema(self) -> Schema:
        """Axes hit, track, member (hits of a track), particle and particle_hit (truth of the collision)."""
        return Schema(axes=AXES, arrays=ARRAYS)

    def units(self) -> list[Unit]:
        """One unit per archive; its digest covers the archive's bytes, the settings and the reader's version.

        Raises
        ------
        SourceError
            If a path is missing or a folder holds no archive.
        """
        settings = digest_of([self.version, self.config.model_dump(exclude={"path"})])
        return [Unit(name=str(path), digest=digest_of_files([path], settings, WHERE_FROM)) for path in self._archives()]

    def read(self, unit: Unit) -> Iterator[EventArrays]:
        """Yield the wedges of the archive's collisions; a collision is never cut between batches.

        Raises
        ------
        SourceError
            If the archive is missing, damaged or holds an unsound event, naming archive, event and field.
        """
        batch: list[EventArrays] = []
        for n_read, event in enumerate(read_events(Path(unit.name)), start=1):
            batch.append(self.wedges.cut(event))
            if len(batch) * self.config.wedges >= BATCH:
                yield concat(batch)
                batch = []
            if n_read == self.config.max_events:
                break
        if batch:
            yield concat(batch)

    def _archives(self) -> list[Path]:
        """The archives that the paths name: folders give theirs sorted by name."""
        given = [self.config.path] if isinstance(self.config.path, str) else self.config.path
        found: list[Path] = []
        for path in map(Path, given):
            inside = sorted(path.glob("*.tar.gz")) if path.is_dir() else [path]
            if not inside:
                raise SourceError("no *.tar.gz in this folder", where=str(path), way_out=WHERE_FROM)
            found += inside
        return found


_PARAMETERS: dict[str, Any] = {
    "shape": (len(PARAMETERS),),
    "unit": ", ".join(UNITS.get(name, "1") for name in PARAMETERS),
    "columns": PARAMETERS,
}
AXES = {
    "hit": Axis(),
    "track": Axis(),
    "member": Axis(parent="track"),
    "particle": Axis(),
    "particle_hit": Axis(parent="particle"),
}


def _array(dtype: str, role: str, description: str, **more: Any) -> Array:
    return Array.model_validate({"dtype": dtype, "role": role, "description": description, **more})


ARRAYS = {
    "event/id": _array("int64", "meta", f"collision x {ID_STRIDE} + wedge"),
    "event/group": _array("int64", "meta", "collision: the number in the name of the archive's member"),
    "event/wedge_phi": _array("float32", "meta", "centre of the wedge in the detector's frame", unit="rad"),
    "hit/raw": _array(
        "float32",
        "input",
        "hit position in the wedge's frame (rotated by -event/wedge_phi about z) and module, 0 to 51",
        shape=(4,),
        unit="mm, mm, mm, 1",
        columns=("x", "y", "z", "module"),
    ),
    # Not truth, but scoring a collision needs it beside the truth, and targets travel with the features.
    "hit/parent_hit": _array("int32", "target", "position of the hit in the collision"),
    "track/parameters": _array(
        "float32", "target", "the track's true particle; phi of its momentum in the wedge's frame", **_PARAMETERS
    ),
    "track/pid": _array("int32", "target", "PDG number"),
    "track/parent_particle": _array("int32", "meta", "position of the particle in the collision's list"),
    "member/hit": _array("int32", "target", "hits of the track in this wedge; hits may be shared", refers_to="hit"),
    "particle/parameters": _array(
        "float32",
        "target",
        "particles that this wedge owns, in the detector's frame; the first are the event's tracks, in order",
        **_PARAMETERS,
    ),
    "particle/parent_particle": _array("int32", "target", "position of the particle in the collision's list"),
    "particle_hit/parent_hit": _array("int32", "target", "all hits of the particle, as positions in the collision"),
}
