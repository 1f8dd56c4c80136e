"""Results on stdout, messages on stderr; of several processes only the first prints."""

from __future__ import annotations

import sys
from pathlib import Path

from ssl_jets.runtime.launcher import rank
from ssl_jets.runtime.terminal import write


def print_result(result: object) -> None:
    """Print a result. A path is printed unchanged for scripts; on a terminal it is escaped, as all text."""
    if rank() != 0:
        return
    if isinstance(result, Path) and not sys.stdout.isatty():
        print(result, flush=True)
    else:
        write(result, sys.stdout)


def log(message: str) -> None:
    """Print a message."""
    if rank() == 0:
        write(message, sys.stderr)
