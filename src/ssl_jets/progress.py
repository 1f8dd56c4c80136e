"""Progress on stderr: a live bar on a terminal, a plain line now and then in a batch log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ssl_jets.terminal import write

Say = Callable[[str], None]
"""Told a message for the user."""

_SECONDS_BETWEEN_LINES = 10.0


def to_stderr(message: str) -> None:
    """One line on stderr."""
    write(message, sys.stderr)


class Bar:
    """Counts `total` units of work under a `title`.

    Args:
        title: what is being done.
        total: units in all; None where not known.
        unit: name of a unit.
        shown: whether this process shows anything (rank 0).
    """

    def __init__(self, title: str, total: int | None, unit: str, *, shown: bool = True) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.live: Progress | None = None
        self.shown, self.last, self.done = shown, time.monotonic(), 0
        if shown and sys.stderr.isatty():
            console = Console(stderr=True)
            self.live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
                transient=True,
            )
            self.task = self.live.add_task(title, total=total, note="")

    def __enter__(self) -> Bar:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def to(self, done: int, note: str = "") -> None:
        """`done` units are done; `note` says more (loss, rate)."""
        self.done = done
        if self.live is not None:
            self.live.update(self.task, completed=done, note=note)
        elif self.shown and time.monotonic() - self.last >= _SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            of = f" of {self.total}" if self.total is not None else ""
            to_stderr(f"{self.title}: {done}{of} {self.unit}  {note}".rstrip())

    def to_of(self, done: int, total: int) -> None:
        """`done` of `total` units are done, where the total was not known before."""
        self.total = total
        if self.live is not None:
            self.live.update(self.task, total=total)
        self.to(done)
