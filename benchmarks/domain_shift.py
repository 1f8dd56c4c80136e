"""Trained on data, labels from simulation: does it hold? MAE, JEPA and supervised, with and without adaptation.

    python benchmarks/domain_shift.py --data SIMULATION --domain DATA --target LABELLED_DATA --work FOLDER [--seeds 3]

The domain protocol (`ssl-jets evaluate --protocol domain`) with settings for two cores; --models takes models that were
pretrained on the data in place of --methods, and --set changes any setting of the protocol. What is finished is not
made again, so the script can be stopped and started. Writes domain_shift.md, and the report's figures beside it, to
--out.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
from pathlib import Path

from ssl_jets.config import parse_set, resolve
from ssl_jets.protocols.domain import domain_protocol
from ssl_jets.protocols.domain_result import SUPERVISED, VALUES, DomainFinetuning, DomainResult
from ssl_jets.protocols.settings import DomainRun
from ssl_jets.protocols.tables import domain_table
from ssl_jets.report import write_result_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--domain", nargs="+", required=True)
    parser.add_argument("--target", nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--methods", nargs="+", default=["mae", "jepa"])
    parser.add_argument("--models", type=Path, nargs="+", default=[])
    parser.add_argument("--set", nargs="+", default=[])
    parser.add_argument("--adapt", nargs="+", default=["none", "dann", "coral"])
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--pretrain-steps", type=int, default=400)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test-jets", type=int, default=3000)
    args = parser.parse_args()
    chosen = ("adapt", "size", "pretrain_steps", "steps", "batch_size", "seeds", "test_jets", "target")
    quick = {"train": {"validation_jets": 200, "validate_every": 10**6}}
    tree = {
        "data": {"sources": args.data, "unlabelled": args.domain, "buffer": 10_000},
        "protocol": {name: getattr(args, name) for name in chosen} | {"pretrain": args.methods},
        "pretraining": quick,
        "finetuning": {"train": quick["train"] | {"lr": 1e-3}},
    }
    result = domain_protocol(resolve(DomainRun, tree, parse_set(args.set)), args.work, models=args.models)
    write_result_report(args.work, DomainResult)
    args.out.mkdir(parents=True, exist_ok=True)
    text = f"```\n{domain_table(result)}\n```\n\n" + "\n".join(f"- {sentence}" for sentence in sentences(result)) + "\n"
    (args.out / "domain_shift.md").write_text(text)
    for name in ("domain_accuracy", "domain_gap"):
        shutil.copy(args.work / "figures" / f"{name}.png", args.out / f"{name}.png")
    print(text)


def sentences(result: DomainResult) -> list[str]:
    """What the numbers say. Seeds are compared one by one: finetunings of one seed see the same jets in one order."""
    found: dict[tuple[str, str], dict[int, DomainFinetuning]] = {}
    for row in result.rows:
        found.setdefault((row.start, row.adapt), {})[row.seed] = row
    plain = found.get((SUPERVISED, "none"))
    said = []
    for (start, adapt), rows in found.items():
        if adapt == "none" and plain is not None and start != SUPERVISED:
            said.append(f"{start} loses {_beside(rows, plain, 'drop_accuracy')} in accuracy than supervised.")
            said.append(f"{start} on the data: {_beside(rows, plain, 'target_accuracy')} accuracy than supervised.")
        if adapt != "none" and (start, "none") in found:
            compared = _beside(rows, found[start, "none"], "target_accuracy")
            said.append(f"{start} with {adapt}, on the data: {compared} accuracy than without.")
    return said


def _beside(rows: dict[int, DomainFinetuning], others: dict[int, DomainFinetuning], name: str) -> str:
    """`0.0123 +- 0.0045 more`: the mean difference over seeds, with its standard error."""
    differences = [VALUES[name](rows[seed]) - VALUES[name](others[seed]) for seed in rows]
    mean = statistics.mean(differences)
    word = "more" if mean > 0 else "less"
    if len(differences) < 2:
        return f"{abs(mean):.4f} {word} (one seed: no error)"
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{abs(mean):.4f} +- {error:.4f} {word}"


if __name__ == "__main__":
    main()
