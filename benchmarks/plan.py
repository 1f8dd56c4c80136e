"""What finetuning takes at each size, as `finetune --plan` measures it, and what the runs then use.

    python benchmarks/plan.py --work FOLDER [--sizes small base large --batch-size 128 --memory 4GB]

For each size an encoder with random weights is finetuned on the bundled sample: its memory and time are those of a
pretrained one. `--check MODE...` also trains for --steps steps in a process of its own and compares its peak with that
of the plan. Writes plan-SIZE.md to --out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch

from ssl_jets.config import DataSettings, ModelSettings, RunSettings
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.request import Request
from ssl_jets.finetuning import FinetuneSettings, make_plan, resolve_finetune
from ssl_jets.finetuning.memory_plan import MODES_BY_REACH, Candidate, PlanRow, all_candidates
from ssl_jets.model_file import Model, load_model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.runtime.allocator import tune_memory
from ssl_jets.runtime.memory import format_bytes
from ssl_jets.training.run_setup import statistics_sample


def make_model(size: str, folder: Path) -> Path:
    """A run folder with an encoder of random weights."""
    data = open_dataset(DataSettings())
    torch.manual_seed(0)
    encoder = Encoder(ModelSettings(size=size))  # type: ignore[arg-type]
    encoder.features.fit_statistics(statistics_sample(data.files, data.train, 0, Request()))
    facts = {"method": "random", "training": {"files": [], "held_out": []}}
    save_model(Model(encoder, facts=facts), folder / "model")
    return folder


def used(candidate: Candidate, settings: RunSettings[FinetuneSettings], steps: int, folder: Path) -> int:
    """Peak [bytes] of a real run of these settings."""
    run = folder / f"{candidate.mode}-{candidate.batch_size}-{candidate.checkpointing}"
    train = settings.train.model_copy(update={"steps": steps, "validate_every": steps})
    chosen = candidate.of(settings.model_copy(update={"train": train}))
    flat = {"method": chosen.method, "train": chosen.train, "data": chosen.data}
    words = [
        f"{tree}.{key}={str(value).lower()}"
        for tree, part in flat.items()
        for key, value in part
        if isinstance(value, bool | int | float) and key != "labelled_seed"
    ]
    command = [sys.executable, "-m", "ssl_jets", "finetune", "--model", settings.method.model, "--out", str(run)]
    command += ["--force", "--mode", candidate.mode, *(word for pair in words for word in ("--set", pair))]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return int(load_model(run).facts["training"]["peak_memory"])


def table(rows: list[PlanRow], memory: int, peaks: dict[Candidate, int]) -> list[str]:
    """Rows of Markdown."""
    lines = ["| mode | batch | checkpointing | weights that learn | peak, planned | peak, used | s / step | fits |"]
    lines.append("|" + "---|" * 8)
    for row in rows:
        chosen, cost = row.candidate, row.cost
        real = peaks.get(chosen)
        compared = "" if real is None else f"{format_bytes(real)} ({cost.peak / real - 1:+.0%} planned)"
        batch = f"{chosen.batch_size}" + (f" x {chosen.accumulate}" if chosen.accumulate > 1 else "")
        cells = [chosen.mode, batch, "yes" if chosen.checkpointing else "no", f"{cost.learning:,}"]
        cells += [
            cost.failed or format_bytes(cost.peak),
            compared,
            f"{cost.seconds:.2f}",
            "yes" if row.fits(memory) else "no",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--sizes", nargs="+", default=["small", "base", "large"])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--modes", nargs="+", default=list(MODES_BY_REACH))
    parser.add_argument("--whole-batches", action="store_true", help="leave out smaller batches that are accumulated")
    parser.add_argument("--check", nargs="*", default=[], help="modes to train with, without and with checkpointing")
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()
    tune_memory()
    for size in args.sizes:
        folder = args.work / size
        layer = {"train": {"batch_size": args.batch_size}, "method": {"memory": args.memory}}
        settings = resolve_finetune(make_model(size, folder), layer)
        wanted = [candidate for candidate in all_candidates(settings) if candidate.mode in args.modes]
        if args.whole_batches:
            wanted = [candidate for candidate in wanted if candidate.batch_size == args.batch_size]
        plan = make_plan(settings, lambda text: print(text, file=sys.stderr, flush=True), wanted)
        checked = [row.candidate for row in plan.rows if row.candidate.mode in args.check and row.fits(plan.memory)]
        peaks = {candidate: used(candidate, settings, args.steps, folder) for candidate in checked}
        lines = [f"`{size}`, memory {args.memory}, stream of jets {format_bytes(plan.stream)} of each peak:", ""]
        lines += table(plan.rows, plan.memory, peaks)
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"plan-{size}.md").write_text("\n".join(lines) + "\n")
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
