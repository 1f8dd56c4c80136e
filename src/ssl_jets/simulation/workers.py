"""Parts of a simulation, one after another or by several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from ssl_jets.errors import SslJetsError
from ssl_jets.runtime.launcher import SAFE_PATH
from ssl_jets.runtime.signals import WATCHED, Interrupted, Watch
from ssl_jets.simulation.parts import StoppedError, simulate_part
from ssl_jets.simulation.request import Part, SimulationRequest
from ssl_jets.simulation.storage import save_part

Job = tuple[Part, Path]
"""A part, and the file that it is written to."""
_POLL_SECONDS = 0.5


def run_parts(
    request: SimulationRequest, jobs: Sequence[Job], *, processes: int, report: Callable[[int], None]
) -> None:
    """Simulate parts and write each when it is finished.

    Raises:
        SslJetsError: a part fails, or a process is killed. Finished parts stay.
        Interrupted: a signal came.
    """
    with Watch() as watch:
        if processes == 1 or len(jobs) == 1:
            _run_here(request, jobs, watch, report)
        elif jobs:
            _run_in_pool(request, jobs, processes, watch, report)


def _run_here(request: SimulationRequest, jobs: Sequence[Job], watch: Watch, report: Callable[[int], None]) -> None:
    def progress(new: int) -> bool:
        report(new)
        return bool(watch.received)

    try:
        for part, file in jobs:
            save_part(file, simulate_part(request, part, progress))
    except StoppedError:
        raise Interrupted(watch.received) from None


def _run_in_pool(
    request: SimulationRequest, jobs: Sequence[Job], processes: int, watch: Watch, report: Callable[[int], None]
) -> None:
    context, before = multiprocessing.get_context("spawn"), os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"  # a worker begins with imports, before it has the path of this process
    stop, done = context.Event(), context.Value("q", 0)
    seen = 0
    with ProcessPoolExecutor(
        min(processes, len(jobs)), mp_context=context, initializer=_begin_worker, initargs=(stop, done)
    ) as pool:
        waiting: set[Future[None]] = {pool.submit(_work, request, part, file) for part, file in jobs}
        try:
            while waiting:
                finished, waiting = wait(waiting, _POLL_SECONDS, FIRST_COMPLETED)
                seen, new = done.value, done.value - seen
                report(new)
                if watch.received:
                    raise Interrupted(watch.received)
                for future in finished:
                    future.result()
        except BrokenProcessPool:
            hint = "fewer --processes; the same command again goes on from the finished parts"
            raise SslJetsError("a process of the simulation was killed", hint=hint) from None
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            os.environ.pop(SAFE_PATH)
            if before is not None:
                os.environ[SAFE_PATH] = before


_worker: dict[str, Any] = {}


def _begin_worker(stop: Any, done: Any) -> None:
    for number in WATCHED:  # batch systems and Ctrl-C send them to all processes; the first one decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker.update(stop=stop, done=done)


def _end_with_parent() -> None:
    """End this worker when its parent ends: one that was killed cannot stop it, and it would wait forever for work."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(request: SimulationRequest, part: Part, file: Path) -> None:
    """Simulate one part in a worker."""

    def progress(new: int) -> bool:
        with _worker["done"].get_lock():
            _worker["done"].value += new
        return bool(_worker["stop"].is_set())

    try:
        save_part(file, simulate_part(request, part, progress))
    except StoppedError:
        return
