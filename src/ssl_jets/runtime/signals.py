"""Signals that end a batch job, handled from the start of a command to its end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from ssl_jets.errors import SslJetsError

_AGAIN = 0.05
"""Seconds before a signal is sent again if Python ignored its exception."""
WATCHED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Signals that end a batch job."""


class Interrupted(BaseException):
    """A signal ended the work cleanly: a training is saved, an unfinished output is removed.

    Like `KeyboardInterrupt` it is no `Exception`, since it may be raised inside a library that catches exceptions.

    Args:
        number: number of the signal.
        hint: how to continue from Python; the log has the option of the command line.

    Attributes:
        signal: number of the signal; the process exits with 128 + signal.
        message: the message for the command line.
    """

    def __init__(self, number: int, hint: str = "") -> None:
        self.signal, self.message = number, f"stopped by {signal.Signals(number).name}"
        super().__init__(f"{self.message}; {hint}" if hint else self.message)


class Watch:
    """Context in which SIGTERM, SIGUSR1 and SIGINT set `received`; a second SIGINT interrupts at once.

    Attributes:
        received: number of the last signal, 0 if there was none.
        at_once: raise `Interrupted` as soon as a signal arrives, for work that leaves nothing behind.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.received, self.at_once = 0, at_once
        self._before: dict[int, object] = {}

    def __enter__(self) -> Watch:
        if threading.current_thread() is threading.main_thread():
            for number in WATCHED:
                self._before[number] = signal.signal(number, self._note)
            self._hook, sys.unraisablehook = sys.unraisablehook, self._repeat
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before:
            sys.unraisablehook = self._hook
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self.received and self.at_once and isinstance(error, Exception) and not isinstance(error, SslJetsError):
            raise Interrupted(self.received) from error  # a library, such as pydantic, made another error of it

    def stop_at_once(self) -> None:
        """Raise `Interrupted` as soon as a signal arrives from now on, and now if one has arrived."""
        self.at_once = True
        if self.received:
            raise Interrupted(self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received == signal.SIGINT and number == signal.SIGINT and not self.at_once:
            raise KeyboardInterrupt
        self.received = number
        if self.at_once:
            raise Interrupted(number)

    def _repeat(self, ignored: sys.UnraisableHookArgs) -> None:
        """Send a signal again if Python ignored its exception, as it does in a callback of an import."""
        if not isinstance(ignored.exc_value, Interrupted):
            self._hook(ignored)
            return
        again = threading.Timer(_AGAIN, os.kill, (os.getpid(), ignored.exc_value.signal))
        again.daemon = True
        again.start()


_current: list[Watch] = []


@contextmanager
def watched(*, pass_on: bool = True) -> Iterator[Watch]:
    """Yield the watch of a training, shared by all nested calls; the outermost call enters it.

    A signal stops the preparation at once and the training between two steps. After the last step the model is written
    in any case, and then the signal is passed on to the caller's handler, or dropped without `pass_on`.
    """
    if _current:
        yield _current[0]
        return
    with Watch(at_once=True) as watch:
        _current.append(watch)
        try:
            yield watch
        finally:
            _current.clear()
    if watch.received and pass_on:
        signal.raise_signal(watch.received)
