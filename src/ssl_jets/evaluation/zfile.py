"""Evaluation of a z file, of this tool or of any other, without its model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ssl_jets.arrays import Array, some_rows
from ssl_jets.data.skipped import require_jets
from ssl_jets.data.split import every_other_block
from ssl_jets.diagnostics.representation import representation_statistics
from ssl_jets.errors import DataError, UsageError, nearest
from ssl_jets.evaluation.evaluation_data import FEWEST
from ssl_jets.evaluation.headline import headline
from ssl_jets.evaluation.metrics.bootstrap import relative
from ssl_jets.evaluation.probes.classes import Labelled, knn_probe, linear_probe, tree_columns, tree_probe
from ssl_jets.evaluation.probes.physics import Side, physics_probes
from ssl_jets.evaluation.probes.results import PhysicsProbe, ProbeResult
from ssl_jets.evaluation.result import METRICS, TRAINED, Evaluation, ModelFacts, UsedSettings, ZMap
from ssl_jets.evaluation.roles import log_absent_classes
from ssl_jets.evaluation.settings import EvaluateSettings
from ssl_jets.evaluation.ztable import Table, count_leaked, input_files, read_table, trained_rows, unseen_rows
from ssl_jets.runtime.atomic import check_folder
from ssl_jets.runtime.console import Log, MessageLog, to_stderr
from ssl_jets.zfile import ZFile

_KEYS = {"source_file", "source_entry", "source_jet", "label"}


def evaluate_z(
    paths: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    settings: EvaluateSettings = EvaluateSettings(),
    force: bool = False,
    log: Log = to_stderr,
) -> Evaluation:
    """Measure the z of a file, or of several of one model as one table, and write `metrics.json` and `curves.json`.

    With labels: linear, kNN and tree probes of z, and boosted trees where the file keeps jet columns. With kept
    columns: ridge and tree probes of them. Probes are tested on jets that the model was not trained on, if the file
    marks them; otherwise they are fitted on every other block of the entries of each source file and tested on the
    others, so that both have all classes of an ordered file, and jets of one entry are on one side. Always: the spread
    of z. A z file has no random encoder to compare with. Arguments as in `evaluate_model`.

    Raises:
        SslJetsError: no z file, fewer than two jets, only jets that were trained on, or an evaluation that exists.
    """
    began = time.perf_counter()
    out, note, wanted = Path(out), MessageLog(log), settings.evaluate
    check_folder(out, METRICS, force=force)
    paths, rows, table = read_table(paths)
    path = ", ".join(map(str, paths))
    usable = table.finite
    if usable.sum() < 2:
        raise DataError("the z file has fewer than two jets with a finite z", where=path, found=f"{len(table)} rows")
    names = _names(table)
    every = _Roles.of(table, usable, settings, note, path)
    file, roles = every.read(table)
    labels = _labels(file)
    labelled = min(len(np.unique(labels[rows][labels[rows] >= 0])) for rows in (roles.fit, roles.test)) >= 2
    found = _measure(file, labels, roles, settings, labelled=labelled)
    if not labelled:
        names = ()
        note("the z file has no labels of two classes to fit and to test with, so there are no probes of the class")
    else:
        fitted, tested = (labels[rows][labels[rows] >= 0] for rows in (roles.fit, roles.test))
        log_absent_classes(fitted, tested, names, note)
    if wanted.physics_jets and not found.physics:
        note(
            "no physics quantities are read from z: the file keeps no column of one (embed --keep), or has too few jets"
        )
    left_out = {"z is not finite": int((~usable).sum()), "weight 0": int((usable & (every.weights == 0)).sum())}
    for reason, number in left_out.items():
        if number:
            note(f"{number:,} jets are left out: {reason}")
    fit = roles.fit[labels[roles.fit] >= 0]
    shown = roles.test[labels[roles.test] >= 0] if found.probes else roles.unseen
    leaked = count_leaked(shown, roles.trained, note)
    evaluation = Evaluation(
        folder=out,
        model=_model(file),
        files=input_files(paths, rows, every.trained, labelled=bool(found.probes)),
        classes=names,
        jets={"fit": len(fit), "test": len(shown)} if found.probes else {"test": len(shown)},
        leaked=leaked,
        left_out={reason: number for reason, number in left_out.items() if number},
        settings=UsedSettings.of(settings),
        task=None,
        probes=found.probes,
        headline=headline(found.probes),
        physics=found.physics,
        spread={TRAINED: representation_statistics(torch.from_numpy(file.z[shown]))},
        map=ZMap.of(file.z[shown], labels[shown] if names else np.full(len(shown), -1), wanted.seed),
        notes=note.messages,
        seconds=round(time.perf_counter() - began, 2),
    )
    evaluation.write()
    return evaluation


def labelled_sides(
    paths: Sequence[Path], settings: EvaluateSettings, note: MessageLog
) -> tuple[tuple[Labelled, Labelled], tuple[Labelled, Labelled] | None, tuple[str, ...]]:
    """Read z of the labelled jets of files to fit and to test on, the same of their kept jet columns, and the classes.

    Raises:
        SslJetsError: no z file, no labels of two classes, or only jets that were trained on.
    """
    paths, _, table = read_table(paths)
    path = ", ".join(map(str, paths))
    file, roles = _Roles.of(table, table.finite & (_labels(table) >= 0), settings, note, path).read(table)
    labels = _labels(file)
    count_leaked(roles.test, roles.trained, note)
    if min(len(np.unique(labels[rows])) for rows in (roles.fit, roles.test)) < 2:
        raise DataError("the z file has no labels of two classes", where=path)
    fit, test = (Labelled(file.z[rows], labels[rows], roles.weights[rows]) for rows in (roles.fit, roles.test))
    columns = None
    if kept := tree_columns(file.columns):
        x = np.column_stack(list(kept.values()))
        columns = (fit.reading(x[roles.fit]), test.reading(x[roles.test]))
    return (fit, test), columns, _names(table)


def _labels(file: ZFile) -> Array:
    return file.columns.get("label", np.full(len(file), -1))


def _names(file: ZFile) -> tuple[str, ...]:
    return tuple(file.metadata.get("label_names") or (f"class {i}" for i in range(int(_labels(file).max()) + 1)))


@dataclass(frozen=True)
class _Roles:
    """Rows to fit on, to test on, and unseen in training.

    Attributes:
        fit, test, unseen: numbers of rows, all of weight above 0.
        trained: mask of the rows that were trained on, bool `[row]`.
        weights: of all rows, `[row]`.
    """

    fit: Array
    test: Array
    unseen: Array
    trained: Array
    weights: Array

    @classmethod
    def of(cls, file: ZFile, usable: Array, settings: EvaluateSettings, note: MessageLog, path: str) -> _Roles:
        wanted, name, trained = settings.evaluate, settings.data.weights, trained_rows(file)
        weights = weights_of_rows(file, name)
        left_out = {"weight 0": int((usable & (weights == 0)).sum())}
        usable = usable & (weights > 0)
        if name is not None:
            require_jets(int(usable.sum()), "to measure with", where=f"column {name}", left_out=left_out)
        if trained is None:
            note("the z file does not say which of its jets the model was trained on")
            trained = np.zeros(len(file), dtype=bool)
        fit: Array = usable & trained
        if fit.any() and not wanted.seen:
            test = unseen_rows(usable, trained, note, kind="z file", where=path, command="embed")
        else:
            half = _half(file, usable)
            fit, test = usable & half, usable & ~half
        sides = (fit, test, usable if wanted.seen else usable & ~trained)
        limits = (wanted.fit_jets, wanted.test_jets, wanted.test_jets)
        fit, test, unseen = (some_rows(np.flatnonzero(rows), most, wanted.seed) for rows, most in zip(sides, limits))
        return cls(fit, test, unseen, trained, weights)

    def read(self, table: Table) -> tuple[ZFile, _Roles]:
        """Read the rows that have a role, and return them with their roles, as numbers among them."""
        rows = np.unique(np.concatenate([self.fit, self.test, self.unseen]))
        fit, test, unseen = (np.searchsorted(rows, of_role) for of_role in (self.fit, self.test, self.unseen))
        return table.some(rows), _Roles(fit, test, unseen, self.trained[rows], self.weights[rows])


@dataclass(frozen=True)
class _Found:
    probes: list[ProbeResult]
    physics: list[PhysicsProbe]


def _measure(file: ZFile, labels: Array, roles: _Roles, settings: EvaluateSettings, *, labelled: bool) -> _Found:
    """Fit and score probes of the class, if jets are labelled, and of the kept columns."""
    weights = roles.weights
    most, seed = settings.evaluate.physics_jets, settings.evaluate.seed
    sides, probes = [roles.fit, roles.test], list[ProbeResult]()
    if labelled:
        sides = [rows[labels[rows] >= 0] for rows in sides]
        fit, test = (Labelled(file.z[rows], labels[rows], weights[rows]) for rows in sides)
        probes = [linear_probe(fit, test, seed=seed), knn_probe(fit, test, seed=seed)]
        if most:
            probes.append(tree_probe(fit.first(most, seed), test, of="z", seed=seed))
        if columns := tree_columns(file.columns):
            x = np.column_stack(list(columns.values()))
            probes.append(tree_probe(*(side.reading(x[rows]) for side, rows in zip((fit, test), sides)), seed=seed))
    kept = _kept(file)
    if not most or not kept or any(len(rows) < fewest for rows, fewest in zip(sides, FEWEST)):
        return _Found(probes, [])
    few = [some_rows(rows, most, seed) for rows in sides]
    quantities = [Side({name: values[rows] for name, values in kept.items()}, weights[rows]) for rows in few]
    z_fit, z_test = (file.z[rows] for rows in few)
    return _Found(probes, physics_probes(z_fit, z_test, *quantities, seed=seed))


def _kept(file: ZFile) -> Mapping[str, Array]:
    """Return the columns of numbers other than keys, and ratios of N-subjettiness, float64 `[row]` each.

    `jet_eta` becomes |eta|: deta is multiplied by its sign, which no column of particles has.
    """
    columns = {
        name: values.astype(np.float64)
        for name, values in file.columns.items()
        if name not in _KEYS and values.dtype.kind in "iuf" and values.ndim == 1
    }
    if "jet_eta" in columns:
        columns["|eta|"] = np.abs(columns.pop("jet_eta"))
    ratios = {name: values for name, values in tree_columns(file.columns).items() if name.startswith("tau")}
    return columns | ratios


def weights_of_rows(file: ZFile, name: str | None) -> Array:
    if name is None:
        return np.ones(len(file))
    if name not in file.columns:
        allowed = nearest(name, file.columns)
        raise UsageError("the z file has no such column", where="data.weights", found=name, allowed=allowed)
    weights: Array = file.columns[name].astype(np.float64)
    if len(wrong := np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))):
        raise DataError(
            "the weights of jets must be finite and not negative",
            where=f"column {name}, row {wrong[0]}",
            found=f"{weights[wrong[0]]:g}; {len(wrong):,} of {len(weights):,} rows",
            hint=f"keep another column: `jets: {{weight: {{formula: abs({name})}}}}` in a schema, and --keep weight",
        )
    return relative(weights)


def _half(file: ZFile, usable: Array) -> Array:
    """Return a mask of usable rows in every other block of the entries of each source file, bool `[row]`."""
    source = file.columns.get("source_file", np.zeros(len(file), dtype=np.int64))
    entry = file.columns.get("source_entry", np.arange(len(file)))
    half = np.zeros(len(file), dtype=bool)
    half[usable] = every_other_block(source[usable], entry[usable])
    return half


def _model(file: ZFile) -> ModelFacts:
    method = file.metadata.get("method", "unknown")
    return ModelFacts(sha256=file.metadata.get("model_sha256", ""), method=method, dim=file.z.shape[1])
