"""The protocol `anomaly`: distance scores of every class, and CWoLa scans over the number of hidden signal jets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ssl_jets.errors import DataError, UsageError, nearest
from ssl_jets.evaluation.baselines import Baselines
from ssl_jets.evaluation.compare import names_of
from ssl_jets.evaluation.evaluation_data import EvaluationData
from ssl_jets.evaluation.probes.classes import Labelled
from ssl_jets.evaluation.probes.results import COLUMNS, OBSERVABLES, RANDOM
from ssl_jets.evaluation.result_base import plain
from ssl_jets.evaluation.settings import EvaluateSettings
from ssl_jets.evaluation.zfile import labelled_sides
from ssl_jets.model_file import load_model
from ssl_jets.nn.encoder import random_like
from ssl_jets.protocols.anomaly_result import (
    AnomalyScan,
    CwolaPoint,
    CwolaScan,
    DistanceScores,
    SearchedFiles,
    Separation,
    UsedAnomalySettings,
)
from ssl_jets.protocols.anomaly_scores import READERS, cwola, distance_scores, supervised
from ssl_jets.protocols.cache import ResultCache
from ssl_jets.runtime.console import Log, MessageLog, to_stderr
from ssl_jets.runtime.gpu import default_device
from ssl_jets.runtime.reading import sha256_of

MIN_BACKGROUND_JETS = 100

_MEASURES = [field.name for field in fields(Separation)]
"""Numbers of each distance score; finished scores with others are made again."""

Sides = tuple[Labelled, Labelled]
"""Jets to fit and to test on."""


def anomaly_scan(
    models: Sequence[str | Path],
    sources: Sequence[str],
    out: str | Path,
    *,
    z: str | Path | Sequence[str | Path] = (),
    settings: EvaluateSettings = EvaluateSettings(),
    device: str | None = None,
    log: Log = to_stderr,
) -> AnomalyScan:
    """Search for every class without its labels, and write `anomaly.json`.

    Inputs of the search are z of each model, z of random weights, jet columns, and observables computed from the
    particles; or, with `z`, the z of a file and its jet columns. A stopped search resumes: finished results are in
    `out/pieces`. Labels are needed to choose signals and to judge the search. Settings: `anomaly.*`,
    `evaluate.background`, and `evaluate.fit_jets` (more background jets make a finer search).

    Raises:
        SslJetsError: no labels, an unknown class, too few background jets.
    """
    data = settings.data.model_copy(update={"sources": tuple(sources)})
    settings, out, log = settings.model_copy(update={"data": data}), Path(out), MessageLog(log)
    paths = [Path(path) for path in ([z] if isinstance(z, str | Path) else z)]
    searched = _of_files(paths, settings, log) if paths else _of_models(models, settings, device, log)
    background, signals = _classes(searched.classes, settings)
    counts = searched.count_fit_jets()
    if counts[background] < MIN_BACKGROUND_JETS:
        hint = "more jets: --set evaluate.fit_jets=100000, or --data with more background"
        raise DataError(
            "too few background jets to search in", found=f"{counts[background]} of {background}", hint=hint
        )
    log(f"{counts[background]:,} {background} jets, half of them with signal jets hidden among them, half alone")
    pieces = len(searched.inputs) * (1 + len(READERS) * len(signals))
    cache = ResultCache(out / "pieces", searched.cache_key(), pieces, log.log)
    search, anomaly = _Search(searched.classes, background, settings), settings.anomaly
    distances, scans = [], []
    for of, sides in searched.inputs.items():
        common = {"of": of, "background": background, "width": sides[0].x.shape[1]}
        facts = {**common, "neighbours": anomaly.neighbours, "signals": list(signals), "measures": _MEASURES}
        measure = partial(search.distances, of, sides, signals)
        distances += cache.get(f"distance-{_file_name(of)}", facts, measure, DistanceScores).scores
        for signal, reader in product(signals, READERS):
            # Without any signal jet first: a random direction of z separates some classes by chance.
            hidden = sorted({0, *(count for count in anomaly.counts if count <= counts[signal])})
            facts = {**common, "signal": signal, "reader": reader, "counts": hidden, "seeds": anomaly.seeds}
            scan = partial(search.scan, of, sides, signal, hidden, reader)
            name = f"cwola-{_file_name(of)}-{_file_name(signal)}-{reader}"
            scans.append(cache.get(name, facts, scan, CwolaScan))
    result = AnomalyScan(
        made_from=searched.files,
        classes=searched.classes,
        background=background,
        background_jets=counts[background],
        seeds=anomaly.seeds,
        settings=UsedAnomalySettings(figures=settings.figures),
        distances=distances,
        cwola=scans,
        notes=log.messages,
        folder=out,
    )
    result.write()
    return result


@dataclass(frozen=True)
class _Searched:
    """Jets of a search.

    Attributes:
        files: provenance.
        inputs: jets to fit and to test on, by the name of the input of the search.
        classes: class names.
    """

    files: SearchedFiles
    inputs: dict[str, Sides]
    classes: tuple[str, ...]

    def count_fit_jets(self) -> dict[str, int]:
        """Count the jets to fit on of each class."""
        fit, _ = next(iter(self.inputs.values()))
        return {name: int((fit.y == index).sum()) for index, name in enumerate(self.classes)}

    def cache_key(self) -> dict[str, Any]:
        """Return the inputs of all results: of z files their digests, of models their order, too.

        Names of z files do not matter. The first model determines the random weights.
        """
        key: dict[str, Any] = plain(self.files)
        models = [list(model) for model in (self.files.models or {}).items()]
        return key | ({"z": ",".join(self.files.z[1::2])} if self.files.z else {"models": models})


@dataclass(frozen=True)
class _Search:
    """Measurements of a search."""

    names: tuple[str, ...]
    background: str
    settings: EvaluateSettings

    def distances(self, of: str, sides: Sides, signals: tuple[str, ...]) -> DistanceScores:
        """Measure both distance scores of every signal."""
        fit, test = sides
        options = {"neighbours": self.settings.anomaly.neighbours, "seed": self.settings.evaluate.seed}
        return distance_scores(fit, test, self.names, self.background, signals, of=of, **options)

    def scan(self, of: str, sides: Sides, signal: str, counts: Sequence[int], reader: str) -> CwolaScan:
        """Hide growing numbers of jets of one class."""
        fit, test = sides
        labels = self.names.index(signal), self.names.index(self.background)
        points, number = [], self.settings.anomaly.seeds  # seed 0: draws 0, 1, 2; seed 1: draws 3, 4, 5
        for count in counts:
            seeds = [self.settings.evaluate.seed * number + draw for draw in range(number)]
            draws = [cwola(fit, test, *labels, count, reader=reader, seed=seed) for seed in seeds]
            points.append(CwolaPoint.of(count, draws))
        ceiling = supervised(fit, test, *labels, reader=reader, seed=self.settings.evaluate.seed)
        return CwolaScan(of=of, reader=reader, signal=signal, points=points, supervised=ceiling)


def _of_models(
    paths: Sequence[str | Path], settings: EvaluateSettings, device: str | None, log: MessageLog
) -> _Searched:
    """Return z of each model, z of random weights of the first, jet columns and observables, of the same jets."""
    names = names_of([Path(path) for path in paths])
    models = {name: load_model(path) for name, path in zip(names, paths, strict=True)}
    evaluation = EvaluationData.of(list(models.values()), settings.data.sources, settings, log)
    evaluation.need_classes("the protocol anomaly, to choose signals and to judge the search,")
    _classes(evaluation.classes, settings)  # a misspelt one is an error before any jet is encoded
    first = next(iter(models.values()))
    searched = {f"z of {name}" if len(models) > 1 else "z": model for name, model in models.items()}
    searched[RANDOM] = replace(first, encoder=random_like(first.encoder, evaluation.seed))
    compute_on, fit, test = default_device(device), evaluation.fit, evaluation.test
    inputs: dict[str, Sides] = {}
    for of, model in searched.items():
        z_fit, z_test = (model.embed(jets, device=compute_on) for jets in (fit, test))
        inputs[of] = (evaluation.labelled(fit, z_fit), evaluation.labelled(test, z_test))
    baselines = Baselines(evaluation, compute_on)
    inputs |= {COLUMNS: baselines.columns, OBSERVABLES: baselines.observables}
    files = SearchedFiles(
        models={name: model.sha256 for name, model in models.items()},
        files=[list(file.identity) for file in evaluation.files],
        **_used(settings),
    )
    return _Searched(files, inputs, evaluation.classes)


def _of_files(paths: Sequence[Path], settings: EvaluateSettings, log: MessageLog) -> _Searched:
    """Return z of files, and their kept jet columns."""
    sides, columns, names = labelled_sides(paths, settings, log)
    digests = [text for path in paths for text in (path.name, sha256_of(path))]
    inputs = {"z": sides} | ({COLUMNS: columns} if columns else {})
    return _Searched(SearchedFiles(z=digests, **_used(settings)), inputs, names)


def _used(settings: EvaluateSettings) -> dict[str, Any]:
    """Return the settings that the choice of jets depends on; the input files are recorded by their identity."""
    data = settings.data.model_copy(update={"sources": ()})
    return {"data": data.model_dump(mode="json"), "evaluate": settings.evaluate.model_dump(mode="json")}


def _classes(names: tuple[str, ...], settings: EvaluateSettings) -> tuple[str, tuple[str, ...]]:
    """Return the background class and the signal classes.

    Raises:
        UsageError: one of them is unknown.
    """
    background = settings.evaluate.background or ("QCD" if "QCD" in names else names[0])
    signals = settings.anomaly.signals or tuple(name for name in names if name != background)
    for setting, chosen in (("evaluate.background", (background,)), ("anomaly.signals", signals)):
        for name in chosen:
            if name not in names:
                raise UsageError("there is no such class", where=setting, found=name, allowed=nearest(name, names))
    return background, signals


def _file_name(text: str) -> str:
    return quote(text, safe=" ")
