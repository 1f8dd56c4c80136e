"""The signal that ends a job is remembered while it is watched for, and no longer."""

from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

from ssl_jets.runtime.signals import Interrupted, Watch

WATCHED = [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT]


@pytest.mark.parametrize("number", WATCHED)
def test_a_signal_is_noted_and_does_not_interrupt(number: signal.Signals) -> None:
    with Watch() as watch:
        assert watch.received == 0
        signal.raise_signal(number)
        assert watch.received == number


def test_the_handlers_of_before_come_back_even_after_an_error() -> None:
    calls: list[int] = []
    before = {number: signal.getsignal(number) for number in WATCHED}
    signal.signal(signal.SIGUSR1, lambda number, frame: calls.append(number))
    mine = signal.getsignal(signal.SIGUSR1)
    try:
        with pytest.raises(RuntimeError, match="inside"), Watch():
            raise RuntimeError("inside")
        assert signal.getsignal(signal.SIGUSR1) is mine
        assert signal.getsignal(signal.SIGTERM) == before[signal.SIGTERM]
        assert signal.getsignal(signal.SIGINT) == before[signal.SIGINT]
        signal.raise_signal(signal.SIGUSR1)
        assert calls == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before[signal.SIGUSR1])


def test_a_second_interrupt_from_the_keyboard_interrupts_at_once() -> None:
    with Watch() as watch:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert watch.received == signal.SIGINT


def test_outside_of_the_main_thread_nothing_is_watched() -> None:
    before, inside = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with Watch():
            inside.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [before]


def test_the_exception_has_the_signal() -> None:
    stop = Interrupted(signal.SIGTERM)
    assert stop.signal == 15
    assert "SIGTERM" in str(stop)


class SignalAtEnd:
    """Object whose end is a signal; an exception there is ignored by Python."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_a_signal_whose_exception_python_ignores_comes_again() -> None:
    hook = sys.unraisablehook

    def work() -> None:
        with Watch(at_once=True):
            SignalAtEnd()
            time.sleep(20)

    with pytest.raises(Interrupted, match="SIGINT"):
        work()
    assert sys.unraisablehook is hook


def test_an_error_that_a_library_makes_of_a_signal_is_the_signal() -> None:
    def work() -> None:
        with Watch(at_once=True):
            try:
                signal.raise_signal(signal.SIGTERM)
            except BaseException as error:
                raise RuntimeError("while a validator was built") from error

    with pytest.raises(Interrupted, match="SIGTERM"):
        work()
