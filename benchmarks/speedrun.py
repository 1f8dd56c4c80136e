"""Leaderboard of recipes that learn z in a fixed budget: one number, two beside it, a dated table of records.

    OMP_NUM_THREADS=1 python benchmarks/speedrun.py --data TRAIN_FOLDER --work FOLDER
        --case "vicreg method.observables_weight=5" --change "observables as auxiliary target" [--seeds 3]

Fixed are the budget (20 minutes of computing time of one core), the encoder (`small`), the jets of --data with their
usual split, and the reader: logistic regression on z of 20,000 training jets, scored on 10,000 held-out jets. That
accuracy is the number. Beside it are the accuracy of the encoder finetuned on 1 % of the labels, and R50, the rejection
of QCD at half of the Hbb jets, of the same reader with 1,000 labels. A case is a method and settings; everything else
is the recipe of the method.

The budget is 1,306 steps of the first record, which took these 20 minutes. The steps of another case follow before its
training from the ratio of the processor's times of a step, both measured in turns, so that neither another machine nor
other programs on it change the budget. Rows are kept in --work and not made again.

A case becomes a record if the mean over seeds of its paired differences to the record, same seed and same jets,
exceeds twice its standard error; other cases are listed as tried. A record needs three seeds. A change that wins goes
into the defaults of its method.
"""

from __future__ import annotations

import argparse
import datetime
import math
import re
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from compare_methods import RATE_STEPS, accuracy_of, cached, head_accuracy, known, labels, seconds_of_step, slug

from ssl_jets.config import DataSettings, MethodSettings, RunSettings, parse_set
from ssl_jets.data.dataset import open_dataset
from ssl_jets.evaluation.metrics.roc import ranked
from ssl_jets.evaluation.probes.classes import Labelled, linear_probe, linear_reader
from ssl_jets.evaluation.roles import draw
from ssl_jets.finetuning import finetune, resolve_finetune
from ssl_jets.methods import find
from ssl_jets.model import embed_jets
from ssl_jets.model_file import load_model
from ssl_jets.pretraining import pretrain, resolve_pretrain

RECORDS = Path(__file__).parent / "results" / "speedrun.md"
SIGNAL, BACKGROUND, EFFICIENCY = "Hbb", "QCD", 0.5
MIN_SEEDS = 3
"""Seeds of a record."""
REFERENCE = "vicreg method.observables_weight=5"
"""Case whose step is the unit of the budget."""
ROUNDS = 3
COLUMNS = ("date", "case", "change", "linear probe", "by seed", "1 % labels", "R50", "steps", "against the record")
TITLE = f"""# Speedrun: the best z in 20 minutes of one core

`python benchmarks/speedrun.py` adds a line for each case; its docstring has the rules. The first number is the accuracy
of a linear probe on held-out jets, ten classes; R50 is the rejection of {BACKGROUND} at half of the {SIGNAL} jets.

Rows up to 2026-11-29 have the split of that time, one block of each file; those of 2026-11-30 have today's, on which
the record was repeated.
"""


@dataclass(frozen=True)
class Budget:
    """Fixed part of the leaderboard.

    Attributes:
        steps: length of a training, in steps of the reference.
        size: size of the encoder.
        batch_size: jets of a step, unless a case has another.
        fit: jets that the reader is fitted on.
        test: held-out jets that it is scored on.
        few: labels of the reader of R50.
        share: share of the labels that the encoder is finetuned on.
        tuning: settings of the finetuning.
    """

    steps: int = 1306
    size: str = "small"
    batch_size: int = 128
    fit: int = 20_000
    test: int = 10_000
    few: int = 1000
    share: float = 0.01
    tuning: tuple[tuple[str, int], ...] = (("steps", 300), ("batch_size", 64), ("validation_jets", 100))


DRY = Budget(3, "tiny", 16, 200, 200, 20, 0.02, (("steps", 2), ("batch_size", 8), ("validation_jets", 20)))
"""Budget of a dry run, which takes seconds and shows that everything works."""


class Speedrun:
    """Trainings and readings of cases.

    Args:
        data: names of the files.
        work: folder of runs and rows.
        budget: the fixed part.
    """

    def __init__(self, data: list[str], work: Path, budget: Budget) -> None:
        self.data, self.work, self.budget = data, work, budget
        opened = open_dataset(DataSettings(sources=tuple(data)))
        self.classes = opened.label_names
        self.fit = draw(opened.files, opened.train, budget.fit, 0)
        self.test = draw(opened.files, opened.held_out, budget.test, 0)

    def row(self, case: str, seed: int) -> dict[str, Any]:
        """Train a case, and return its numbers."""

        def measure() -> dict[str, Any]:
            folder, steps = self.folder(case, seed), self.steps(case)
            pretrain(self.settings(case, seed, steps), folder, force=True)
            return {"steps": steps, "few_labels": self.finetuned(folder, seed)} | self.read(folder)

        return cached(self.work / "rows" / f"{slug(case)}-{seed}.json", measure)

    def folder(self, case: str, seed: int | str) -> Path:
        """Return the run folder of a case."""
        return self.work / f"{slug(case)}-{seed}"

    def settings(self, case: str, seed: int, steps: int, **train: Any) -> RunSettings[MethodSettings]:
        """Return the settings of a case; the runs that its method starts from are made first, in a budget each."""
        name, *assignments = case.split()
        for part in find(name).requires:
            self.row(part, seed)
        fixed = {"steps": steps, "batch_size": self.budget.batch_size, "seed": seed, "validate_every": steps}
        layers = {"data": {"sources": self.data}, "model": {"size": self.budget.size}, "train": fixed | train}
        parts = {"method": {part: str(self.folder(part, seed)) for part in find(name).requires}}
        return resolve_pretrain(name, layers, parts, parse_set(assignments))

    def steps(self, case: str) -> int:
        """Return the number of steps that fill the budget."""

        def measure() -> dict[str, Any]:
            pairs = [(self.seconds_of_step(REFERENCE), self.seconds_of_step(case)) for _ in range(ROUNDS)]
            return {"ratio": statistics.median(own / reference for reference, own in pairs)}

        ratio = 1.0 if case == REFERENCE else cached(self.work / "rates" / f"{slug(case)}.json", measure)["ratio"]
        return max(1, int(self.budget.steps / ratio))

    def seconds_of_step(self, case: str) -> float:
        """Return the processor's time of a step, from a short training."""
        settings = self.settings(case, 0, RATE_STEPS, validate_every=10**6, validation_jets=100)
        return seconds_of_step(settings, self.folder(case, "rate"))

    def read(self, folder: Path) -> dict[str, Any]:
        """Return what the fixed reader finds in z: the linear probe, and R50 with few labels."""
        encoder = load_model(folder).encoder
        fit, test = (Labelled.of(embed_jets(encoder, jets).numpy(), labels(jets)) for jets in (self.fit, self.test))
        return accuracy_of(linear_probe(fit, test)) | {"r50": self.rejection(fit, test)}

    def rejection(self, fit: Labelled, test: Labelled) -> float:
        """Return 1 / eps_B of QCD at eps_S = 0.5 of Hbb; with no background left, the number of background jets."""
        signal, background = self.classes.index(SIGNAL), self.classes.index(BACKGROUND)
        rows = [np.flatnonzero(fit.y == name)[: self.budget.few // 2] for name in (signal, background)]
        reader = linear_reader(fit.some(np.concatenate(rows)), len(self.classes))
        weights = np.ones(len(test.y))
        pair = ranked(reader(test.x), test.y, signal, background, weights)
        assert pair is not None  # both classes are among the test jets
        share = float(pair.background_efficiency(weights[None], EFFICIENCY)[0])
        return 1 / max(share, 1 / len(pair.background))

    def finetuned(self, model: Path, seed: int) -> float:
        """Return the accuracy on the test jets of the encoder finetuned on few labels."""
        folder = model.with_name(f"{model.name}-finetuned")
        train = dict(self.budget.tuning) | {"validate_every": 10**6, "seed": seed}
        method = {"mode": "full", "labels": self.budget.share, "subset_seed": seed}
        layers = {"method": method, "train": train, "data": {"sources": self.data}}
        finetune(resolve_finetune(model, layers), folder, force=True)
        return head_accuracy(folder, self.test)


def entry(case: str, change: str, rows: list[dict[str, Any]], record: list[float]) -> tuple[list[str], bool]:
    """Return the cells of a case and whether it is a record.

    Args:
        case: the case.
        change: one line about the change.
        rows: its rows, seed by seed from 0.
        record: linear probes of the record, seed by seed; empty without a record.
    """
    probes = [row["linear"][0] for row in rows]
    verdict, wins = compare(probes, record)
    mean = {key: statistics.fmean(row[key] for row in rows) for key in ("few_labels", "r50", "steps")}
    today, by_seed = datetime.date.today().isoformat(), " ".join(f"{probe:.4f}" for probe in probes)
    numbers = [f"{statistics.fmean(probes):.3f}", by_seed, f"{mean['few_labels']:.3f}", f"{mean['r50']:.1f}"]
    cells = [today, f"`{case}`", change.replace("|", "/"), *numbers, f"{mean['steps']:.0f}", verdict]
    return cells, wins


def compare(probes: list[float], record: list[float]) -> tuple[str, bool]:
    """Return the paired difference to the record, and whether it exceeds twice its standard error.

    >>> compare([0.61, 0.62, 0.63], [0.60, 0.60, 0.61])
    ('+0.0167 +- 0.0033', True)
    >>> compare([0.61, 0.62, 0.63], [0.61, 0.60, 0.64])
    ('+0.0033 +- 0.0088', False)
    >>> compare([0.61], [0.60, 0.60, 0.61]), compare([0.61, 0.62, 0.63], [])
    (('+0.0100, 1 seed', False), ('first', True))
    """
    if not record:
        return ("first", True) if len(probes) >= MIN_SEEDS else (f"first, {len(probes)} of {MIN_SEEDS} seeds", False)
    differences = [one - other for one, other in zip(probes, record)]
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return f"{mean:+.4f}, 1 seed", False
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{mean:+.4f} +- {error:.4f}", len(differences) >= MIN_SEEDS and mean > 2 * error


class Records:
    """The table of records and of other cases, in a Markdown file.

    Args:
        path: the file; it need not exist.
    """

    HEADINGS = ("Records", "Tried")

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        self.tables = {heading: self._rows(text, heading) for heading in self.HEADINGS}

    @property
    def best(self) -> list[float]:
        """Linear probes of the record, seed by seed; empty without one."""
        rows = self.tables["Records"]
        return [float(probe) for probe in rows[-1][COLUMNS.index("by seed")].split()] if rows else []

    def add(self, cells: list[str], *, record: bool) -> None:
        """Append a case to its table, and write the file."""
        self.tables["Records" if record else "Tried"].append(cells)
        sections = [TITLE, *(self._section(heading) for heading in self.HEADINGS)]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n".join(sections), encoding="utf-8")

    def _section(self, heading: str) -> str:
        lines = [COLUMNS, ("---",) * len(COLUMNS), *self.tables[heading]]
        return f"## {heading}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)

    @staticmethod
    def _rows(text: str, heading: str) -> list[list[str]]:
        section = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
        lines = [line for part in section if part.startswith(heading) for line in part.splitlines()]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| 2")]
        return [row for row in rows if len(row) == len(COLUMNS)]


def main() -> None:
    """Train a case for each seed, and add its line to the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--case", type=known, required=True, metavar="'METHOD [KEY=VALUE ...]'")
    parser.add_argument("--change", default="", help="one line: what differs from the record")
    parser.add_argument("--seeds", type=int, default=MIN_SEEDS)
    parser.add_argument("--records", type=Path, default=RECORDS)
    parser.add_argument("--dry-run", action="store_true", help="three steps of a tiny encoder, 200 jets")
    args = parser.parse_args()
    if args.records == RECORDS and args.dry_run:
        parser.error("this table is of 20 minutes: name another file with --records")
    run = Speedrun(args.data, args.work, DRY if args.dry_run else Budget())
    rows = [run.row(args.case, seed) for seed in range(args.seeds)]
    records = Records(args.records)
    cells, record = entry(args.case, args.change, rows, records.best)
    records.add(cells, record=record)
    print("record" if record else "tried", *cells, sep=" | ")


if __name__ == "__main__":
    main()
