"""Settings of tests that later ones override."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ssl_jets.config import parse_set


def last_of(settings: Iterable[str], *more: str) -> list[str]:
    """Return `KEY=VALUE` settings; of a key that comes again the last one."""
    return list({word.partition("=")[0]: word for word in (*settings, *more)}.values())


def overridden(settings: Iterable[str], *more: str) -> dict[str, Any]:
    """Parse `KEY=VALUE` settings; of a key that comes again the last one holds."""
    return parse_set(last_of(settings, *more))
