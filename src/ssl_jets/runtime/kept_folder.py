"""Folder next to an output with the finished parts of a killed run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ssl_jets.errors import UsageError
from ssl_jets.runtime.atomic import LOCK, disk_error, real, try_lock


class KeptFolder:
    """A folder next to an output that stays when its process is killed, locked while a process uses it.

    Attributes:
        path: the folder, by default the hidden one `.OUTPUT.parts`.

    Raises:
        UsageError: another process uses the folder.
        SslJetsError: it cannot be written to.
    """

    def __init__(self, output: Path, path: Path | None = None) -> None:
        self.path = kept_path(output) if path is None else path
        self._lock: int | None = None
        try:
            self.path.mkdir(exist_ok=True)
            self._lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise disk_error(output, error) from error
        if try_lock(self._lock) is False:
            self.release()
            raise UsageError(
                "another process is writing this output", where=output, hint="wait for it, or another --out"
            )

    def release(self) -> None:
        """Let another process use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def clear(self) -> None:
        """Remove all files but the lock."""
        for path in self.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != LOCK:
                path.unlink()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.release()


def kept_path(output: Path) -> Path:
    """Return the folder of an output; of a link, next to its target."""
    target = real(output)
    return target.with_name(f".{target.name}.parts")
