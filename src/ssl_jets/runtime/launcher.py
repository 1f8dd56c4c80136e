"""Environment variables of a launch by torchrun, `srun` or Fabric, read without torch."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from ssl_jets.errors import UsageError

TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
FABRIC = ("NODE_RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables that Fabric sets in its main process and in those it starts."""
SRUN = ("SLURM_PROCID", "SLURM_LOCALID")
"""Variables of a step with several tasks, in addition to SLURM_STEP_NUM_TASKS."""
_OF_PROCESS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK", "NODE_RANK")
SAFE_PATH = "PYTHONSAFEPATH"
"""Variable with which a new Python does not look for modules in the working folder."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Launch:
    """Position of this process in a launch.

    Attributes:
        rank: number of this process.
        local_rank: its number on its machine.
        world: number of processes.
        local_world: number of processes of its machine.
        by_fabric: Fabric started the processes, not an external launcher.
    """

    rank: int
    local_rank: int
    world: int
    local_world: int
    by_fabric: bool = False


def join() -> Launch | None:
    """Read the launch of this process; tasks of an `srun` get the variables that torchrun sets.

    An empty variable counts as unset.

    Returns:
        The launch; None for a single process.

    Raises:
        UsageError: some variables of a launch are missing or wrong, or machines have different numbers of tasks.
    """
    environment = {name: value for name, value in os.environ.items() if value.strip()}
    for name in _OF_PROCESS:  # torch and Fabric read them, too
        if name not in environment:
            os.environ.pop(name, None)
    tasks = _number(environment, "SLURM_STEP_NUM_TASKS", 1, least=1)
    if tasks > 1 and "RANK" not in environment:
        os.environ.update(_of_srun(environment, tasks))
        environment.update(os.environ)
    if not any(name in environment for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")):
        return None
    by_fabric = "RANK" not in environment and "NODE_RANK" in environment
    _require(environment, FABRIC if by_fabric else TORCHRUN)
    world = _number(environment, "WORLD_SIZE", least=1)
    local_world = _number(environment, "LOCAL_WORLD_SIZE", world, least=1, most=world)
    local_rank = _number(environment, "LOCAL_RANK", most=local_world - 1)
    rank = local_rank if by_fabric else _number(environment, "RANK", most=world - 1)
    return Launch(rank, local_rank, world, local_world, by_fabric)


def end_with_parent() -> None:
    """Let Linux kill this process when its parent ends: NCCL would wait for the lost process, and keep its GPU."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def rank() -> int:
    """Return the rank of this process in a launch by torchrun, `srun` or Fabric; 0 for a single process."""
    launch = join()
    return 0 if launch is None else launch.rank


def environment_alone() -> dict[str, str]:
    """Return the environment variables for a single process, without launch variables; it has the modules of this one.

    By default Python looks for modules in the working folder first, where a `random.py` may be.
    """
    others = ("SLURM_", "TORCHELASTIC_", "MASTER_")
    kept = {
        name: value for name, value in os.environ.items() if name not in _OF_PROCESS and not name.startswith(others)
    }
    return kept | {SAFE_PATH: "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def _of_srun(environment: Mapping[str, str], tasks: int) -> dict[str, str]:
    """Return the variables of torchrun for this task of a step."""
    _require(environment, SRUN)
    nodes = _number(environment, "SLURM_STEP_NUM_NODES", 1, least=1)
    per_node = environment.get("SLURM_STEP_TASKS_PER_NODE", str(tasks))  # such as 4(x2)
    if "," in per_node or tasks % nodes:
        hint = "srun --ntasks-per-node=N"
        raise UsageError("the machines of the job have different numbers of tasks", found=per_node, hint=hint)
    # The first machine: "a[1-2]-ib,b7" -> "a1-ib,b7" -> "a1-ib"
    nodelist = re.sub(r"\[(\d+)[^]]*\]", r"\1", environment.get("SLURM_STEP_NODELIST", "localhost"))
    job, step = _number(environment, "SLURM_JOB_ID", 0), _number(environment, "SLURM_STEP_ID", 0)
    return {
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "WORLD_SIZE": str(tasks),
        "LOCAL_WORLD_SIZE": str(tasks // nodes),
        "MASTER_ADDR": environment.get("MASTER_ADDR", nodelist.partition(",")[0]),
        "MASTER_PORT": environment.get("MASTER_PORT", str(15_000 + (job * 10 + step) % 10_000)),
    }


def _require(environment: Mapping[str, str], names: tuple[str, ...]) -> None:
    if missing := [name for name in names if name not in environment]:
        launch_variables = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
        present = [name for name in launch_variables if name in environment]
        raise UsageError(
            "the variables of a launch are incomplete",
            where=f"{', '.join(missing)}: not set",
            found=", ".join(f"{name}={environment[name]}" for name in present),
            hint=f"torchrun or srun, which set all; or unset {' '.join(present)}",
        )


def _number(
    environment: Mapping[str, str], name: str, default: int | None = None, *, least: int = 0, most: int | None = None
) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    value = int(text) if text is not None and re.fullmatch(r"\d{1,18}", text.strip()) else None
    if value is None or value < least or (most is not None and value > most):
        allowed = f"{least} to {most}" if most is not None else f"{least} or more"
        raise UsageError("a variable of the launch is wrong", where=name, found=text, allowed=[allowed])
    return value
