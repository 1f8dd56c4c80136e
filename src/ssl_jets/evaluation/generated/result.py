"""Result of a comparison of generated with real jets, and its two JSON files. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field

from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.result_base import FORMAT_VERSION, Result, Values, Written, plain, read_result
from ssl_jets.evaluation.settings import FigureSettings

METRICS, CURVES = "generated.json", "generated-curves.json"

DIGITS = 5
"""Significant digits of histograms in `generated-curves.json`."""

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""Number that may be NaN: null in JSON."""


@dataclass(frozen=True)
class ComparedFile:
    """A file of jets, without the folder it lay in."""

    name: str
    bytes: int
    entries: int


@dataclass(frozen=True)
class Distance:
    """Wasserstein-1 distance (W1) of one observable between generated and real jets.

    Attributes:
        observable: its name.
        of: "jets" or "particles".
        unit: of the observable and of its distances.
        spread: standard deviation of the real values; NaN without values.
        generated: W1 of generated against real.
        real: W1 of other real jets against the same real ones, the floor.
    """

    observable: str
    of: str
    unit: str
    spread: Number
    generated: Estimate
    real: Estimate


@dataclass(frozen=True)
class Histogram:
    """Histogram of one observable of generated and of real jets.

    Attributes:
        observable: its name; `score` is the output of the trees of the two-sample test.
        of: "jets" or "particles".
        unit: of the observable.
        edges: `[bin + 1]`.
        generated, real: entries in each bin, `[bin]`.
        generated_error, real_error: their standard deviations for the given number of all entries, `[bin]`.
        generated_all, real_all: entries, with those outside of the bins.
    """

    observable: str
    of: str
    unit: str
    edges: Values
    generated: Values
    real: Values
    generated_error: Values
    real_error: Values
    generated_all: int
    real_all: int


class ClassifierTest(Result):
    """Numbers of a classifier two-sample test (Lopez-Paz, Oquab, arXiv:1610.06545).

    Attributes:
        auc: 0.5 if the trees cannot separate the samples, 1 if they always can.
        fit_jets, test_jets: jets of both samples together.
        columns: observables that the trees read.
    """

    auc: Estimate
    fit_jets: int
    test_jets: int
    columns: tuple[str, ...]


class GeneratedSettings(Result):
    """Settings of a comparison.

    Attributes:
        seed: of the choice of jets, the trees and the bootstrap.
        max_jets: most jets of a sample.
        spectrum_jets: most jets of a sample in the spectra of particles.
        figures: the line above every figure.
    """

    seed: int
    max_jets: int
    spectrum_jets: int
    figures: FigureSettings = FigureSettings()


class GeneratedEvaluation(Written):
    """Result of `evaluate_generated`.

    Attributes:
        seconds: wall time.
        generated, real: input files.
        jets: jets of each of the three samples.
        left_out: skipped jets, by reason.
        files_left_out: files that could not be opened, with the reason.
        settings: seed and limits.
        distances: one per observable.
        two_sample_test: trees that separate generated from real jets.
        two_sample_floor: trees that separate real jets from other real jets.
        notes: messages about files and jets.
        histograms: bins of the figures; they are in `generated-curves.json`.
    """

    NAME: ClassVar[str] = "generated"
    CURVES: ClassVar[str] = CURVES

    seconds: float = 0.0
    generated: list[ComparedFile]
    real: list[ComparedFile]
    jets: int
    left_out: dict[str, int]
    files_left_out: dict[str, str]
    settings: GeneratedSettings
    distances: list[Distance]
    two_sample_test: ClassifierTest
    two_sample_floor: ClassifierTest
    notes: list[str] = Field(default=[])
    histograms: list[Histogram] = Field(exclude=True)

    def curve_points(self) -> dict[str, Any]:
        """Return the contents of `generated-curves.json`, with five significant digits."""
        return {"format_version": FORMAT_VERSION, "histograms": plain(self.histograms, digits=DIGITS)}

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the comparison of a folder; histograms have five digits.

        Raises:
            DataError: a file is missing, is not JSON, or is of another version.
        """
        metrics, curves = read_result(folder / METRICS), read_result(folder / CURVES)
        return cls.of_json({**metrics, "histograms": curves.get("histograms"), "folder": folder}, folder)
