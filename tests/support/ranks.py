"""Processes of a launch, forked from one that has imported torch: each fresh interpreter would import it again."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["pytest", "ssl_jets.embedding.embed", "ssl_jets.training.loop"])


class Ended(NamedTuple):
    """A process that ended: its exit code, and the traceback of its exception."""

    code: int | None
    error: str


def on_ranks(function: Callable[..., Any], *arguments: Any, world: int = 2, seconds: float = 120) -> list[Ended]:
    """Call `function` on each of `world` processes, which have the environment that torchrun gives them.

    Args:
        function: of a module that can be imported.
        arguments: its arguments; they are pickled.
        world: number of processes.
        seconds: time limit; processes that take longer are killed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        launch = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    running = []
    for rank in map(str, range(world)):
        environment = launch | {"RANK": rank, "LOCAL_RANK": rank, "TORCHELASTIC_RUN_ID": "tests"}
        receiver, sender = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_call, args=(function, arguments, environment, sender))
        process.start()
        sender.close()
        running.append((process, receiver))
    ended = []
    for process, receiver in running:
        error = _received(receiver) if receiver.poll(seconds) else f"not ended after {seconds} s"
        process.join(seconds if not error.startswith("not ended") else 0)
        if process.is_alive():
            process.kill()
            process.join()
        ended.append(Ended(process.exitcode, error))
    return ended


def all_ranks(function: Callable[..., Any], *arguments: Any, world: int = 2, seconds: float = 120) -> None:
    """Call `function` as `on_ranks` does, and assert that no process failed."""
    ended = on_ranks(function, *arguments, world=world, seconds=seconds)
    assert [process.code for process in ended] == [0] * world, ended


def _received(receiver: Connection) -> str:
    try:
        return str(receiver.recv())
    except EOFError:
        return ""


def _call(
    function: Callable[..., Any], arguments: tuple[Any, ...], environment: dict[str, str], error: Connection
) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        function(*arguments)
    except BaseException:
        error.send(traceback.format_exc())
        raise SystemExit(1) from None
