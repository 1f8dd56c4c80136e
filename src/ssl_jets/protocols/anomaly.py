"""The protocol `anomaly`: distance scores of every class, and CWoLa scans over the number of hidden signal jets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ssl_jets import __version__
from ssl_jets.embedding.predict import encode
from ssl_jets.errors import DataError, UsageError, nearest
from ssl_jets.evaluation.compare import names_of
from ssl_jets.evaluation.evaluation_data import EvaluationData, tree_inputs
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.one import torch_device
from ssl_jets.evaluation.probes.classes import COLUMNS, RANDOM, Labelled
from ssl_jets.evaluation.result import FORMAT_VERSION, plain, versions
from ssl_jets.evaluation.settings import EvaluateSettings
from ssl_jets.evaluation.tables import number, plain_table
from ssl_jets.evaluation.zfile import labelled_sides
from ssl_jets.model_file import load_model
from ssl_jets.nn.encoder import random_like
from ssl_jets.protocols.anomaly_scores import cwola, distance_scores
from ssl_jets.protocols.cache import ResultCache
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.console import Log, MessageLog, to_stderr
from ssl_jets.runtime.short_repr import ShortRepr

ANOMALY = "anomaly.json"

_SETTINGS = EvaluateSettings()

Inputs = dict[str, tuple[Labelled, Labelled]]
"""Jets to fit and to test on, by what is read of them."""


@dataclass(frozen=True, repr=False)
class AnomalyScan(ShortRepr):
    """The outcome of `anomaly_scan`; the contents of `anomaly.json` are in `metrics`."""

    folder: Path
    metrics: dict[str, Any]


def anomaly_scan(
    models: Sequence[str | Path],
    sources: Sequence[str],
    out: str | Path,
    *,
    z: str | Path | Sequence[str | Path] = (),
    settings: EvaluateSettings = _SETTINGS,
    device: str | None = None,
    say: Log = to_stderr,
) -> AnomalyScan:
    """Search for every class as if nobody had named it, and write `anomaly.json`.

    What is read is z of each model, z of random weights and jet columns; or, with `z`, the z of a file. A scan that was
    stopped goes on where it was: what is finished lies in `out/pieces`.

    Args:
        models: run folders.
        sources: as `evaluate_model`; labels are needed to choose and to judge.
        out: folder to write to.
        z: z files of one model, instead of models and sources.
        settings: `anomaly.*`, `evaluate.fit_jets` (more background jets make a finer search), `evaluate.background`.
        device, say: as `evaluate_model`.

    Raises:
        SslJetsError: no labels, an unknown class, too few background jets.
    """
    out, tell = Path(out), MessageLog(say)
    made, inputs, names = (
        _of_files([Path(path) for path in ([z] if isinstance(z, str | Path) else z)], settings, tell)
        if z
        else _of_models(models, sources, settings, device, tell)
    )
    background, signals = _classes(names, settings)
    fit = next(iter(inputs.values()))[0]
    most = {signal: int((fit.y == names.index(signal)).sum()) for signal in signals}
    alone = int((fit.y == names.index(background)).sum())
    if alone < 100:
        hint = "more jets: --set evaluate.fit_jets=100000, or --data with more background"
        raise DataError("too few background jets to search in", found=f"{alone} of {background}", hint=hint)
    tell(f"{alone:,} {background} jets, half of them with signal jets hidden among them, half alone")
    made_from = {**made, "z": made["z"][1]} if z else made  # the digest of a z file, of any name
    pieces = ResultCache(out / "pieces", made_from, len(inputs) * (1 + len(signals)), say)
    scores, scans = [], []
    search, k = _Search(names, background, settings), settings.anomaly.neighbours
    for of, sides in inputs.items():
        common = {"of": of, "background": background}
        facts = {**common, "neighbours": k, "signals": list(signals)}
        measure = partial(search.distances, of, sides, signals)
        scores += pieces.get(f"distance-{_file_name(of)}", facts, measure)["scores"]
        for signal in signals:
            counts = [count for count in settings.anomaly.counts if count <= most[signal]]
            facts = {**common, "signal": signal, "counts": counts, "seeds": settings.anomaly.seeds}
            make = partial(search.scan, of, sides, signal, counts)
            scans.append(pieces.get(f"cwola-{_file_name(of)}-{_file_name(signal)}", facts, make))

    metrics = {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "made_from": made,
        "classes": list(names),
        "background": background,
        "background_jets": alone,
        "seeds": settings.anomaly.seeds,
        "settings": {"figures": settings.figures.model_dump()},
        "distances": scores,
        "cwola": scans,
        "notes": tell.said,
    }
    metrics = plain(metrics)
    text = json.dumps(metrics, indent=1) + "\n"
    write_text(out / ANOMALY, text)
    return AnomalyScan(out, metrics)


@dataclass(frozen=True)
class _Search:
    """Makes the pieces."""

    names: tuple[str, ...]
    background: str
    settings: EvaluateSettings

    def distances(self, of: str, sides: tuple[Labelled, Labelled], signals: tuple[str, ...]) -> dict[str, Any]:
        """Both distances of every class."""
        k, seed = self.settings.anomaly.neighbours, self.settings.evaluate.seed
        found = distance_scores(*sides, self.names, self.background, signals, of=of, neighbours=k, seed=seed)
        return {"scores": found}

    def scan(self, of: str, sides: tuple[Labelled, Labelled], signal: str, counts: Sequence[int]) -> dict[str, Any]:
        """One class hidden in growing numbers: mean and standard deviation over the draws."""
        here = (self.names.index(signal), self.names.index(self.background))
        points = []
        for count in counts:
            seeds = range(self.settings.anomaly.seeds)
            draws = [cwola(*sides, *here, count, trees=of == COLUMNS, seed=seed) for seed in seeds]
            point: dict[str, Any] = {"signal_jets": count, "significance": draws[0]["significance"]}
            for key in ("improvement", "auc"):
                values = [value for draw in draws if (value := draw[key]) is not None]
                point[key] = float(np.mean(values)) if values else None
                point[f"{key}_std"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
            points.append(point)
        return {"of": of, "signal": signal, "points": points}


def anomaly_table(found: AnomalyScan) -> str:
    """What to print of a search: areas of the distances, and the improvement of the largest number of signal jets."""
    metrics = found.metrics
    rows = [
        (
            entry["signal"],
            entry["of"],
            entry["score"],
            *(number(Estimate(**entry[key])) for key in ("auc", "improvement")),
        )
        for entry in metrics["distances"]
    ]
    blocks = [plain_table(("signal", "distance in", "score", "AUC (68 %)", "largest SIC (68 %)"), rows)]
    scans = []
    for scan in metrics["cwola"]:
        for point in scan["points"]:
            value, error = point["improvement"], point["improvement_std"]
            shown = "not defined" if value is None else f"{value:.2f}" + ("" if error is None else f" +- {error:.2f}")
            count = f"{point['signal_jets']:,}"
            scans.append((scan["signal"], scan["of"], count, f"{point['significance']:.2f}", shown))
    head = ("signal", "CWoLa reads", "signal jets", "S / sqrt(B)", "largest SIC")
    return "\n\n".join([*blocks, plain_table(head, scans)])


def _of_models(
    paths: Sequence[str | Path],
    sources: Sequence[str],
    settings: EvaluateSettings,
    device: str | None,
    tell: MessageLog,
) -> tuple[dict[str, Any], Inputs, tuple[str, ...]]:
    """z of each model, z of random weights of the first, and jet columns, of the same jets."""
    names = names_of([Path(path) for path in paths])
    models = {name: load_model(path) for name, path in zip(names, paths, strict=True)}
    bench = EvaluationData.of(list(models.values()), sources, settings, tell)
    bench.need_classes("the protocol anomaly, to choose signals and to judge the search,")
    _classes(bench.classes, settings)  # a misspelt one is refused before the work
    where, first = torch_device(device), next(iter(models.values()))
    encoders = {f"z of {name}" if len(models) > 1 else "z": model.encoder for name, model in models.items()}
    encoders[RANDOM] = random_like(first.encoder, bench.seed)
    jets = (bench.fit, bench.test)
    inputs: Inputs = {}
    for of, encoder in encoders.items():
        fit, test = (bench.labelled(side, encode(encoder, side, where)) for side in jets)
        inputs[of] = (fit, test)
    fit, test = (bench.labelled(side, tree_inputs(side)) for side in jets)
    inputs[COLUMNS] = (fit, test)
    made = {
        "models": {name: model.sha256 for name, model in models.items()},
        "files": [list(file.identity) for file in bench.files],
        **_common(settings),
    }
    return made, inputs, bench.classes


def _of_files(
    paths: Sequence[Path], settings: EvaluateSettings, tell: MessageLog
) -> tuple[dict[str, Any], Inputs, tuple[str, ...]]:
    """z of files, and their kept jet columns."""
    sides, columns, names = labelled_sides(paths, settings, tell)
    made: list[str] = []
    for path in paths:
        with path.open("rb") as file:
            made += [path.name, hashlib.file_digest(file, "sha256").hexdigest()]
    return {"z": made, **_common(settings)}, {"z": sides} | ({COLUMNS: columns} if columns else {}), names


def _common(settings: EvaluateSettings) -> dict[str, Any]:
    return {"data": settings.data.model_dump(mode="json"), "evaluate": settings.evaluate.model_dump(mode="json")}


def _classes(names: tuple[str, ...], settings: EvaluateSettings) -> tuple[str, tuple[str, ...]]:
    background = settings.evaluate.background or ("QCD" if "QCD" in names else names[0])
    signals = settings.anomaly.signals or tuple(name for name in names if name != background)
    for setting, wanted in (("evaluate.background", (background,)), ("anomaly.signals", signals)):
        for name in wanted:
            if name not in names:
                raise UsageError("there is no such class", where=setting, found=name, allowed=nearest(name, names))
    return background, signals


def _file_name(text: str) -> str:
    return quote(text, safe=" ")
