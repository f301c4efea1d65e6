"""Progress of long work: silent in a library, a bar on a terminal, plain lines elsewhere.

Work reports through `progress(...)` and never asks where it goes; the program (the command line) decides
once with `show(...)`. Everything goes to stderr: stdout belongs to results.
"""

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Mode: TypeAlias = Literal["bar", "lines", "none"]
Field: TypeAlias = float | int | str

LINE_SECONDS = 10.0
"""Least time between two plain lines of one piece of work."""


class Bar(ABC):
    """Where one piece of work reports how far it is. Safe to call from several threads."""

    @abstractmethod
    def advance(self, n: int = 1, **fields: Field) -> None:
        """Count `n` units as done and show `fields` (`loss=0.12`) beside them."""

    @abstractmethod
    def close(self) -> None:
        """Show the final state."""


class _Silent(Bar):
    def advance(self, n: int = 1, **fields: Field) -> None:
        del n, fields

    def close(self) -> None:
        pass


class _Lines(Bar):
    """A line at most every `LINE_SECONDS`, and one at the end."""

    def __init__(self, description: str, total: int | None, unit: str, done: int) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._begun_with = self._done = done
        self._start = self._last = _clock()
        self._fields: dict[str, Field] = {}
        self._lock = threading.Lock()

    def advance(self, n: int = 1, **fields: Field) -> None:
        with self._lock:
            self._done += n
            self._fields.update(fields)
            now = _clock()
            if now - self._last >= LINE_SECONDS:
                self._last = now
                self._print(now, final=False)

    def close(self) -> None:
        with self._lock:
            self._print(_clock(), final=True)

    def _print(self, now: float, *, final: bool) -> None:
        elapsed = now - self._start
        rate = (self._done - self._begun_with) / elapsed if elapsed > 0 else None
        parts = [f"{self._description}: {_count(self._done, self._total, self._unit)}"]
        if rate:
            parts.append(f"{_number(rate)} {self._unit}/s")
            if not final and self._total is not None:
                parts.append(f"{_duration((self._total - self._done) / rate)} left")
        if final:
            parts.append(_duration(elapsed))
        parts += [f"{key} {_number(value)}" for key, value in self._fields.items()]
        print(", ".join(parts), file=sys.stderr, flush=True)


class _Rich(Bar):
    """One row of the display that all work under way shares."""

    def __init__(self, display: "Progress", description: str, total: int | None, unit: str, done: int) -> None:
        self._display, self._unit = display, unit
        self._begun_with = self._done = done
        self._start = _clock()
        self._fields: dict[str, Field] = {}
        self._lock = threading.Lock()
        self._task: TaskID = display.add_task(description, total=total, completed=done, note="")

    def advance(self, n: int = 1, **fields: Field) -> None:
        with self._lock:
            self._done += n
            self._fields.update(fields)
            elapsed = _clock() - self._start
            note = [f"{_number((self._done - self._begun_with) / elapsed)} {self._unit}/s"] if elapsed > 0 else []
            note += [f"{key} {_number(value)}" for key, value in self._fields.items()]
            self._display.update(self._task, advance=n, note="  ".join(note))

    def close(self) -> None:
        self._display.stop_task(self._task)


_clock = time.monotonic
_mode: Mode = "none"
_display: "Progress | None" = None
_under_way = 0
_display_lock = threading.Lock()


def show(mode: Literal["auto", "bar", "lines", "none"]) -> None:
    """Choose how progress appears from now on; "auto" is a bar on a terminal and lines elsewhere."""
    global _mode
    if mode == "auto":
        mode = "bar" if sys.stderr.isatty() else "lines"
    _mode = mode


@contextmanager
def progress(description: str, total: int | None, unit: str = "event", *, done: int = 0) -> Iterator[Bar]:
    """Report a piece of work of `total` units (None = not known), `done` of them finished earlier.

    Work that was resumed counts `done` as progress, not as speed. Pieces of work may be nested.
    """
    if _mode == "bar":
        display = _enter_display()
        bar: Bar = _Rich(display, description, total, unit, done)
    else:
        bar = _Lines(description, total, unit, done) if _mode == "lines" else _Silent()
    try:
        yield bar
    finally:
        bar.close()
        if isinstance(bar, _Rich):
            _leave_display()


def note(text: str) -> None:
    """A line for people, where progress is shown at all."""
    if _mode != "none":
        print(text, file=sys.stderr, flush=True)


def _enter_display() -> "Progress":
    """The shared display, started for the outermost work: a terminal holds one live display."""
    global _display, _under_way
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with _display_lock:
        if _display is None:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn("{task.fields[note]}", markup=False),
            )
            _display = Progress(*columns, console=Console(stderr=True))
            _display.start()
        _under_way += 1
        return _display


def _leave_display() -> None:
    global _display, _under_way
    with _display_lock:
        _under_way -= 1
        if _under_way == 0 and _display is not None:
            _display.stop()
            _display = None


def _count(done: int, total: int | None, unit: str) -> str:
    if total is None:
        return f"{done:,} {unit}"
    share = f" ({100 * done / total:.0f} %)" if total else ""
    return f"{done:,}/{total:,} {unit}{share}"


def _number(value: Field) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if isinstance(value, int) or 100 <= abs(value) < 1e7 else f"{value:.4g}"


def size(n_bytes: float) -> str:
    """Bytes for people: `344 MB`."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(n_bytes) < 999.5 or unit == "TB":
            break
        n_bytes /= 1000
    return f"{n_bytes:.0f} {unit}" if n_bytes >= 99.5 or unit == "B" else f"{n_bytes:.3g} {unit}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
