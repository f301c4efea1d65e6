"""Files and folders that are either whole or not there.

Write under `tmp/`, fsync, then one rename or link. An interrupted writer leaves nothing but a folder in
`tmp/` that carries its machine and process; the next writer on that machine sweeps it away. On an object store a
put is whole or not there, a put-if-absent stands for the link, and what is unfinished lies on the local disk.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from frz.errors import StoreError
from frz.location import is_remote
from frz.store import objects
from frz.store.process import Process

FSYNC_THREADS = 16
_serial = count()


@contextmanager
def full_disk(where: Path) -> Iterator[None]:
    """Turn 'no space left', and 'not allowed' to write, into a line that says what to do.

    Raises
    ------
    StoreError
        If the block ran out of disk space or quota, or may not write here.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                "no space left on the device", where=str(where), way_out="free some and run the same command again"
            ) from None
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            what, way_out = f"cannot be written ({error.strerror})", "make its folder writable, or work on a copy"
            raise StoreError(what, where=str(where), way_out=way_out) from None
        raise


def fsync(path: Path) -> None:
    """Bring a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Bring every file of a folder, then every folder in it, to disk.

    In threads, because a file system commits requests that wait together in one go: ten times faster here
    than one after the other.
    """
    walked = list(os.walk(folder))
    with ThreadPoolExecutor(FSYNC_THREADS) as threads:
        for paths in (
            [Path(base, name) for base, _, names in walked for name in names],
            [Path(b) for b, _, _ in walked],
        ):
            list(threads.map(fsync, paths))


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; object stores have none."""
    if not is_remote(folder):
        with full_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)


def write_file(path: Path, data: bytes, tmp: Path | None = None) -> None:
    """Replace the file at `path` by `data`; a reader sees the old or the new content, never a mixture.

    What an interrupted writer leaves lies in `tmp`, or else beside the file as a hidden one; `sweep` knows both.
    """
    if is_remote(path):
        objects.put(path, data)
        return
    temporary = scratch(tmp) if tmp else path.with_name(f".{_fresh_name()}")
    try:
        with full_disk(path):
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            fsync(path.parent)
    finally:
        if temporary.exists():  # a file system for reading refuses to remove what is not there too
            temporary.unlink()


def write_json(path: Path, value: Any) -> None:
    """`write_file` of indented JSON, its keys in the order they have."""
    write_file(path, (json.dumps(value, indent=1) + "\n").encode())


def append_line(path: Path, text: str) -> None:
    """Append one line and bring it to disk; an object is written anew with it."""
    if is_remote(path):
        before = path.read_bytes() if path.exists() else b""
        objects.put(path, before + (text.rstrip("\n") + "\n").encode())
        return
    with full_disk(path), path.open("a") as file:
        file.write(text.rstrip("\n") + "\n")
        file.flush()
        os.fsync(file.fileno())


def create(path: Path, data: bytes, tmp: Path) -> bool:
    """Create `path` with `data` unless it exists; True if this call created it.

    The link is atomic: of two processes exactly one succeeds, and `path` is never seen half-written.
    """
    if is_remote(path):
        return objects.put_if_absent(path, data)
    temporary = scratch(tmp)
    try:
        with full_disk(path):
            temporary.write_bytes(data)
            fsync(temporary)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            fsync(path.parent)
            return True
    finally:
        if temporary.exists():  # a file system for reading refuses to remove what is not there too
            temporary.unlink()


def move_folder(folder: Path, place: Path, attempt: str = "") -> bool:
    """Rename a finished folder into `place`; False if the place is taken (the folder stays).

    Every file is brought to disk before the rename, so that a name never precedes its content. On an object store
    the files are copied to `place/attempt`, and then the folder's own `zarr.json` is created in `place`: without
    it the rest does not exist.
    """
    if is_remote(place):
        top = folder / "zarr.json"
        data = top.read_bytes()
        if not attempt:
            top.unlink()
        objects.upload(folder, place / attempt if attempt else place)
        return objects.put_if_absent(place / "zarr.json", data)
    with full_disk(place):
        fsync_tree(folder)
        try:
            folder.rename(place)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        fsync(place.parent)
    return True


def scratch(tmp: Path) -> Path:
    """A fresh path under `tmp`, or on the local disk if that is of an object store, named after this process."""
    return shared_scratch(_local(tmp))


def shared_scratch(tmp: Path) -> Path:
    """A fresh path under `tmp` wherever that lies, named after this process: others that see `tmp` see it."""
    make_folder(tmp)
    return tmp / _fresh_name()


def _fresh_name() -> str:
    return "+".join(map(str, (*Process.this(), next(_serial))))


def _local(tmp: Path) -> Path:
    return Path(tempfile.gettempdir(), f"frz-{os.getuid()}") if is_remote(tmp) else tmp


def writer(path: Path) -> Process | None:
    """The process that a path from `scratch`, or a file that `write_file` has begun, is named after; else None."""
    try:
        host, boot, pid, start, _ = path.name.removeprefix(".").split("+")
        return Process(host, boot, int(pid), start)
    except ValueError:
        return None


def left_in(folder: Path) -> list[Path]:
    """What processes of this machine that are gone have left in a folder."""
    return [path for path in folder.glob("*") if (owner := writer(path)) and owner.runs() is False]


def sweep(folder: Path) -> None:
    """Remove what processes of this machine that are gone have left in a folder."""
    for left in left_in(_local(folder)):
        remove(left)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; what is gone already is no error."""
    if is_remote(path):
        objects.remove(path)
    elif path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def discard(path: Path, tmp: Path) -> None:
    """Remove a file or folder so that nobody ever sees half of it (of an object store the record goes first)."""
    if is_remote(path):
        objects.remove(path)
    elif path.exists():
        old = scratch(tmp)
        path.rename(old)
        remove(old)


def measure(path: Path) -> tuple[int, float]:
    """Bytes of a file or of all files in a folder, and when any of it was last written, renamed or copied here."""
    if is_remote(path):
        return objects.measure(path)
    n_bytes, changed = 0, 0.0
    below = [Path(base, name) for base, folders, files in os.walk(path) for name in (*folders, *files)]
    for place in (path, *below):
        with suppress(FileNotFoundError):
            found = place.lstat()
            changed = max(changed, found.st_ctime)
            n_bytes += 0 if place.is_dir() else found.st_size
    return n_bytes, changed
