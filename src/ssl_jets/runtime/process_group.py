"""The processes of one launch by torchrun or srun, where each does a share of a list of entries."""

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
from ssl_jets.runtime.launcher import join

PATIENCE = timedelta(days=30)
"""How long a process waits for the others: shares of equal size can take times of unequal length."""


MEETING = timedelta(minutes=30)
"""How long a process waits for the others to connect, as Fabric does for a training."""


NAMING = timedelta(minutes=1)
"""How long a name of a machine may not resolve."""


T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among `world` ones.

    A process that fails does not come to `gather`; when it ends, the others learn it there.
    """

    rank: int = 0
    world: int = 1
    group: dist.ProcessGroup | None = None

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in order; returns when all have come here."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        try:
            dist.all_gather_object(values, value, group=self.group)
        except RuntimeError as error:  # the connection to a process that ended is closed
            raise self.others_failed() from error
        return values

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` returns on the first process, on all of them."""
        made = self.gather(make() if self.rank == 0 else None)[0]
        assert made is not None
        return made

    def others_failed(self) -> SslJetsError:
        """The error where this process cannot go on without another that failed."""
        return SslJetsError("another process of this launch failed", where=f"rank {self.rank}", hint="see its message")

    def device(self) -> torch.device:
        """The GPU of this process, or the CPU where there is none."""
        if not torch.cuda.is_available():
            return torch.device("cpu")
        launch = join()
        return torch.device("cuda", (launch.local_rank if launch else 0) % torch.cuda.device_count())


def lost_another(error: RuntimeError) -> bool:
    """Whether an error of torch means that the connection to another process of the launch broke.

    Gloo tells it at once, in whatever collective a process stands. NCCL does not: the launcher ends such a process.
    """
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error)


@contextmanager
def launched() -> Iterator[Ranks]:
    """The processes that torchrun or srun started, connected; one where there is no launcher."""
    launch = join()
    if dist.is_initialized():
        group = dist.new_group(backend="gloo", timeout=PATIENCE)
        yield Ranks(dist.get_rank(), dist.get_world_size(), group)
    elif launch is not None and launch.world > 1:
        with meeting():
            store, rank, world = next(rendezvous("env://", timeout=MEETING))
            dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=PATIENCE)
        try:
            yield Ranks(dist.get_rank(), dist.get_world_size())
        finally:
            dist.destroy_process_group()
    else:
        yield Ranks()


@contextmanager
def meeting() -> Iterator[None]:
    """Within it the processes of a launch connect: at MASTER_ADDR, or not, which is one message after a time limit.

    Raises:
        SslJetsError: the name of the first machine does not resolve, or the others do not come.
    """
    launch = join()
    if launch is None or launch.world == 1 or dist.is_initialized():
        yield
        return
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    where, hint = f"MASTER_ADDR={address}, MASTER_PORT={port}", "export MASTER_ADDR=ADDRESS that all machines reach"
    _wait_for_name(address, where, hint)
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise SslJetsError("the processes of the launch do not meet", where=where, found=reason, hint=hint) from error


def _wait_for_name(address: str, where: str, hint: str) -> None:
    """Wait until a name resolves, which it may not do in the first seconds of a job."""
    end = time.monotonic() + NAMING.total_seconds()
    while True:
        try:
            socket.getaddrinfo(address, None)
            return
        except OSError as error:
            if time.monotonic() >= end:
                what = f"the name of the first machine does not resolve, after {NAMING.total_seconds():.0f} s"
                raise SslJetsError(what, where=where, found=error.strerror or error, hint=hint) from None
        time.sleep(min(1.0, NAMING.total_seconds()))
