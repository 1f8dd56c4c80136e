"""A file that appears whole or not at all: written in a hidden folder beside it, and moved into place."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ssl_jets.errors import SslJetsError, UsageError


@contextmanager
def whole_file(path: Path, *, force: bool) -> Iterator[Path]:
    """Gives the path to write to; what lies there is moved to `path` when the body ends without an error.

    Raises:
        UsageError: `path` exists and `force` is not given, or it is a folder.
        SslJetsError: the folder or the disk does not take the file. Nothing is left behind.
    """
    check_output(path, force=force)
    folder = temporary_folder(path)
    try:
        yield folder / path.name
        sync(folder / path.name)
        check_output(path, force=force)
        os.replace(folder / path.name, path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_output(path: Path, *, force: bool) -> None:
    """Refuse to overwrite.

    Raises:
        UsageError: `path` exists and `force` is not given, or it is a folder.
    """
    if path.is_dir():
        raise UsageError("the output is a folder", where=path, hint=f"--out {path / 'FILE'}")
    if path.exists() and not force:
        raise UsageError("the output exists already", where=path, hint="--force to overwrite it, or another --out")


def check_folder(folder: Path, holds: str, *, force: bool) -> None:
    """Refuse a folder to write to before the work begins.

    Raises:
        UsageError: it has the file `holds` and `force` is not given, or it is a file.
        SslJetsError: it cannot be written to.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError("the output is not a folder", where=folder, hint="--out FOLDER")
    if (folder / holds).exists() and not force:
        raise UsageError("the output exists already", where=folder, hint="--force to replace it, or another --out")
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not os.access(there, os.W_OK):
        raise SslJetsError("the output cannot be written", where=there, found="no write access", hint="another --out")


def temporary_folder(path: Path) -> Path:
    """A new hidden folder beside `path`, on the same file system.

    Raises:
        SslJetsError: there is no such folder, or it cannot be written to.
    """
    try:
        return Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise disk_error(path, error) from error


def sync(path: Path) -> None:
    """Wait for the disk: a quota or a full network disk is often reported only here."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_error(path: Path, error: OSError) -> SslJetsError:
    """What the disk said about the output `path`, as one message."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    hints = {
        errno.ENOENT: f"mkdir -p {path.parent}",
        errno.ENOSPC: "free some space, or another --out",
        errno.EDQUOT: "free some of your quota, or another --out",
    }
    return SslJetsError(
        "the output cannot be written", where=path, found=reason, hint=hints.get(error.errno or 0, "another --out")
    )
