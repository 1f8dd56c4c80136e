"""The share of a training's time that it waits for jets: `data_wait` of `metrics.jsonl`, for encoders of several sizes.

    python benchmarks/data_wait.py FILE... [--sizes tiny:20000 small:8000 base:2000] [--batch-size 256]

For each size a pretraining by `mae` on so many jets, in four windows, so that three of them are read while another one
is used. The first window is waited for by any training, once: it is in the first line, which is told apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

WINDOWS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--sizes", nargs="+", default=["tiny:20000", "small:8000", "base:2000"])
    parser.add_argument("--batch-size", type=int, default=256)
    args = parser.parse_args()
    head = ["size", "steps", "jets of a window", "jets/s (median)", "first window [s]", "wait after it", "largest line"]
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for case in args.sizes:
        size, jets = case.split(":")
        lines = train(args.files, size, int(jets), args.batch_size)
        # A line tells the time since the one before it; the first begins with the training.
        spans = [now["seconds"] - before for now, before in zip(lines, [0.0, *(line["seconds"] for line in lines)])]
        later = list(zip(lines, spans))[1:]
        wait = sum(line["data_wait"] * span for line, span in later) / sum(span for _, span in later)
        most = max(line["data_wait"] for line, _ in later)
        row = [size, f"{lines[-1]['step']:,}", f"{int(jets) // WINDOWS:,}"]
        row += [f"{statistics.median(line['jets_per_second'] for line in lines):,.0f}"]
        row += [f"{lines[0]['data_wait'] * spans[0]:.2f}", f"{wait:.2%}", f"{most:.1%}"]
        print(f"| {' | '.join(row)} |", flush=True)


def train(files: list[str], size: str, jets: int, batch_size: int) -> list[dict[str, float]]:
    """The lines of a training."""
    settings = [f"data.buffer={jets // WINDOWS}", "train.log_every=2", "train.validate_every=1000000"]
    command = [sys.executable, "-m", "ssl_jets", "pretrain", "--method", "mae", "--size", size]
    command += ["--steps", str(jets // batch_size), "--batch-size", str(batch_size)]
    command += [word for file in files for word in ("--data", file)]
    command += [word for setting in settings for word in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        subprocess.run([*command, "--out", str(run)], check=True, capture_output=True)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "train"]


if __name__ == "__main__":
    main()
