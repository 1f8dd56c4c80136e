"""Messages and progress: a live bar on a terminal, a live line in a notebook, a line every 10 s in a batch log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ssl_jets.runtime.launcher import rank
from ssl_jets.runtime.terminal import write

Log = Callable[[str], None]
"""Function that shows a message to the user."""

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_DRAWINGS = 0.2
_BAR_WIDTH = 24


def to_stderr(message: str) -> None:
    """Print one line on stderr; in a notebook, which shows stderr as errors, on stdout."""
    write(message, sys.stdout if in_notebook() else sys.stderr)


def log(message: str) -> None:
    """Print one line as `to_stderr` does; of the processes of a launch only the first does."""
    if rank() == 0:
        to_stderr(message)


def in_notebook() -> bool:
    """Check for a Jupyter kernel."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")


class _LiveLine:
    """A line of a notebook that is updated in place, without widgets."""

    def __init__(self) -> None:
        from IPython.display import display

        self.handle = display({"text/plain": ""}, raw=True, display_id=True)

    def write(self, title: str, done: int, total: int | None, unit: str, note: str) -> None:
        """Update the line, with a bar if the total is known."""
        full = round(_BAR_WIDTH * min(done / total, 1)) if total else 0
        bar = f"{'█' * full}{'░' * (_BAR_WIDTH - full)} {done:,} of {total:,}" if total else f"{done:,}"
        self.handle.update({"text/plain": f"{title}  {bar} {unit}  {note}".rstrip()}, raw=True)


class Bar:
    """Progress bar of a task of `total` units.

    Args:
        title: name of the task.
        total: number of units; None if unknown.
        unit: name of the units.
        shown: show progress on this process (rank 0).
    """

    def __init__(self, title: str, total: int | None, unit: str, *, shown: bool = True) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.live: Progress | None = None
        self.line = _LiveLine() if shown and in_notebook() else None
        self.shown, self.last, self.done = shown, time.monotonic(), 0
        if shown and self.line is None and sys.stderr.isatty():
            console = Console(stderr=True)
            self.live = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=_BAR_WIDTH),
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
        """Set the number of units that are done; `note` follows the bar (loss, rate)."""
        self.done = done
        if self.live is not None:
            self.live.update(self.task, completed=done, note=note)
        elif self.line is not None:
            if time.monotonic() - self.last >= _SECONDS_BETWEEN_DRAWINGS or done == self.total:
                self.last = time.monotonic()
                self.line.write(self.title, done, self.total, self.unit, note)
        elif self.shown and time.monotonic() - self.last >= _SECONDS_BETWEEN_LINES:
            self.last = time.monotonic()
            of = f" of {self.total}" if self.total is not None else ""
            to_stderr(f"{self.title}: {done}{of} {self.unit}  {note}".rstrip())

    def to_of(self, done: int, total: int) -> None:
        """Set the number of units that are done, and the total, which was unknown before."""
        self.total = total
        if self.live is not None:
            self.live.update(self.task, total=total)
        self.to(done)


class MessageLog:
    """Log that shows each message and keeps it."""

    def __init__(self, log: Log) -> None:
        self.log, self.messages = log, list[str]()

    def __call__(self, message: str) -> None:
        self.messages.append(message)
        self.log(message)
