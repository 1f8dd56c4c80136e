"""The verb `evaluate`: one evaluation of the library, and its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_jets.api.arguments import Names, SettingTree, model_of, names_of, path_of, tree_of
from ssl_jets.api.early import EVALUATED, check_new_evaluation, check_read, check_where
from ssl_jets.api.embedding import log_sample
from ssl_jets.api.evaluate_request import EvaluateRequest, run_of
from ssl_jets.api.run_files import Remembered
from ssl_jets.errors import some_of
from ssl_jets.runtime.console import log

if TYPE_CHECKING:
    from ssl_jets.evaluation.comparison import Comparison
    from ssl_jets.evaluation.generated.result import GeneratedEvaluation
    from ssl_jets.evaluation.result import Evaluation
    from ssl_jets.evaluation.settings import EvaluateSettings
    from ssl_jets.protocols.anomaly_result import AnomalyScan
    from ssl_jets.protocols.domain_result import DomainResult
    from ssl_jets.protocols.labels_result import LabelCurves
    from ssl_jets.report.sections.run import PartResult

    Result = Evaluation | Comparison | PartResult


def evaluate(
    runs: Names = (),
    *,
    z: Names = (),
    generated: Names = (),
    ensemble: bool = False,
    protocol: str | None = None,
    data: Names = (),
    domain: Names = (),
    target: Names = (),
    schema: str | Path | None = None,
    where: str | None = None,
    efficiency: float | Sequence[float] = (),
    out: str | Path | None = None,
    settings: SettingTree | None = None,
    seed: int | None = None,
    force: bool = False,
) -> Result:
    """Evaluate models, a z file or generated jets next to baselines, and write numbers, figures and a report.

    Args:
        runs: a run folder; several are compared on the same jets.
        z: z file of this or any other tool, or scores file of `predict`, instead of runs; several are one table.
        generated: files of generated jets, instead of runs, to compare with `data`.
        ensemble: also evaluate the mean of the predictions of several runs.
        protocol: "labels" (label curves), "anomaly" or "domain": evaluations that train. A stopped one
            continues.
        data: the jets; by default the files that the runs were trained on, of which held-out jets are tested.
        domain: unlabelled jets of the target domain, for protocol "domain".
        target: labelled jets of the target domain, only to test on, for protocol "domain".
        schema: YAML file (or name) of the format of the files.
        where: selection of jets, such as "jet_pt > 300 && abs(jet_eta) < 2"; by default all.
        efficiency: signal efficiencies at which the background rejection is computed.
        out: output folder; by default next to the run or the file that is evaluated.
        settings: further settings, such as `{"evaluate.fit_jets": 5000}`.
        seed: seed of the choice of jets, the random encoder and the bootstrap.
        force: replace an evaluation in `out`.

    Returns:
        An `Evaluation` of a run or of z files, a `Comparison` of several runs, a `GeneratedEvaluation`, or the
        `LabelCurves`, `AnomalyScan` or `DomainResult` of a protocol.

    Raises:
        SslJetsError: arguments that do not go together, a wrong setting, model, input file or output.
    """
    from ssl_jets.runtime.allocator import tune_memory

    efficiencies = [efficiency] if isinstance(efficiency, int | float) else list(efficiency)
    request = EvaluateRequest(
        models=tuple(map(model_of, names_of(runs))),
        name=_name_of(names_of(runs)),
        z=tuple(map(Path, names_of(z))),
        generated=names_of(generated),
        ensemble=ensemble,
        protocol=protocol,
        data=names_of(data),
        domain=names_of(domain),
        target=names_of(target),
        out=path_of(out) or _folder_for(names_of(runs), protocol),
        settings=tree_of(settings, schema, where, seed=seed, efficiencies=efficiencies or None),
        force=force,
    )
    request.check(seed=seed is not None, efficiency=bool(efficiencies))
    check_where(request.settings)
    if protocol is None:
        check_read(request.settings, *EVALUATED)
    if protocol is None and len(request.models) < 2:
        check_new_evaluation(request.folder("evaluation"), request.z, force=force)
    tune_memory()
    return _reported(_evaluate_domains(request)) if protocol == "domain" else _evaluate(request)


def _name_of(runs: Sequence[str]) -> str | None:
    """Return the name of a single model, for the title of a report: of its folder, or where it comes from."""
    from ssl_jets.sharing.location import is_elsewhere

    if len(runs) != 1:
        return None
    return runs[0].partition("#")[0] if is_elsewhere(runs[0]) else run_of(Path(runs[0])).resolve().name


def _folder_for(runs: Sequence[str], protocol: str | None) -> Path | None:
    """Return an output folder for one model from elsewhere, next to which nothing is written; None for a run."""
    from ssl_jets.runtime.atomic import free_folder
    from ssl_jets.sharing.location import is_elsewhere

    if len(runs) != 1 or not is_elsewhere(runs[0]):
        return None
    return free_folder(Path("runs"), protocol or "evaluation")


def _evaluate(request: EvaluateRequest) -> Result:
    """Resolve the settings, with the files of the runs if no data are given, and evaluate."""
    from ssl_jets.config import resolve
    from ssl_jets.evaluation.settings import EvaluateSettings

    remembered = Remembered() if request.data or not request.models else Remembered.of(request.models)
    settings = resolve(EvaluateSettings, {"data": remembered.reading}, request.settings)
    if remembered.sources:
        request = replace(request, data=remembered.sources)
        log(remembered.line())
    elif not request.z:
        log_sample(request.data)
    if request.protocol:
        return _reported(_run_protocol(request, settings))
    if request.generated:
        return _reported(_evaluate_generated(request, settings))
    if len(request.models) > 1:
        return _compare(request, settings)
    return _evaluate_one(request, settings)


def _evaluate_one(request: EvaluateRequest, settings: EvaluateSettings) -> Evaluation:
    """Evaluate a model, z files or scores files."""
    from ssl_jets import report
    from ssl_jets.evaluation.scores import evaluate_scores
    from ssl_jets.evaluation.single_model import evaluate_model
    from ssl_jets.evaluation.zfile import evaluate_z
    from ssl_jets.zfile import read_metadata

    folder, name = request.folder("evaluation"), request.name
    if request.z:
        evaluate_files = evaluate_scores if "scores" in read_metadata(request.z[0]) else evaluate_z
        result = evaluate_files(request.z, folder, settings=settings, force=request.force, log=log)
        run, name = None, some_of([path.name for path in request.z], 3)
    else:
        model, run = request.models[0], run_of(request.models[0])
        result = evaluate_model(model, request.data, folder, settings=settings, force=request.force, log=log)
    log_reports(report.write_evaluation_report(folder, run, name=name))
    return result


def _compare(request: EvaluateRequest, settings: EvaluateSettings) -> Comparison:
    """Compare several models on the same jets."""
    from ssl_jets import report
    from ssl_jets.evaluation.compare import compare_models
    from ssl_jets.runtime.atomic import free_folder

    folder = request.out or free_folder(Path("runs"), "comparison")
    ensemble, force = request.ensemble, request.force
    result = compare_models(
        request.models, request.data, folder, ensemble=ensemble, settings=settings, force=force, log=log
    )
    names = islice(result.evaluations, len(request.models))  # an ensemble, the last, has no run
    runs = dict(zip(names, request.models, strict=True))
    log_reports(report.write_comparison_report(folder, runs))
    return result


def _evaluate_generated(request: EvaluateRequest, settings: EvaluateSettings) -> GeneratedEvaluation:
    """Compare generated with real jets."""
    from ssl_jets.evaluation.generated.compare import evaluate_generated

    return evaluate_generated(
        request.generated,
        request.data,
        request.folder("evaluation"),
        data=settings.data,
        figures=settings.figures,
        seed=settings.evaluate.seed,
        force=request.force,
        log=log,
    )


def _run_protocol(request: EvaluateRequest, settings: EvaluateSettings) -> LabelCurves | AnomalyScan:
    from ssl_jets.protocols.anomaly import anomaly_scan
    from ssl_jets.protocols.labels import label_curves

    folder = _protocol_folder(request)
    if request.protocol == "labels":
        return label_curves(request.models, request.data, folder, settings=settings, log=log)
    return anomaly_scan(request.models, request.data, folder, z=request.z, settings=settings, log=log)


def _protocol_folder(request: EvaluateRequest) -> Path:
    """Return the folder of a protocol, in which a stopped one continues."""
    name = str(request.protocol)
    several = Path("runs") / f"{name}-curves"
    return several if request.out is None and len(request.models) > 1 else request.folder(name)


def _evaluate_domains(request: EvaluateRequest) -> DomainResult:
    """Run the protocol "domain", whose settings differ from an evaluation's."""
    from ssl_jets.config import resolve
    from ssl_jets.protocols.domain import domain_protocol
    from ssl_jets.protocols.settings import DomainRun

    files = {
        "data": {"sources": request.data, "unlabelled": request.domain},
        "protocol": {"target": request.target},
    }
    settings = resolve(DomainRun, request.settings, files)
    one = request.models[0] if len(request.models) == 1 else Path("runs")
    folder = request.out or run_of(one) / "domain"
    return domain_protocol(settings, folder, models=list(request.models), log=log)


def _reported(result: PartResult) -> PartResult:
    """Write the report of a comparison of generated jets or of a protocol."""
    from ssl_jets import report

    log_reports(report.write_result_report(result.folder, type(result)))
    return result


def log_reports(written: Path) -> None:
    """Log the path of a report; a run that contains it shows the same, so its report is written again."""
    from ssl_jets import report

    log(f"report: {written}")
    run = written.parent.parent
    if report.is_run(run):
        log(f"report of the run: {report.write_run_report(run)}")
