"""Faults that disks, people and software bring upon a store, drawn at random, and what must be said of each."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Fault(NamedTuple):
    """A store was damaged."""

    paths: frozenset[str]
    """Files and folders, below the store, that are not what they were: each must be named, and nothing else."""


def flip(rng: np.random.Generator, path: Path) -> None:
    """One bit of a file."""
    raw = bytearray(path.read_bytes())
    raw[rng.integers(len(raw))] ^= 1 << int(rng.integers(8))
    path.write_bytes(raw)


def truncate(rng: np.random.Generator, path: Path) -> None:
    """The end of a file is lost."""
    raw = path.read_bytes()
    path.write_bytes(raw[: rng.integers(len(raw))])


def delete(rng: np.random.Generator, path: Path) -> None:
    """A file is lost."""
    path.unlink()


def damage(rng: np.random.Generator, path: Path) -> None:
    """Any of them."""
    (flip, truncate, delete)[rng.integers(3)](rng, path)


def swap(one: Path, other: Path) -> None:
    """Two files or folders, each in the place of the other."""
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def _one(
    pattern: str, how: Callable[[np.random.Generator, Path], None]
) -> Callable[[np.random.Generator, Path], Fault]:
    """A fault of one file that fits a pattern."""

    def bring(rng: np.random.Generator, root: Path) -> Fault:
        path = _choose(rng, root, pattern)
        how(rng, path)
        return Fault(frozenset([str(path.relative_to(root))]))

    return bring


def _choose(rng: np.random.Generator, root: Path, pattern: str) -> Path:
    """A file that fits a pattern; a folder if it ends in a slash."""
    found = sorted(path for path in root.glob(pattern) if path.is_dir() is pattern.endswith("/"))
    return found[rng.integers(len(found))]


def _damage_static(rng: np.random.Generator, root: Path) -> Fault:
    path = _choose(rng, root, "static.zarr/*/**/*")
    damage(rng, path)
    return Fault(frozenset(["/".join(path.relative_to(root).parts[:2])]))  # one digest covers all of it


def _lose_part(rng: np.random.Generator, root: Path) -> Fault:
    place = _choose(rng, root, "events.zarr/*-*/")
    shutil.rmtree(place)
    return Fault(frozenset([str(place.relative_to(root))]))


def _swap_shards(rng: np.random.Generator, root: Path) -> Fault:
    one = _choose(rng, root, SHARDS)
    below = one.relative_to(root / "events.zarr").parts[1:]
    others = [path for path in sorted(root.glob("events.zarr/*-*")) if path.joinpath(*below).exists()]
    other = others[rng.integers(len(others))].joinpath(*below)
    if one.read_bytes() == other.read_bytes():
        return _swap_shards(rng, root)
    swap(one, other)
    return Fault(frozenset(str(path.relative_to(root)) for path in (one, other)))


def _swap_parts(rng: np.random.Generator, root: Path) -> Fault:
    one, other = (_choose(rng, root, "events.zarr/*-*/") for _ in range(2))
    if one == other:
        return _swap_parts(rng, root)
    swap(one, other)
    return Fault(frozenset(str(path.relative_to(root)) for path in (one, other)))


def _swap_snapshots(rng: np.random.Generator, root: Path) -> Fault:
    files = [root / "snapshots/1.json", root / "snapshots/2.json"]
    swap(*files)
    return Fault(frozenset(str(path.relative_to(root)) for path in files))


PART = "events.zarr/*-*"
SHARDS = f"{PART}/*/*/c/**/0"
KINDS: dict[str, Callable[[np.random.Generator, Path], Fault]] = {
    "bit flip": _one(SHARDS, flip),
    "truncation": _one(SHARDS, truncate),
    "deletion": _one(SHARDS, delete),
    "lost part": _lose_part,
    "swapped shards": _swap_shards,
    "swapped parts": _swap_parts,
    "array metadata": _one(f"{PART}/*/*/zarr.json", damage),
    "axis metadata": _one(f"{PART}/*/zarr.json", damage),
    "store metadata": _one("events.zarr/zarr.json", damage),
    "commit record": _one(f"{PART}/zarr.json", damage),
    "snapshot": _one("snapshots/*.json", damage),
    "swapped snapshots": _swap_snapshots,
    "snapshot copy": _one("copies/*.json", damage),
    "static array": _damage_static,
    "journal record": _one("journal/*.json", flip),
}
"""Ways to damage a store of at least two versions, which must have static arrays and a journal."""
