"""Remote files, named by a URL and read by uproot through fsspec."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TypeVar

from ssl_jets.errors import UsageError
from ssl_jets.runtime.console import log

T = TypeVar("T")

PROTOCOLS = {
    "root": ("fsspec_xrootd", "xrootd"),
    "http": ("aiohttp", "http"),
    "https": ("aiohttp", "http"),
}
"""Protocol of a URL to the package that reads it, and the extra of this package that installs it."""


WAITS = (1.0, 5.0, 20.0)
"""Seconds before a further attempt to read from a server that does not answer; less than a batch system leaves after
SIGTERM."""


def is_remote(path: str) -> bool:
    """Check whether a path is a URL."""
    return "://" in path


def check_protocol(path: str) -> None:
    """Check that the protocol of a URL is known and its package installed.

    Raises:
        UsageError: it is not; the message names the package to install.
    """
    protocol = path.partition("://")[0]
    if protocol not in PROTOCOLS:
        hint = "copy the file here first"
        raise UsageError("this protocol is not known", where=path, found=protocol, allowed=PROTOCOLS, hint=hint)
    package, extra = PROTOCOLS[protocol]
    if find_spec(package) is None:
        raise UsageError(
            f"files of {protocol}:// are read with the package {package.replace('_', '-')}, which is not installed",
            where=path,
            hint=f'pip install "ssl-jets[{extra}]", or copy the file here first',
        )


def size(path: str) -> int:
    """Return the size of a local or remote file in bytes; 0 if a server does not report it."""
    if not is_remote(path):
        return os.path.getsize(path)
    import fsspec

    system, name = fsspec.core.url_to_fs(path)
    return int(system.size(name) or 0)


def patiently(read: Callable[[], T], path: str, reconnect: Callable[[], object]) -> T:
    """Read from a file; of a server that does not answer again, a few times, after `reconnect`.

    Raises:
        Exception: as `read` at the last attempt; of a local file, and if the server has no such file, at the first.
    """
    for wait in WAITS if is_remote(path) else ():
        try:
            return read()
        except (FileNotFoundError, PermissionError):
            raise
        except Exception as error:
            library = type(error).__module__.partition(".")[0]
            if not isinstance(error, OSError) and library not in ("aiohttp", "fsspec"):
                raise
            log(f"{path}: {str(error).partition(chr(10))[0] or type(error).__name__}; again in {wait:g} s")
        reconnect()
        time.sleep(wait)
    return read()


def read_ranges(path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Read several byte ranges of a remote file, in one request if the protocol allows it."""
    import fsspec

    system, name = fsspec.core.url_to_fs(path)
    starts = [start for start, _ in ranges]
    stops = [stop for _, stop in ranges]
    content: list[bytes] = system.cat_ranges([name] * len(ranges), starts, stops, on_error="raise")
    return content
