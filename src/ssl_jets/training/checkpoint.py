"""Checkpoint files: written whole, the last few kept, read without running code.

Fabric would hand the path to fsspec, which takes a folder named `https-study` for the address of a file elsewhere, and
would load with pickles. torch's own reader passes over the checksums that its writer stores.
"""

from __future__ import annotations

import errno
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ssl_jets.errors import SslJetsError
from ssl_jets.runtime.atomic import sync
from ssl_jets.runtime.process_group import lost_another
from ssl_jets.training.run_folder import checkpoints

BEGIN_ANEW = "--force in the place of --resume begins the run anew"


def write(path: Path, state: Mapping[str, Any], keep: int = 1) -> None:
    """Write a checkpoint under a temporary name and rename it; `keep` checkpoints stay, the older ones numbered.

    Killed at any moment, it leaves at least one whole checkpoint where there was one.

    Raises:
        SslJetsError: the disk does not take it. The checkpoints before it stay.
    """
    fresh = path.with_name(f".{path.name}.tmp")
    try:
        torch.save(dict(state), fresh.absolute())
        sync(fresh)
        for number, file in reversed(list(enumerate(checkpoints(path), start=1))):
            if number >= keep and file != path:
                file.unlink()
            elif number < keep:
                os.replace(file, path.with_name(f"{path.stem}-{number}{path.suffix}"))
        os.replace(fresh, path)
    except (OSError, RuntimeError) as error:
        fresh.unlink(missing_ok=True)
        left = shutil.disk_usage(path.parent).free  # torch does not name this cause
        causes = [] if left < 1e6 else [str(error).partition("\n")[0]]
        found = "; ".join([*causes, f"{left / 1e6:.0f} MB are left on the disk"])
        raise SslJetsError("the checkpoint cannot be written", where=path, found=found) from None


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU, with its checksums compared.

    Raises:
        SslJetsError: it is damaged, or holds more than tensors and plain values.
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
    """Put the newest sound checkpoint in the place of newer ones that are damaged.

    Returns:
        a message for each damaged one.

    Raises:
        SslJetsError: all are damaged.
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


@contextmanager
def one_message(path: Path) -> Iterator[None]:
    """Turn any error that a damaged or foreign checkpoint causes into one message; faults of the machine pass."""
    try:
        yield
    except (SslJetsError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the contents may be anything: KeyError, zlib.error, UnpicklingError, RuntimeError, ...
        disk = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)  # a damaged offset is EINVAL
        if disk or (isinstance(error, RuntimeError) and lost_another(error)):
            raise
        raise SslJetsError(
            "the checkpoint cannot be read, or is not one of this run",
            where=path,
            found=f"{type(error).__name__}: " + str(error).strip().partition("\n")[0].partition(". ")[0],
            hint=BEGIN_ANEW,
        ) from error
