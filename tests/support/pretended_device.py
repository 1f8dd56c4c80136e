"""A device that is pretended, for tests without a GPU: its tensors hold numbers of the CPU, and do not mix with others.

PyTorch calls it `meta`. An operation that takes a tensor of it together with one of the CPU fails as on CUDA, where a
tensor made without `device=` shows only when somebody runs it. As on CUDA, numbers (tensors without dimensions) and
indices may be on the CPU, and a copy to the CPU that does not block is a race, which is refused here. Results are the
same numbers as on the CPU. Kernels of CUDA, their precision and speed are not tested by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
_aten = torch.ops.aten
_COPIES = {_aten.copy_.default, _aten._to_copy.default}
_INDEXED = {_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default, _aten._index_put_impl_.default}


class PretendCuda(Tensor):
    """A CPU tensor that claims to be on a GPU, for code that asks for `is_cuda`; it mixes with all others."""

    is_cuda = True  # type: ignore[assignment]


class DeviceError(RuntimeError):
    """Something that would fail, or be wrong, on a real device."""


class There(Tensor):
    """A tensor that claims to be on the device; `held` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        facts: Any = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        found: There = Tensor._make_wrapper_subclass(cls, held.size(), device=DEVICE, **facts)  # type: ignore[attr-defined]
        found.held = held
        return found

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"There({self.held})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


def _run(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Do on the CPU what is asked for, if a device would do it."""
    _refuse(func, args, kwargs)
    device = kwargs.pop("device", None)
    copied = func is _aten.copy_.default
    to_there = any(isinstance(x, There) for x in ([args[0]] if copied else tree_leaves((args, kwargs))))
    if device is not None:
        to_there, kwargs["device"] = _is_there(device), torch.device("cpu")
    held_args, held_kwargs = tree_map(lambda x: x.held if isinstance(x, There) else x, (args, kwargs))
    found = func(*held_args, **held_kwargs)
    if any(returned.alias_info is not None and returned.alias_info.is_write for returned in func._schema.returns):
        return kwargs.get("out", args[0])  # changed in place: what is given back is what was given
    return tree_map(lambda x: There(x) if to_there and isinstance(x, Tensor) else x, found)


def _refuse(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [tensor for tensor in given if isinstance(tensor, There)]
    if any(tensor.is_meta and not isinstance(tensor, There) for tensor in given):
        raise DeviceError(f"{func}: a tensor was made behind the back of the pretended device")
    if func in _COPIES:
        if there and kwargs.get("non_blocking") and not _is_there(kwargs.get("device") or DEVICE):
            raise DeviceError(f"{func}: a copy to the CPU that nobody waits for")
    elif there:
        must = [args[0], *args[2:]] if func in _INDEXED else given
        if any(isinstance(x, Tensor) and x.dim() and not isinstance(x, There) for x in must):
            raise DeviceError(f"{func}: tensors of two devices")


def _is_there(device: Any) -> bool:
    return torch.device(device).type == DEVICE.type


class _Operations(TorchDispatchMode):
    """Sees also what makes tensors out of nothing."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, dict(kwargs or {}))


class _Literals(TorchFunctionMode):
    """What PyTorch does beneath its operations, with numbers of Python."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and _is_there(kwargs.get("device") or "cpu"):
            del kwargs["device"]
            return func(*args, **kwargs).to(DEVICE)
        if args and isinstance(args[0], There):
            if func is Tensor.new_tensor:
                return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(DEVICE)
            if func is Tensor.tolist:
                return args[0].detach().held.tolist()  # type: ignore[attr-defined]
            if func in (Tensor.__getitem__, Tensor.__setitem__):
                index = args[1] if isinstance(args[1], tuple) else (args[1],)
                index = tuple(torch.tensor(part) if isinstance(part, list) else part for part in index)
                args = (args[0], index, *args[2:])
        return func(*args, **kwargs)


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """Within it the device is there."""
    autocast: Callable[..., Any] = torch.autocast

    def autocast_here(kind: str, *more: Any, **named: Any) -> Any:
        return autocast("cpu" if _is_there(kind) else kind, *more, **named)

    swap = torch.__future__.get_swap_module_params_on_conversion()
    with pytest.MonkeyPatch.context() as patch, _Literals(), _Operations():
        patch.setattr(torch, "autocast", autocast_here)
        patch.setattr(torch, "inference_mode", torch.no_grad)  # its tensors cannot be held by others
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            yield DEVICE
        finally:
            torch.__future__.set_swap_module_params_on_conversion(swap)


class _Accelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        """Nothing to set up."""


def fabric_there() -> Fabric:
    """A Fabric of one process on the device, in float32."""
    fabric = Fabric(strategy=SingleDeviceStrategy(DEVICE, _Accelerator()), precision="32-true")
    fabric.launch()
    return fabric
