"""Evaluate a z file, without the model that made it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_jets.errors import DataError
from ssl_jets.evaluate.estimate import Array
from ssl_jets.evaluate.evaluation import Evaluation, InputFile, ZMap, check_folder
from ssl_jets.evaluate.probes import Probe, knn_probe, linear_probe, tree_columns, tree_probe
from ssl_jets.nn.spread import spread
from ssl_jets.progress import Say, to_stderr
from ssl_jets.zfile import ZFile, read_z


def evaluate_z(
    path: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    max_fit_jets: int = 20_000,
    max_test_jets: int = 50_000,
    force: bool = False,
    say: Say = to_stderr,
) -> Evaluation:
    """Measure the z of a file and write `metrics.json` and `curves.json`.

    With labels: linear and kNN probes of z, and boosted trees where the file keeps jet columns. Probes are fitted on
    one half of the entries of each source file and tested on the other, cut at one place so that two jets of one event
    are not on both sides. Always: the spread of z. A z file has no random encoder to compare with, and does not say on
    which jets its model was trained.

    Args:
        path: the z file.
        out, seed, max_fit_jets, max_test_jets, force, say: as `evaluate_model`.

    Raises:
        SslJetsError: no z file, fewer than two jets, or an evaluation that exists.
    """
    began = time.perf_counter()
    path, out = Path(path), Path(out)
    check_folder(out, force=force)
    file = read_z(path)
    usable = np.isfinite(file.z).all(axis=1)
    if usable.sum() < 2:
        raise DataError("the z file has fewer than two jets with a finite z", where=path, found=f"{len(file)} rows")
    labels = file.columns.get("label", np.full(len(file), -1))
    names = tuple(file.metadata.get("label_names") or (f"class {i}" for i in range(int(labels.max()) + 1)))
    fit, test = _halves(file, usable & (labels >= 0), seed, max_fit_jets, max_test_jets)
    notes = ["the z file does not say which of its jets the model was trained on"]
    probes: list[Probe] = []
    if min(len(np.unique(labels[rows])) for rows in (fit, test)) >= 2:
        probes = _probes(file, labels, fit, test, seed)
    else:
        names = ()
        notes = ["the z file has no labels of two classes, so only the spread of z is measured: probes need labels"]
        test = np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(usable))[:max_test_jets])
    if not usable.all():
        notes.append(f"{(~usable).sum():,} jets without a finite z are left out")
    for note in notes:
        say(note)
    evaluation = Evaluation(
        folder=out,
        model={
            "sha256": file.metadata.get("model_sha256", ""),
            "method": file.metadata.get("method", "unknown"),
            "dim": file.z.shape[1],
        },
        files=[InputFile(path.name, path.stat().st_size, len(file), False, bool(probes))],
        classes=names,
        jets={"fit": len(fit), "test": len(test)} if probes else {"test": len(test)},
        left_out={"z is not finite": int((~usable).sum())} if not usable.all() else {},
        settings={"seed": seed, "max_fit_jets": max_fit_jets, "max_test_jets": max_test_jets},
        task=None,
        probes=probes,
        spread={"z": spread(torch.from_numpy(file.z[test]))},
        map=ZMap.of(file.z[test], labels[test], seed),
        notes=notes,
        seconds=time.perf_counter() - began,
    )
    evaluation.write()
    return evaluation


def _probes(file: ZFile, labels: Array, fit: Array, test: Array, seed: int) -> list[Probe]:
    sides: tuple[Any, ...] = (file.z[fit], labels[fit], file.z[test], labels[test])
    probes = [linear_probe(*sides, seed=seed), knn_probe(*sides, seed=seed)]
    columns = tree_columns(file.columns)
    if columns:
        x = np.column_stack(list(columns.values()))
        probes.append(tree_probe(x[fit], labels[fit], x[test], labels[test], seed=seed))
    return probes


def _halves(file: ZFile, usable: Array, seed: int, max_fit: int, max_test: int) -> tuple[Array, Array]:
    """Random rows to fit on, of the first half of the entries of each source file, and to test on, of the second."""
    source = file.columns.get("source_file", np.zeros(len(file), dtype=np.int64))
    entry = file.columns.get("source_entry", np.arange(len(file)))
    first = np.zeros(len(file), dtype=bool)
    for index in np.unique(source):
        inside = (source == index) & usable
        if inside.any():
            first |= inside & (entry < np.median(entry[inside]))
    rng = np.random.default_rng(seed)
    fit, test = (rng.permutation(np.flatnonzero(rows)) for rows in (first, usable & ~first))
    return np.sort(fit[:max_fit]), np.sort(test[:max_test])
