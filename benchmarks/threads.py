"""Two cores: one process of two OpenMP threads, or two processes of one thread, against one process of one thread.

    python benchmarks/threads.py FILE... [--sizes tiny small] [--jets 6400] [--rounds 3]

A pretraining by `mae` with 128 jets a step, in turns. The first steps are left out. Where other work runs on the
machine, the time on the clock says little: jets per CPU second, of all threads and processes together, tell what the
second thread or process adds (1.00 of one thread means that two idle cores train twice as fast).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CASES = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1)}
BATCH, SKIPPED = 128, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--sizes", nargs="+", default=["tiny", "small"])
    parser.add_argument("--jets", type=int, default=6400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=3, metavar=("SIZE", "STEPS", "OUT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        train(args.files, *args.child)
        return
    head = ["size", "", "jets per CPU second", "of one thread", "jets/s on the clock", "of one thread"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for size in args.sizes:
        rates: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
        for _ in range(args.rounds):
            for name, (processes, threads) in CASES.items():
                rates[name].append(measure(args.files, size, args.jets, processes, threads))
        first = rates["1 process, 1 thread"]
        for name, found in rates.items():
            row = [size, name]
            for which in range(2):
                ratio = statistics.median(mine[which] / one[which] for mine, one in zip(found, first))
                row += [f"{statistics.median(rate[which] for rate in found):,.0f}", f"{ratio:.2f}"]
            print(f"| {' | '.join(row)} |", flush=True)


def measure(files: list[str], size: str, jets: int, processes: int, threads: int) -> tuple[float, float]:
    """Jets per CPU second, and per second on the clock."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        steps = jets // (BATCH * processes)
        command = [sys.executable, *(launcher if processes > 1 else []), __file__, *files]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        subprocess.run(
            [*command, "--child", size, str(steps), folder], env=environment, check=True, capture_output=True
        )
        times = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    trained = BATCH * processes * (steps - SKIPPED)
    return trained / sum(cpu for cpu, _ in times), trained / max(wall for _, wall in times)


def train(files: list[str], size: str, steps: str, out: str) -> None:
    """A training; each process writes the CPU seconds and the seconds that it took after the first steps."""
    from ssl_jets.config import parse_set
    from ssl_jets.pretrain import pretrain, resolve_pretrain
    from ssl_jets.train import Loop

    take_step, moments = Loop.take_step, []

    def timed(loop: Loop) -> dict[str, float]:
        parts = take_step(loop)
        moments.append((time.process_time(), time.monotonic()))
        return parts

    Loop.take_step = timed  # type: ignore[method-assign]
    settings = [f"model.size={size}", f"train.steps={steps}", f"train.batch_size={BATCH}", "data.buffer=10000"]
    layer = parse_set([*settings, "train.validate_every=1000000", "train.validation_jets=100"])
    pretrain(resolve_pretrain("mae", {"data": {"sources": files}}, layer), Path(out) / "run")
    spent = [last - first for first, last in zip(moments[SKIPPED - 1], moments[-1])]
    (Path(out) / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(spent))


if __name__ == "__main__":
    main()
