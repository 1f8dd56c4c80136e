"""What a process keeps in memory: large blocks, and few kernels.

By default glibc maps every large temporary afresh and returns it to the kernel at once, which costs page faults. The
thresholds are raised for this process only. What it gains depends on the machine and the batch.

oneDNN builds a kernel for each shape of a matrix product, and torch and oneDNN keep the last 1024 of them each, half a
megabyte a piece in bfloat16. Packed batches of jets hardly ever have a shape twice, so a training would grow by 0.7 GB
that no later step uses. Kept are as many kernels as one step has shapes.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ssl_jets.errors import SslJetsError

KERNELS = "64"
"""Kernels that torch and oneDNN keep each. A step on a batch needs some 20 to 60, each as often as there are blocks."""
CACHES = (("LRU_CACHE_CAPACITY",), ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"))
"""Variables that set how many: of torch, of oneDNN (either of two names). Read at the first product."""
LESS_TO_TRAIN = "a smaller --batch-size with a larger --set train.accumulate, or --set train.checkpointing=true"
"""Settings that make a training take less memory."""
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4


def tune_memory() -> None:
    """Keep large blocks in this process, and few kernels: before its first matrix product."""
    keep_blocks()
    keep_few_kernels()


def keep_few_kernels() -> None:
    """Bound the caches of kernels, but those that the user has set."""
    for names in CACHES:
        if not any(name in os.environ for name in names):
            os.environ[names[0]] = KERNELS


def keep_blocks() -> bool:
    """Raise glibc's mmap and trim thresholds.

    The user's own choice (a `MALLOC_` variable, or another allocator by `LD_PRELOAD`) is left alone.

    Returns:
        Whether anything was set.
    """
    if not sys.platform.startswith("linux") or "LD_PRELOAD" in os.environ:
        return False
    if any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        mallopt = libc.mallopt
    except (OSError, AttributeError):  # musl
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1) and mallopt(_M_TOP_PAD, 64 << 20))


@contextmanager
def explain_shortage(hint: str) -> Iterator[None]:
    """Turn an allocation that fails into one message, whose `hint` names the setting to lower.

    Raises:
        SslJetsError: memory is used up.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        found = str(error).partition("\n")[0] or type(error).__name__
        raise SslJetsError("there is not enough memory", found=found, hint=hint) from error


def is_shortage(error: BaseException) -> bool:
    """Tell whether memory is used up: on a CPU torch raises a plain `RuntimeError`, on a GPU one of its own."""
    said = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError) or any(text in str(error) for text in said)
