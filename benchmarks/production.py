"""A million jets from files to scores and z: rate, memory over the whole run, sizes, merges, and reads of a few rows.

    python benchmarks/production.py --model RUN --data FOLDER --work FOLDER [--copies 10] [--out RESULT.md]

The files of `--data` are copied `--copies` times. `ssl-jets predict --with-z --per-file` writes one part for each of
them, in a process of its own, of which the resident memory is read from the kernel at each finished part. The
parts are then merged into an index and into one file of each format, and rows are read from each at random places.
Finished stages in `--work` are not repeated, so that the reads can be measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SSL_JETS = [sys.executable, "-m", "ssl_jets"]
MERGED = ("index.json", "merged.parquet", "merged.root", "merged.h5", "merged.npz")
ROWS = 1000
READS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--read", metavar="FILE", help="only time the reads of one file")
    args = parser.parse_args()
    if args.read:
        reads(args.read)
        return
    copy_files(args.data, args.work / "jets", args.copies)
    log = args.work / "predict.json"
    if not log.exists():
        log.write_text(json.dumps(predict(args.model, args.work)))
    page = "\n\n".join([table_of(json.loads(log.read_text())), merge_parts(args.work), read_rows(args.work)]) + "\n"
    if args.out:
        args.out.write_text(page)
    print(page)


def copy_files(source: Path, target: Path, copies: int) -> None:
    """Copy all files of a folder into `copies` folders."""
    for copy in range(copies):
        (target / f"copy-{copy:02d}").mkdir(parents=True, exist_ok=True)
        for file in sorted(source.glob("*.root")):
            to = target / f"copy-{copy:02d}" / file.name
            if not to.exists():
                shutil.copyfile(file, to)


def predict(model: str, work: Path) -> dict[str, list[float]]:
    """Run `predict`; return its wall time, CPU time and resident memory [MB] at each finished part."""
    parts = work / "parts"
    parts.mkdir(exist_ok=True)
    words = ["--data", str(work / "jets"), "--with-z", "--per-file", "--out", str(parts / "{index}.parquet"), "--force"]
    began = time.monotonic()
    process = subprocess.Popen([*SSL_JETS, "predict", "--model", model, *words], stdout=subprocess.DEVNULL)
    seen: dict[str, list[float]] = {"parts": [], "seconds": [], "cpu": [], "memory": []}
    while process.poll() is None:
        time.sleep(0.2)
        finished = len(list(parts.glob("*.parquet")))
        if finished > (seen["parts"][-1] if seen["parts"] else 0):
            seen["parts"].append(finished)
            seen["seconds"].append(time.monotonic() - began)
            seen["cpu"].append(cpu_seconds(process.pid))
            seen["memory"].append(resident_memory(process.pid))
    if process.returncode:
        raise SystemExit(f"predict failed with {process.returncode}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seen["total"] = [time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]
    return seen


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a running process [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_memory(pid: int) -> float:
    """Return the resident memory of a running process [MB]."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def table_of(seen: dict[str, list[float]]) -> str:
    """Return the table of `predict`, a row for every tenth of the parts."""
    lines = ["| parts | wall [s] | CPU [s] | resident memory [MB] |", "|---|---|---|---|"]
    rows = list(zip(seen["parts"], seen["seconds"], seen["cpu"], seen["memory"], strict=True))
    step = max(len(rows) // 10, 1)
    for part, wall, cpu, memory in rows[step - 1 :: step]:
        lines.append(f"| {part} | {wall:.0f} | {cpu:.0f} | {memory:.0f} |")
    wall, cpu, peak = seen["total"]
    return "\n".join([*lines, "", f"In all {wall:.0f} s, {cpu:.0f} CPU s; peak of the memory {peak:.0f} MB."])


def merge_parts(work: Path) -> str:
    """Merge the parts into an index and into one file of each format; return the table of times and sizes."""
    parts = sorted(map(str, (work / "parts").glob("*.parquet")))
    size = sum(Path(part).stat().st_size for part in parts)
    lines = ["| file | merge, wall [s] | CPU [s] | peak memory [MB] | size [MB] |", "|---|---|---|---|---|"]
    lines.append(f"| {len(parts)} parts | | | | {size / 1e6:.1f} |")
    for name in MERGED:
        began = time.monotonic()
        words = ["merge", *parts, "--out", str(work / name), "--force"]
        process = subprocess.Popen([*SSL_JETS, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"merge to {name} failed with {process.returncode}")
        wall, cpu, memory = time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
        lines.append(f"| {name} | {wall:.1f} | {cpu:.1f} | {memory:.0f} | {(work / name).stat().st_size / 1e6:.1f} |")
    return "\n".join(lines)


def read_rows(work: Path) -> str:
    """Read some rows at random places of each file; return the table of times and bytes."""
    lines = [f"| file | {ROWS} rows, median of {READS} [ms] | slowest [ms] | read [MB] each |", "|---|---|---|---|"]
    for name in MERGED:
        words = [sys.executable, __file__, "--read", str(work / name)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        milliseconds, read = json.loads(done.stdout)
        lines.append(f"| {name} | {np.median(milliseconds):.0f} | {max(milliseconds):.0f} | {np.median(read):.1f} |")
    return "\n".join(lines)


def reads(path: str) -> None:
    """Print the times [ms] and bytes [MB] of reads at random rows of a file."""
    import ssl_jets
    from ssl_jets.zfile import count_rows

    total, chance = count_rows(path), np.random.default_rng(0)
    ssl_jets.read_scores(path, stop=1)  # libraries are imported before the clock runs
    times, read = list[float](), list[float]()
    for start in chance.integers(0, total - ROWS, READS).tolist():
        before, began = read_bytes(), time.perf_counter()
        file = ssl_jets.read_scores(path, start=start, stop=start + ROWS)
        times.append(1000 * (time.perf_counter() - began))
        read.append((read_bytes() - before) / 1e6)
        assert len(file) == ROWS
    print(json.dumps([times, read]))


def read_bytes() -> int:
    """Return the bytes that this process has read from files by system calls."""
    return int(Path("/proc/self/io").read_text().split()[1])


if __name__ == "__main__":
    main()
