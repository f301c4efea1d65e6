"""Which process a file belongs to, and whether that process is gone.

Particular: that can be told of a process of this machine, since its last start and in this process namespace;
of any other nothing is known, and it is never taken for gone.
"""

import os
import socket
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process, so that no other is taken for it: process ids are used again, and on every machine."""

    host: str
    boot: str
    """Digest (8 hex digits) of boot id and process namespace, within which a process id has a meaning."""
    pid: int
    start: str
    """Clock ticks from boot to the start of the process ('0' where that cannot be told)."""

    @classmethod
    def this(cls) -> "Process":
        """The process that asks."""
        return cls(*_machine(), os.getpid(), _start_of(os.getpid()))

    def runs(self) -> bool | None:
        """Whether it still runs (a stopped one does); None if that cannot be told from here."""
        if (self.host, self.boot) != _machine():
            return None
        return _start_of(self.pid) == self.start


@cache
def _machine() -> tuple[str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text() + os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = ""
    return socket.gethostname(), sha256(boot.encode()).hexdigest()[:8]


def _start_of(pid: int) -> str:
    """Start of a process in clock ticks since boot ('0' where it cannot be told, '' if the process is gone)."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]  # killed, and its parent has not looked yet
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "0"
