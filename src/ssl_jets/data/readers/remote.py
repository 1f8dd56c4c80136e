"""Files elsewhere, named by a URL and read by uproot through fsspec."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec

from ssl_jets.errors import UsageError

PROTOCOLS = {
    "root": ("fsspec_xrootd", "xrootd"),
    "http": ("aiohttp", "http"),
    "https": ("aiohttp", "http"),
}
"""URLs that are read, each with the package that does so and the extra of ours that installs it."""


def is_remote(path: str) -> bool:
    """Whether a path is the URL of a file elsewhere."""
    return "://" in path


def check_protocol(path: str) -> None:
    """Refuse a URL of a protocol that is not known, or whose package is not installed.

    Raises:
        UsageError: it names what to install.
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
    """Bytes of a file, here or elsewhere."""
    if not is_remote(path):
        return os.path.getsize(path)
    import fsspec

    system, name = fsspec.core.url_to_fs(path)
    return int(system.size(name) or 0)


def read_ranges(path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Read several ranges of bytes of a file elsewhere, in one request where the protocol allows that."""
    import fsspec

    system, name = fsspec.core.url_to_fs(path)
    starts, stops = ([edges[side] for edges in ranges] for side in (0, 1))
    found: list[bytes] = system.cat_ranges([name] * len(ranges), starts, stops, on_error="raise")
    return found
