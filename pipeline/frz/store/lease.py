"""Leases: who works on what, so that several processes share the work on a store without doing it twice.

Particular: a lease is an inode. A holder writes its heartbeat into the very file that it made, and a stale lease
is moved aside before it is judged, so a process that wakes up late neither revives its lease nor overwrites
another's. (An object store can do neither: there it looks, then writes.) Leases are not the safety: in rare windows
two processes hold one, and both commit the same part.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from frz.config import StrictModel
from frz.errors import StoreError
from frz.location import children, is_remote, read_bytes
from frz.store import atomic, objects
from frz.store.process import Process

PERIOD = 5.0
"""Seconds between two heartbeats."""

PATIENCE = 60.0
"""Seconds without a heartbeat, on the observer's own clock, after which a lease is stale."""

ALONE = "gc"
"""Lease of a process that must be the only one on the store."""


FIRST_BEAT = 10**9
"""Every later one has as many digits, so a lease that is read while it is rewritten in place is still a lease."""


class Lease(StrictModel):
    """Content of a lease."""

    process: Process
    token: str
    """Random: of one `Leases` object."""
    beat: int


class Survey(NamedTuple):
    """What the leases of others say."""

    live: list[str]
    """Who works on the store, for people."""
    stale: list[str]
    """Names of leases whose holder is gone."""


class Leases:
    """The leases of a store, as one worker takes them.

    Parameters
    ----------
    root : Path
        The store; leases are files in its folder `leases`.
    period, patience : float
        Seconds between two heartbeats, and without any until a lease is stale.
    clock : callable
        Monotonic seconds.
    wait : callable
        Waits for that many seconds of `clock`.
    """

    def __init__(
        self,
        root: Path,
        period: float = PERIOD,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self.root, self.folder = root, root / "leases"
        self.period, self.patience = period, patience
        self._clock, self._wait = clock, wait
        self._token = secrets.token_hex(8)
        self._own = f"writer-{self._token}"
        self._beat = FIRST_BEAT
        self._held: set[str] = set()
        self._seen: dict[str, tuple[bytes, float]] = {}

    @contextmanager
    def hold(self) -> Iterator["Leases"]:
        """Work on the store, side by side with others; waits until no one needs the store alone.

        A lease of the worker's own says for the whole time that there is one, also between two parts. A thread
        renews what is held; at the end everything is released.
        """
        with self._beating():
            self.take(self._own)
            for name in self._others():
                self.vacant(name)  # what the dead have left
            while not self.vacant(ALONE):
                self._wait(self.period)
            yield self

    @contextmanager
    def alone(self) -> Iterator[Survey]:
        """Work on the store as the only one, if `live` of the survey is empty; workers that begin now wait.

        Each side says first that it is there and looks for the other then, so that at least one sees the other.
        """
        with self._beating():
            while not self.take(ALONE):
                if (found := self.survey()).live:
                    yield found
                    return
            yield self.survey()

    @contextmanager
    def _beating(self) -> Iterator[None]:
        ended = threading.Event()

        def beat_until_the_end() -> None:
            while not ended.wait(self.period):
                self.beat()

        thread = threading.Thread(target=beat_until_the_end, name="frz leases", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            for name in tuple(self._held):
                self.release(name)

    def take(self, name: str) -> bool:
        """Take a lease; False if someone has it. Look again afterwards whether the work is done already.

        Raises
        ------
        StoreError
            If the disk is full.
        """
        if not self.vacant(name):
            return False
        atomic.make_folder(self.folder)
        if not atomic.create(self._path(name), self._content(), self.root / "tmp"):
            return False
        self._held.add(name)
        return True

    def release(self, name: str) -> None:
        """Give a lease back, unless it is another's by now."""
        self._held.discard(name)
        if is_remote(self.folder) or not self.lost(name):
            self._remove(name, self._is_own)

    def lost(self, name: str | None = None) -> bool:
        """Whether a lease (default: that of being at work at all) is no longer ours, as its file says now."""
        content = self._read(name or self._own)
        return content is None or not self._is_own(content)

    def refuse_lost(self) -> None:
        """Refuse to commit a version after a stop in which others may have cleaned up behind this process.

        Raises
        ------
        StoreError
            If the lease of being at work is lost.
        """
        if self.lost():
            what = "this process was stopped for too long: what it has written may be gone"
            raise StoreError(what, where=str(self.root), way_out="run the same command again")

    def beat(self) -> None:
        """Renew what is held; what is another's by now, or was moved aside, is left alone."""
        self._beat += 1
        for name in tuple(self._held):
            if is_remote(self.folder):
                if not self.lost(name):
                    atomic.write_file(self._path(name), self._content())
                continue
            with suppress(OSError), self._path(name).open("r+b") as file:
                # Whatever happens to the name from here on: what is written to is the file that was read.
                if self._is_own(file.read()):
                    file.seek(0)
                    file.write(self._content())

    def pause(self) -> None:
        """Wait a little for others."""
        self._wait(self.period / 10)

    def survey(self) -> Survey:
        """Who else is at work. Where only time can tell, watches for a heartbeat for as long as it takes.

        A stopped process of this machine counts as live: what it would miss when it goes on is kept for it.
        """
        first: dict[str, bytes] = {}
        while True:
            live, stale, unsure = [], [], False
            for name, content in self._others().items():
                lease = _parse(content)
                runs = lease.process.runs() if lease else None
                if lease and (runs or content != first.setdefault(name, content)):
                    live.append(f"process {lease.process.pid} of {lease.process.host}")
                elif self._is_stale(name, content):
                    stale.append(name)
                else:
                    unsure = True
            if live or not unsure:
                return Survey(sorted(set(live)), stale)
            self._wait(self.period)

    def vacant(self, name: str) -> bool:
        """Whether nobody has a lease; a stale one is removed."""
        content = self._read(name)
        if content is None:
            return True
        return self._is_stale(name, content) and self._remove(name, lambda found: found == content)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _content(self) -> bytes:
        lease = Lease(process=Process.this(), token=self._token, beat=self._beat)
        return json.dumps(lease.model_dump(mode="json")).encode()

    def _is_own(self, content: bytes) -> bool:
        lease = _parse(content)
        return lease is not None and lease.token == self._token

    def _read(self, name: str) -> bytes | None:
        try:
            return read_bytes(self._path(name))
        except FileNotFoundError:
            return None

    def _others(self) -> dict[str, bytes]:
        files = (path for path in children(self.folder) if path.suffix == ".json")
        names = sorted(path.stem for path in files if path.stem not in self._held)
        return {name: content for name in names if (content := self._read(name)) is not None}

    def _is_stale(self, name: str, content: bytes) -> bool:
        """Its process is gone, or we have seen no change of it for as long as our patience."""
        lease, now = _parse(content), self._clock()
        if lease and lease.process.runs() is False:
            return True
        seen, since = self._seen.get(name, (None, now))
        if seen != content:
            self._seen[name] = content, now
            return False
        return now - since >= self.patience

    def _remove(self, name: str, is_it: Callable[[bytes], bool]) -> bool:
        """Remove a lease if it is the one that is meant.

        Between our look at it and now another may have removed it and taken it anew, or its holder may have woken up:
        then it is put back, unless the name is taken by now. (In that case a holder has lost its lease by chance.)
        """
        if is_remote(self.folder):
            content = self._read(name)
            if content is not None and not is_it(content):
                return False
            if content is not None:
                objects.remove_one(self._path(name))
            return True
        aside = atomic.scratch(self.root / "tmp")
        try:
            self._path(name).rename(aside)
        except FileNotFoundError:
            return True
        removed = is_it(aside.read_bytes())
        if not removed:
            with suppress(FileExistsError):
                os.link(aside, self._path(name))
        aside.unlink()
        return removed


def _parse(content: bytes) -> Lease | None:
    """A lease; None if a power failure has left something else."""
    try:
        return Lease.model_validate_json(content)
    except ValueError:
        return None
