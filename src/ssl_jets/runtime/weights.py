"""Weights on disk: safetensors files that are written synced, and read only with the right hash."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from ssl_jets.errors import SslJetsError
from ssl_jets.runtime.atomic import sync
from ssl_jets.runtime.reading import guarded

SPARE_NUMBERS = 100_000
"""Numbers that modules may have beside those that are saved."""


def write_weights(weights: Mapping[str, Tensor], file: Path) -> str:
    """Write a file and return its SHA-256."""
    save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, file)
    # safetensors makes its files readable by their owner alone, whatever the umask.
    like = file.with_name(f"{file.name}.mode")
    like.touch()
    shutil.copymode(like, file)
    like.unlink()
    sync(file)
    return _digest(file)


def read_weights(file: Path, sha256: Any) -> dict[str, Tensor]:
    """Read a file that has this SHA-256. Nothing in it is looked at before the hash is found to be right.

    Raises:
        SslJetsError: it cannot be read, or has another hash.
    """
    with guarded("the model cannot be read", file.parent, error=SslJetsError):
        digest = _digest(file)
        if digest != sha256:
            raise SslJetsError("the weights are not those the model was saved with", where=file, found=digest)
        return load_file(file)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def no_larger_than(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Stop the building of modules once they have more numbers than the weights that they are for.

    On the meta device this costs no memory, so that settings that do not fit are found before anything is allocated.

    Raises:
        ValueError: the modules are larger.
    """
    left = 2 * sum(value.numel() for value in weights.values()) + SPARE_NUMBERS

    def count(module: nn.Module, name: str, value: Tensor | None) -> None:
        nonlocal left
        left -= 0 if value is None else value.numel()
        if left < 0:
            raise ValueError("settings of a model that is larger than its weights")

    hooks = [register_module_parameter_registration_hook(count), register_module_buffer_registration_hook(count)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
