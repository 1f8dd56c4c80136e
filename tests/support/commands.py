"""Result of a command that a test runs."""

from __future__ import annotations

from typing import NamedTuple


class Done(NamedTuple):
    """Exit code, stdout and stderr of a command."""

    code: int
    out: str
    err: str
