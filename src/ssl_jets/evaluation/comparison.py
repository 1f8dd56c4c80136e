"""Result of a comparison of models, and the folder it is written to: `comparison.json`. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field

from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.result import Evaluation
from ssl_jets.evaluation.result_base import Written, plain, read_result, without
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.short_repr import ShortRepr

COMPARISON = "comparison.json"


@dataclass(frozen=True)
class Difference:
    """`second` minus `first`, on the same jets with paired resamples.

    Attributes:
        first, second: names of the models.
        of: "head" or "linear probe".
        accuracy, auc: the latter macro, one-versus-one.
    """

    first: str
    second: str
    of: str
    accuracy: Estimate
    auc: Estimate


@dataclass(frozen=True)
class Similarity:
    """Linear CKA of the z of two models."""

    first: str
    second: str
    cka: Estimate


class Comparison(ShortRepr, Written):
    """Result of `compare_models`.

    Attributes:
        models: their names, in the order given; the ensemble last.
        differences: between each two models.
        cka: similarity of z of each two models.
        notes: messages about the choice of jets.
        evaluations: by the name of the model; each is in a folder of that name.
        folder: where it is written.
    """

    models: tuple[str, ...]
    differences: list[Difference]
    cka: list[Similarity]
    notes: list[str] = Field(default_factory=list)
    evaluations: dict[str, Evaluation] = Field(exclude=True)
    folder: Path = Field(exclude=True)

    def metrics(self) -> dict[str, Any]:
        """Return the contents of `comparison.json`: all but the evaluations of the models."""
        return {name: plain(value) for name, value in without(self, "evaluations", "folder").items()}

    def write(self) -> None:
        """Write all evaluations, and `comparison.json` last."""
        for evaluation in self.evaluations.values():
            evaluation.write()
        write_text(self.folder / COMPARISON, json.dumps(self.metrics(), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the comparison of a folder, with the evaluation of each model.

        Raises:
            DataError: a file is missing, is not JSON, or is of another version.
        """
        content = read_result(folder / COMPARISON)
        evaluations = {name: Evaluation.read(folder / name) for name in content.get("models", [])}
        return cls.of_json({**content, "evaluations": evaluations, "folder": folder}, folder)
