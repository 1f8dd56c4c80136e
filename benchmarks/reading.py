"""How fast jets are read: `ssl-jets` against bare uproot, and against the loader of weaver-core, on the same files.

    python benchmarks/reading.py FILE.root... [--rounds 5] [--weaver PYTHON]

Everything is measured in jets per CPU second (user and system time of the process with all its threads), so that other
work on the machine matters little, and in turns:

    uproot     the branches that are needed, decoded to awkward arrays, each file in one call; nothing more
    ordered    files to `Jets`: decoded, checked, canonical columns (what `embed` and `evaluate` read)
    stream     the same shuffled over windows (what `pretrain` reads), the first epoch
    filling    the same with `data.cache`, into an empty folder
    cached     the same with that cache filled, as in later epochs
    weaver     batches of weaver's SimpleIterDataset in a torch DataLoader of its own process, with the same 17 particle
               branches and the labels, padded to 128 particles, no weights; PYTHON is the interpreter of an environment
               with weaver-core
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

WEAVER = """
import json, sys, time
import torch
from torch.utils.data import DataLoader
from weaver.utils.dataset import SimpleIterDataset
torch.set_num_threads(1)
config, files = sys.argv[1], sys.argv[2:]
data = SimpleIterDataset({"_": files}, config, for_training=True, load_range_and_fraction=((0, 1), 1, 1), name="train",
                         fetch_by_files=True, fetch_step=1, infinity_mode=False, in_memory=False, async_load=False)
began, jets = time.process_time(), 0
for inputs, *_ in DataLoader(data, batch_size=256, num_workers=0):
    jets += len(next(iter(inputs.values())))
print("jets per second", jets / (time.process_time() - began), jets)
"""
PARTICLES = [
    "px", "py", "energy", "deta", "dphi", "charge", "isChargedHadron", "isNeutralHadron", "isPhoton",
    "isElectron", "isMuon", "d0val", "d0err", "dzval", "dzerr",
]  # fmt: skip
CLASSES = ["QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weaver", metavar="PYTHON")
    parser.add_argument("--buffer", type=int, default=100_000)
    args = parser.parse_args()
    cases = ours(args.files, args.buffer)
    if args.weaver:
        cases["weaver"] = lambda: weaver(args.weaver, args.files)
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(args.rounds):
        for name, run in cases.items():
            rates[name].append(run())
    median = {name: statistics.median(values) for name, values in rates.items()}
    print("| what | jets per CPU second (median) | lowest to highest | of uproot | of weaver |\n|---|---|---|---|---|")
    for name, values in rates.items():
        of_uproot = statistics.median(mine / bare for mine, bare in zip(values, rates["uproot"]))
        of_weaver = f"{median[name] / median['weaver']:.1f}" if args.weaver else ""
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        print(f"| {name} | {median[name]:,.0f} | {spread} | {of_uproot:.2f} | {of_weaver} |")


def ours(names: list[str], buffer: int) -> dict[str, Callable[[], float]]:
    import torch
    import uproot

    from ssl_jets.data.files import open_files, whole
    from ssl_jets.data.loading.shard_cache import ShardCache
    from ssl_jets.data.loading.stream import TrainStream, ordered
    from ssl_jets.data.sources import resolve_sources
    from ssl_jets.runtime.allocator import tune_memory

    tune_memory()
    torch.set_num_threads(1)
    files = open_files(resolve_sources(names))
    parts, total = whole(files), sum(file.entries for file in files)
    needed = {branch for column in files[0].columns for branch in files[0].schema.particles[column].branches}
    needed |= set(files[0].label_branches)

    def bare() -> None:
        for file in files:
            with uproot.open(file.source.path, object_cache=None, array_cache=None) as opened:
                opened[file.tree].arrays(
                    filter_name=lambda name: name in needed, library="ak", how=dict, array_cache=None
                )

    def in_order() -> None:
        for _ in ordered(files, parts):
            pass

    def shuffled(cache: ShardCache | None = None) -> None:
        with TrainStream(files, parts, batch_size=256, buffer=buffer, seed=0, cache=cache) as stream:
            for _ in range(total // 256):
                next(stream)

    folder = tempfile.TemporaryDirectory(prefix="ssl-jets-cache-")
    empty = (Path(folder.name, str(number)) for number in itertools.count())

    def filling() -> None:
        shuffled(ShardCache(next(empty), 1e12, print))

    def cached() -> None:
        shuffled(ShardCache(Path(folder.name, "0"), 1e12, print))

    def timed(run: Callable[[], None]) -> Callable[[], float]:
        def rate() -> float:
            began = time.process_time()
            run()
            return total / (time.process_time() - began)

        return rate

    cases = {"uproot": bare, "ordered": in_order, "stream": shuffled, "filling": filling, "cached": cached}
    return {name: timed(run) for name, run in cases.items()}


def weaver(python: str, files: list[str]) -> float:
    """One pass of weaver's loader over the files."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "jetclass.yaml"
        config.write_text(json.dumps(weaver_config()))  # JSON is YAML
        command = [python, "-c", WEAVER, str(config), *files]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode:
        raise SystemExit(f"weaver failed: {done.stderr[-2000:]}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("jets per second"))
    return float(line.split()[3])


def weaver_config() -> dict[str, object]:
    """The same columns as `Jets` has: pt computed, flags as they are."""
    columns = ["pt", *(f"part_{name}" for name in PARTICLES[2:])]
    return {
        "treename": "tree",
        "new_variables": {"pt": "np.hypot(part_px, part_py)", "mask": "ak.ones_like(part_energy)"},
        "preprocess": {"method": "manual"},
        "inputs": {
            "features": {"length": 128, "pad_mode": "constant", "vars": [[name, None] for name in columns]},
            "mask": {"length": 128, "pad_mode": "constant", "vars": [["mask", None]]},
        },
        "labels": {"type": "simple", "value": [f"label_{name}" for name in CLASSES]},
    }


if __name__ == "__main__":
    sys.exit(main())
