"""Process group of a launch by torchrun or srun: ranks, gathering of values, one message for a lost process."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from ssl_jets.errors import SslJetsError
from ssl_jets.runtime.gpu import count_gpus
from ssl_jets.runtime.launcher import join

COLLECTIVE_TIMEOUT = timedelta(days=30)
"""Timeout of a collective: shares of equal size can take times of unequal length."""
CONNECT_TIMEOUT = timedelta(minutes=30)
"""Timeout of the connection to the other processes, the same as Fabric's."""
RESOLVE_TIMEOUT = timedelta(minutes=1)
"""Timeout of the resolution of a machine's name."""

OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
"""Variable that makes torchrun create a new store for each start. Without it, restarted processes find the addresses of
the processes before them."""

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """Rank of this process among `world` ones.

    A process that fails does not reach `gather`; when it ends, `gather` raises on the others.
    """

    rank: int = 0
    world: int = 1
    group: dist.ProcessGroup | None = None

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes, in order; waits for all of them.

        Raises:
            SslJetsError: another process ended.
        """
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        try:
            dist.all_gather_object(values, value, group=self.group)
        except RuntimeError as error:  # the connection to a process that ended is closed
            raise self.others_failed() from error
        return values

    def from_first(self, compute: Callable[[], T]) -> T:
        """Call a function on rank 0 and return its value on all ranks."""
        value = self.gather(compute() if self.rank == 0 else None)[0]
        assert value is not None
        return value

    def others_failed(self) -> SslJetsError:
        """Return the error of this process when another one failed."""
        return SslJetsError("another process of this launch failed", where=f"rank {self.rank}", hint="see its message")

    def device(self) -> torch.device:
        """Return the GPU of this process, or the CPU if there is none."""
        gpus = count_gpus()
        if not gpus:
            return torch.device("cpu")
        launch = join()
        return torch.device("cuda", (launch.local_rank if launch else 0) % gpus)


def lost_another(error: RuntimeError) -> bool:
    """Return True for an error of a lost connection to another process of the launch.

    Gloo raises it at once, in any collective. NCCL does not; the launcher ends such a process.
    """
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


@contextmanager
def launched() -> Iterator[Ranks]:
    """Connect the processes that torchrun or srun started; a single process if there is no launcher."""
    launch = join()
    if dist.is_initialized():
        group = dist.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT)
        yield Ranks(dist.get_rank(), dist.get_world_size(), group)
    elif launch is not None and launch.world > 1:
        with connecting():
            store, rank, world = next(rendezvous("env://", timeout=CONNECT_TIMEOUT))
            dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=COLLECTIVE_TIMEOUT)
        try:
            yield Ranks(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()
    else:
        yield Ranks()


@contextmanager
def connecting() -> Iterator[None]:
    """Turn a failed connection of the processes of a launch at MASTER_ADDR into one message, after a timeout.

    Raises:
        SslJetsError: the name of the first machine does not resolve, or the others do not connect.
    """
    launch = join()
    if launch is None or launch.world == 1 or dist.is_initialized():
        yield
        return
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    where, hint = f"MASTER_ADDR={address}, MASTER_PORT={port}", "export MASTER_ADDR=ADDRESS that all machines reach"
    if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0" and not os.environ.get(OWN_STORE):
        hint = f"export {OWN_STORE}=1 before torchrun with --max-restarts"
    _wait_for_name(address, where, hint)
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise SslJetsError("the processes of the launch do not meet", where=where, found=reason, hint=hint) from error


def _wait_for_name(address: str, where: str, hint: str) -> None:
    """Wait until a name resolves, which may take some seconds at the start of a job."""
    seconds = RESOLVE_TIMEOUT.total_seconds()
    end = time.monotonic() + seconds
    while True:
        try:
            socket.getaddrinfo(address, None)
            return
        except OSError as error:
            if time.monotonic() >= end:
                message = f"the name of the first machine does not resolve, after {seconds:.0f} s"
                raise SslJetsError(message, where=where, found=error.strerror or error, hint=hint) from None
        time.sleep(min(1.0, seconds))
