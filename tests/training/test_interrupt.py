"""Ctrl-C is noted once, obeyed twice, and given back."""

import signal
import threading

import pytest

from frz.training.interrupt import deferred_interrupt


def test_the_first_is_noted_and_the_second_interrupts() -> None:
    with deferred_interrupt() as noted:
        assert not noted()
        signal.raise_signal(signal.SIGINT)
        assert noted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_python_s_handler_is_back_afterwards() -> None:
    with deferred_interrupt():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_handler_of_the_program_stays() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with deferred_interrupt() as noted:
            signal.raise_signal(signal.SIGINT)
            assert not noted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]


def test_beside_other_processes_any_number_is_noted() -> None:
    """`torchrun` repeats what the terminal has said, and asks by SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    for numbers in ([signal.SIGINT] * 3, [signal.SIGTERM]):
        with deferred_interrupt(often=True) as noted:
            for number in numbers:
                signal.raise_signal(number)
            assert noted()
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_may_train() -> None:
    noted: list[bool] = []

    def work() -> None:
        with deferred_interrupt() as interrupted:
            noted.append(interrupted())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert noted == [False]
