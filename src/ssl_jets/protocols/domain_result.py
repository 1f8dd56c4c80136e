"""What the domain protocol found: every finetuning, and mean and spread over seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jets import __version__
from ssl_jets.evaluation.result import plain, versions
from ssl_jets.evaluation.tables import plain_table
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.short_repr import ShortRepr

FORMAT_VERSION = 1
RESULT = "domain.json"
SUPERVISED = "supervised"
"""The start from random weights: what is learned from the labels of the simulation alone."""

Json = Mapping[str, Any]

VALUES: dict[str, Callable[[Json], float]] = {
    "simulation_accuracy": lambda row: row["simulation"]["accuracy"]["value"],
    "target_accuracy": lambda row: row["target"]["accuracy"]["value"],
    "drop_accuracy": lambda row: row["simulation"]["accuracy"]["value"] - row["target"]["accuracy"]["value"],
    "simulation_auc": lambda row: row["simulation"]["auc"]["value"],
    "target_auc": lambda row: row["target"]["auc"]["value"],
    "drop_auc": lambda row: row["simulation"]["auc"]["value"] - row["target"]["auc"]["value"],
    "a_distance": lambda row: row["gap"]["all"]["a_distance"]["value"],
    "gap_auc": lambda row: row["gap"]["all"]["auc"]["value"],
    "mmd": lambda row: row["gap"]["all"]["mmd"]["value"],
}
"""What is averaged over seeds. A drop is simulation minus target."""


@dataclass(frozen=True)
class SeedStatistics:
    """Mean over seeds, and their standard deviation (n - 1); None for one seed."""

    mean: float
    std: float | None

    @classmethod
    def of(cls, values: list[float]) -> SeedStatistics:
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.std is None else f" +- {self.std:.4f}")


@dataclass(frozen=True)
class DomainSummary:
    """The seeds of one start and one adaptation.

    Attributes:
        start: name of the pretrained model, or "supervised".
        adapt: the adaptation.
        seeds: number of finetunings.
        values: by the names of `VALUES`.
    """

    start: str
    adapt: str
    seeds: int
    values: dict[str, SeedStatistics]


@dataclass(frozen=True, repr=False)
class DomainResult(ShortRepr):
    """The outcome of the domain protocol.

    Attributes:
        folder: where it was written.
        classes: class names.
        settings: what was compared.
        files: names of the files of each domain.
        files_left_out: files that could not be opened, with the reason.
        left_out: jets left out of those to test on, by reason.
        before: of each start, the gap in z before any finetuning.
        rows: one for each finetuning: start, adapt, seed; of `simulation` and `target` accuracy, AUC and jets; gap.
        seconds: wall time of this call; finished pieces take none.
    """

    folder: Path
    classes: tuple[str, ...]
    settings: dict[str, Any]
    files: dict[str, list[str]]
    files_left_out: dict[str, str]
    left_out: dict[str, int]
    before: dict[str, dict[str, Any]]
    rows: list[dict[str, Any]]
    seconds: float

    @property
    def summary(self) -> list[DomainSummary]:
        """Mean and spread over seeds, in the order of the rows."""
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in self.rows:
            groups.setdefault((row["start"], row["adapt"]), []).append(row)
        return [
            DomainSummary(
                start,
                adapt,
                len(rows),
                {name: SeedStatistics.of([value(row) for row in rows]) for name, value in VALUES.items()},
            )
            for (start, adapt), rows in groups.items()
        ]

    def write(self) -> None:
        """Write `domain.json` in one step."""
        found = {
            "format_version": FORMAT_VERSION,
            "package_version": __version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 1),
            "versions": versions(),
            "classes": self.classes,
            "settings": self.settings,
            "files": self.files,
            "files_left_out": self.files_left_out,
            "left_out": self.left_out,
            "summary": self.summary,
            "before": self.before,
            "rows": self.rows,
        }
        text = json.dumps(plain(found), indent=1) + "\n"
        write_text(self.folder / RESULT, text)


def domain_table(result: DomainResult) -> str:
    """What to print: both domains, what is lost between them, and the gap in z before and after."""
    head = ("start", "adapt", "simulation", "target", "lost", "AUC simulation", "AUC target", "A-distance", "before")
    rows = []
    for found in result.summary:
        values = found.values
        before = result.before[found.start]["gap"]["all"]["a_distance"]["value"]
        shown = ("simulation_accuracy", "target_accuracy", "drop_accuracy", "simulation_auc", "target_auc")
        rows.append(
            (
                found.start,
                found.adapt,
                *(str(values[name]) for name in shown),
                str(values["a_distance"]),
                f"{before:.4f}",
            )
        )
    return plain_table(head, rows)
