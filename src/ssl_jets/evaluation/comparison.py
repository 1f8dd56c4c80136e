"""Result of a comparison of models, and the folder it is written to: `comparison.json`. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field

from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.result import Evaluation
from ssl_jets.evaluation.result_base import Written, read_result


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


class Comparison(Written):
    """Result of `compare_models`.

    Attributes:
        models: their names, in the order given; the ensemble last.
        differences: between each two models.
        cka: similarity of z of each two models.
        notes: messages about the choice of jets.
        evaluations: by the name of the model; each is in a folder of that name.
    """

    NAME: ClassVar[str] = "comparison"

    models: tuple[str, ...]
    differences: list[Difference]
    cka: list[Similarity]
    notes: list[str] = Field(default_factory=list)
    evaluations: dict[str, Evaluation] = Field(exclude=True)

    def write(self) -> None:
        """Write all evaluations, and `comparison.json` last."""
        for evaluation in self.evaluations.values():
            evaluation.write()
        super().write()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the comparison of a folder, with the evaluation of each model.

        Raises:
            DataError: a file is missing, is not JSON, or is of another version.
        """
        content = read_result(folder / f"{cls.NAME}.json")
        evaluations = {name: Evaluation.read(folder / name) for name in content.get("models", [])}
        return cls.of_json({**content, "evaluations": evaluations, "folder": folder}, folder)
