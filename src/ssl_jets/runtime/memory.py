"""Memory of the process: peak, current use, available; amounts in text."""

from __future__ import annotations

import ctypes
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

from ssl_jets.errors import UsageError
from ssl_jets.runtime.control_groups import control_groups

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
STATUS, MEMINFO = Path("/proc/self/status"), Path("/proc/meminfo")
_LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Files of limit and use in a control group, and the cache in its `memory.stat`: of version 2, and of version 1."""


def parse_memory(text: str) -> int:
    """Convert an amount of memory to bytes.

    >>> parse_memory("16GB"), parse_memory("4 GiB")
    (16000000000, 4294967296)

    Raises:
        UsageError: `text` is no amount of memory.
    """
    match = re.fullmatch(r"\s*(\d+\.?\d*)\s*([A-Za-z]+)\s*", text)
    units = {name.lower(): size for name, size in UNITS.items()}
    if match is None or match[2].lower() not in units or not float(match[1]):
        raise UsageError("this is not an amount of memory", where="--memory", found=text, allowed=["16GB", *UNITS])
    return round(float(match[1]) * units[match[2].lower()])


def format_bytes(size: float) -> str:
    """Format bytes for a reader.

    >>> format_bytes(1_234_000_000), format_bytes(640_000_000)
    ('1.23 GB', '640 MB')
    """
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def peak(device: torch.device) -> int:
    """Return the peak memory in bytes so far: of tensors on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.is_file():
        # Not ru_maxrss, which a process inherits from its parent.
        return 1024 * _kilobytes(STATUS, "VmHWM")
    maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maximum if sys.platform == "darwin" else 1024 * maximum


def in_use() -> int:
    """Return the bytes that this process uses now, without freed blocks; 0 if unknown on this system."""
    if not STATUS.is_file():
        return 0
    with suppress(OSError, AttributeError):  # musl
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return 1024 * _kilobytes(STATUS, "VmRSS")


def available(device: torch.device) -> int:
    """Return the bytes available to a new process.

    Raises:
        UsageError: the system does not report its free memory.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not MEMINFO.is_file():
        raise UsageError("this system does not report its free memory", where="--memory", hint="--memory 16GB")
    free = 1024 * _kilobytes(MEMINFO, "MemAvailable")
    return min([free, *_left_of_groups()])


def _left_of_groups() -> Iterator[int]:
    """Yield the free bytes of the control groups of this process.

    Batch systems limit memory by them. They count the file cache as used, which the kernel frees on demand.
    """
    for group in control_groups("memory"):
        for limit, used, cached in _LIMITS:
            with suppress(OSError, ValueError):  # no limit: no file, or the text "max"
                free = int((group / limit).read_text()) - int((group / used).read_text())
                cache = re.search(rf"^{cached} (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
                yield free + (int(cache[1]) if cache else 0)


def _kilobytes(file: Path, name: str) -> int:
    return int(re.search(rf"^{name}:\s+(\d+) kB", file.read_text(), re.MULTILINE)[1])  # type: ignore[index]
