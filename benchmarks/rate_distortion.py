"""Rate and distortion: how well particles come back from z, against the numbers that z has.

    python benchmarks/rate_distortion.py --data TRAIN_FOLDER --work FOLDER [--method bottleneck_mae] [--steps 1000]

One training for each size K x d (class tokens x numbers of each), all else alike. The distortion is the loss on
held-out jets and its parts; beside it stands the probe of z, since a z that says more of the particles need not say
more of the class. A finished training is not made again. Writes rate_distortion.md and rate_distortion.png to --out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt

from ssl_jets.pretraining import pretrain, resolve_pretrain

PARTS = ("feature_loss", "flow_loss", "kind_loss", "count_loss", "observables_loss")


def last_look(args: argparse.Namespace, tokens: int, width: int) -> dict[str, float]:
    """What the monitor saw on held-out jets at the end of the training with this bottleneck."""
    folder = args.work / f"{args.method}-{tokens}x{width}"
    done = folder / "look.json"
    if not done.is_file():
        layers = {
            "data": {"sources": args.data},
            "model": {"size": args.size, "z_tokens": tokens, "z_width": width},
            "train": {
                "steps": args.steps,
                "epochs": None,
                "seed": args.seed,
                "validate_every": args.steps,
                "validation_jets": args.held_out_jets,
            },
        }
        pretrain(resolve_pretrain(args.method, layers), folder, force=True)
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        done.write_text(json.dumps([line for line in lines if line["kind"] == "validation"][-1]))
    found: dict[str, float] = json.loads(done.read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--method", default="bottleneck_mae")
    parser.add_argument("--bottlenecks", nargs="+", default=["1x4", "4x4", "8x8"], help="K x d, as 8x8")
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out-jets", type=int, default=4000)
    args = parser.parse_args()
    rows = []
    for bottleneck in args.bottlenecks:
        tokens, width = map(int, bottleneck.split("x"))
        rows.append((bottleneck, tokens * width, last_look(args, tokens, width)))
    rows.sort(key=lambda row: row[1])
    parts = [name for name in PARTS if name in rows[0][2]]
    names = ["loss", *parts, "probe_accuracy"]
    table = [f"| K x d | numbers | {' | '.join(names)} |", "|" + "---|" * (len(names) + 2)]
    for bottleneck, numbers, look in rows:
        table.append(f"| {bottleneck} | {numbers} | " + " | ".join(f"{look[name]:.4f}" for name in names) + " |")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "rate_distortion.md").write_text("\n".join(table) + "\n")
    print("\n".join(table))
    shown = [*parts, "probe_accuracy"]
    figure, panels = plt.subplots(1, len(shown), figsize=(2.5 * len(shown), 2.7), layout="constrained")
    for axes, name in zip(panels, shown, strict=True):
        axes.plot(range(len(rows)), [row[2][name] for row in rows], "o-")
        axes.set_xticks(range(len(rows)), [str(row[1]) for row in rows])
        axes.set(title=name.replace("_", " "), xlabel="numbers of z")
        axes.grid(alpha=0.3)
    figure.savefig(args.out / "rate_distortion.png", dpi=150)


if __name__ == "__main__":
    main()
