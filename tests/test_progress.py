"""Progress is silent by default, sparse as lines, and never on stdout."""

import sys
import threading

import pytest

from frz import progress as module
from frz.progress import progress, show


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "_clock", clock)
    return clock


def _fail_after(bar: module.Bar, n: int) -> None:
    bar.advance(n)
    raise RuntimeError("stop")


def test_library_use_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("read", 3) as bar:
        bar.advance(3, loss=1.0)
    assert capsys.readouterr() == ("", "")


def test_lines_are_sparse_and_the_last_one_always_comes(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    show("lines")
    with progress("extract", 5000) as bar:
        for _ in range(25):
            clock.now += 1.0
            bar.advance(100, loss=0.25)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "extract: 1,000/5,000 event (20 %), 100 event/s, 0:40 left, loss 0.25",
        "extract: 2,000/5,000 event (40 %), 100 event/s, 0:30 left, loss 0.25",
        "extract: 2,500/5,000 event (50 %), 100 event/s, 0:25, loss 0.25",
    ]


def test_resumed_work_counts_as_done_but_not_as_speed(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    show("lines")
    with progress("train", 1000, "step", done=600) as bar:
        clock.now += 10.0
        bar.advance(100)
    assert capsys.readouterr().err.splitlines()[0] == "train: 700/1,000 step (70 %), 10 step/s, 0:30 left"


@pytest.mark.parametrize(("total", "text"), [(None, "read: 7 file, 0:00"), (0, "read: 7/0 file, 0:00")])
def test_totals_that_are_unknown_or_zero(
    total: int | None, text: str, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    show("lines")
    with progress("read", total, "file") as bar:
        bar.advance(7)
    assert capsys.readouterr().err.strip() == text


def test_the_last_line_comes_when_work_fails(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    show("lines")
    work = progress("read", 9)
    with pytest.raises(RuntimeError), work as bar:
        _fail_after(bar, 2)
    assert capsys.readouterr().err.startswith("read: 2/9 event (22 %)")


def test_threads_lose_no_count(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    show("lines")
    with progress("copy", 4000) as bar:
        threads = [threading.Thread(target=lambda: [bar.advance() for _ in range(1000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert capsys.readouterr().err.startswith("copy: 4,000/4,000 event (100 %)")


def test_bars_nest_in_one_display_on_stderr(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    show("bar")
    with progress("epochs", 2, "epoch") as outer:
        with progress("steps", 10, "step") as inner:
            clock.now += 2.0
            inner.advance(10, loss=0.5)
        outer.advance()
    out, err = capsys.readouterr()
    assert out == ""
    assert "epochs" in err
    assert "10/10" in err
    assert "loss 0.5" in err
    assert module._display is None


def test_auto_is_lines_where_there_is_no_terminal(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    show("auto")
    assert str(module._mode) == "lines"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    show("auto")
    assert str(module._mode) == "bar"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3725, "1:02:05"), (-1, "0:00")])
def test_durations(seconds: float, text: str) -> None:
    assert module._duration(seconds) == text
