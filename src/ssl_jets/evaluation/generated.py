"""Generated jets against real ones: how far apart their observables are, and whether trees can tell them apart.

Every number stands beside its floor: the same number of real jets against other real jets, in samples of the same size.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jets import __version__
from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import open_named
from ssl_jets.data.files import JetFile, whole
from ssl_jets.data.loading.stream import Request
from ssl_jets.data.seen import copies_of, shared
from ssl_jets.data.skipped import skipped_lines
from ssl_jets.errors import DataError, SslJetsError, UsageError
from ssl_jets.evaluation.generated_samples import BINS, SPECTRUM_JETS, Distance, Histogram, Samples, binned
from ssl_jets.evaluation.metrics.two_sample import TwoSample, two_sample_test
from ssl_jets.evaluation.result import FORMAT_VERSION, plain, versions
from ssl_jets.evaluation.roles import draw
from ssl_jets.evaluation.settings import FigureSettings
from ssl_jets.runtime.atomic import check_folder, write_text
from ssl_jets.runtime.console import Log, to_stderr
from ssl_jets.runtime.short_repr import ShortRepr

METRICS, CURVES = "generated.json", "generated-curves.json"

FEWEST = 50
"""Jets below which nothing is said."""

_DATA = DataSettings()
_FIGURES = FigureSettings()


@dataclass(frozen=True)
class ComparedFile:
    """A file of jets, without the folder it lay in."""

    name: str
    bytes: int
    entries: int


@dataclass(frozen=True, repr=False)
class GeneratedEvaluation(ShortRepr):
    """The outcome of `evaluate_generated`.

    Attributes:
        folder: where it was written.
        generated, real: the files.
        jets: jets of each of the three samples.
        left_out: jets left out, by reason.
        files_left_out: files that could not be opened, with the reason.
        settings: seed and limits.
        distances: one per observable.
        test: trees that tell generated from real jets.
        floor: trees that tell real jets from other real jets.
        histograms: what figures are drawn from.
        notes: what was said.
        seconds: wall time.
    """

    folder: Path
    generated: list[ComparedFile]
    real: list[ComparedFile]
    jets: int
    left_out: dict[str, int]
    files_left_out: dict[str, str]
    settings: dict[str, Any]
    distances: list[Distance]
    test: TwoSample
    floor: TwoSample
    histograms: list[Histogram]
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def metrics(self) -> dict[str, Any]:
        """The contents of `generated.json`."""
        found = {
            "format_version": FORMAT_VERSION,
            "package_version": __version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 2),
            "versions": versions(),
            "generated": self.generated,
            "real": self.real,
            "jets": self.jets,
            "left_out": self.left_out,
            "files_left_out": self.files_left_out,
            "settings": self.settings,
            "distances": self.distances,
            "two_sample_test": _without_scores(self.test),
            "two_sample_floor": _without_scores(self.floor),
            "notes": self.notes,
        }
        return {name: plain(value) for name, value in found.items()}

    def curves(self) -> dict[str, Any]:
        """The contents of `generated-curves.json`, with five digits."""
        scores, made = self.test.scores, self.test.second
        binned_scores = binned("score", "jets", "1", scores[made], scores[~made], np.linspace(0, 1, BINS + 1))
        return {
            "format_version": FORMAT_VERSION,
            "histograms": [plain(histogram, digits=5) for histogram in [*self.histograms, binned_scores]],
        }

    def write(self) -> None:
        """Write both files to `folder`, each in one step, `generated.json` last."""
        texts = {CURVES: json.dumps(self.curves()), METRICS: json.dumps(self.metrics(), indent=1)}
        for name, text in texts.items():
            write_text(self.folder / name, text + "\n")


def evaluate_generated(
    generated: Sequence[str],
    real: Sequence[str],
    out: str | Path,
    *,
    data: DataSettings = _DATA,
    figures: FigureSettings = _FIGURES,
    seed: int = 0,
    max_jets: int = 20_000,
    force: bool = False,
    say: Log = to_stderr,
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
        force: replace what is there.
        say: called with each message.

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
    made_files, real_files = (side.files for side in sides.values())
    found_by = list(_found_by(sides, data))
    _refuse_shared(made_files, real_files)
    left_out: Counter[str] = Counter()
    request = Request.of(data)
    made = draw(made_files, whole(made_files), max_jets, seed, request, data.workers, left_out)
    both = draw(real_files, whole(real_files), 2 * max_jets, seed, request, data.workers, left_out)
    jets = min(len(made), len(both) // 2, max_jets)
    if jets < FEWEST:
        raise DataError(
            "there are too few jets to compare",
            found=f"{len(made)} generated and {len(both)} real",
            allowed=[f"{FEWEST} generated and {2 * FEWEST} real, or more"],
        )
    note = f"{jets:,} generated jets against {jets:,} real ones, and {jets:,} other real ones against the same"
    notes = [*found_by, *skipped_lines(lost, left_out), *copies_of([*made_files, *real_files]), note]
    for line in notes:
        say(line)
    samples = Samples.of(made, both, jets, seed)
    found = GeneratedEvaluation(
        folder=out,
        generated=[ComparedFile(file.name, file.bytes, file.entries) for file in made_files],
        real=[ComparedFile(file.name, file.bytes, file.entries) for file in real_files],
        jets=jets,
        left_out=dict(left_out),
        files_left_out=lost,
        settings={
            "seed": seed,
            "max_jets": max_jets,
            "spectrum_jets": SPECTRUM_JETS,
            "figures": figures.model_dump(),
        },
        distances=list(samples.distances(seed)),
        test=two_sample_test(samples.real.observed, samples.made.observed, seed=seed),
        floor=two_sample_test(samples.real.observed, samples.other.observed, seed=seed),
        histograms=list(samples.histograms()),
        notes=notes,
        seconds=time.perf_counter() - began,
    )
    found.write()
    return found


@dataclass(frozen=True)
class _Side:
    """Files, which of the settings `format` and `jets` they were opened with, and why not with all."""

    files: list[JetFile]
    used: tuple[str, ...]
    error: SslJetsError | None


def _open(names: Sequence[str], data: DataSettings, lost: dict[str, str]) -> _Side:
    """Open files as the settings say, or as far as they fit: the two sides may be of different formats.

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


def _found_by(sides: Mapping[str, _Side], data: DataSettings) -> Iterator[str]:
    """What to say of settings that fit one side only.

    Raises:
        SslJetsError: a setting fits neither side.
    """
    for key in ("format", "jets"):
        without = {name: side for name, side in sides.items() if key not in side.used}
        if getattr(data, key) is None or not without:
            continue
        if len(without) == len(sides):
            error = sides["real"].error or sides["generated"].error
            assert error is not None  # why the setting was not used
            raise error
        for name, side in without.items():
            kind = side.files[0].schema.title if key == "format" else side.files[0].collection or "jets, one an entry"
            yield f"data.{key}={getattr(data, key)} does not fit the {name} files, which are read as {kind}"


def _without_scores(test: TwoSample) -> Mapping[str, Any]:
    return {name: value for name, value in vars(test).items() if name not in ("scores", "second")}


def _refuse_shared(made: Sequence[JetFile], real: Sequence[JetFile]) -> None:
    if twice := shared(made, real):
        raise UsageError("a file is named as generated and as real, or a copy of one", where=twice[0].source)
