"""Memory: how much a process has used at most, how much there is, and how much a user means."""

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

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
STATUS, MEMINFO = Path("/proc/self/status"), Path("/proc/meminfo")
GROUP, CGROUP = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def parse_memory(text: str) -> int:
    """`16GB`, `4 GiB`, `800MB` in bytes."""
    found = re.fullmatch(r"\s*(\d+\.?\d*)\s*([A-Za-z]+)\s*", text)
    units = {name.lower(): size for name, size in UNITS.items()}
    if found is None or found[2].lower() not in units or not float(found[1]):
        raise UsageError("this is not an amount of memory", where="--memory", found=text, allowed=["16GB", *UNITS])
    return round(float(found[1]) * units[found[2].lower()])


def shown(size: float) -> str:
    """Bytes for a reader: `1.23 GB`, `640 MB`."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def peak(device: torch.device) -> int:
    """Most bytes used so far: by tensors on a GPU, by the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.is_file():
        # Not ru_maxrss: a process begins with that of the one that started it.
        return 1024 * _kilobytes(STATUS, "VmHWM")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def in_use() -> int:
    """Bytes of this process now, without what it has freed and keeps; 0 where that is not known."""
    if not STATUS.is_file():
        return 0
    with suppress(OSError, AttributeError):  # musl
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return 1024 * _kilobytes(STATUS, "VmRSS")


def available(device: torch.device) -> int:
    """Bytes that a new process can have."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not MEMINFO.is_file():
        raise UsageError("how much memory is free is not known here", where="--memory", hint="--memory 16GB")
    free = 1024 * _kilobytes(MEMINFO, "MemAvailable")
    return min([free, *_left_of_groups()])


def _left_of_groups() -> Iterator[int]:
    """Bytes that the control groups of this process have left, from its own to the outermost. Batch systems set these.

    What files occupy in memory counts as used there, and is given up where it is needed.
    """
    with suppress(OSError):  # not Linux, or an older kind of groups
        own = next((line for line in GROUP.read_text().splitlines() if line.startswith("0::/")), "0::/")
        inner = CGROUP / own.removeprefix("0::/")
        for group in (inner, *inner.parents):
            with suppress(OSError, ValueError):  # no limit, or it is written "max"
                limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
                cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
                yield limit - used + (int(cached[1]) if cached else 0)
            if group == CGROUP:
                return


def _kilobytes(file: Path, name: str) -> int:
    return int(re.search(rf"^{name}:\s+(\d+) kB", file.read_text(), re.MULTILINE)[1])  # type: ignore[index]
