"""The variables of a launch by torchrun, or by `srun` in its words. Without torch: every command begins here."""

from __future__ import annotations

import os
import re

from ssl_jets.errors import UsageError


def join_srun() -> None:
    """Give the tasks of an `srun` the variables that torchrun gives its processes, which then need no more than these.

    Nothing is done where torchrun set them, or where there is only one task.

    Raises:
        UsageError: the machines have different numbers of tasks.
    """
    given = os.environ
    tasks = int(given.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks == 1 or "RANK" in given:
        return
    nodes = int(given.get("SLURM_STEP_NUM_NODES", "1"))
    per_node = given.get("SLURM_STEP_TASKS_PER_NODE", str(tasks))  # such as 4(x2)
    if "," in per_node or tasks % nodes:
        hint = "srun --ntasks-per-node=N"
        raise UsageError("the machines of the job have different numbers of tasks", found=per_node, hint=hint)
    nodelist = re.sub(r"\[(\d+)[^]]*\]", r"\1", given.get("SLURM_STEP_NODELIST", "localhost"))  # such as a[1-2]-ib,b7
    port = 15_000 + (int(given.get("SLURM_JOB_ID", "0")) * 10 + int(given.get("SLURM_STEP_ID", "0"))) % 10_000
    given.update(RANK=given["SLURM_PROCID"], LOCAL_RANK=given["SLURM_LOCALID"], WORLD_SIZE=str(tasks))
    given.update(LOCAL_WORLD_SIZE=str(tasks // nodes))
    given.setdefault("MASTER_ADDR", nodelist.partition(",")[0])
    given.setdefault("MASTER_PORT", str(port))


def rank() -> int:
    """Number of this process: by torchrun, `join_srun`, or Fabric (which sets LOCAL_RANK in those that it starts)."""
    return int(next((os.environ[name] for name in ("RANK", "LOCAL_RANK") if name in os.environ), 0))


def environment_alone() -> dict[str, str]:
    """The variables for a process that is in no launch, also where this one is."""
    launch = ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    others = ("SLURM_", "TORCHELASTIC_", "MASTER_")
    return {name: value for name, value in os.environ.items() if name not in launch and not name.startswith(others)}
