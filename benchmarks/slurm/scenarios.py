"""Jobs of a real SLURM: time limit and requeue, several tasks, KILL, a locked folder, a pipeline with an array.

    eval "$(benchmarks/slurm/cluster.sh up /tmp/slurm)"
    python benchmarks/slurm/scenarios.py /tmp/slurm-jobs
    benchmarks/slurm/cluster.sh down /tmp/slurm

Trains `tiny` on the bundled sample; every scenario is one line of a table in `results.md`. Weights are compared by the
bytes of `model.safetensors`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "slurm" / "pretrain.sh"
ARRAY = ROOT / "examples" / "slurm" / "embed_array.sh"
LONGER = 5
"""Steps of the training with a time limit of two minutes, in units of the others."""
TRAIN = "ssl-jets pretrain --method mae --size tiny --batch-size 32 --data @files.txt"


def run(*words: str) -> str:
    """Run a command to its end and return its output."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def submit(script: str | Path, *options: str, arguments: tuple[str, ...] = ()) -> str:
    """Submit a script (its text or its path) and return the job number."""
    if isinstance(script, str):
        path = Path(f"job-{time.time_ns()}.sh")
        path.write_text(script, encoding="utf-8")
    else:
        path = script
    return run("sbatch", "--parsable", "--output=%x-%j.log", *options, str(path), *arguments)


def state(job: str) -> str:
    """Return the state of a job; of an array the states of its tasks."""
    return " ".join(sorted(set(run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").split())))


def wait(
    job: str, *, ends: tuple[str, ...] = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"), seconds: int = 1500
) -> str:
    """Wait until a job is in an end state, and return it; a requeued job is pending again."""
    for _ in range(seconds):
        current = state(job)
        if current and all(word in ends for word in current.split()):
            return current
        time.sleep(1)
    raise TimeoutError(f"job {job}: {state(job)}")


def restarts(job: str) -> int:
    """Return how often a job was requeued."""
    words = run("scontrol", "show", "job", job).split()
    return int(next(word.partition("=")[2] for word in words if word.startswith("Restarts=")))


def weights(folder: str) -> str:
    """Return the first digits of the hash of the weights of a run."""
    return hashlib.sha256((Path(folder) / "model" / "model.safetensors").read_bytes()).hexdigest()[:12]


def job_text(command: str) -> str:
    """Return a batch script of one command."""
    return f"#!/bin/bash\n#SBATCH --open-mode=append\n{command}\n"


def time_limit(steps: int) -> str:
    """Run the batch script of the README until it is done, by way of its time limit, and once without a limit."""
    steps *= LONGER
    whole = job_text(f"{TRAIN} --steps {steps} --out runs/unlimited")
    undisturbed = submit(whole)
    text = SCRIPT.read_text(encoding="utf-8").replace(
        "--size base --epochs 20", f"--size tiny --batch-size 32 --steps {steps}"
    )
    text = text.replace("#SBATCH --gpus-per-node=1\n", "").replace("--out runs/mae", "--out runs/limit")
    job = submit(text, "--time=2", "--signal=USR1@60", "--cpus-per-task=1")
    end = wait(job)
    wait(undisturbed)
    return (
        f"{end}, {restarts(job)} requeues, weights {weights('runs/limit')}, without a limit {weights('runs/unlimited')}"
    )


def killed(steps: int) -> str:
    """Kill a job in the middle, and submit it again."""
    command = job_text(f"{TRAIN} --steps {steps} --set train.checkpoint_minutes=0.1 --out runs/killed --resume")
    job = submit(command)
    while not (
        Path("runs/killed/metrics.jsonl").exists()
        and len(Path("runs/killed/metrics.jsonl").read_text().splitlines()) > 8
    ):
        time.sleep(1)
    run("scancel", "--signal=KILL", "--full", job)
    first = wait(job)
    second = wait(submit(command))
    return f"{first}, then {second}, weights {weights('runs/killed')}"


def undisturbed(steps: int) -> str:
    """Train without a disturbance, for comparison."""
    end = wait(submit(job_text(f"{TRAIN} --steps {steps} --out runs/whole")))
    return f"{end}, weights {weights('runs/whole')}"


def tasks(nodes: int) -> Callable[[int], str]:
    """Return a scenario: two tasks of one step on one or two nodes."""

    def scenario(steps: int) -> str:
        out = f"runs/nodes{nodes}"
        command = f"export MASTER_ADDR=127.0.0.1\nsrun --nodes={nodes} --ntasks=2 {TRAIN} --steps {steps} --out {out}"
        end = wait(submit(job_text(command), f"--nodes={nodes}", "--ntasks=2"))
        return f"{end}, weights {weights(out)}"

    return scenario


def locked(steps: int) -> str:
    """Submit two jobs that train in one run folder at the same time."""
    command = job_text(f"{TRAIN} --steps {steps} --out runs/shared --resume")
    jobs = [submit(command), submit(command)]
    ends = sorted(wait(job) for job in jobs)
    logs = " ".join(path.read_text(encoding="utf-8") for path in Path().glob("job-*-*.log"))
    message = "another process is training in this run folder" in logs
    return f"{' and '.join(ends)}, message {'seen' if message else 'missing'}, weights {weights('runs/shared')}"


def pipeline(steps: int) -> str:
    """Train, then embed every file in an array that waits for the training."""
    training = submit(job_text(f"{TRAIN} --steps {steps} --out runs/chain"))
    files = Path("files.txt").read_text(encoding="utf-8").split()
    array = submit(
        ARRAY,
        f"--dependency=afterok:{training}",
        f"--array=1-{len(files)}",
        "--cpus-per-task=1",
        arguments=("runs/chain",),
    )
    end = wait(array)
    written = len(list(Path("z").glob("*.root")))
    return f"training {state(training)}, array {end}, {written} of {len(files)} files"


SCENARIOS: dict[str, Callable[[int], str]] = {
    "undisturbed": undisturbed,
    "time limit, USR1, requeue, --resume (script of the README)": time_limit,
    "KILL, submitted again": killed,
    "two tasks, one node": tasks(1),
    "two tasks, two nodes": tasks(2),
    "two jobs in one run folder": locked,
    "--dependency=afterok, array of embed": pipeline,
}


def main() -> None:
    """Run all scenarios in a folder, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", default="", help="Run the scenarios whose name contains this text.")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    os.environ["OMP_NUM_THREADS"] = "1"
    os.chdir(args.folder)
    sample = sorted((ROOT / "data").glob("*.root"))
    Path("files.txt").write_text("".join(f"{path}\n" for path in sample), encoding="utf-8")
    lines = [
        f"# SLURM scenarios, {date.today()}, {run('sinfo', '--version')}, {args.steps} steps",
        "",
        "| scenario | result | seconds |",
        "|---|---|---|",
    ]
    for name, scenario in SCENARIOS.items():
        if args.only in name:
            began = time.monotonic()
            lines.append(f"| {name} | {scenario(args.steps)} | {time.monotonic() - began:.0f} |")
            print(lines[-1], flush=True)
    Path("results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
