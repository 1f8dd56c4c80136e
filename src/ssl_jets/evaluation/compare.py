"""Compare several models on the same jets, and measure them together as an ensemble.

No model is tested on jets that any of them was trained on. All are measured on the same jets and bootstrap resamples,
so the interval of a difference is smaller than the intervals of its two terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from ssl_jets.arrays import Array, some_rows
from ssl_jets.diagnostics.representation import representation_statistics
from ssl_jets.errors import UsageError
from ssl_jets.evaluation.baselines import Baselines
from ssl_jets.evaluation.comparison import Comparison, Difference, Similarity
from ssl_jets.evaluation.evaluation_data import EvaluationData, labels_of
from ssl_jets.evaluation.metrics.bootstrap import Bootstrap, Estimate, effective
from ssl_jets.evaluation.metrics.cka import cka
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc_rows, smallest_class
from ssl_jets.evaluation.result import TRAINED, Evaluation, ModelFacts, ZMap
from ssl_jets.evaluation.settings import EvaluateSettings
from ssl_jets.evaluation.single_model import Measured, head_metrics, measure, regressed_metrics
from ssl_jets.model_file import load_model
from ssl_jets.runtime.atomic import check_folder
from ssl_jets.runtime.console import Log, MessageLog, to_stderr
from ssl_jets.runtime.gpu import default_device

ENSEMBLE = "ensemble"
CKA_JETS = 5000
"""Most jets that CKA is computed on."""


def compare_models(
    paths: Sequence[str | Path],
    sources: Sequence[str],
    out: str | Path,
    *,
    ensemble: bool = False,
    settings: EvaluateSettings = EvaluateSettings(),
    device: str | None = None,
    force: bool = False,
    log: Log = to_stderr,
) -> Comparison:
    """Measure several models on the same jets and write `comparison.json`, with an evaluation of each in a folder.

    With `ensemble` also measure the mean of their predictions. Other arguments as in `evaluate_model`.

    Raises:
        SslJetsError: as `evaluate_model`; an ensemble of models without a head, or of different regressed columns.
    """
    out = Path(out)
    check_folder(out, f"{Comparison.NAME}.json", force=force)
    names = names_of([Path(path) for path in paths])
    models = {name: load_model(path) for name, path in zip(names, paths, strict=True)}
    if ensemble:
        _check_members({name: model.head is not None or model.regressor is not None for name, model in models.items()})
    note = MessageLog(log)
    data = EvaluationData.of(list(models.values()), sources, settings, note)
    where = default_device(device)
    baselines, measured = Baselines(data, where), {}
    for name, model in models.items():
        log(f"measuring {name}")
        measured[name] = measure(model, data, baselines, out / name, where)
    evaluations = {name: found.evaluation for name, found in measured.items()}
    if ensemble:
        evaluations[ENSEMBLE] = _ensemble(measured, data, out / ENSEMBLE)
    collapsed = [
        f"z of {name} has collapsed: {verdict.text}" for name, one in evaluations.items() for verdict in one.collapse
    ]
    comparison = Comparison(
        models=tuple(evaluations),
        differences=differences(measured, data),
        cka=_similarities(measured, data),
        notes=[*note.messages, *collapsed],
        evaluations=evaluations,
        folder=out,
    )
    comparison.write()
    return comparison


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return a name for each run: its folder, with as many folders above as make the names differ.

    Raises:
        UsageError: a run that is named twice.
    """
    folders = [path.resolve() for path in paths]
    folders = [folder.parent if folder.name == "model" else folder for folder in folders]
    for folder in folders:
        if folders.count(folder) > 1:
            raise UsageError("a run is named twice", where=folder)
    for depth in range(1, max(len(folder.parts) for folder in folders) + 1):
        names = ["-".join(folder.parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names) and ENSEMBLE not in names:
            return names
    raise UsageError("the runs have no names that tell them apart", found=", ".join(map(str, paths)))


def differences(measured: Mapping[str, Measured], data: EvaluationData) -> list[Difference]:
    """Return the differences of each two models: of their heads, and of linear probes of their z."""
    result = []
    for of in ("head", "linear probe"):
        rows, jets_of_all, jets_of_smallest = {}, 0.0, 0.0
        for name, one in measured.items():
            probabilities, jets = (one.headed, data.task) if of == "head" else (one.probed, data.test)
            if probabilities is not None:
                bootstrap = Bootstrap(len(jets), seed=data.seed, weights=data.weights(jets))
                rows[name] = accuracy_and_auc_rows(probabilities, labels_of(jets), bootstrap)
                jets_of_all = effective(bootstrap.weights)
                jets_of_smallest = smallest_class(labels_of(jets), bootstrap.weights)
        for first, second in combinations(rows, 2):
            (right, area), (other_right, other_area) = rows[first], rows[second]
            accuracy = Estimate.of_difference(other_right - right, jets_of_all)
            auc = Estimate.of_area_difference(area, other_area, jets_of_smallest)
            result.append(Difference(first, second, of, accuracy, auc))
    return result


def _similarities(measured: Mapping[str, Measured], data: EvaluationData) -> list[Similarity]:
    rows = some_rows(len(data.test), CKA_JETS, data.seed)
    z = {name: one.z[rows] for name, one in measured.items()}
    weights = data.weights(data.test)[rows]
    return [
        Similarity(first, second, cka(z[first], z[second], weights=weights, seed=data.seed))
        for first, second in combinations(measured, 2)
    ]


def _check_members(has_head: Mapping[str, bool]) -> None:
    if without := [name for name, has in has_head.items() if not has]:
        raise UsageError(
            "an ensemble is made of models with a head",
            where="--ensemble",
            found=f"{', '.join(without)} without",
            hint="ssl-jets finetune makes one; without --ensemble models of any kind are compared",
        )


def _ensemble(measured: Mapping[str, Measured], data: EvaluationData, out: Path) -> Evaluation:
    """Evaluate the mean of the probabilities and of the regressed columns; z of all members are concatenated."""
    members = list(measured.values())
    z = np.concatenate([_unit(one.z) for one in members], axis=1)
    headed = [one.headed for one in members if one.headed is not None]
    values = [one.regressed for one in members if one.regressed is not None]
    same = len({one.targets for one in members}) == 1
    if values and not same:
        data.note("the models regress different columns, so their ensemble regresses none")
    first = members[0].evaluation
    labels = labels_of(data.test) if data.classes else np.full(len(z), -1)
    return Evaluation(
        folder=out,
        model=ModelFacts(
            sha256="",
            method=f"{ENSEMBLE} of {len(members)}",
            head=len(headed) == len(members),
            dim=z.shape[1],
            members={name: one.evaluation.model for name, one in measured.items()},
        ),
        files=first.files,
        classes=first.classes,
        jets={purpose: jets for purpose, jets in first.jets.items() if purpose != "fit"},
        left_out=first.left_out,
        files_left_out=first.files_left_out,
        leaked=first.leaked,
        settings=first.settings,
        task=head_metrics(np.mean(headed, axis=0), data) if len(headed) == len(members) else None,
        probes=[],
        regression=regressed_metrics(np.mean(values, axis=0), members[0].targets, data) if values and same else [],
        spread={TRAINED: representation_statistics(torch.from_numpy(z))},
        map=ZMap.of(z, labels, data.seed),
        notes=list(data.note.messages),
    )


def _unit(z: Array) -> Array:
    """Scale z to a total variance of one, so that no member outweighs the others."""
    size = float(np.sqrt(z.var(axis=0, dtype=np.float64).sum()))
    unit: Array = (z / size if size > 0 else z).astype(np.float32)
    return unit
