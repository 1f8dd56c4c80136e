"""Keep large blocks inside the process on Linux with glibc.

By default glibc maps every large temporary afresh and returns it to the kernel at once, which costs page faults. The
thresholds are raised for this process only. What it gains depends on the machine and the batch: see "Tried and dropped"
in `docs/decisions.md`.
"""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4


def keep_memory() -> bool:
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
