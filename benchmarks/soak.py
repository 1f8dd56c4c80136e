"""Kill and resume a pretraining many times; check its weights and losses, and that nothing grows or stays behind.

    python benchmarks/soak.py [--steps 1500] [--life 40] [--seed 0]

An uninterrupted run comes first. The same run is then killed by SIGKILL or SIGTERM, at random, and resumed until it has
all its steps. Each process is killed after a random number of CPU seconds up to `--life`, so that a busy machine gives
the same kills. Resident memory, file handles and threads are sampled once a second, files left behind after each kill.
Weights and losses of both runs must be equal to the last bit, and no hidden or temporary file may be left at the end.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from kill_resume import end_of_stderr, losses, sha, start

MEASURES = ("memory", "handles", "threads")
VALIDATE_EVERY = 250
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Life:
    """Samples of one process: resident memory [MB], file handles, threads; CPU seconds and exit code at its end."""

    memory: list[float] = field(default_factory=list)
    handles: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)
    cpu: float = 0.0
    code: int = 0

    def sample(self, process: int) -> None:
        """Add a sample of a process, unless it has just ended."""
        folder = Path("/proc", str(process))
        try:
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            times = (folder / "stat").read_text().rpartition(")")[2].split()  # user and system: 12th and 13th after it
            handles = len(list((folder / "fd").iterdir()))
            memory = int(status["VmRSS"].split()[0]) / 1e3
        except (OSError, KeyError):
            return
        self.memory.append(memory)
        self.handles.append(handles)
        self.threads.append(int(status["Threads"]))
        self.cpu = (int(times[11]) + int(times[12])) / TICKS

    def growth(self) -> float:
        """Return the growth of memory [MB] from the third to the last quarter of the samples; nan for a short life."""
        quarter = len(self.memory) // 4
        if quarter < 10:
            return math.nan
        return statistics.median(self.memory[-quarter:]) - statistics.median(self.memory[-2 * quarter : -quarter])


def live(run: Path, steps: int, *more: str, cpu: float = math.inf, kill: signal.Signals = signal.SIGTERM) -> Life:
    """Sample the process of a run until it ends, and kill it once it has taken some CPU seconds."""
    process = start(run, steps, *more, validate_every=VALIDATE_EVERY)
    life, killed = Life(), False
    while process.poll() is None:
        life.sample(process.pid)
        if not killed and life.cpu > cpu:
            process.send_signal(kill)
            killed = True
        time.sleep(1)
    life.code = process.returncode
    if life.code not in ((0, -signal.SIGKILL, 128 + signal.SIGTERM, -signal.SIGTERM) if killed else (0,)):
        raise SystemExit(f"exit code {life.code} after {life.cpu:.0f} CPU seconds:\n{end_of_stderr(run)}")
    return life


def left_behind(run: Path, temporary: Path) -> list[str]:
    """Name the hidden files of a run, except for locks, and all temporary files, except for torch's empty cache."""
    hidden = [path for path in run.rglob(".*") if not path.name.endswith("lock")]
    files = [path for path in temporary.rglob("*") if path.is_file()]
    return sorted(path.name for path in [*hidden, *files])


def row(name: str, lives: list[Life]) -> str:
    """Return a row of the table: maximum of the first process, of the last, of all; growth of memory within one."""
    cells = []
    for measure in MEASURES:
        maxima = [max(getattr(life, measure), default=0) for life in lives]
        cells.append(" / ".join(f"{value:.0f}" for value in (maxima[0], maxima[-1], max(maxima))))
    growths = [life.growth() for life in lives if not math.isnan(life.growth())]
    cells.append(f"{min(growths):+.1f} to {max(growths):+.1f} ({len(growths)})" if growths else "")
    return f"| {name} | {len(lives)} | {' | '.join(cells)} |"


def kill_until_done(run: Path, temporary: Path, args: argparse.Namespace) -> tuple[list[Life], list[str], list[int]]:
    """Kill and resume a run until it is finished; return its processes, the signals, and the files left by each."""
    rng = random.Random(args.seed)
    lives: list[Life] = []
    signals: list[str] = []
    left: list[int] = []
    while not (run / "model").exists():
        kill = rng.choice((signal.SIGKILL, signal.SIGTERM))
        life = live(run, args.steps, "--resume", cpu=rng.uniform(0, args.life), kill=kill)
        lives.append(life)
        if life.code:
            signals.append(kill.name)
        left.append(len(left_behind(run, temporary)))
        checkpoint = (run / "checkpoints" / "last.ckpt").is_file()
        print(f"{kill.name} exit {life.code} cpu {life.cpu:.0f} s checkpoint {checkpoint} left {left[-1]}", flush=True)
    return lives, signals, left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--life", type=float, default=40, help="largest number of CPU seconds of a process")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        temporary, whole, killed = (Path(folder) / name for name in ("tmp", "whole", "killed"))
        temporary.mkdir()
        os.environ["TMPDIR"] = str(temporary)
        began = time.monotonic()
        alone = live(whole, args.steps)
        print(f"uninterrupted: {alone.cpu:.0f} CPU seconds, weights {sha(whole)[:12]}", flush=True)
        lives, signals, left = kill_until_done(killed, temporary, args)
        same = losses(whole) == losses(killed) and sha(whole) == sha(killed)
        counts = ", ".join(f"{signals.count(name)} {name}" for name in ("SIGKILL", "SIGTERM"))
        print(f"\n{args.steps} steps, {(time.monotonic() - began) / 60:.0f} minutes, {counts}\n")
        print("| run | processes | memory [MB] | file handles | threads | growth of memory in a process [MB] |")
        print("|---|---|---|---|---|---|")
        print(row("uninterrupted", [alone]))
        print(row("killed and resumed", lives))
        print("\nMaximum of the first process, of the last, of all.", end=" ")
        print(f"Files left behind by a kill: at most {max(left)}; at the end: {left[-1]}.", end=" ")
        print(f"Weights and losses: {'identical' if same else 'DIFFERENT'} ({sha(killed)[:12]}).")
        raise SystemExit(0 if same and not left[-1] else 1)


if __name__ == "__main__":
    main()
