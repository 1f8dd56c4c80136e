"""Run `ssl-jets evaluate`: one call of the library, one report, one text to print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from json import dumps
from pathlib import Path
from typing import Any

from ssl_jets import evaluation, protocols, report
from ssl_jets.cli.console import say, say_sample
from ssl_jets.cli.remembered import Remembered
from ssl_jets.config import resolve
from ssl_jets.errors import UsageError
from ssl_jets.evaluation.settings import EvaluateSettings
from ssl_jets.runtime.allocator import tune_memory
from ssl_jets.runtime.atomic import free_folder


@dataclass(frozen=True)
class EvaluateRequest:
    """The options of `ssl-jets evaluate`.

    Attributes:
        models: run folders.
        z: z files of one model.
        generated: files of generated jets.
        ensemble: measure the mean of the models.
        protocol: "labels" or "anomaly".
        data: files of jets.
        out: folder to write to.
        settings: of `--set` and `--seed`.
        json: print all metrics as JSON.
        force: replace existing results.
    """

    models: tuple[Path, ...] = ()
    z: tuple[Path, ...] = ()
    generated: tuple[str, ...] = ()
    ensemble: bool = False
    protocol: str | None = None
    data: tuple[str, ...] = ()
    out: Path | None = None
    settings: Mapping[str, Any] | None = None
    json: bool = False
    force: bool = False


def run_evaluation(asked: EvaluateRequest) -> str:
    """Run the requested evaluation, write the report, and return the text to print.

    Raises:
        UsageError: options that do not go together.
    """
    tune_memory()
    _check(asked)
    remembered = Remembered() if asked.data or not asked.models else Remembered.of(asked.models)
    settings = resolve(EvaluateSettings, {"data": remembered.reading}, asked.settings or {})
    if remembered.sources:
        asked = replace(asked, data=remembered.sources)
        say(remembered.line())
    elif not asked.z:
        say_sample(asked.data)
    if asked.protocol is not None:
        written, table = _protocol(asked, settings)
    elif asked.generated:
        written, table = _generated(asked, settings)
    elif len(asked.models) > 1:
        return _models(asked, settings)
    else:
        written, table = _one(asked, settings)
    return written.read_text(encoding="utf-8").rstrip() if asked.json else table


def _check(asked: EvaluateRequest) -> None:
    if sum(map(bool, (asked.models, asked.z, asked.generated))) != 1:
        raise UsageError(
            "evaluate takes models, a z file or generated jets, one of them",
            where="--model, --z, --generated",
            hint="ssl-jets evaluate RUN",
        )
    if asked.z and asked.data:
        raise UsageError("a z file is evaluated by itself", where="--data", hint="ssl-jets evaluate --z FILE")
    if asked.ensemble and (len(asked.models) < 2 or asked.protocol):
        raise UsageError("an ensemble is made of several runs", where="--ensemble", hint="evaluate A B C --ensemble")
    if asked.protocol and asked.generated:
        raise UsageError("a protocol is of models or of a z file", where="--protocol", found="--generated")


def _one(asked: EvaluateRequest, settings: EvaluateSettings) -> tuple[Path, str]:
    """Evaluate a model or a z file."""
    run = None
    if not asked.z:
        model = asked.models[0]
        run = model.parent if model.name == "model" else model
        folder = asked.out or run / "evaluation"
        result = evaluation.evaluate_model(model, asked.data, folder, settings=settings, force=asked.force, say=say)
    else:
        folder = asked.out or _beside(asked.z[0])
        result = evaluation.evaluate_z(asked.z, folder, settings=settings, force=asked.force, say=say)
    log_reports(report.write_evaluation_report(folder, run))
    return folder / "metrics.json", evaluation.summary_table(result)


def _models(asked: EvaluateRequest, settings: EvaluateSettings) -> str:
    """Compare models on the same jets; the JSON has the comparison, with the metrics of each model."""
    folder = asked.out or free_folder(Path("runs"), "comparison")
    options = {"ensemble": asked.ensemble, "settings": settings, "force": asked.force, "say": say}
    comparison = evaluation.compare_models(asked.models, asked.data, folder, **options)  # type: ignore[arg-type]
    runs = dict(zip(comparison.evaluations, asked.models, strict=False))  # an ensemble, the last, has no run
    log_reports(report.write_comparison_report(folder, runs))
    if not asked.json:
        return evaluation.comparison_table(comparison)
    each = {name: evaluation.metrics() for name, evaluation in comparison.evaluations.items()}
    return dumps(comparison.metrics() | {"evaluations": each}, indent=1)


def _protocol(asked: EvaluateRequest, settings: EvaluateSettings) -> tuple[Path, str]:
    """Run a protocol; it resumes from its folder, so it needs no --force."""
    first = (*asked.models, *asked.z)[0]
    run = first.parent if first.name == "model" else first
    beside = first.with_suffix("").with_name(f"{first.stem}-{asked.protocol}") if asked.z else run / str(asked.protocol)
    folder = asked.out or (beside if len(asked.models) < 2 else Path("runs") / f"{asked.protocol}-curves")
    if asked.protocol == "labels":
        if asked.z:
            hint = "--protocol anomaly reads a z file"
            raise UsageError("label curves finetune models, and a z file is none", where="--z", hint=hint)
        curves = protocols.label_curves(asked.models, asked.data, folder, settings=settings, say=say)
        log_reports(report.write_labels_report(folder))
        return folder / "labels.json", protocols.labels_table(curves)
    scan = protocols.anomaly_scan(asked.models, asked.data, folder, z=asked.z, settings=settings, say=say)
    log_reports(report.write_anomaly_report(folder))
    return folder / "anomaly.json", protocols.anomaly_table(scan)


def _generated(asked: EvaluateRequest, settings: EvaluateSettings) -> tuple[Path, str]:
    folder = asked.out or _beside(Path(asked.generated[0]))
    result = evaluation.evaluate_generated(
        asked.generated,
        asked.data,
        folder,
        data=settings.data,
        figures=settings.figures,
        seed=settings.evaluate.seed,
        force=asked.force,
        say=say,
    )
    log_reports(report.write_generated_report(folder))
    return folder / "generated.json", evaluation.generated_table(result)


def log_reports(written: Path) -> None:
    """Log the path of a report, and write the report of the run again if its folder contains this one."""
    say(f"report: {written}")
    run = written.parent.parent
    if report.is_run(run):
        say(f"report of the run: {report.write_run_report(run)}")


def _beside(file: Path) -> Path:
    return file.with_suffix("").with_name(file.stem + "-evaluation")
