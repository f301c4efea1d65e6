"""Ctrl-C that waits for the end of a step: half a step cannot be saved.

`torchrun` passes a Ctrl-C on to processes that the terminal has told already, and asks them to end by SIGTERM.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupt(often: bool = False) -> Iterator[Callable[[], bool]]:
    """Within the block the first Ctrl-C is only noted; a second one interrupts at once.

    With `often` any number of them is only noted, and SIGTERM likewise.

    Yields a function that tells whether one was noted. Where Python's own handler is not in place (another
    thread, a program with a handler of its own, `nohup`) nothing is changed and nothing is noted.
    """
    noted = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if noted.is_set() and not often:
            signal.default_int_handler(number, frame)
        noted.set()

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield noted.is_set
        return
    before = {number: signal.signal(number, note) for number in ((signal.SIGINT, signal.SIGTERM)[: 1 + often])}
    try:
        yield noted.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
