"""Comparison of generated with real jets: distances of their observables, and a classifier two-sample test.

Every number is reported with its floor: real jets against other real jets, in samples of the same size.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import open_named
from ssl_jets.data.files import JetFile, whole
from ssl_jets.data.request import Request
from ssl_jets.data.seen import copies_of, shared
from ssl_jets.data.skipped import skipped_lines
from ssl_jets.errors import DataError, SslJetsError, UsageError
from ssl_jets.evaluation.generated.result import (
    METRICS,
    ClassifierTest,
    ComparedFile,
    GeneratedEvaluation,
    GeneratedSettings,
    Histogram,
)
from ssl_jets.evaluation.generated.samples import BINS, SPECTRUM_JETS, Samples, binned
from ssl_jets.evaluation.metrics.two_sample import TwoSample, WeightedSample, two_sample_test
from ssl_jets.evaluation.roles import draw
from ssl_jets.evaluation.settings import FigureSettings
from ssl_jets.runtime.atomic import check_folder
from ssl_jets.runtime.console import Log, to_stderr

__all__ = ["GeneratedEvaluation", "evaluate_generated"]

MIN_JETS = 50
"""Fewest generated jets of a comparison."""


def evaluate_generated(
    generated: Sequence[str],
    real: Sequence[str],
    out: str | Path,
    *,
    data: DataSettings = DataSettings(),
    figures: FigureSettings = FigureSettings(),
    seed: int = 0,
    max_jets: int = 20_000,
    force: bool = False,
    log: Log = to_stderr,
) -> GeneratedEvaluation:
    """Compare generated jets with real ones, and write `generated.json` and `generated-curves.json`.

    Three random samples of one size are drawn: generated jets, real jets, and other real jets, whose distance from the
    real ones is the floor. Any two sets of jets may be compared; the mixture of classes should be the same.

    Args:
        generated: files of generated jets.
        real: files of real jets; none means the bundled sample.
        out: folder to write to.
        data: bad jets and files, threads; format and collection of jets, for the side that they fit, or for both.
        figures: the line above every figure.
        seed: of the choice of jets, the trees and the bootstrap.
        max_jets: most jets of a sample.
        force: replace an existing comparison.
        log: called with each message.

    Raises:
        UsageError: a file that is named as both, weights, or an evaluation that exists.
        DataError: too few jets, files that cannot be read.
    """
    began, out = time.perf_counter(), Path(out)
    check_folder(out, METRICS, force=force)
    if data.weights is not None:
        raise UsageError("generated jets are compared without weights", where="data.weights", found=data.weights)
    lost: dict[str, str] = {}
    sides = {"generated": _open(generated, data, lost), "real": _open(real, data, lost)}
    generated_files, real_files = (side.files for side in sides.values())
    partly_used = list(_partly_used(sides, data))
    _refuse_shared(generated_files, real_files)
    left_out: Counter[str] = Counter()
    request = Request.of(data)
    options = (seed, request, data.workers, left_out)
    generated_jets = draw(generated_files, whole(generated_files), max_jets, *options)
    real_jets = draw(real_files, whole(real_files), 2 * max_jets, *options)
    jets = min(len(generated_jets), len(real_jets) // 2, max_jets)
    if jets < MIN_JETS:
        raise DataError(
            "there are too few jets to compare",
            found=f"{len(generated_jets)} generated and {len(real_jets)} real",
            allowed=[f"{MIN_JETS} generated and {2 * MIN_JETS} real, or more"],
        )
    note = f"{jets:,} generated jets against {jets:,} real ones, and {jets:,} other real ones against the same"
    skipped = skipped_lines(lost, left_out)
    notes = [*partly_used, *skipped, *copies_of([*generated_files, *real_files]), note]
    for line in notes:
        log(line)
    samples = Samples.of(generated_jets, real_jets, jets, seed)
    test = two_sample_test(samples.real.observed, samples.generated.observed, seed=seed)
    floor = two_sample_test(samples.real.observed, samples.other.observed, seed=seed)
    result = GeneratedEvaluation(
        generated=[_compared(file) for file in generated_files],
        real=[_compared(file) for file in real_files],
        jets=jets,
        left_out=dict(left_out),
        files_left_out=lost,
        settings=GeneratedSettings(seed=seed, max_jets=max_jets, spectrum_jets=SPECTRUM_JETS, figures=figures),
        distances=list(samples.distances(seed)),
        two_sample_test=_numbers(test),
        two_sample_floor=_numbers(floor),
        notes=notes,
        histograms=[*samples.histograms(), _scores(test)],
        seconds=round(time.perf_counter() - began, 2),
        folder=out,
    )
    result.write()
    return result


def _compared(file: JetFile) -> ComparedFile:
    return ComparedFile(file.name, file.bytes, file.entries)


def _numbers(test: TwoSample) -> ClassifierTest:
    return ClassifierTest(auc=test.auc, fit_jets=test.fit_jets, test_jets=test.test_jets, columns=test.columns)


def _scores(test: TwoSample) -> Histogram:
    """Return the histogram of the output of the trees on generated (`second`) and on real jets."""
    generated, real = (WeightedSample.of_jets(test.scores[rows]) for rows in (test.second, ~test.second))
    return binned("score", "jets", "1", generated=generated, real=real, edges=np.linspace(0, 1, BINS + 1))


@dataclass(frozen=True)
class _Side:
    """Files of one side of the comparison.

    Attributes:
        files: the opened files.
        used: the settings among `format` and `jets` that they were opened with.
        error: error of opening them with all settings; None without one.
    """

    files: list[JetFile]
    used: tuple[str, ...]
    error: SslJetsError | None


def _open(names: Sequence[str], data: DataSettings, lost: dict[str, str]) -> _Side:
    """Open files with the settings that fit them: the two sides may be of different formats.

    Raises:
        SslJetsError: the files cannot be opened in any way.
    """
    given = tuple(key for key in ("format", "jets") if getattr(data, key) is not None)
    first = None
    for used in dict.fromkeys((given, given[:1], given[1:], ())):
        settings = data.model_copy(update={key: None for key in given if key not in used})
        try:
            return _Side(open_named(names, settings, lost, labelled=False), used, first)
        except SslJetsError as error:
            first = first or error
    assert first is not None  # the loop ran, and returned nothing
    raise first


def _partly_used(sides: Mapping[str, _Side], data: DataSettings) -> Iterator[str]:
    """Yield messages about settings that fit one side only.

    Raises:
        SslJetsError: a setting fits neither side.
    """
    for key in ("format", "jets"):
        without = {name: side for name, side in sides.items() if key not in side.used}
        if getattr(data, key) is None or not without:
            continue
        if len(without) == len(sides):
            raise next(side.error for side in reversed(list(sides.values())) if side.error is not None)
        for name, side in without.items():
            kind = side.files[0].schema.title if key == "format" else side.files[0].collection or "jets, one an entry"
            yield f"data.{key}={getattr(data, key)} does not fit the {name} files, which are read as {kind}"


def _refuse_shared(generated: Sequence[JetFile], real: Sequence[JetFile]) -> None:
    if twice := shared(generated, real):
        raise UsageError("a file is named as generated and as real, or a copy of one", where=twice[0].source)
