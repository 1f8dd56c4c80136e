"""Checkpoint files: written atomically, the last few kept, read without unpickling code.

Not by Fabric, which hands the path to fsspec (a folder `https-study` would be taken for a URL) and loads with pickle.
torch's own reader ignores the checksums that its writer stores.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ssl_jets.errors import SslJetsError, in_shell
from ssl_jets.runtime.atomic import sync
from ssl_jets.runtime.process_group import Ranks, lost_another
from ssl_jets.runtime.reading import guarded
from ssl_jets.training.run_folder import checkpoints

BEGIN_ANEW = "--force instead of --resume begins the run anew"
VISIBLE_WITHIN = 60.0
"""Seconds to wait for a file that another machine wrote: network disks show older contents of a folder for a while."""


def write(path: Path, state: Mapping[str, Any], keep: int = 1) -> None:
    """Write a checkpoint under a temporary name and rename it; keep the `keep` newest ones, the older ones numbered.

    A kill at any moment leaves at least one complete checkpoint if there was one before. While it is written, the disk
    holds `keep` older ones.

    Raises:
        SslJetsError: the disk is full or fails. The older checkpoints stay.
    """
    fresh = path.with_name(f".{path.name}.tmp")
    try:
        older = checkpoints(path)
        for file in older[keep:]:  # of a run that kept more
            file.unlink()
        torch.save(dict(state), fresh.absolute())
        sync(fresh)
        for number, file in reversed(list(enumerate(older[:keep], start=1))):
            if number < keep:
                os.replace(file, path.with_name(f"{path.stem}-{number}{path.suffix}"))
            elif file != path:
                file.unlink()
        os.replace(fresh, path)
    except (OSError, RuntimeError) as error:
        fresh.unlink(missing_ok=True)
        raise _no_room(path, checkpoints(path), error) from None


def _no_room(path: Path, older: Sequence[Path], error: Exception) -> SslJetsError:
    """Return the error of a checkpoint that could not be written, with the room on the disk and the way to get more."""
    free = shutil.disk_usage(path.parent).free  # torch does not report a full disk
    room = [f"{free / 1e6:.0f} MB are left on the disk"]
    room += [f"the checkpoint before has {file.stat().st_size / 1e6:.0f} MB" for file in older[:1]]
    causes = [] if free < 1e6 else [str(error).partition("\n")[0]]
    hint = "free some space, then --resume"
    if older[1:]:
        hint = f"free some space, such as with {in_shell('rm', *older[1:])}, then --resume from {older[0].name}"
    return SslJetsError("the checkpoint cannot be written", where=path, found="; ".join([*causes, *room]), hint=hint)


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU and verify its checksums.

    Raises:
        SslJetsError: it is damaged, or contains more than tensors and plain values.
        OSError: the disk fails.
    """
    with one_message(path), path.absolute().open("rb") as file:
        with zipfile.ZipFile(file) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
        file.seek(0)
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise TypeError(f"it holds a {type(state).__name__}")
    return state


def settle(path: Path) -> list[str]:
    """Replace damaged checkpoints by the newest undamaged one.

    Returns:
        A message for each damaged checkpoint.

    Raises:
        SslJetsError: all checkpoints are damaged.
    """
    files, messages = checkpoints(path), []
    for number, file in enumerate(files):
        try:
            read(file)
        except SslJetsError as error:
            if number == len(files) - 1:
                raise
            messages.append(f"{file} is damaged ({error.found}): going on from the older {files[number + 1].name}")
        else:
            if file != path:
                os.replace(file, path)
            break
    return messages


def require_same(path: Path, ranks: Ranks) -> None:
    """Wait until all processes see the same checkpoint, compared by its checksums.

    Weights are read by each process, and nothing later would show that they differ.

    Raises:
        SslJetsError: after `VISIBLE_WITHIN` some see another one, or none.
    """
    began = time.monotonic()
    while True:
        seen = ranks.gather((_checksums(path), time.monotonic() - began >= VISIBLE_WITHIN))
        others = {rank: checksums for rank, (checksums, _) in enumerate(seen) if checksums != seen[0][0]}
        if not others:
            return
        if seen[0][1]:  # rank 0 decides, so that none waits for others
            found = [f"rank {rank}: {'another one' if checksums else 'none'}" for rank, checksums in others.items()]
            raise SslJetsError(
                "the processes of the launch do not see the same checkpoint",
                where=path,
                found=", ".join(found[:8]),
                hint="--out FOLDER on a disk that all machines share",
            )
        time.sleep(0.5)


def _checksums(path: Path) -> str:
    """Return a digest of the checksums in a checkpoint; an empty one if there is none that can be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [(part.filename, part.CRC) for part in archive.infolist()]
    except (OSError, zipfile.BadZipFile):
        return ""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@contextmanager
def one_message(path: Path) -> Iterator[None]:
    """Turn any error that a damaged or foreign checkpoint causes into one message.

    Errors of the machine pass: a shortage of memory, a failing disk, a lost connection to another rank.
    """
    message = "the checkpoint cannot be read, or is not one of this run"
    with guarded(message, path, hint=BEGIN_ANEW, error=SslJetsError, passes=_of_machine):
        yield


def _of_machine(cause: Exception) -> bool:
    """Return True for a shortage of memory, a failing disk, or a lost connection to another rank."""
    if isinstance(cause, OSError):
        return cause.errno not in (None, errno.EINVAL)  # a damaged offset in a file is EINVAL
    if isinstance(cause, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(cause, RuntimeError) and lost_another(cause)
