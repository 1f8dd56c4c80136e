"""Run and evaluation folders, as training and evaluation write them."""

import json
from pathlib import Path

import numpy as np
import torch

from ssl_jets.diagnostics.representation import representation_statistics
from ssl_jets.evaluation.headline import headline
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.metrics.classification import classification_metrics
from ssl_jets.evaluation.metrics.regression import regression_metrics
from ssl_jets.evaluation.probes.classes import Labelled, knn_probe, linear_probe
from ssl_jets.evaluation.probes.results import OBSERVABLES, PhysicsProbe, RobustnessCurve
from ssl_jets.evaluation.result import Evaluation, InputFile, ZMap
from ssl_jets.protocols.domain_result import (
    DomainFinetuning,
    DomainGap,
    DomainResult,
    Gap,
    Performance,
    PretrainedGap,
    summarize,
)
from ssl_jets.protocols.labels_result import LabelCurves, LabelPoint, UsedLabelSettings
from ssl_jets.protocols.settings import DomainRun, DomainSettings

NAMES = ("QCD", "Hbb", "Wqq", "my <class> & $co$")


def physics_probe(quantity: str, reader: str, of: str) -> PhysicsProbe:
    """Numbers that differ for each."""
    value = 0.2 + 0.1 * (quantity == "mass") + 0.2 * (reader == "ridge") + 0.3 * (of == "z")
    explained = Estimate(value, value - 0.011, value + 0.012, value - 0.023, value + 0.024)
    return PhysicsProbe(quantity, "GeV", reader, of, 300, 400, explained)


def stressed(name: str, strengths: tuple[float, ...], unit: str = "share of the particles") -> RobustnessCurve:
    """An accuracy that falls."""
    values = [0.8 - 0.1 * strength for strength in strengths]
    points = [Estimate(value, value - 0.01, value + 0.02, value - 0.03, value + 0.04) for value in values]
    return RobustnessCurve(name, unit, 0.0, strengths, points, points, 0.31)


def write_evaluation(
    folder: Path, *, labelled: bool = True, head: bool = True, skill: float = 2.0, full: bool = False, leaked: int = 0
) -> Path:
    """With `full` also what takes longest to draw: regression, physics quantities, changed jets."""
    rng = np.random.default_rng(0)
    y_fit, y = rng.integers(0, 4, 300), rng.integers(0, 4, 400)
    z_fit, z = (rng.normal(size=(len(labels), 6)) + skill * np.eye(4, 6)[labels] for labels in (y_fit, y))
    random_fit, random = rng.normal(size=z_fit.shape), rng.normal(size=z.shape)
    exponent = np.exp(2 * z[:, :4])
    task = classification_metrics(exponent / exponent.sum(1, keepdims=True), y, NAMES, resamples=40) if head else None
    of = "z of random weights"
    true = rng.normal(100, 20, 400)
    regressed = 0.9 * true + rng.normal(0, 5, 400)
    probes = [
        linear_probe(Labelled.of(z_fit, y_fit), Labelled.of(z, y)),
        knn_probe(Labelled.of(z_fit, y_fit), Labelled.of(z, y)),
        linear_probe(Labelled.of(random_fit, y_fit), Labelled.of(random, y), of=of),
        linear_probe(Labelled.of(random_fit[:, :2], y_fit), Labelled.of(random[:, :2], y), of=OBSERVABLES),
    ]
    probes = probes if labelled else []
    Evaluation(
        folder=folder,
        model={"sha256": "ab" * 32, "method": "mae", "dim": 6},
        files=[InputFile("jets <1>.root", 1234567, 700, True, labelled)],
        classes=NAMES if labelled else (),
        jets={"fit": 300, "test": 400} if labelled else {"test": 400},
        left_out={},
        leaked=leaked,
        settings={"seed": 0, "robust_jets": 2000},
        task=task if labelled else None,
        probes=probes,
        headline=headline(probes),
        against_observables=headline(probes, (OBSERVABLES,)),
        spread={
            "z": representation_statistics(torch.from_numpy(z)),
            of: representation_statistics(torch.from_numpy(random)),
        },
        map=ZMap.of(z, y if labelled else np.full(400, -1)),
        regression=[regression_metrics(regressed, true, "mass", {"jet_pt": 5 * true}, resamples=40)] if full else [],
        physics=[*map(physics_probe, ("mass", "tau21", "mass"), ("ridge", "boosted trees", "ridge"), ("z", "z", of))]
        if full
        else [],
        robustness=[stressed("lost particles", (0.0, 0.2, 0.5)), stressed("no track columns", (0.0, 1.0), "removed")]
        if full
        else [],
        notes=["only held-out jets are <tested>"],
    ).write()
    return folder


def write_comparison(folder: Path, models: list[str]) -> Path:
    """Two or more evaluations side by side, without differences."""
    for name in models:
        write_evaluation(folder / name)
    made = {"versions": {}, "package_version": "0.1.0", "date": "2026-11-25T00:00:00"}
    found = {"models": models, "differences": [], "cka": [], "notes": [], **made}
    (folder / "comparison.json").write_text(json.dumps(found))
    return folder


def write_domain(folder: Path, *, target: float = 0.6125) -> Path:
    """Write the result of a domain protocol, of one start with and without an adaptation, two seeds each."""

    def estimate(value: float) -> Estimate:
        return Estimate(value, value - 0.01, value + 0.01, value - 0.02, value + 0.02)

    def performance(accuracy: float) -> Performance:
        return Performance(accuracy=estimate(accuracy), auc=estimate(0.5), jets=100)

    gap = Gap(jets=100, a_distance=estimate(0.3), auc=estimate(0.55), trees=None)
    both = DomainGap(all=gap, floor=gap, by_class={})
    rows = [
        DomainFinetuning(
            start="mae",
            adapt=adapt,
            seed=seed,
            simulation=performance(0.75),
            target=performance(target + (seed - 0.5) * 0.01 * 2**0.5),  # a standard deviation of 0.01
            gap=both,
            seconds=1.0,
        )
        for adapt in ("none", "dann")
        for seed in (0, 1)
    ]
    DomainResult(
        seconds=4.0,
        classes=NAMES,
        settings=DomainRun(protocol=DomainSettings(seeds=2)),
        files={"simulation": ["a.root"]},
        files_left_out={},
        left_out={},
        summary=summarize(rows),
        before={"mae": PretrainedGap(gap=both)},
        rows=rows,
        folder=folder,
    ).write()
    return folder


def write_labels(folder: Path) -> Path:
    """Write label curves of one model with two points."""
    points = [
        LabelPoint(
            curve="mae full",
            share=share,
            labels=round(1000 * share),
            seeds=[],
            accuracy=share,
            accuracy_std=0.01,
            auc=0.9,
            auc_std=0.01,
        )
        for share in (0.1, 0.7321)
    ]
    LabelCurves(
        models={},
        files=[],
        data={},
        classes=NAMES,
        settings=UsedLabelSettings(seeds=2, batch_size=128, steps=10),
        test_jets=400,
        largest_class=0.31,
        curves=["mae full"],
        points=points,
        folder=folder,
    ).write()
    return folder


def write_run(folder: Path, *, finished: bool = True) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        "data: {sources: [a.root]}\nmethod: {name: mae, ratio: 0.4}\ntrain: {steps: 100}\n"
    )
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(10, 101, 10):
            line = {
                "step": step,
                "kind": "train",
                "loss": 2 - step / 100,
                "kind_loss": 0.5,
                "accuracy": 0.25,
                "lr": 1e-3,
            }
            more = {"grad_norm": 1.0, "jets_per_second": 900.0, "data_wait": 0.0, "epoch": 0.1, "seconds": step / 5}
            file.write(json.dumps(line | more) + "\n")
            if step % 50 == 0:
                held = {
                    "step": step,
                    "kind": "validation",
                    "loss": 2.1 - step / 100,
                    "probe_accuracy": 0.4,
                    "rankme": 5.5,
                    "z_variation": 0.2,
                    "z_participation_ratio": 3.0,
                }
                file.write(json.dumps(held | {"z_std": None}) + "\n")
            if step == 20:
                check = {"step": step, "kind": "check", "rankme": 1.1, "z_variation": 1e-4, "collapse": ["constant"]}
                file.write(json.dumps(check) + "\n")
        file.write('{"step": 110, "kind": "tr')
    if finished:
        config = {
            "format_version": 1,
            "package_version": "0.1.0",
            "method": "mae",
            "encoder": {"settings": {"size": "tiny", "registers": 8}, "dim": 64},
            "head": None,
            "parameters": 212096,
            "features": [{"name": "log_pt", "unit": "ln GeV", "mean": 0.512345, "std": 1.2}],
            "labels": [],
            "training": {
                "files": [["a.root", 100], ["b.root", 200]],
                "steps": 100,
                "held_out": [["a.root", 100, 0, 9]],
            },
            "weights_sha256": "cd" * 32,
        }
        (folder / "model").mkdir()
        (folder / "model" / "config.json").write_text(json.dumps(config))
    return folder
