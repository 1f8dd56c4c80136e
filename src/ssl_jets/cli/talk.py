"""Results go to stdout, talk to stderr; of several processes only the first says anything."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from ssl_jets.launch import join_srun


def rank() -> int:
    """Number of this process: by torchrun, srun, or Fabric (which sets LOCAL_RANK in the processes it starts)."""
    join_srun()
    return int(next((os.environ[name] for name in ("RANK", "LOCAL_RANK") if name in os.environ), 0))


def on_rank_0(action: Callable[[], object]) -> None:
    if rank() == 0:
        action()


def put(result: object) -> None:
    on_rank_0(lambda: print(result, flush=True))


def say(message: str) -> None:
    on_rank_0(lambda: print(message, file=sys.stderr, flush=True))


def say_sample(data: Sequence[str] | None) -> None:
    if not data:
        say("no --data: the sample that comes with ssl-jets (10 classes of simulated jets)")
