"""One event per JSON member of a tar.gz, streamed and checked: what leaves this file is sound."""

# Axes: N hits of an event, P particles, L entries of all particles' hit lists, K numeric particle columns.

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frz.data.tarball import members
from frz.errors import SourceError

N_MODULES = 52
MEMBER = re.compile(r"(?:^|.*[/_])event_(\d+)\.json$")
COLUMNS = (
    "pid", "p", "pt", "eta", "phi", "charge", "isLong", "isDown", "hasVelo", "hasUT", "hasScifi",
    "fromBeautyDecay", "fromCharmDecay", "fromStrangeDecay",
)  # fmt: skip
WHERE_FROM = "set source.path to your copy; data/README.md says where the data come from"


@dataclass(frozen=True)
class ParentEvent:
    """A collision as the file has it."""

    number: int
    """Number in the member's name."""
    xyz: NDArray[np.float64]
    """(N, 3) [mm]."""
    module: NDArray[np.int64]
    """(N,) 0 to 51."""
    particles: NDArray[np.float64]
    """(P, K) in the order of `COLUMNS`."""
    particle_of: NDArray[np.int64]
    """(L,) particle of each (particle, hit) pair; sorted by particle, then hit; no pair twice."""
    hit_of: NDArray[np.int64]
    """(L,) hit of each pair."""


def read_events(path: Path) -> Iterator[ParentEvent]:
    """Stream the events of an archive in file order; one member is in memory at a time.

    Members that are not `.json` files are passed over.

    Raises
    ------
    SourceError
        If the archive is missing, cut off or damaged, holds no event, or an event is unsound; names the
        archive, the member and the field.
    """
    found = 0
    for name, content in members(path, ".json", WHERE_FROM):
        yield parse_event(content, f"{path}: {name}", name)
        found += 1
    if not found:
        raise SourceError("holds no event", where=str(path), way_out="expected members named velo_event_<n>.json")


def parse_event(text: bytes, where: str, name: str) -> ParentEvent:
    """Check the JSON text of one event and turn it into arrays.

    Parameters
    ----------
    text : bytes
        The member's content.
    where : str
        Archive and member, for messages.
    name : str
        Name of the member; its number is the event's.

    Raises
    ------
    SourceError
        Naming the field (`montecarlo.particles[3].hits`) and the position in it.
    """
    number = MEMBER.match(name)
    if number is None:
        raise SourceError("the member's name has no event number", where=where, way_out="expected velo_event_<n>.json")
    try:
        event = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"not valid JSON: {error}", where=where) from None
    x, y, z = (_numbers(_field(event, axis, list, where), axis, where) for axis in "xyz")
    if not len(x) == len(y) == len(z):
        raise SourceError(f"x, y, z have {len(x)}, {len(y)}, {len(z)} entries", where=where)
    module = _modules(_field(event, "module_prefix_sum", list, where), len(x), where)
    truth = _field(event, "montecarlo", dict, where)
    names = _field(truth, "description", list, where, "montecarlo.")
    rows = _field(truth, "particles", list, where, "montecarlo.")
    for name in (*COLUMNS, "hits"):
        if name not in names:
            raise SourceError(f"montecarlo.description lacks {name!r}", where=where)
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise SourceError(f"montecarlo.particles[{i}] is not a list of {len(names)} entries", where=where)
    columns = [_numbers([row[names.index(n)] for row in rows], f"montecarlo.particles: {n}", where) for n in COLUMNS]
    particle_of, hit_of = _members([row[names.index("hits")] for row in rows], len(x), where)
    return ParentEvent(
        int(number[1]), np.stack([x, y, z], axis=1), module, np.stack(columns, axis=1), particle_of, hit_of
    )


def _field(node: Any, name: str, kind: type, where: str, prefix: str = "") -> Any:
    """`node[name]`, which must be there and be of the kind."""
    if not isinstance(node, dict) or name not in node:
        raise SourceError(f"field {prefix + name!r} is missing", where=where)
    if not isinstance(node[name], kind):
        raise SourceError(f"field {prefix + name!r} is not a {'list' if kind is list else 'mapping'}", where=where)
    return node[name]


def _numbers(values: Sequence[Any], field: str, where: str) -> NDArray[np.float64]:
    """The values as float64; all must be numbers that float32 can hold."""
    for i, value in enumerate(values):
        if not isinstance(value, (int, float)):
            raise SourceError(f"{field}[{i}] = {value!r} is not a number", where=where)
    array = np.array(values, np.float64)
    bad = np.flatnonzero(~(np.abs(array) <= np.finfo(np.float32).max))  # also true for NaN
    if len(bad):
        raise SourceError(f"{field}[{bad[0]}] = {values[bad[0]]!r} is not a finite number", where=where)
    return array


def _modules(prefix_sum: Sequence[Any], n_hits: int, where: str) -> NDArray[np.int64]:
    """Module of each hit (N,) from the number of hits before each module."""
    edges = _numbers(prefix_sum, "module_prefix_sum", where)
    counts = np.diff(edges)
    wrong = ""
    if len(edges) != N_MODULES + 1:
        wrong = f"has {len(edges)} entries, {N_MODULES + 1} expected"
    elif edges[0] != 0 or edges[-1] != n_hits:
        wrong = f"runs from {edges[0]:g} to {edges[-1]:g}, but the hits from 0 to {n_hits}"
    elif (counts < 0).any() or (counts % 1 != 0).any():
        wrong = "is not a rising list of whole numbers"
    if wrong:
        raise SourceError(f"module_prefix_sum {wrong}", where=where)
    return np.repeat(np.arange(N_MODULES), counts.astype(np.int64))


def _members(hits: Sequence[Any], n_hits: int, where: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(particle, hit) pairs of all particles, sorted, each once: a hit may have several particles."""
    for i, listed in enumerate(hits):
        if not isinstance(listed, list):
            raise SourceError(f"montecarlo.particles[{i}].hits is not a list", where=where)
        for hit in listed:
            if type(hit) is not int or not 0 <= hit < n_hits:
                text = f"montecarlo.particles[{i}].hits has {hit!r}, which is none of the {n_hits} hits"
                raise SourceError(text, where=where)
    lengths = [len(listed) for listed in hits]
    flat = np.array([hit for listed in hits for hit in listed], np.int64)
    pairs = np.unique(np.repeat(np.arange(len(hits)), lengths) * max(n_hits, 1) + flat)
    return pairs // max(n_hits, 1), pairs % max(n_hits, 1)
