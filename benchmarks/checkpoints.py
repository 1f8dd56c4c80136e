"""Time for which a training stands still for a checkpoint, its bytes, and the part that a copy to memory would leave.

    python benchmarks/checkpoints.py --out FOLDER [--sizes small base large] [--repeats 9]
    torchrun --nproc-per-node 2 benchmarks/checkpoints.py --strategy fsdp --out FOLDER --sizes large

The method is `mae` with random weights and the moments of one step of AdamW. A checkpoint is gathered, written, flushed
to the disk and renamed as in a training. An asynchronous one would stand still for the copy alone. In seconds; `CPU` is
the median time of the first process on a core, and the shortest time is the one that other processes lengthen least.
The last column is the memory that the gathered state occupies in each process.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch.utils._pytree import tree_map_only

from ssl_jets import methods
from ssl_jets.config import ModelSettings, TrainSettings
from ssl_jets.nn.encoder import Encoder
from ssl_jets.runtime.memory import in_use
from ssl_jets.runtime.process_group import Ranks
from ssl_jets.training import checkpoint
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.optimizer import make_optimizer
from ssl_jets.training.placement import Placement


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoints, removed afterwards")
    parser.add_argument("--sizes", nargs="+", default=["small", "base", "large"])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--strategy", choices=["ddp", "fsdp"], default="ddp")
    args = parser.parse_args()
    settings = TrainSettings(precision="32-true", strategy=args.strategy)
    fabric = make_fabric(settings)
    minutes = f"{settings.checkpoint_minutes:g} minutes"
    head = ["size", "weights", "MB", "CPU [s]", "stands still, shortest [s]", "median [s]", "copy alone, shortest [s]"]
    head += [f"shortest as a share of {minutes}", "median", "state in memory, by process [MB]"]
    rows = [head, ["---"] * len(head)]
    for size in args.sizes:
        args.out.mkdir(parents=True, exist_ok=True)
        rows.append([size, *measured(size, settings, fabric, args.out / "last.ckpt", args.repeats)])
        if fabric.is_global_zero:
            shutil.rmtree(args.out)
        fabric.barrier()
    if fabric.is_global_zero:
        print("\n".join(f"| {' | '.join(row)} |" for row in rows))


def measured(size: str, settings: TrainSettings, fabric: Fabric, path: Path, repeats: int) -> list[str]:
    """Save a method of this size several times and return the cells of its row."""
    cls = methods.find("mae")
    method = cls(cls.Config(), Encoder(ModelSettings.model_validate({"size": size})))
    placement = Placement(method, lambda module: make_optimizer(module, settings), fabric, settings.strategy)
    for weight in placement.trained.parameters():
        weight.grad = torch.randn_like(weight) if weight.requires_grad else None
    placement.optimizer.step()
    placement.optimizer.zero_grad()
    walls, cpus, copies, memory = [], [], [], []
    for step in range(repeats):
        before = in_use()
        began, cpu = time.perf_counter(), time.process_time()
        state = placement.state_dict() | {"step": step}
        gathered, held = time.perf_counter(), in_use() - before
        if fabric.is_global_zero:
            began += time.perf_counter() - gathered  # without the look at the memory
            checkpoint.write(path, state, settings.keep_checkpoints)
        fabric.barrier()
        walls.append(time.perf_counter() - began)
        cpus.append(time.process_time() - cpu)
        memory.append(held)
        began = time.perf_counter()
        tree_map_only(torch.Tensor, torch.clone, state)
        copies.append(time.perf_counter() - began)
    weights = sum(weight.numel() for weight in method.parameters())
    held = Ranks(fabric.global_rank, fabric.world_size).gather(max(memory))
    if not fabric.is_global_zero:
        return []
    interval, shortest, median = 60 * settings.checkpoint_minutes, min(walls), statistics.median(walls)
    cells = [f"{weights / 1e6:.1f} M", f"{path.stat().st_size / 1e6:.0f}", f"{statistics.median(cpus):.2f}"]
    cells += [f"{shortest:.2f}", f"{median:.2f}", f"{min(copies):.2f}"]
    return [*cells, f"{shortest / interval:.2%}", f"{median / interval:.2%}", ", ".join(f"{n / 1e6:.0f}" for n in held)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
