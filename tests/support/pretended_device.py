"""A device that is pretended, for tests without a GPU: its tensors hold numbers of the CPU, and do not mix with others.

PyTorch calls it `meta`. An operation that takes a tensor of it together with one of the CPU fails as on CUDA, where a
tensor made without `device=` shows only when somebody runs it. As on CUDA, numbers (tensors without dimensions) and
indices may be on the CPU, and a copy to the CPU that does not block is a race, which is refused here. Results are the
same numbers as on the CPU. Kernels of CUDA, their precision and speed are not tested by it.

PyTorch has no autocast of this device. Without gradients it can also call itself CUDA (`pretended_cuda`): then types
are those of autocast on CUDA, which differs from the one on CPUs in dozens of operations, and variable-length attention
is computed jet by jet, after a check of what its kernel takes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.plugins import Precision
from lightning_fabric.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ssl_jets.nn.attention import attend as attention

DEVICE, CUDA = torch.device("meta"), torch.device("cuda", 0)
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
    place = DEVICE
    """Name of the device in use."""

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        facts: Any = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        found: There = Tensor._make_wrapper_subclass(cls, held.size(), device=There.place, **facts)  # type: ignore[attr-defined]
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
    if any(_is_there(tensor.device) and not isinstance(tensor, There) for tensor in given):
        raise DeviceError(f"{func}: a tensor was made behind the back of the pretended device")
    if func in _COPIES:
        if there and kwargs.get("non_blocking") and not _is_there(kwargs.get("device") or There.place):
            raise DeviceError(f"{func}: a copy to the CPU that nobody waits for")
    elif there:
        must = [args[0], *args[2:]] if func in _INDEXED else given
        if any(isinstance(x, Tensor) and x.dim() and not isinstance(x, There) for x in must):
            raise DeviceError(f"{func}: tensors of two devices")


def _is_there(device: Any) -> bool:
    return torch.device(device).type == There.place.type


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
            return func(*args, **kwargs).to(There.place)
        if args and isinstance(args[0], There):
            if func is Tensor.new_tensor:
                return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(There.place)
            if func is Tensor.tolist:
                return args[0].detach().held.tolist()  # type: ignore[attr-defined]
            if func in (Tensor.__getitem__, Tensor.__setitem__):
                index = args[1] if isinstance(args[1], tuple) else (args[1],)
                index = tuple(torch.tensor(part) if isinstance(part, list) else part for part in index)
                args = (args[0], index, *args[2:])
        return func(*args, **kwargs)


@contextmanager
def pretended_device(device: torch.device = DEVICE) -> Iterator[torch.device]:
    """Within it the device is there."""
    autocast: Callable[..., Any] = torch.autocast

    def autocast_here(kind: str, *more: Any, **named: Any) -> Any:
        return autocast("cpu" if kind == DEVICE.type else kind, *more, **named)

    swap = torch.__future__.get_swap_module_params_on_conversion()
    with pytest.MonkeyPatch.context() as patch, _Literals(), _Operations():
        patch.setattr(There, "place", device)
        patch.setattr(torch, "autocast", autocast_here)
        patch.setattr(torch, "inference_mode", torch.no_grad)  # its tensors cannot be held by others
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            yield device
        finally:
            torch.__future__.set_swap_module_params_on_conversion(swap)


@contextmanager
def pretended_cuda() -> Iterator[torch.device]:
    """Within it the device is there and calls itself CUDA; there are no gradients, which would need its streams."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 2).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")  # of CPU and CUDA
    before = guards[1]
    with pretended_device(CUDA) as device, pytest.MonkeyPatch.context() as patch, torch.no_grad():
        guards[1] = guards[0]  # indexing sets the current device, which is nothing to do on the CPU
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
        patch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(attention, "_variable_length", lambda: attention._Kernel(_by_jet, {"causal": True}))
        try:
            yield device
        finally:
            guards[1] = before


def _by_jet(
    q: Tensor, k: Tensor, v: Tensor, ends: Tensor, key_ends: Tensor, most: int, most_keys: int, *, causal: bool = False
) -> Tensor:
    """Compute what `varlen_attn` does; arguments that its kernel would not take are an error."""
    if {q.dtype, k.dtype, v.dtype} != {torch.bfloat16} or {ends.dtype, key_ends.dtype} != {torch.int32}:
        raise DeviceError(f"types of attention: {q.dtype}, {k.dtype}, {v.dtype}, {ends.dtype}, {key_ends.dtype}")
    if (most, most_keys) != (int(ends.diff().max()), int(key_ends.diff().max())) or q.stride(-1) != 1:
        raise DeviceError("lengths or strides of attention")
    mixed = []
    with torch.autocast("cuda", enabled=False):
        for rows, keys in zip(pairwise(ends.tolist()), pairwise(key_ends.tolist()), strict=True):
            queries, known, values = (x[slice(*which)].float() for x, which in ((q, rows), (k, keys), (v, keys)))
            scores = torch.einsum("ihd,jhd->hij", queries, known) / q.shape[-1] ** 0.5
            later = torch.ones_like(scores, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, -torch.inf) if causal else scores
            mixed.append(torch.einsum("hij,jhd->ihd", scores.softmax(-1), values))
    return torch.cat(mixed).to(q.dtype)


class _Accelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        """Nothing to set up."""


def fabric_there(precision: Precision | None = None) -> Fabric:
    """A Fabric of one process on the device, by default in float32."""
    plugins = [precision or Precision()]
    fabric = Fabric(strategy=SingleDeviceStrategy(There.place, _Accelerator()), plugins=plugins)
    fabric.launch()
    return fabric
