"""GPUs that torch can use."""

from __future__ import annotations

import torch

from ssl_jets.errors import SslJetsError


def count_gpus() -> int:
    """Count the GPUs that this process can use; 0 on a machine without one, or with an empty CUDA_VISIBLE_DEVICES.

    Raises:
        SslJetsError: there is a GPU that torch cannot use, such as with a driver that is too old for it.
    """
    if not torch.cuda.is_available():  # once Fabric is imported, this does not look at the driver
        return 0
    try:
        torch.cuda.init()
    except RuntimeError as error:
        found, hint = str(error).partition("\n")[0], "CUDA_VISIBLE_DEVICES= before the command computes on the CPU"
        raise SslJetsError("torch cannot use the GPU of this machine", found=found, hint=hint) from error
    return torch.cuda.device_count()


def default_device(device: torch.device | str | None = None) -> torch.device:
    """Return the named device; by default the GPU, or the CPU of a machine without one."""
    return torch.device(device or ("cuda" if count_gpus() else "cpu"))
