"""Every way of learning z on equal terms: same encoder, data, batch and computing time; same probes.

    OMP_NUM_THREADS=1 python benchmarks/compare_methods.py --data TRAIN_FOLDER --work FOLDER [--minutes 10]
        [--methods mae simclr "mae method.mask_ratio=0.9" ...] [--seeds 3]

A method may be followed by settings: a row of its own, for ablations.

A minute is one of computing time of one thread, not of the clock: 15 steps of each method are timed by the processor's
time of the process, and the steps that fill the minutes are fixed from them. So what else the machine does changes
neither the length of a training nor its learning rates. Reading and looks at held-out jets during training come on top.

Each finished row is a file `rows/METHOD-SEED.json` in --work and is not made again: the script can be stopped and
started, given more seeds, and several can share the folder with other --methods. To make a row again, remove its file.
The baselines (random weights, the same trained from scratch, boosted trees) are made once for each seed, with the
network of the first of --methods.
After every row the table and the figure of all rows that are there are written to --out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch.optim.optimizer import register_optimizer_step_post_hook

from ssl_jets.config import DataSettings, MethodSettings, RunSettings, parse_set
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.request import Request
from ssl_jets.diagnostics.representation import participation_ratio, rankme
from ssl_jets.evaluation.probes.classes import (
    MULTIPLICITY,
    TREE_COLUMNS,
    Labelled,
    ProbeResult,
    knn_probe,
    linear_probe,
    tree_columns,
    tree_probe,
)
from ssl_jets.evaluation.roles import draw
from ssl_jets.finetuning import finetune, resolve_finetune
from ssl_jets.jets import Jets
from ssl_jets.methods import find, names
from ssl_jets.model import embed_jets
from ssl_jets.model_file import load_model
from ssl_jets.nn.encoder import Encoder, random_like
from ssl_jets.nn.observables import jet_observables
from ssl_jets.pretraining import pretrain, resolve_pretrain

Row = dict[str, Any]

RATE_STEPS, UNTIMED_STEPS = 20, 4
FINETUNE = {"steps": 100, "batch_size": 64, "validate_every": 10**6, "validation_jets": 100}
LABELS = 0.01
FIT, TEST = 20_000, 10_000
"""Jets the probes are fitted and tested on."""
RANDOM, TREES = "random weights", "jet columns, trees"
OBSERVABLES, OBSERVABLES_TREES = "observables, linear", "observables, trees"
"""What z of `bottleneck_mae`, `diffusion_ae` and `next_token` is asked for (`nn/observables.py`)."""
COLUMNS = {
    "auc": ("macro AUC", ".3f"),
    "knn": ("kNN", ".3f"),
    "few_labels": ("1 % labels, finetuned", ".3f"),
    "rankme": ("RankMe", ".1f"),
    "participation_ratio": ("participation ratio", ".1f"),
    "jets_per_second": ("jets/s", ".0f"),
    "steps": ("steps", ".0f"),
}
"""What is shown of a row beside the linear probe: its heading, and its digits."""


@dataclass
class Bench:
    """The settings of the comparison, and the labelled jets that probes are fitted and tested on."""

    data: list[str]
    work: Path
    minutes: float
    size: str
    batch_size: int
    fit: Jets
    test: Jets

    def layers(self, steps: int, seed: int, **train: Any) -> dict[str, Any]:
        """The settings that all methods share; the rest is their recipe."""
        settings = {"steps": steps, "batch_size": self.batch_size, "seed": seed, "validation_jets": 500} | train
        return {"data": {"sources": self.data}, "model": {"size": self.size}, "train": settings}

    def settings(self, case: str, seed: int, layers: dict[str, Any]) -> RunSettings[MethodSettings]:
        """The settings of a case: those that all share, the parts of the method, and what the case itself says."""
        name, *said = case.split()
        return resolve_pretrain(name, layers, self.parts(name, seed), parse_set(said))

    def parts(self, name: str, seed: int) -> dict[str, Any]:
        """Settings that name the runs a method starts from, which are made first where they are not there."""
        for part in find(name).requires:
            self.row(part, seed)
        return {"method": {part: str(self.folder(part, seed)) for part in find(name).requires}}

    def folder(self, case: str, seed: int | str) -> Path:
        """Where the run of a case is kept."""
        return self.work / f"{slug(case)}-{seed}"

    def seconds_per_step(self, case: str) -> float:
        """Computing time of a step."""

        def measure() -> Row:
            short = self.layers(RATE_STEPS, 0, validate_every=10**6, validation_jets=100)
            short["data"]["buffer"] = RATE_STEPS * self.batch_size
            return {"seconds_per_step": seconds_of_step(self.settings(case, 0, short), self.folder(case, "rate"))}

        return float(cached(self.work / "rates" / f"{slug(case)}.json", measure)["seconds_per_step"])

    def row(self, case: str, seed: int) -> Row:
        """What z is worth after the given minutes."""

        def measure() -> Row:
            per_step, folder = self.seconds_per_step(case), self.folder(case, seed)
            steps = max(1, int(60 * self.minutes / per_step))
            layers = self.layers(steps, seed, validate_every=steps)
            pretrain(self.settings(case, seed, layers), folder, force=True)
            shared = {"method": case, "seed": seed, "steps": steps, "jets_per_second": self.batch_size / per_step}
            found = self.probes(load_model(folder).encoder)
            return shared | found | {"few_labels": self.few_labels(folder, seed, "full")}

        return cached(self.work / "rows" / f"{slug(case)}-{seed}.json", measure)

    def probes(self, encoder: Encoder) -> Row:
        """Linear and kNN probe, and the spread, of the z of an encoder."""
        z_fit, z_test = (embed_jets(encoder, jets) for jets in (self.fit, self.test))
        labelled = [Labelled.of(z.numpy(), labels(jets)) for z, jets in ((z_fit, self.fit), (z_test, self.test))]
        return accuracy_of(linear_probe(*labelled)) | {
            "knn": knn_probe(*labelled).accuracy.value,
            "rankme": float(rankme(z_test)),
            "participation_ratio": float(participation_ratio(z_test)),
        }

    def few_labels(self, model: Path, seed: int, mode: str) -> float:
        """Accuracy of the whole network, finetuned from `model` or trained from scratch on few labels."""
        folder = self.work / f"{model.name}-{mode}"
        settings = {"method": {"mode": mode, "labels": LABELS, "subset_seed": seed}, "train": FINETUNE | {"seed": seed}}
        finetune(resolve_finetune(model, settings, {"data": {"sources": self.data}}), folder, force=True)
        return head_accuracy(folder, self.test)

    def random_row(self, like: str, seed: int) -> Row:
        """The baseline of every method: the network of case `like` with random weights; its finetuning is that from
        scratch."""
        model = self.folder(like, seed)

        def measure() -> Row:
            random = random_like(load_model(model).encoder, seed)
            found = self.probes(random) | {"few_labels": self.few_labels(model, seed, "scratch")}
            return {"method": RANDOM, "seed": seed} | found

        return cached(self.work / "rows" / f"random-{seed}.json", measure)

    def observables_rows(self, like: str, seed: int) -> None:
        """The baselines of methods that ask z for observables of the jet."""

        def told(jets: Jets) -> np.ndarray:
            return jet_observables(jets, load_model(self.folder(like, seed)).encoder.features).numpy()

        self.baseline("observables", OBSERVABLES, seed, told, linear_probe)
        self.baseline("observables_trees", OBSERVABLES_TREES, seed, told, partial(tree_probe, seed=seed))

    def tree_row(self, seed: int) -> None:
        """Boosted trees on jet columns."""
        self.baseline("trees", TREES, seed, columns, partial(tree_probe, seed=seed))

    def baseline(
        self, file: str, title: str, seed: int, numbers: Callable[[Jets], np.ndarray], probe: Callable[..., ProbeResult]
    ) -> Row:
        """A probe of numbers of the jets that no network made."""

        def measure() -> Row:
            found = probe(*(Labelled.of(numbers(jets), labels(jets)) for jets in (self.fit, self.test)))
            return {"method": title, "seed": seed} | accuracy_of(found)

        return cached(self.work / "rows" / f"{file}-{seed}.json", measure)


def accuracy_of(found: ProbeResult) -> Row:
    """What a row has of the probe: the accuracy with the ends of its interval, and the AUC."""
    return {"linear": [found.accuracy.value, found.accuracy.low, found.accuracy.high], "auc": found.auc.value}


def seconds_of_step(settings: RunSettings[MethodSettings], folder: Path) -> float:
    """Return the processor's time of a step, from a training of `RATE_STEPS` steps."""
    ends: list[tuple[float, int]] = []
    hook = register_optimizer_step_post_hook(lambda one, *_: ends.append((time.process_time(), id(one))))
    try:
        pretrain(settings, folder, force=True)
    finally:
        hook.remove()
    timed = [end for end, of in ends if of == ends[-1][1]][UNTIMED_STEPS:]  # of the last: a joined one steps its parts
    return (timed[-1] - timed[0]) / (len(timed) - 1)


def slug(case: str) -> str:
    """A case as the name of a file: `mae method.mask_ratio=0.9` is `mae_mask_ratio=0.9`."""
    name, *said = case.split()
    return "_".join([name, *(setting.partition(".")[2] for setting in said)])


def known(case: str) -> str:
    """A case whose method there is."""
    if case.split()[0] not in names():
        raise argparse.ArgumentTypeError(f"{case.split()[0]} is not one of {', '.join(names())}")
    return case


def cached(path: Path, make: Callable[[], Row]) -> Row:
    """What `make` returned the first time."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = make()
        path.write_text(json.dumps(found) + "\n")
    row: Row = json.loads(path.read_text())
    return row


def head_accuracy(model: Path, jets: Jets) -> float:
    """Share of jets that the class head of a model classifies correctly."""
    tuned = load_model(model)
    assert tuned.head is not None
    with torch.inference_mode():
        found = tuned.head(embed_jets(tuned.encoder, jets)).argmax(1).numpy()
    return float((found == labels(jets)).mean())


def labels(jets: Jets) -> np.ndarray:
    """int64 `[jet]`."""
    assert jets.labels is not None
    return np.asarray(jets.labels)


def columns(jets: Jets) -> np.ndarray:
    """What boosted trees read, `[jet, column]`."""
    known = {name: np.asarray(values) for name, values in jets.jet.items()} | {MULTIPLICITY: np.asarray(jets.lengths)}
    return np.column_stack(list(tree_columns(known).values()))


def main() -> None:
    """Make the rows that are not there yet, and write table and figure after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--methods", nargs="+", default=names(), type=known, metavar="METHOD")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--size", default="small")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    data = open_dataset(DataSettings(sources=tuple(args.data)))
    request = Request(tuple(name for name in TREE_COLUMNS if name != MULTIPLICITY))
    fit, test = draw(data.files, data.train, FIT, 0, request), draw(data.files, data.held_out, TEST, 0, request)
    bench = Bench(args.data, args.work, args.minutes, args.size, args.batch_size, fit, test)
    for seed in range(args.seeds):
        for name in args.methods:
            bench.row(name, seed)
            bench.random_row(args.methods[0], seed)
            bench.observables_rows(args.methods[0], seed)
            bench.tree_row(seed)
            write(args.work / "rows", args.out)


def write(rows: Path, out: Path) -> None:
    """The table and the figure of all rows, the best first."""
    found: dict[str, list[Row]] = {}
    for file in sorted(rows.glob("*.json")):
        row = json.loads(file.read_text())
        found.setdefault(row["method"], []).append(row)
    ordered = sorted(found.items(), key=lambda item: -np.mean([row["linear"][0] for row in item[1]]))
    titles = ["method", "seeds", "linear probe (68 %)", *(title for title, _ in COLUMNS.values())]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|", *(line(*item) for item in ordered)]
    out.mkdir(parents=True, exist_ok=True)
    (out / "compare_methods.md").write_text("\n".join(lines) + "\n")
    figure(ordered).savefig(out / "compare_methods.png", dpi=150)
    plt.close()


def line(name: str, rows: list[Row]) -> str:
    """A line of the table: the mean over seeds. The interval is that of the test jets, or the spread over seeds."""
    value, low, high = interval(rows)
    cells = [name, str(len(rows)), f"{value:.3f} ({low:.3f} to {high:.3f})"]
    for key, (_, digits) in COLUMNS.items():
        cells.append(f"{np.mean([row[key] for row in rows]):{digits}}" if key in rows[0] else "")
    return "| " + " | ".join(cells) + " |"


def interval(rows: list[Row]) -> tuple[float, float, float]:
    """Accuracy of the linear probe, its lower and upper end: of the bootstrap for one seed, else over the seeds."""
    if len(rows) == 1:
        value, low, high = rows[0]["linear"]
        return value, low, high
    values = np.array([row["linear"][0] for row in rows])
    return values.mean(), values.mean() - values.std(ddof=1), values.mean() + values.std(ddof=1)


def figure(ordered: list[tuple[str, list[Row]]]) -> Figure:
    """Linear probe of every method, the best above, beside the baselines."""
    drawn, axes = plt.subplots(figsize=(6, 0.32 * len(ordered) + 1.2), layout="constrained")
    for place, (name, rows) in enumerate(reversed(ordered)):
        value, low, high = interval(rows)
        colour = "0.55" if name in (RANDOM, TREES, OBSERVABLES, OBSERVABLES_TREES) else "C0"
        axes.errorbar(value, place, xerr=[[value - low], [high - value]], fmt="o", color=colour, capsize=2)
        if name == RANDOM:
            axes.axvline(value, color=colour, linestyle=":")
    axes.set_yticks(range(len(ordered)), [name for name, _ in reversed(ordered)])
    axes.set_xlabel("linear probe of z: accuracy, ten classes")
    axes.grid(axis="x", alpha=0.3)
    return drawn


if __name__ == "__main__":
    main()
