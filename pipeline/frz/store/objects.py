"""Objects: what a store on S3 and its like is made of, where there is no rename, no link, no folder and no lock.

Particular: the one thing that an object store does atomically besides a put is a **put-if-absent**. Parts, snapshots
and leases all rest on it, so a store that does not really do it is found out and refused before anything is written.
"""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from frz.errors import StoreError
from frz.location import filesystem, in_one_request, reached

RANGES = 50 << 20
"""Bytes from which s3fs fetches an object in ranges."""


def put(path: Path, data: bytes) -> None:
    """Write an object in one go; readers see the old or the new one."""
    fs, name = filesystem(path)
    with reached(path):
        fs.pipe_file(name, data)


def put_if_absent(path: Path, data: bytes) -> bool:
    """Write an object unless there is one; True if what is there then is ours.

    A client repeats a request whose answer was lost, and is then told that the object exists: so what is there decides.
    """
    fs, name = filesystem(path)
    with reached(path):
        while True:
            try:
                fs.pipe_file(name, data, mode="create")
                return True
            except FileExistsError:
                pass
            except OSError:  # two at the same moment: S3 may refuse both (409)
                if not fs.exists(name):
                    raise
            try:
                return bytes(fs.cat_file(name)) == data
            except FileNotFoundError:  # removed since
                continue


def refuse_without_put_if_absent(folder: Path) -> None:
    """Try a put-if-absent twice, for there are servers that take the condition for nothing.

    Raises
    ------
    StoreError
        If the second one overwrites the first, or nothing can be written.
    """
    probe = folder / f"probe-{secrets.token_hex(8)}"
    try:
        works = put_if_absent(probe, b"first") and not put_if_absent(probe, b"second")
    finally:
        remove(probe)
    if not works:
        what = "this object store overwrites where it should create, so two writers could destroy each other's work"
        raise StoreError(what, where=str(folder.parent), way_out="use a server with conditional writes (If-None-Match)")


def upload(folder: Path, place: Path) -> None:
    """Copy every file of a local folder to objects below `place`, several at a time."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    fs, _ = filesystem(place)
    with reached(place):
        fs.put([str(file) for file in files], [filesystem(place / str(file.relative_to(folder)))[1] for file in files])


def fetch(paths: Sequence[Path], largest: int | None = None) -> list[bytes | None]:
    """The content of objects, several at a time; None where there is none.

    `largest`: bytes of the largest, if that is known: what is not fetched in ranges takes one request each then.
    """
    if not paths:
        return []
    fs, _ = filesystem(paths[0])
    names = [filesystem(path)[1] for path in paths]
    with reached(paths[0]):
        small = largest is not None and largest <= RANGES
        found = fs.cat(names, on_error="return", **(in_one_request(fs) if small else {}))
        for content in found.values():
            if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                raise content
    return [None if isinstance(found[name], FileNotFoundError) else bytes(found[name]) for name in names]


def sizes(folder: Path) -> dict[str, int]:
    """Size of every object below a prefix, by name below it: one request for each thousand."""
    fs, name = filesystem(folder)
    with reached(folder):
        found = fs.find(name, detail=True)
    return {key[len(name) + 1 :]: int(value["size"]) for key, value in found.items()}


def measure(path: Path) -> tuple[int, float]:
    """Bytes of an object or of all below a prefix, and when the last of them was written (seconds since the epoch)."""
    fs, name = filesystem(path)
    with reached(path):
        found = fs.find(name, detail=True)
        # s3fs has listed the times too, and would ask for each again
        times = [(value.get("LastModified") or fs.modified(key)).timestamp() for key, value in found.items()]
    return sum(int(value["size"]) for value in found.values()), max(times, default=0.0)


def remove(path: Path) -> None:
    """Remove an object, or all below a prefix: first the `zarr.json` without which the rest does not exist."""
    fs, name = filesystem(path)
    with reached(path):
        names = set(fs.find(name))
        for some in ({f"{name}/zarr.json"} & names, names - {f"{name}/zarr.json"}):
            if some:
                fs.rm(sorted(some))


def remove_one(path: Path) -> None:
    """Remove an object, which need not be there, in one request."""
    fs, name = filesystem(path)
    with reached(path), suppress(FileNotFoundError):
        fs.rm_file(name)


def move(path: Path, place: Path) -> None:
    """Give an object, or all below a prefix, another name; what is interrupted leaves both."""
    fs, name = filesystem(path)
    with reached(path):
        for key in fs.find(name):
            fs.copy(key, filesystem(place)[1] + key[len(name) :])
    remove(path)


def fetch_below(folder: Path) -> dict[str, bytes]:
    """The content of all objects below a prefix, by name below it."""
    names = list(sizes(folder))
    found = zip(names, fetch([folder / name for name in names]), strict=True)
    return {name: data for name, data in found if data is not None}


def zarr_store(content: Mapping[str, bytes]) -> dict[str, Any]:
    """Files in memory as a store that zarr reads."""
    from zarr.core.buffer import cpu

    return {name: cpu.Buffer.from_bytes(data) for name, data in content.items()}
