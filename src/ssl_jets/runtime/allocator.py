"""Memory allocation of the process: reuse of large blocks, a bounded cache of kernels, one message for a shortage.

By default glibc maps every large temporary anew and returns it to the kernel at once, which costs page faults. Its
thresholds are raised for this process only. The gain depends on the machine and the batch.

oneDNN builds a kernel for each shape of a matrix product, and torch and oneDNN cache the last 1024 of them each, half a
megabyte per kernel in bfloat16. Packed batches of jets rarely have the same shape twice, so a training would grow by
0.7 GB that no later step uses. The cache is bounded to the number of shapes in one step.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ssl_jets.errors import SslJetsError

KERNELS = "64"
"""Kernels that torch and oneDNN cache each. A step needs 20 to 60 different ones, each once per block."""
CACHES = (("LRU_CACHE_CAPACITY",), ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"))
"""Environment variables of the cache sizes: torch, oneDNN (two names). They are read at the first matrix product."""
LESS_TO_TRAIN = "a smaller --batch-size with a larger --set train.accumulate, or --set train.checkpointing=true"
"""Hint: settings that reduce the memory of a training."""
SHORTAGE = "there is not enough memory"
"""Message for a shortage of memory."""
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4


def tune_memory() -> None:
    """Reuse large blocks and bound the kernel caches of this process; call it before the first matrix product."""
    keep_blocks()
    keep_few_kernels()


def keep_few_kernels() -> None:
    """Bound the kernel caches, unless the user has set their size."""
    for names in CACHES:
        if not any(name in os.environ for name in names):
            os.environ[names[0]] = KERNELS


def keep_blocks() -> bool:
    """Raise glibc's mmap and trim thresholds.

    A choice of the user (a `MALLOC_` variable, or another allocator by `LD_PRELOAD`) takes precedence.

    Returns:
        True if the thresholds were set.
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
    """Turn a failed allocation into one message; its `hint` names the setting to lower.

    Raises:
        SslJetsError: there is not enough memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        found = str(error).partition("\n")[0] or type(error).__name__
        raise SslJetsError(SHORTAGE, found=found, hint=hint) from error


def is_shortage(error: BaseException) -> bool:
    """Return True for an error of a failed allocation; torch raises a plain `RuntimeError` on a CPU."""
    messages = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError) or any(text in str(error) for text in messages)
