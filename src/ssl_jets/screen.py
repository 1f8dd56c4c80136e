"""stdout and stderr whose reader may end (`ssl-jets ... 2>&1 | head -1`), or that are closed (`2>&-`).

Messages and progress are dropped from then on, and the work goes on. A result that nobody can read is an error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class ReaderEndedError(Exception):
    """The program that reads stdout has ended. (click would turn a `BrokenPipeError` into exit code 1.)"""


class Outlet:
    """A text stream that goes to nowhere once a write has failed.

    Args:
        stream: where the text goes.
        needed: whether a failed write is raised, after which the stream is silent.
    """

    def __init__(self, stream: TextIO, *, needed: bool) -> None:
        self._stream, self._needed = stream, needed

    def write(self, text: str) -> int:
        """Write text."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Point the descriptor to nowhere, so that neither later writes nor the interpreter's last flush fail."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if self._needed:
            raise ReaderEndedError if isinstance(error, BrokenPipeError) else error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded() -> Iterator[None]:
    """Guard both streams of this process while a command runs."""
    before = sys.stdout, sys.stderr
    # Opened in this order, they take the descriptors 0 to 2, which an output file must not get.
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115
    out, err = (stream or open(os.devnull, "w", encoding="utf-8") for stream in before)  # noqa: SIM115
    sys.stdout, sys.stderr = Outlet(out, needed=True), Outlet(err, needed=False)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
