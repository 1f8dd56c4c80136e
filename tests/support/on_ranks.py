"""A program of tests: `ssl-jets` that writes down the jets it trains on, and may kill itself.

    python -m torch.distributed.run --nproc-per-node 2 on_ranks.py KEYS KILL WORDS...

Each process appends a line for every batch to KEYS/RANK.jsonl: file and entry of its jets. KILL is RANK:BATCH, the
process that kills itself in the place of taking that batch (from 1); RANK:BATCH:USR1, the process that sends SIGUSR1 to
torchrun before it; or "-". In WORDS, the words of the command line, {rank} stands for the number of the process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from ssl_jets.data.loading.stream import TrainStream
from ssl_jets.jets import Jets

Key = tuple[int, int]
"""File, entry."""


def keys_of(jets: Jets) -> list[Key]:
    """Where the jets of a batch come from."""
    assert jets.source is not None
    return [(file, entry) for file, entry, _ in jets.source.tolist()]


def taken(keys: Path, rank: int, batches: int | None = None) -> Counter[Key]:
    """What a process wrote down of its first batches."""
    lines = (keys / f"{rank}.jsonl").read_text().splitlines()[:batches]
    return Counter((file, entry) for line in lines for file, entry in json.loads(line))


def main(keys: Path, kill: str, words: list[str]) -> None:
    from ssl_jets import cli, report

    rank, take, batches = os.environ["RANK"], TrainStream.__next__, 0
    keys.mkdir(exist_ok=True)

    def write_down(stream: TrainStream) -> Jets:
        nonlocal batches
        batches += 1
        if kill == f"{rank}:{batches}":
            os.kill(os.getpid(), signal.SIGKILL)
        if kill == f"{rank}:{batches}:USR1":
            os.kill(os.getppid(), signal.SIGUSR1)
            time.sleep(5)  # until torchrun, which looks at its processes now and then, has passed it on
        jets = take(stream)
        with (keys / f"{rank}.jsonl").open("a") as file:
            file.write(json.dumps(keys_of(jets)) + "\n")
        return jets

    TrainStream.__next__ = write_down  # type: ignore[method-assign]
    report.write_run_report = lambda folder: folder / "report.html"  # drawing takes longer than these trainings
    sys.argv = ["ssl-jets", *(word.replace("{rank}", rank) for word in words)]
    cli.main()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
