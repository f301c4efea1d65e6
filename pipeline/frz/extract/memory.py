"""The most memory of its own that this process had while something ran.

Linux counts mapped files as resident too, and they can be given back at any time; only anonymous pages (`RssAnon`) are
what a process needs. There is no counter of their peak, so a thread looks.
"""

import threading
from pathlib import Path
from types import TracebackType

INTERVAL = 0.02
"""Seconds between two looks."""
_STATUS = Path("/proc/self/status")


def anonymous() -> int | None:
    """Anonymous memory of this process in bytes; None where the system does not say."""
    try:
        return int(_STATUS.read_text().partition("RssAnon:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        return None


class Peak:
    """`with Peak() as memory: …`; then `memory.bytes` is the most there was (None where the system does not say)."""

    def __enter__(self) -> "Peak":
        self.bytes = anonymous()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="frz-memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while self.bytes is not None and not self._done.wait(INTERVAL):
            self.bytes = max(self.bytes, anonymous() or 0)
