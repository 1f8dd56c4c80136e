"""Results go to stdout, talk to stderr; of several processes only the first says anything."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from ssl_jets.launch import rank


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
