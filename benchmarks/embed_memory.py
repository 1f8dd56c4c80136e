"""Peak memory and rate of `ssl-jets embed` against the number of jets.

    python benchmarks/embed_memory.py --model RUN --file JETS.root [--copies 1 10 100] [--suffix .parquet]

The file is copied under other names, so that ten copies are ten times the jets; each point is a process of its own,
whose peak resident memory the operating system reports.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--copies", nargs="+", type=int, default=[1, 10, 30])
    parser.add_argument("--suffix", default=".parquet")
    args = parser.parse_args()
    print("| files | seconds | peak memory [MB] |\n|---|---|---|")
    for copies in args.copies:
        with tempfile.TemporaryDirectory() as folder:
            jets = Path(folder) / "jets"
            jets.mkdir()
            for number in range(copies):
                (jets / f"{args.file.stem}-{number:04d}.root").write_bytes(args.file.read_bytes())
            began = time.monotonic()
            peak = peak_of("embed", "--model", args.model, "--data", str(jets), "--out", f"{folder}/z{args.suffix}")
            print(f"| {copies} | {time.monotonic() - began:.1f} | {peak / 1024:.0f} |", flush=True)


def peak_of(*arguments: str) -> int:
    """Peak resident memory in kB of one `ssl-jets` command."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from ssl_jets.cli import main; main()", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"ssl-jets {' '.join(arguments)} failed with {process.returncode}")
    assert isinstance(usage, resource.struct_rusage)
    return usage.ru_maxrss


if __name__ == "__main__":
    main()
