"""Outputs that would replace an input of the same command."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ssl_jets.errors import UsageError
from ssl_jets.runtime.atomic import real


def check_apart(outputs: Iterable[Path], inputs: Iterable[str | Path]) -> None:
    """Check that no output is an input, nor a folder that contains one, also by a link or another spelling.

    `--force` replaces outputs that exist; it is no consent to lose the input.

    Args:
        outputs: files, and folders that are replaced as a whole.
        inputs: files and folders; names of remote files match none.

    Raises:
        UsageError: one is.
    """
    paths = {real(path): path for path in outputs if path.exists()}
    if not paths:
        return
    nodes = {_node(path): path for path in paths.values()}
    for one in map(Path, inputs):
        place = real(one)
        if (replaced := paths.get(place) or nodes.get(_node(one))) is not None:
            raise UsageError("the output is an input", where=replaced, found=one, hint="another --out")
        if (folder := next((paths[parent] for parent in place.parents if parent in paths), None)) is not None:
            raise UsageError("the output contains an input", where=folder, found=one, hint="another --out")


def _node(path: Path) -> tuple[int, int] | None:
    """Return the device and the number of a file, the same by any of its names; None if there is no such file."""
    with suppress(OSError, ValueError):
        status = path.stat()
        return status.st_dev, status.st_ino
    return None
