"""One process per run folder.

The lock is the kernel's and lies on the folder itself: nothing is left on disk, and a killed process holds
nothing. Object stores know no locks; there it is a lease, and that of a killed process of another machine is waited
out (a minute).
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frz.errors import TrainingError
from frz.location import is_remote
from frz.store.atomic import sweep
from frz.store.lease import Leases


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keep other processes from training in `folder` (file systems that cannot lock a folder are left unguarded).

    What processes that were killed while they wrote have left there is removed.

    Raises
    ------
    TrainingError
        If another one does already.
    """
    if is_remote(folder):
        with Leases(folder).alone() as survey:
            if survey.live:
                raise _taken(folder)
            yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise _taken(folder) from None
        sweep(folder)
        yield
    finally:
        os.close(descriptor)


def _taken(folder: Path) -> TrainingError:
    way_out = "wait for it, or stop it and run the same command again"
    return TrainingError("this run is being trained already", where=str(folder), way_out=way_out)
