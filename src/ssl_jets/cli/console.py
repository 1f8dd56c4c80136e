"""Results on stdout, messages on stderr; of several processes only the first prints."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from ssl_jets.runtime.launcher import rank
from ssl_jets.runtime.terminal import write


def on_rank_0(action: Callable[[], object]) -> None:
    if rank() == 0:
        action()


def print_result(result: object) -> None:
    """Print a result. A path is printed unchanged for scripts; on a terminal it is escaped, as all text."""
    if isinstance(result, Path) and not sys.stdout.isatty():
        on_rank_0(lambda: print(result, flush=True))
    else:
        on_rank_0(lambda: write(result, sys.stdout))


def log(message: str) -> None:
    on_rank_0(lambda: write(message, sys.stderr))
