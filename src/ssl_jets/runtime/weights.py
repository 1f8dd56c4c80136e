"""Weights on disk: safetensors files, synced when written and verified by SHA-256 when read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.overrides import TorchFunctionMode

from ssl_jets.errors import SslJetsError
from ssl_jets.runtime.atomic import sync
from ssl_jets.runtime.reading import guarded, sha256_of

_STATE_DICTS = ("state_dict", "model_state_dict", "model")
"""Keys of checkpoints under which trainers save a state dict."""
MAX_EXTRA_NUMBERS = 100_000
"""Numbers that modules may have in addition to the saved ones."""


def write_weights(weights: Mapping[str, Tensor], file: Path) -> str:
    """Write a file and return its SHA-256."""
    save_file({name: value.detach().cpu().contiguous() for name, value in weights.items()}, file)
    # safetensors makes its files readable by their owner only, whatever the umask: copy the mode of an empty file.
    empty = file.with_name(f"{file.name}.mode")
    empty.touch()
    shutil.copymode(empty, file)
    empty.unlink()
    sync(file)
    return sha256_of(file)


def read_weights(file: Path, sha256: Any) -> dict[str, Tensor]:
    """Read a file after a check of its SHA-256.

    Raises:
        SslJetsError: it cannot be read, or has another hash.
    """
    with guarded("the model cannot be read", file.parent, error=SslJetsError):
        digest = sha256_of(file)
        if digest != sha256:
            raise SslJetsError("the weights are not those the model was saved with", where=file, found=digest)
        return load_file(file)


def read_checkpoint(file: Path) -> tuple[dict[str, Tensor], str]:
    """Read the state dict and the SHA-256 of somebody's checkpoint: safetensors, or a file of `torch.save`.

    A file of `torch.save` may contain tensors and plain containers only: no code of a pickle is executed. The state
    dict may be the value of `state_dict`, `model_state_dict` or `model`.

    Raises:
        SslJetsError: the file cannot be read, contains other objects, or no state dict.
    """
    with guarded("the checkpoint cannot be read", file, error=SslJetsError):
        digest = sha256_of(file)
        if file.suffix == ".safetensors":
            return load_file(file), digest
        try:
            found = torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            reason = str(error).partition("WeightsUnpickler error: ")[2].splitlines()
            raise SslJetsError(
                "the checkpoint contains more than tensors, and pickled code is not executed",
                where=file,
                found=reason[0] if reason else "no file of torch.save",
                hint="torch.save(network.state_dict(), FILE), or safetensors.torch.save_file",
            ) from None
    while isinstance(found, Mapping) and (inner := [found[key] for key in _STATE_DICTS if key in found]):
        found = inner[0]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        keys = ", ".join(map(str, found))[:200] if isinstance(found, Mapping) else ""
        described = f"{type(found).__name__} {keys}".strip()
        raise SslJetsError("the checkpoint contains no state dict", where=file, found=described, allowed=_STATE_DICTS)
    return {str(name): value for name, value in found.items()}, digest


class _WithoutNumbers(TorchFunctionMode):
    """Mode of torch in which random numbers are not drawn, and products with numbers not computed."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        fills = func in (Tensor.normal_, Tensor.uniform_)
        scales = func in (Tensor.mul, Tensor.mul_) and isinstance(args[1], float)
        if fills or scales:
            return args[0]
        return (torch.empty if func is torch.randn else func)(*args, **(kwargs or {}))


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Construct modules on the meta device, without memory and time for weights that are loaded later.

    Arithmetic on the meta device imports torch._dynamo, which takes seconds: initialization is left out.
    """
    with torch.device("meta"), _WithoutNumbers():
        yield


@contextmanager
def no_larger_than(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Stop the construction of modules that have more numbers than the weights to load into them.

    On the meta device this costs no memory, so settings that do not match are found before anything is allocated.

    Raises:
        ValueError: the modules are larger.
    """
    left = 2 * sum(value.numel() for value in weights.values()) + MAX_EXTRA_NUMBERS

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
