"""Atomic outputs: written in a hidden folder next to the output, synced, and moved into place."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ssl_jets.errors import SslJetsError, UsageError, in_shell
from ssl_jets.runtime.console import to_stderr

LOCK = ".ssl-jets.lock"
"""Lock file in a hidden folder; the lock is released when its process ends, however it ends."""


class WorkFolder:
    """A hidden folder next to an output, on the same file system, locked until it is removed.

    Attributes:
        path: the folder.

    Raises:
        SslJetsError: there is no such folder, or it cannot be written to.
    """

    def __init__(self, output: Path) -> None:
        self._lock: int | None = None
        try:
            while self._lock is None:  # before it is locked, another process may remove it as left behind
                self.path = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
                try:
                    self._lock = _new_lock(self.path / LOCK)
                finally:
                    if self._lock is None:
                        shutil.rmtree(self.path, ignore_errors=True)
        except OSError as error:
            raise disk_error(output, error) from error

    def remove(self) -> None:
        """Remove the folder, if it is still there."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
            shutil.rmtree(self.path, ignore_errors=True)


class WholeFile:
    """A file that `commit` moves into place when it is complete; a link stays, and its target is replaced.

    Attributes:
        fresh: the path to write to.

    Raises:
        UsageError: `path` exists and `force` is not set, or it is a folder.
        SslJetsError: the folder or the disk cannot be written.
    """

    def __init__(self, path: Path, *, force: bool) -> None:
        self.path, self.force = path, force
        check_output(path, force=force)
        self._target = real(path)
        clear_left_behind(self._target)
        self._folder = WorkFolder(self._target)
        self.fresh = self._folder.path / self._target.name

    def commit(self) -> None:
        """Move the file into place. On an `OSError` the old file stays."""
        sync(self.fresh)
        check_output(self.path, force=self.force)
        os.replace(self.fresh, self._target)
        with suppress(OSError):  # not every file system syncs folders
            sync(self._target.parent)
        self.discard()

    def discard(self) -> None:
        """Remove the hidden folder and an uncommitted file in it."""
        self._folder.remove()


@contextmanager
def whole_file(path: Path, *, force: bool) -> Iterator[Path]:
    """Yield a path to write to; the file is moved to `path` if the body ends without an error.

    Raises:
        UsageError: `path` exists and `force` is not set, or it is a folder.
        SslJetsError: the folder or the disk cannot be written. Nothing is left behind.
    """
    file = WholeFile(path, force=force)
    try:
        yield file.fresh
        file.commit()
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        file.discard()


def write_bytes(path: Path, data: bytes) -> None:
    """Write or replace a file; its folder is created if needed.

    Raises:
        SslJetsError: the folder or the disk cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(path, error) from error
    with whole_file(path, force=True) as fresh:
        fresh.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write or replace a text file as `write_bytes` does, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def open_to_append(path: Path) -> IO[str]:
    """Open a text file to append to, with the permissions of the umask; links are not followed.

    Raises:
        SslJetsError: it is a link, or it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            found, hint = f"a link to {os.readlink(path)}", in_shell("rm", path)
            raise SslJetsError("a file of the run folder is a link", where=path, found=found, hint=hint) from None
        raise disk_error(path, error) from None
    return os.fdopen(descriptor, "a", encoding="utf-8")


def clear_left_behind(output: Path) -> None:
    """Remove hidden folders that killed runs with the same output left behind, and report each on stderr.

    A folder stays if its lock is held, or if this file system has no locks.
    """
    hidden = re.compile(rf"\.{re.escape(output.name)}\.[a-z0-9_]{{8}}")
    try:
        folders = [Path(entry) for entry in os.scandir(output.parent) if hidden.fullmatch(entry.name)]
    except OSError:
        return  # reported when the folder is written to
    for folder in folders:
        try:
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if try_lock(lock):
                shutil.rmtree(folder, ignore_errors=True)
                to_stderr(f"removed what a run that was killed left behind: {folder}")
        finally:
            os.close(lock)


def _new_lock(path: Path) -> int | None:
    """Create and lock a file; return None if another process was quicker."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    if try_lock(lock) is not False and path.exists():
        return lock
    os.close(lock)
    return None


def try_lock(descriptor: int) -> bool | None:
    """Try to lock a file; return False if another process has the lock, None if the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EACCES, errno.EAGAIN) else None
    return True


def real(path: Path) -> Path:
    """Return the absolute path without links; it need not exist."""
    return Path(os.path.realpath(path))


def check_output(path: Path, *, force: bool, option: str = "--out") -> None:
    """Check that an output file, which `option` names, may be written.

    Raises:
        UsageError: `path` exists and `force` is not set, or it is a folder.
        SslJetsError: its folder does not exist or cannot be written to.
    """
    if path.is_dir():
        raise UsageError("the output is a folder", where=path, hint=in_shell(option, path / "FILE"))
    if path.exists() and not force:
        raise UsageError("the output exists already", where=path, hint=f"--force to overwrite it, or another {option}")
    folder = real(path).parent
    if not folder.is_dir():
        raise disk_error(path, OSError(errno.ENOTDIR if folder.exists() else errno.ENOENT, "no folder"))
    _check_access(folder, option)


def check_suffix(path: str | Path, suffix: str, message: str, *, option: str = "--out") -> Path:
    """Check the suffix of an output file, which `option` names, and return its path.

    Raises:
        UsageError: it is another one; `message` is the first line.
    """
    path = Path(path)
    if path.suffix.lower() != suffix:
        hint = in_shell(option, path.with_suffix(suffix)) if path.name else None
        raise UsageError(message, where=path, found=path.suffix or "no suffix", allowed=[suffix], hint=hint)
    return path


def check_folder(folder: Path, holds: str, *, force: bool) -> None:
    """Check that an output folder may be written, before the work begins.

    Raises:
        UsageError: it contains the file `holds` and `force` is not set, or it is a file.
        SslJetsError: it cannot be written to.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError("the output is not a folder", where=folder, hint="--out FOLDER")
    if (folder / holds).exists() and not force:
        raise UsageError("the output exists already", where=folder, hint="--force to replace it, or another --out")
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    _check_access(existing, "--out")


def _check_access(folder: Path, option: str) -> None:
    if not os.access(folder, os.W_OK):
        hint = f"another {option}"
        raise SslJetsError("the output cannot be written", where=folder, found="no write access", hint=hint)


def check_run_folder(folder: Path, *, force: bool) -> None:
    """Check that a folder is empty, or a run to be replaced with `force`. Nothing is written or removed.

    Raises:
        UsageError: the folder contains other files, or a run and `force` is not set.
    """
    if not folder.exists():
        return
    entries = folder.iterdir() if folder.is_dir() else [folder]
    if any(not entry.name.startswith(".") for entry in entries):
        if not (folder / "config.yaml").is_file():
            raise UsageError("the output exists and is not a run folder", where=folder, hint="--out OTHER")
        if not force:
            hint = "--resume to go on, --force to replace it, or --out OTHER"
            raise UsageError("the run exists", where=folder, hint=hint)


def sync(path: Path) -> None:
    """Flush a file to the disk; an exceeded quota or a full network disk is often reported only here."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_error(path: Path, error: OSError) -> SslJetsError:
    """Turn an `OSError` on the output `path` into one message."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    hints = {
        errno.ENOENT: in_shell("mkdir", "-p", path.parent),
        errno.ENOSPC: "free some space, or another --out",
        errno.EDQUOT: "free some of your quota, or another --out",
    }
    return SslJetsError(
        "the output cannot be written", where=path, found=reason, hint=hints.get(error.errno or 0, "another --out")
    )


def free_folder(parent: Path, name: str) -> Path:
    """Return `parent/name`, or the first of `parent/name-2`, `parent/name-3`, ... that does not exist."""
    folder, number = parent / name, 1
    while folder.exists():
        number += 1
        folder = parent / f"{name}-{number}"
    return folder
