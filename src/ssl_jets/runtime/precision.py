"""Precision of the arithmetic: float32, or bfloat16 on devices with hardware support."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

PrecisionSetting = Literal["auto", "32-true", "bf16-mixed"]
"""Precision setting; `auto` is `bf16-mixed` on devices with hardware support, else `32-true`."""


Precision = Literal["32-true", "bf16-mixed"]
"""Resolved precision, in the names of Lightning Fabric."""

SCORES_PRECISION: Precision = "32-true"
"""Default precision of scores, so that every device and an exported model give the same.

In bf16 probabilities differ by up to .035 (`tiny-sup`, 10,000 jets), which moves up to one jet in 100 over a cut.
"""


def native_precision(device: torch.device | str) -> Precision:
    """Return `bf16-mixed` if the device multiplies bfloat16 matrices in hardware, else `32-true`."""
    import torch  # here, since the settings import this module and are read without torch

    kind = torch.device(device).type
    if kind == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if kind == "cpu":
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return "bf16-mixed" if native else "32-true"
    return "32-true"


def resolve_precision(setting: PrecisionSetting, device: torch.device | str) -> Precision:
    """Resolve `auto` on a device."""
    return native_precision(device) if setting == "auto" else setting


def autocast(device: torch.device | str, precision: Precision) -> AbstractContextManager[object]:
    """Return the context of a forward pass in `precision`; weights and results of norms stay float32."""
    import torch

    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16-mixed")
