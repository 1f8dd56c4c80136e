"""Threads of the process: as many as the cores it may use, which sleep while they wait.

A forward pass of a small encoder is thousands of short operations, each with a barrier at which OpenMP threads spin by
default. Another process on one of the cores then delays every barrier: a tiny encoder was 16 times slower with two
threads than with one (`benchmarks/results`). Threads that sleep at barriers are not.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ssl_jets.runtime.control_groups import control_groups
from ssl_jets.runtime.launcher import join

if TYPE_CHECKING:
    import torch

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables that decide how OpenMP threads wait; they are read when torch is loaded."""
MAX_BATCHES_AT_ONCE = 16
"""Largest number of batches computed at the same time; each takes the memory of a forward pass."""

InT = TypeVar("InT")
OutT = TypeVar("OutT")
Parameters = ParamSpec("Parameters")


def wait_passively() -> None:
    """Let OpenMP threads sleep while they wait, unless the user has set it; call it before torch is imported."""
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def allowed_cores() -> int:
    """Return the number of cores that this process may use: affinity, quota of the control group, task of SLURM.

    Processes of one launch on a machine share the cores that no batch system has divided among them.
    """
    existing = os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else existing
    task = os.environ.get("SLURM_CPUS_PER_TASK", "")
    launch = join()
    if task.isdecimal() and int(task):
        cores = min(cores, int(task))
    elif launch is not None and cores == existing:
        cores //= launch.local_world
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas())]))


def allowed_threads() -> int:
    """Return the number of threads for an operation of torch: as torch chose, and at most `allowed_cores`.

    OMP_NUM_THREADS takes precedence.
    """
    import torch  # here: `wait_passively` comes before

    threads = torch.get_num_threads()
    return threads if os.environ.get("OMP_NUM_THREADS") else min(threads, allowed_cores())


def with_one_thread(function: Callable[Parameters, OutT]) -> Callable[Parameters, OutT]:
    """Decorate a fit to use one thread of OpenMP and of the linear algebra.

    Fits of trees and of linear models have many short parallel sections, so two threads take several times as long.
    Those of OpenBLAS spin at barriers: beside a busy process a logistic regression takes many times as long.
    """

    @wraps(function)
    def limited(*args: Parameters.args, **kwargs: Parameters.kwargs) -> OutT:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            return function(*args, **kwargs)

    return limited


def map_in_order(
    function: Callable[[InT], OutT], inputs: Iterable[InT], device: torch.device | str = "cpu"
) -> Iterator[OutT]:
    """Yield `function(x)` for each input, in order; on a CPU several at once, in threads with one core each.

    `allowed_threads` run at once, and at most `MAX_BATCHES_AT_ONCE`. The results do not depend on their number, since
    every operation uses one core.
    """
    import torch

    threads = torch.get_num_threads()
    at_once = min(allowed_threads(), MAX_BATCHES_AT_ONCE)
    if at_once == 1 or torch.device(device).type != "cpu":
        yield from map(function, inputs)
        return
    try:
        with ThreadPoolExecutor(at_once, "ssl-jets-encode", lambda: torch.set_num_threads(1)) as pool:
            pending: deque[Future[OutT]] = deque()
            try:
                for one in inputs:
                    pending.append(pool.submit(function, one))
                    if len(pending) > at_once:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()
    finally:
        torch.set_num_threads(threads)


def _quotas() -> Iterator[float]:
    """Yield the quotas, in cores, of the control groups of this process (version 2, and 1)."""
    for group in control_groups("cpu"):
        with suppress(OSError, ValueError):  # no limit: no file, or the text "max"
            quota, period = (group / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        with suppress(OSError, ValueError):
            allowed = int((group / "cpu.cfs_quota_us").read_text())
            if allowed > 0:  # -1 for no limit
                yield allowed / int((group / "cpu.cfs_period_us").read_text())
