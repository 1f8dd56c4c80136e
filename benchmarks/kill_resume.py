"""Kill a pretraining at random moments, resume it, and compare its losses with those of an uninterrupted run.

    python benchmarks/kill_resume.py [--kills 6] [--steps 120] [--seed 0]

SIGKILL and SIGTERM in turn. Every loss of the killed run, of training and of validation, must equal that of the
uninterrupted one to the last digit written, and so must the SHA-256 of the weights.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [
    sys.executable,
    "-c",
    "from ssl_jets.cli import main; main()",
    "pretrain",
    "--method",
    "mae",
    "--size",
    "tiny",
]


def start(out: Path, steps: int, *more: str, validate_every: int = 20) -> subprocess.Popen[bytes]:
    settings = ["--batch-size", "32", "--set", "train.log_every=1", "--set", f"train.validate_every={validate_every}"]
    settings += ["--set", "train.validation_jets=200", "--set", "train.checkpoint_minutes=0.05"]
    command = [*COMMAND, "--steps", str(steps), *settings, "--out", str(out), *more]
    with out.with_suffix(".stderr").open("ab") as log:  # a pipe that nobody reads would fill and stop the run
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)


def end_of_stderr(run: Path) -> str:
    """Return the end of what the processes of a run wrote to stderr."""
    return run.with_suffix(".stderr").read_text(errors="replace")[-1000:]


def losses(run: Path) -> list[tuple[object, ...]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["kind"], line.get("loss"), line.get("grad_norm"), line.get("rankme")) for line in lines]


def sha(run: Path) -> str:
    return json.loads((run / "model" / "config.json").read_text())["weights_sha256"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        began = time.monotonic()
        if start(whole, args.steps).wait():
            raise SystemExit(f"the uninterrupted run failed:\n{end_of_stderr(whole)}")
        seconds = time.monotonic() - began
        print(f"uninterrupted: {args.steps} steps in {seconds:.0f} s, weights {sha(whole)[:12]}")
        for number in range(args.kills):
            chosen = (signal.SIGKILL, signal.SIGTERM)[number % 2]
            process = start(killed, args.steps, "--resume")
            wait = rng.uniform(0.1, 0.7) * seconds
            try:
                process.wait(wait)
            except subprocess.TimeoutExpired:
                process.send_signal(chosen)
            code = process.wait()
            at = losses(killed)[-1][0] if (killed / "metrics.jsonl").is_file() else 0
            print(f"{chosen.name} after {wait:.1f} s: exit {code}, last line of metrics at step {at}", flush=True)
        if start(killed, args.steps, "--resume").wait():
            raise SystemExit(f"the resumed run failed:\n{end_of_stderr(killed)}")
        same = losses(whole) == losses(killed) and sha(whole) == sha(killed)
        print(f"resumed to the end: weights {sha(killed)[:12]}; losses and weights {'identical' if same else 'DIFFER'}")
        raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()
