"""Variables of a launch by torchrun, `srun` or Fabric, read and checked in one place. Without torch: every command
begins here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ssl_jets.errors import UsageError

TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
FABRIC = ("NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Set by Fabric in the processes that it starts, and in the one that starts them."""
SRUN = ("SLURM_PROCID", "SLURM_LOCALID")
"""Needed of a step with several tasks, beside SLURM_STEP_NUM_TASKS."""
_OF_PROCESS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "NODE_RANK")


@dataclass(frozen=True)
class Launch:
    """This process among those of one launch.

    Attributes:
        rank: number of this process.
        local_rank: its number on its machine.
        world: number of processes.
        local_world: number of processes of its machine.
        by_fabric: whether Fabric started the processes, and not a launcher from outside.
    """

    rank: int
    local_rank: int
    world: int
    local_world: int
    by_fabric: bool = False


def join() -> Launch | None:
    """Read the launch of this process, and give tasks of an `srun` the variables that torchrun gives its processes.

    An empty variable counts as unset.

    Returns:
        the launch; None for a process of its own.

    Raises:
        UsageError: some variables of a launch are missing or wrong, or machines have different numbers of tasks.
    """
    given = {name: value for name, value in os.environ.items() if value.strip()}
    for name in _OF_PROCESS:  # torch and Fabric read them, too
        if name not in given:
            os.environ.pop(name, None)
    tasks = _number(given, "SLURM_STEP_NUM_TASKS", 1, least=1)
    if tasks > 1 and "RANK" not in given:
        os.environ.update(_of_srun(given, tasks))
        given.update(os.environ)
    if not any(name in given for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")):
        return None
    by_fabric = "RANK" not in given and "NODE_RANK" in given
    _require(given, FABRIC if by_fabric else TORCHRUN)
    world = _number(given, "WORLD_SIZE", least=1)
    local_world = _number(given, "LOCAL_WORLD_SIZE", world, least=1, most=world)
    local_rank = _number(given, "LOCAL_RANK", most=local_world - 1)
    rank = local_rank if by_fabric else _number(given, "RANK", most=world - 1)
    return Launch(rank, local_rank, world, local_world, by_fabric)


def rank() -> int:
    """Number of this process: by torchrun, `srun` or Fabric; 0 for a process of its own."""
    launch = join()
    return 0 if launch is None else launch.rank


def environment_alone() -> dict[str, str]:
    """The variables for a process that is in no launch, also where this one is."""
    others = ("SLURM_", "TORCHELASTIC_", "MASTER_")
    return {
        name: value for name, value in os.environ.items() if name not in _OF_PROCESS and not name.startswith(others)
    }


def _of_srun(given: Mapping[str, str], tasks: int) -> dict[str, str]:
    """The variables of torchrun for this task of a step."""
    _require(given, SRUN)
    nodes = _number(given, "SLURM_STEP_NUM_NODES", 1, least=1)
    per_node = given.get("SLURM_STEP_TASKS_PER_NODE", str(tasks))  # such as 4(x2)
    if "," in per_node or tasks % nodes:
        hint = "srun --ntasks-per-node=N"
        raise UsageError("the machines of the job have different numbers of tasks", found=per_node, hint=hint)
    nodelist = re.sub(r"\[(\d+)[^]]*\]", r"\1", given.get("SLURM_STEP_NODELIST", "localhost"))  # such as a[1-2]-ib,b7
    job, step = _number(given, "SLURM_JOB_ID", 0), _number(given, "SLURM_STEP_ID", 0)
    return {
        "RANK": given["SLURM_PROCID"],
        "LOCAL_RANK": given["SLURM_LOCALID"],
        "WORLD_SIZE": str(tasks),
        "LOCAL_WORLD_SIZE": str(tasks // nodes),
        "MASTER_ADDR": given.get("MASTER_ADDR", nodelist.partition(",")[0]),
        "MASTER_PORT": given.get("MASTER_PORT", str(15_000 + (job * 10 + step) % 10_000)),
    }


def _require(given: Mapping[str, str], names: tuple[str, ...]) -> None:
    if missing := [name for name in names if name not in given]:
        marks = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
        there = [f"{name}={given[name]}" for name in marks if name in given]
        raise UsageError(
            "the variables of a launch are incomplete",
            where=f"{', '.join(missing)}: not set",
            found=", ".join(there),
            hint=f"torchrun or srun, which set all; or unset {' '.join(mark.partition('=')[0] for mark in there)}",
        )


def _number(
    given: Mapping[str, str], name: str, default: int | None = None, *, least: int = 0, most: int | None = None
) -> int:
    text = given.get(name)
    if text is None and default is not None:
        return default
    value = int(text) if text is not None and re.fullmatch(r"\d{1,18}", text.strip()) else None
    if value is None or value < least or (most is not None and value > most):
        allowed = f"{least} to {most}" if most is not None else f"{least} or more"
        raise UsageError("a variable of the launch is wrong", where=name, found=text, allowed=[allowed])
    return value
