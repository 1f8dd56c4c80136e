"""Number formats of the arithmetic: float32, or bfloat16 where the device computes in it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

PrecisionSetting = Literal["auto", "32-true", "bf16-mixed"]
"""Number format of the arithmetic; `auto` is the best that the device has."""


Precision = Literal["32-true", "bf16-mixed"]
"""As Lightning Fabric names them."""


def native_precision(device: torch.device | str) -> Precision:
    """`bf16-mixed` where the device multiplies bfloat16 matrices in hardware, `32-true` elsewhere."""
    import torch  # here, as settings know the names of precisions and are read without torch

    kind = torch.device(device).type
    if kind == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if kind == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return "bf16-mixed" if native else "32-true"
    return "32-true"


def resolve_precision(setting: PrecisionSetting, device: torch.device | str) -> Precision:
    """The precision a setting means on a device."""
    return native_precision(device) if setting == "auto" else setting


def autocast(device: torch.device | str, precision: Precision) -> AbstractContextManager[object]:
    """The context in which a forward pass computes in `precision`; weights and results of norms stay float32."""
    import torch

    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16-mixed")
