"""The protocol `domain`: pretrain on data without labels, finetune on simulation with labels, measure on both.

For each start (pretrained models, and random weights: supervised training on the simulation alone), each adaptation and
each seed there is one finetuning. It is measured by accuracy and AUC on held-out jets of the simulation and on labelled
jets of the other domain, which no training uses, and by the gap between the two in z, before and after.

Runs and results are kept in the folder: a stopped protocol resumes, within a run too.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ssl_jets.arrays import Array
from ssl_jets.config import RunSettings
from ssl_jets.errors import UsageError
from ssl_jets.evaluation.compare import names_of
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc
from ssl_jets.evaluation.probes.classes import STRENGTHS, TREE_SIZES
from ssl_jets.evaluation.probes.observables import INPUTS
from ssl_jets.finetuning import finetune, resolve_finetune
from ssl_jets.finetuning.adaptation_settings import ADAPTED_Z
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model, load_model
from ssl_jets.nn.encoder import random_like
from ssl_jets.pretraining import pretrain, resolve_pretrain
from ssl_jets.protocols.cache import ResultCache
from ssl_jets.protocols.domain_gap import domain_gap
from ssl_jets.protocols.domain_jets import DomainJets
from ssl_jets.protocols.domain_result import (
    SUPERVISED,
    DomainFinetuning,
    DomainGap,
    DomainResult,
    Performance,
    PretrainedGap,
    summarize,
)
from ssl_jets.protocols.settings import DomainRun
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.console import Log, to_stderr
from ssl_jets.runtime.gpu import default_device
from ssl_jets.runtime.precision import resolve_precision


def domain_protocol(
    settings: DomainRun, out: Path, *, models: Sequence[str | Path] = (), log: Log = to_stderr
) -> DomainResult:
    """Train and measure all that is missing, and write `domain.json`.

    Args:
        settings: input files, and the comparison.
        out: folder of runs, cached results and the result.
        models: pretrained models to start from; by default the methods of `protocol.pretrain` are trained.
        log: called with each message.

    Raises:
        UsageError: files are missing, or test jets are among the training jets.
        DataError: classes differ, or a model was trained on the test jets.
    """
    began, protocol = time.perf_counter(), settings.protocol
    paths = [Path(path) for path in models]
    trainings = _DomainTrainings(settings, out, len(paths), default_device(), log)
    starts = _starts(settings, trainings, paths)
    before = {start.name: trainings.before(start) for start in starts}
    rows = []
    for seed in range(protocol.seeds):  # in the outer loop: a stopped protocol has some of every comparison
        for start in starts:
            rows += [trainings.finetuned(start, adapt, seed) for adapt in protocol.adapt]
    result = DomainResult(
        seconds=round(time.perf_counter() - began, 1),
        classes=trainings.jets.classes,
        settings=settings,
        files={role: [file.name for file in files] for role, files in trainings.jets.files.items()},
        files_left_out=trainings.jets.files_left_out,
        left_out=dict(trainings.jets.skipped),
        summary=summarize(rows),
        before=before,
        rows=rows,
        folder=out,
    )
    result.write()
    for line in trainings.jets.left_out():
        log(line)
    return result


@dataclass(frozen=True)
class _Start:
    """A start of finetunings: a model and the mode of `finetune`; `scratch` takes its architecture alone."""

    name: str
    model: Path
    mode: str


def _starts(settings: DomainRun, trainings: _DomainTrainings, models: Sequence[Path]) -> list[_Start]:
    """Return the pretrained models, and supervised training where it is asked for.

    Raises:
        UsageError: a model has the name of the supervised training.
    """
    protocol = settings.protocol
    pretrained = dict(zip(names_of(models), models, strict=True)) if models else trainings.pretrained()
    starts = [_Start(name, model, protocol.mode) for name, model in pretrained.items()]
    if protocol.supervised:
        if SUPERVISED in pretrained:
            hint = "a run folder of another name, or --set protocol.supervised=false"
            raise UsageError("a model has the name of the training from scratch", found=SUPERVISED, hint=hint)
        starts.append(_Start(SUPERVISED, starts[0].model, "scratch"))
    return starts


class _DomainTrainings:
    """Trainings and measurements of the protocol; each is done once."""

    def __init__(self, run: DomainRun, out: Path, models: int, device: torch.device, log: Log) -> None:
        self.run, self.settings, self.out, self.device = run, run.protocol, out, device
        self.jets = DomainJets(run.data, run.protocol.target, run.protocol.test_jets)
        starts = (models or len(self.settings.pretrain)) + self.settings.supervised
        total = starts * (1 + len(self.settings.adapt) * self.settings.seeds)
        self._files = {role: [file.identity for file in files] for role, files in self.jets.files.items()}
        facts = {"device": self.device.type, "data": run.data.model_dump(mode="json")}
        readers = {"observables": INPUTS, "strengths": STRENGTHS, "trees": TREE_SIZES}
        self.cache = ResultCache(out / "pieces", {"files": self._files, **facts, **readers}, total, log)

    def pretrained(self) -> dict[str, Path]:
        """Pretrain each method on the jets of the data, without their labels; return the run folders."""
        runs = {}
        data = {
            **self.run.data.model_dump(exclude_defaults=True),
            "sources": self.run.data.unlabelled,
            "unlabelled": (),
            "labels": None,
            "weights": None,
        }
        for method in self.settings.pretrain:
            layers = {
                "data": data,
                "model": {"size": self.settings.size},
                "train": {"steps": self.settings.pretrain_steps, **self._precision()},
            }
            settings = resolve_pretrain(method, layers, self.run.pretraining)
            runs[method] = self._trained(method, settings, pretrain, self._files)
        return runs

    def before(self, start: _Start) -> PretrainedGap:
        """Measure the gap between the domains in z before any finetuning."""

        def measure() -> PretrainedGap:
            model = load_model(start.model)
            facts = model.training
            if start.name == SUPERVISED:
                model, facts = replace(model, encoder=random_like(model.encoder, 0)), {}
            return PretrainedGap(gap=_Measurement(self, model, facts).gap())

        return self.cache.get(f"before-{start.name}", self._facts(start.model), measure, PretrainedGap)

    def finetuned(self, start: _Start, adapt: str, seed: int) -> DomainFinetuning:
        """Finetune once, and measure on both domains."""
        name, settings = f"{start.name}-{adapt}-{seed}", self._finetuning(start, adapt, seed)

        def measure() -> DomainFinetuning:
            began = time.perf_counter()
            made_from = [self._files, load_model(start.model).sha256]
            model = load_model(self._trained(name, settings, finetune, made_from))
            measurement = _Measurement(self, model, model.training)
            return DomainFinetuning(
                start=start.name,
                adapt=adapt,
                seed=seed,
                simulation=measurement.performance("simulation"),
                target=measurement.performance("target"),
                gap=measurement.gap(),
                seconds=time.perf_counter() - began,
            )

        facts = self._facts(start.model) | {"settings": settings.model_dump(mode="json")}
        return self.cache.get(name, facts, measure, DomainFinetuning)

    def _finetuning(self, start: _Start, adapt: str, seed: int) -> RunSettings[Any]:
        """Return the settings of a finetuning: all have equal steps, and equal labelled jets in a step."""
        settings, uses_both = self.settings, adapt in ADAPTED_Z
        data = self.run.data.model_dump(exclude_defaults=True)
        if adapt == "none":
            data |= {"unlabelled": ()}
        layers = {
            "data": data,
            "method": {"mode": start.mode, "adapt": adapt, "labels": settings.labels, "subset_seed": seed},
            "train": {
                "steps": settings.steps,
                "batch_size": settings.batch_size * (2 if uses_both else 1),
                "seed": seed,
                "validate_every": settings.steps,
                **self._precision(),
            },
        }
        return resolve_finetune(start.model, layers, self.run.finetuning)

    def _trained(self, name: str, settings: RunSettings[Any], train: Callable[..., Path], made_from: Any) -> Path:
        """Return the finished run of these settings and inputs: an earlier one, a resumed one, or a new one."""
        text = json.dumps([settings.model_dump(mode="json"), made_from], sort_keys=True)
        run, mark = self.out / "runs" / name, self.out / "runs" / f"{name}.sha256"
        digest = hashlib.sha256(text.encode()).hexdigest()
        if not (mark.is_file() and mark.read_text(encoding="utf-8") == digest):
            if run.exists():
                shutil.rmtree(run)
            write_text(mark, digest)
        if not (run / "model" / "config.json").is_file():
            train(settings, run, resume=True)
        return run

    def _precision(self) -> dict[str, Any]:
        """Return an explicit precision: a resumed run must have the settings that it was started with."""
        return {"precision": resolve_precision("auto", self.device)}

    def _facts(self, model: Path) -> dict[str, Any]:
        sha256 = load_model(model).sha256
        return {"model": sha256, "test_jets": self.settings.test_jets, "trees": self.settings.trees}


class _Measurement:
    """One model on the test jets of both domains; z is computed once."""

    def __init__(self, trainings: _DomainTrainings, model: Model, facts: dict[str, Any]) -> None:
        self.model, self.jets, self.trees = model, trainings.jets, trainings.settings.trees
        self.device = trainings.device
        self.sides = {"simulation": self._embed(*self.jets.simulation(facts))}
        self.sides |= {"target": self._embed(*self.jets.target(facts))}
        self.observables = self.jets.observables(facts)

    def _embed(self, jets: Jets, labels: Array) -> tuple[torch.Tensor, Array]:
        return torch.from_numpy(self.model.embed(jets, device=self.device)), labels

    def performance(self, role: str) -> Performance:
        """Measure accuracy and AUC on one domain."""
        head = self.model.head
        assert head is not None
        order = [self.model.labels.index(name) for name in self.jets.classes]
        z, labels = self.sides[role]
        with torch.inference_mode():
            probabilities = head(z)[:, order].double().softmax(1).numpy()
        accuracy, auc = accuracy_and_auc(probabilities, labels)
        return Performance(accuracy=accuracy, auc=auc, jets=len(labels))

    def gap(self) -> DomainGap:
        """Measure the gap between the domains in z."""
        (z_simulation, labels), (z_target, target_labels) = self.sides.values()
        return domain_gap(
            z_simulation.numpy(),
            z_target.numpy(),
            labels,
            target_labels,
            self.jets.classes,
            observables=self.observables,
            trees=self.trees,
        )
