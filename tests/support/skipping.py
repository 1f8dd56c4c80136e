"""A program of a test: two ranks train with `train.on_nonfinite=HOW`; the second meets NaN in its second batch.

    python -m torch.distributed.run --nproc-per-node 2 skipping.py HOW RUN

Each process prints its rank, the steps it skipped, and the sum of all magnitudes of its final state.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ssl_jets.config import TrainSettings
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.loop import fit
from ssl_jets.training.run_folder import TrainingRun
from support.batches import BadAt
from support.small_models import build_method, made_jets


def main(how: str, folder: Path) -> None:
    settings = TrainSettings(steps=4, batch_size=8, precision="32-true", log_every=1, on_nonfinite=how)  # type: ignore[arg-type]
    fabric = make_fabric(settings)
    rank = fabric.global_rank
    run = TrainingRun(folder, writes=fabric.is_global_zero)
    run.create(settings)
    fabric.barrier()
    jets = made_jets([5] * 64, seed=rank)
    method = build_method("mae", made_jets([5] * 64))
    stream = BadAt(jets, 8, *([2] if rank == 1 else []))
    done = fit(method, stream, run, settings, fabric=fabric, file_names=[f"rank{rank}.root"] * 10)
    total = sum(float(value.double().abs().sum()) for value in method.state_dict().values())
    print(f"{rank} {done.skipped_steps} {total}\n", end="", flush=True)  # one write, since two ranks share stdout


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
