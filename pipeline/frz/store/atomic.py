"""Files and folders that are either whole or not there.

Write under `tmp/`, fsync, then one rename or link. An interrupted writer leaves nothing but a folder in
`tmp/` that carries its machine and process; the next writer on that machine sweeps it away.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from frz.errors import StoreError
from frz.store.process import Process

FSYNC_THREADS = 16
_serial = count()


@contextmanager
def full_disk(where: Path) -> Iterator[None]:
    """Turn 'no space left' into a line that says what to do.

    Raises
    ------
    StoreError
        If the block ran out of disk space or quota.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(
                "no space left on the device", where=str(where), way_out="free some and run the same command again"
            ) from None
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


def write_file(path: Path, data: bytes, tmp: Path | None = None) -> None:
    """Replace the file at `path` by `data`; a reader sees the old or the new content, never a mixture.

    What an interrupted writer leaves lies in `tmp`, where it is swept away, or else beside the file.
    """
    temporary = scratch(tmp) if tmp else path.with_name(f".{path.name}.{os.getpid()}.{next(_serial)}")
    try:
        with full_disk(path):
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """`write_file` of indented JSON, its keys in the order they have."""
    write_file(path, (json.dumps(value, indent=1) + "\n").encode())


def append_line(path: Path, text: str) -> None:
    """Append one line and bring it to disk."""
    with full_disk(path), path.open("a") as file:
        file.write(text.rstrip("\n") + "\n")
        file.flush()
        os.fsync(file.fileno())


def create(path: Path, data: bytes, tmp: Path) -> bool:
    """Create `path` with `data` unless it exists; True if this call created it.

    The link is atomic: of two processes exactly one succeeds, and `path` is never seen half-written.
    """
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
        temporary.unlink(missing_ok=True)


def move_folder(folder: Path, place: Path) -> bool:
    """Rename a finished folder into `place`; False if the place is taken (the folder stays).

    Every file is brought to disk before the rename, so that a name never precedes its content.
    """
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
    """A fresh path under `tmp`, named after this process."""
    tmp.mkdir(parents=True, exist_ok=True)
    return tmp / "+".join(map(str, (*Process.this(), next(_serial))))


def writer(path: Path) -> Process | None:
    """The process that a path from `scratch` is named after; None for any other path."""
    try:
        host, boot, pid, start, _ = path.name.split("+")
        return Process(host, boot, int(pid), start)
    except ValueError:
        return None


def sweep(tmp: Path) -> None:
    """Remove what processes of this machine that are gone have left in `tmp`."""
    for left in tmp.glob("*"):
        owner = writer(left)
        if owner is not None and owner.runs() is False:
            remove(left)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; what is gone already is no error."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
