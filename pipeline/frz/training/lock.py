"""One process per run folder.

The lock is the kernel's and lies on the folder itself: nothing is left on disk, and a killed process holds
nothing.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frz.errors import TrainingError


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other processes from training in `folder` (file systems that cannot lock a folder are left unguarded).

    Raises
    ------
    TrainingError
        If another one does already.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                way_out = "wait for it, or stop it and run the same command again"
                raise TrainingError("this run is being trained already", where=str(folder), way_out=way_out) from None
        yield
    finally:
        os.close(descriptor)
