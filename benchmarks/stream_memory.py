"""Peak memory of reading against the number of jets: files are linked under many names.

    python benchmarks/stream_memory.py FILE... [--jets 100000 1000000 10000000] [--buffer 100000] [--most JETS]

An epoch of `TrainStream` without a training; with `--most`, only its first jets. Each point is a process of its own,
whose peak resident memory the operating system reports. The windows of an epoch are planned over all files.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--jets", nargs="+", type=int, default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--buffer", type=int, default=100_000)
    parser.add_argument("--most", type=int, default=10**12)
    parser.add_argument("--one", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(read(args.one, args.buffer, args.most)))
        return
    print("| jets | files | jets read | CPU seconds | imports [MB] | peak [MB] |\n|---|---|---|---|---|---|")
    per_file = entries(args.files)
    for jets in args.jets:
        with tempfile.TemporaryDirectory() as folder:
            copies = -(-jets // sum(per_file))
            for copy in range(copies):
                for file in args.files:
                    name = Path(folder) / f"{file.stem}_{copy:04d}{file.suffix}"
                    if copy:  # a symbolic link would be known as the same file
                        name.hardlink_to(Path(folder) / f"{file.stem}_0000{file.suffix}")
                    else:
                        shutil.copyfile(file, name)
            command = [sys.executable, __file__, *map(str, args.files[:1]), "--one", folder]
            command += ["--buffer", str(args.buffer), "--most", str(args.most)]
            found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        row = [f"{copies * sum(per_file):,}", f"{copies * len(args.files):,}", f"{found['jets']:,}"]
        row += [f"{found['seconds']:.1f}", f"{found['before']:.0f}", f"{found['peak']:.0f}"]
        print(f"| {' | '.join(row)} |", flush=True)


def entries(files: list[Path]) -> list[int]:
    from ssl_jets.data.files import open_files
    from ssl_jets.data.sources import Source

    return [file.entries for file in open_files([Source(str(path)) for path in files])]


def read(folder: str, buffer: int, most: int) -> dict[str, float]:
    """One epoch, or the first `most` jets of it."""
    import torch

    from ssl_jets.data.files import open_files, whole
    from ssl_jets.data.loading.stream import TrainStream
    from ssl_jets.data.sources import resolve_sources
    from ssl_jets.runtime.allocator import tune_memory

    tune_memory()
    torch.set_num_threads(1)
    before, began = peak(), time.process_time()
    files = open_files(resolve_sources([folder]))
    with TrainStream(files, whole(files), batch_size=256, buffer=buffer, seed=0) as stream:
        jets = 0
        while jets < most and stream.epoch == 0:
            jets += len(next(stream))
    return {"jets": jets, "seconds": time.process_time() - began, "before": before, "peak": peak()}


def peak() -> float:
    """Peak resident memory of this process [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))


if __name__ == "__main__":
    sys.exit(main())
