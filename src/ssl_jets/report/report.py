"""Reports: `report.html` and `figures/` of a run or evaluation folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from ssl_jets import __version__
from ssl_jets.evaluation.comparison import Comparison
from ssl_jets.evaluation.generated.result import GeneratedEvaluation
from ssl_jets.evaluation.result import Evaluation
from ssl_jets.protocols.anomaly_result import AnomalyScan
from ssl_jets.protocols.domain_result import DomainResult
from ssl_jets.protocols.labels_result import LabelCurves
from ssl_jets.report import page
from ssl_jets.report.album import Album
from ssl_jets.report.folders import RunFolder, evaluations_in, is_run, read_run
from ssl_jets.report.sections.comparison import compared
from ssl_jets.report.sections.evaluation import evaluation, evaluation_tiles, headline_lines
from ssl_jets.report.sections.run import PARTS, PartResult, inside, run_sections, run_tiles
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.reading import guarded
from ssl_jets.runtime.terminal import escaped

REPORT, FIGURES = "report.html", "figures"
Settings = ParamSpec("Settings")


def _of_results(
    write: Callable[Concatenate[str | Path, Settings], Path],
) -> Callable[Concatenate[str | Path, Settings], Path]:
    """Raise one error for results that are damaged, or of another version."""

    @wraps(write)
    def checked(folder: str | Path, /, *args: Settings.args, **kwargs: Settings.kwargs) -> Path:
        with guarded("no report can be made of these results", folder, hint="make them again, into another --out"):
            return write(folder, *args, **kwargs)

    return checked


@_of_results
def write_run_report(run_folder: str | Path) -> Path:
    """Write the report of a run, finished or not, with the evaluations inside its folder.

    Returns:
        The path of `report.html`.

    Raises:
        DataError: not a run folder, or a file in it that cannot be read.
    """
    run = read_run(Path(run_folder))
    evaluations = evaluations_in(run.folder)
    body = [*(line for first in evaluations[:1] for line in headline_lines(first)), run_tiles(run)]
    for result in evaluations:
        name = result.folder.name
        title = "Evaluation" if name == "evaluation" else f"Evaluation {name}"
        body += [page.heading(title), evaluation_tiles(result)]
        body += evaluation(result, Album(run.folder / FIGURES, f"{name}-", result.settings.figures))
    body += inside(run.folder, run.folder / FIGURES)
    body += run_sections(run, Album(run.folder / FIGURES))
    return _write(run.folder, _title(run), _model_line(run.model), body)


@_of_results
def write_evaluation_report(
    evaluation_folder: str | Path, run_folder: str | Path | None = None, *, name: str | None = None
) -> Path:
    """Write the report of an evaluation.

    Args:
        evaluation_folder: holds `metrics.json` and `curves.json`.
        run_folder: the run of the evaluated model, whose training curves and settings are then shown too; a folder
            with only a model adds nothing.
        name: name of the evaluated model or file, for the title; by default the method. A run has the name of its
            folder.

    Returns:
        The path of `report.html`.

    Raises:
        DataError: a folder lacks its files, or one of them cannot be read.
    """
    result = Evaluation.read(Path(evaluation_folder))
    run = read_run(Path(run_folder)) if run_folder is not None and is_run(Path(run_folder)) else None
    album = _album(result)
    body = [*headline_lines(result), evaluation_tiles(result), *evaluation(result, album)]
    if run is not None:
        body += run_sections(run, album)
    title = f"Evaluation of {(name or result.model.method) if run is None else run.folder.resolve().name}"
    return _write(result.folder, title, _evaluated_line(result), body)


@_of_results
def write_comparison_report(folder: str | Path, runs: Mapping[str, Path]) -> Path:
    """Write the report of a comparison of models.

    Args:
        folder: holds `comparison.json` and the evaluations of the models.
        runs: run folder of each model, whose training curves are then shown too; a folder with only a model adds none.

    Returns:
        The path of `report.html`.

    Raises:
        DataError: a folder lacks its files, or one of them cannot be read.
    """
    result = Comparison.read(Path(folder))
    read = {name: read_run(run) for name, run in runs.items() if is_run(run)}
    first = next(iter(result.evaluations.values()))
    body = compared(result, read, Album(result.folder / FIGURES, label=first.settings.figures))
    line = f"{first.test_jets:,} test jets, the same for all; {result.date[:10]}"
    return _write(result.folder, "Comparison of " + ", ".join(result.evaluations), line, body)


@_of_results
def write_result_report(folder: str | Path, kind: type[PartResult]) -> Path:
    """Write the report of generated and real jets or of a protocol, from its JSON; return the path of `report.html`.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    result = kind.read(Path(folder))
    title, line = _heading(result)
    _, sections_of = PARTS[kind]
    return _write(result.folder, title, f"{line}, {result.date[:10]}", sections_of(result, _album(result)))


def _heading(result: PartResult) -> tuple[str, str]:
    """Return title and subtitle of a page."""
    match result:
        case LabelCurves():
            line = f"{result.test_jets:,} test jets, {result.settings.seeds} seeds"
            return f"Label curves of {', '.join(result.models)}", line
        case AnomalyScan():
            return f"Anomalies in {result.made_from.title}", f"background {result.background}, {result.seeds} draws"
        case DomainResult():
            return "Simulation and data", f"{len(result.rows)} finetunings"
        case GeneratedEvaluation():
            names = ", ".join(file.name for file in result.generated)
            return f"Generated and real jets: {names}", f"{result.jets:,} jets of each"


def _album(result: Evaluation | PartResult) -> Album:
    return Album(result.folder / FIGURES, label=result.settings.figures)


def _write(folder: Path, title: str, subtitle: str, body: list[str]) -> Path:
    html = page.page(title, subtitle, body, f"Written by ssl-jets {__version__}.")
    write_text(folder / REPORT, escaped(html))
    return folder / REPORT


def _title(run: RunFolder) -> str:
    method = run.model.get("method") or run.settings.get("method", {}).get("name") or "run"
    name = run.folder.resolve().name
    mode = run.model.get("training", {}).get("mode")  # of a finetuning
    of = f"{method}, finetuned ({mode})" if mode not in (None, method) else method  # from scratch: method is the mode
    words = [of] if of != name else []
    return ": ".join([name, *words])


def _model_line(model: dict[str, Any]) -> str:
    if not model:
        return "The run is not finished: there is no model yet."
    settings = model["encoder"].get("settings", {})
    size = f"{settings['size']} encoder, " if "size" in settings else ""
    return f"{size}{model['parameters']:,} parameters, model {model['weights_sha256'][:12]}"


def _evaluated_line(result: Evaluation) -> str:
    model = result.model
    parts = [f"method {model.method}", f"model {model.sha256[:12]}" if model.sha256 else "model unknown"]
    parts += [f"head trained on {model.labelled_jets:,} jets"] if model.labelled_jets else []
    return ", ".join([*parts, f"{result.test_jets:,} test jets", result.date[:10]])
