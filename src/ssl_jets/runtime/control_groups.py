"""Control groups of the process, by which batch systems and containers limit its cores and its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT, OF_PROCESS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def control_groups(controller: str) -> Iterator[Path]:
    """Yield the folders of the control groups of this process, each from the innermost to the outermost.

    First those of version 2, then those of version 1, which has a tree for each controller.

    Args:
        controller: `cpu` or `memory`.
    """
    # 9:memory:/slurm/job_7 is a group of version 1, 0::/slurm/job_7 of version 2.
    inner = {ROOT: "", ROOT / controller: ""}
    with suppress(OSError):
        for line in OF_PROCESS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                inner[ROOT] = path
            elif controller in controllers.split(","):
                inner[ROOT / controller] = path
    for root, path in inner.items():
        group = root / path.strip("/")
        yield group
        while group != root and group != group.parent:
            group = group.parent
            yield group
