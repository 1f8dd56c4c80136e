"""The domain protocol: pretrain on data without labels, finetune on simulation with labels, measure on both.

For each start (pretrained models, and a random one: supervised learning on the simulation alone), each adaptation and
each seed, one finetuning. Of each are measured accuracy and AUC on jets of the simulation that were held out and on
labelled jets of the other domain, which nothing is trained on; and the gap between the two in z, before and after.

Runs and results are kept in the folder: a protocol that is stopped goes on where it was, within a run too.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from ssl_jets.arrays import Array
from ssl_jets.config import DataSettings, RunSettings, Settings
from ssl_jets.embedding.encoding import embed_jets
from ssl_jets.errors import UsageError
from ssl_jets.evaluation.compare import names_of
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc
from ssl_jets.evaluation.settings import FigureSettings
from ssl_jets.finetuning import finetune, resolve_finetune
from ssl_jets.finetuning.settings import ADAPTED_Z
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model, load_model
from ssl_jets.nn.encoder import random_like
from ssl_jets.pretraining import pretrain, resolve_pretrain
from ssl_jets.protocols.cache import ResultCache
from ssl_jets.protocols.domain_gap import domain_gap
from ssl_jets.protocols.domain_jets import DomainJets
from ssl_jets.protocols.domain_result import SUPERVISED, DomainResult
from ssl_jets.runtime.atomic import write_text
from ssl_jets.runtime.console import Log, to_stderr
from ssl_jets.runtime.precision import resolve_precision


class DomainSettings(Settings):
    """What the domain protocol compares (`protocol.*`)."""

    pretrain: tuple[str, ...] = Field(default=("mae",), min_length=1)
    """Methods to pretrain on the jets of the domain, without labels, where no model is given."""
    size: str = "small"
    """`model.size` of these."""
    pretrain_steps: int = Field(default=2000, ge=1)
    """Steps of these."""
    adapt: tuple[Literal["none", "dann", "coral", "mmd", "reweight"], ...] = Field(
        default=("none", "dann", "coral"), min_length=1
    )
    """Adaptations to compare."""
    supervised: bool = True
    """Whether to start from random weights as well: supervised learning on the simulation alone."""
    seeds: int = Field(default=3, ge=1)
    """Finetunings of each: other subsets of labels, heads, batches."""
    mode: Literal["last-blocks", "lora", "full"] = "full"
    """How a pretrained model is finetuned."""
    labels: float | None = Field(default=None, gt=0)
    """Labelled jets of the simulation: a share (at most 1.0) or a number; all by default."""
    steps: int = Field(default=500, ge=1)
    """Steps of each finetuning."""
    batch_size: int = Field(default=128, ge=1)
    """Labelled jets of a step; adaptations that look at both domains have as many unlabelled ones beside them."""
    test_jets: int = Field(default=10_000, ge=100)
    """Most jets of each domain to measure on."""
    target: tuple[str, ...] = ()
    """Labelled jets of the other domain, only to test on; `--target` sets it."""
    trees: bool = False
    """Whether boosted trees look for the gap in z as well; a linear classifier always does."""


class DomainRun(Settings):
    """Everything the protocol is made from.

    `data.sources` are the labelled jets of the simulation, of which a part is held out and tested on, `data.unlabelled`
    the jets of the other domain.
    """

    protocol: DomainSettings = DomainSettings()
    data: DataSettings = DataSettings()
    figures: FigureSettings = FigureSettings()
    pretraining: dict[str, Any] = Field(default={})
    """Further settings of every pretraining: `pretraining.train.lr`."""
    finetuning: dict[str, Any] = Field(default={})
    """Further settings of every finetuning: `finetuning.method.coral.weight`."""


def domain_protocol(
    settings: DomainRun, out: Path, *, models: Sequence[Path] = (), say: Log = to_stderr
) -> DomainResult:
    """Run what is not there yet, and write `domain.json`.

    Args:
        settings: files, and what is compared.
        out: folder of runs, pieces and the result.
        models: pretrained models to start from; without any, those of `protocol.pretrain` are made.
        say: called with each message.

    Raises:
        UsageError: files are missing, or jets to test on are to be trained on.
        DataError: classes differ, or a model was trained on the jets to test on.
    """
    began, protocol = time.perf_counter(), settings.protocol
    work = _Protocol(settings, out, len(models), say)
    starts = dict(zip(names_of(models), models, strict=True)) if models else work.pretrained()
    modes: dict[str, str] = dict.fromkeys(starts, protocol.mode)
    if protocol.supervised:
        if SUPERVISED in starts:
            hint = "a run folder of another name, or --set protocol.supervised=false"
            raise UsageError("a model has the name of the training from scratch", found=SUPERVISED, hint=hint)
        starts[SUPERVISED], modes[SUPERVISED] = next(iter(starts.values())), "scratch"
    before = {start: work.before(start, model) for start, model in starts.items()}
    # Seed by seed, so that one that is stopped has something of everything.
    rows = [
        work.row(start, starts[start], mode, adapt, seed)
        for seed in range(protocol.seeds)
        for start, mode in modes.items()
        for adapt in protocol.adapt
    ]
    result = DomainResult(
        folder=out,
        classes=work.jets.classes,
        settings=settings.model_dump(mode="json"),
        files={name: [file.name for file in files] for name, files in work.jets.files.items()},
        files_left_out=work.jets.files_left_out,
        left_out=dict(work.jets.skipped),
        before=before,
        rows=rows,
        seconds=time.perf_counter() - began,
    )
    result.write()
    for line in work.jets.left_out():
        say(line)
    return result


class _Protocol:
    """Trains and measures; every piece once."""

    def __init__(self, run: DomainRun, out: Path, models: int, say: Log) -> None:
        self.run, self.settings, self.out = run, run.protocol, out
        self.jets = DomainJets(run.data, run.protocol.target, run.protocol.test_jets)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        starts = (models or len(self.settings.pretrain)) + self.settings.supervised
        total = starts * (1 + len(self.settings.adapt) * self.settings.seeds)
        self._files = {role: [file.identity for file in files] for role, files in self.jets.files.items()}
        made_from = {"files": self._files, "device": self.device.type, "data": run.data.model_dump(mode="json")}
        self.pieces = ResultCache(out / "pieces", made_from, total, say)

    def pretrained(self) -> dict[str, Path]:
        """A run of each method on the jets of the data, whose labels, if any, no method sees."""
        runs, given = {}, self.run.data
        data = {
            **given.model_dump(exclude_defaults=True),
            "sources": given.unlabelled,
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

    def before(self, start: str, model: Path) -> dict[str, Any]:
        """The gap between the domains in z, before any finetuning."""

        def make() -> dict[str, Any]:
            loaded = load_model(model)
            facts = loaded.facts["training"]
            if start == SUPERVISED:
                loaded, facts = Model(random_like(loaded.encoder, 0)), {}
            return {"gap": _Measurement(self, loaded, facts).gap()}

        return self.pieces.get(f"before-{start}", self._facts(model), make)

    def row(self, start: str, model: Path, mode: str, adapt: str, seed: int) -> dict[str, Any]:
        """One finetuning, measured on both domains."""
        name, settings = f"{start}-{adapt}-{seed}", self._finetuning(model, mode, adapt, seed)

        def make() -> dict[str, Any]:
            began = time.perf_counter()
            tuned = load_model(self._trained(name, settings, finetune, [self._files, load_model(model).sha256]))
            measured = _Measurement(self, tuned, tuned.facts["training"])
            found = {"start": start, "adapt": adapt, "seed": seed, **measured.performance(), "gap": measured.gap()}
            return found | {"seconds": time.perf_counter() - began}

        facts = self._facts(model) | {"settings": settings.model_dump(mode="json")}
        return self.pieces.get(name, facts, make)

    def _finetuning(self, model: Path, mode: str, adapt: str, seed: int) -> RunSettings[Any]:
        """Every finetuning has the same number of labelled jets in a step, and the same number of steps."""
        settings, both = self.settings, adapt in ADAPTED_Z
        data = self.run.data.model_dump(exclude_defaults=True)
        if adapt == "none":
            data["unlabelled"] = ()
        ours = {
            "data": data,
            "method": {"mode": mode, "adapt": adapt, "labels": settings.labels, "subset_seed": seed},
            "train": {
                "steps": settings.steps,
                "batch_size": settings.batch_size * (2 if both else 1),
                "seed": seed,
                "validate_every": settings.steps,
                **self._precision(),
            },
        }
        return resolve_finetune(model, ours, self.run.finetuning)

    def _trained(self, name: str, settings: RunSettings[Any], train: Callable[..., Path], made_from: Any) -> Path:
        """The finished run of these settings and inputs: found, taken up where it stopped, or made."""
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
        """Said outright, so that the settings of a run are those it was begun with."""
        return {"precision": resolve_precision("auto", self.device)}

    def _facts(self, model: Path) -> dict[str, Any]:
        chosen = {name: getattr(self.settings, name) for name in ("test_jets", "trees")}
        return {"model": load_model(model).sha256, **chosen}


class _Measurement:
    """One model on the jets of both domains; z is computed once."""

    def __init__(self, work: _Protocol, model: Model, training: dict[str, Any]) -> None:
        self.work, self.model = work, model
        self.sides = {"simulation": self._side(*work.jets.simulation(training))}
        self.sides["target"] = self._side(*work.jets.target(training))

    def _side(self, jets: Jets, labels: Array) -> tuple[torch.Tensor, Array]:
        return embed_jets(self.model.encoder, jets, device=self.work.device), labels

    def performance(self) -> dict[str, Any]:
        """Accuracy, AUC and number of jets of each domain."""
        head, classes = self.model.head, self.work.jets.classes
        assert head is not None
        order, found = [self.model.labels.index(name) for name in classes], {}
        for role, (z, labels) in self.sides.items():
            with torch.inference_mode():
                probabilities = head(z)[:, order].double().softmax(1).numpy()
            accuracy, auc = accuracy_and_auc(probabilities, labels)
            found[role] = {"accuracy": accuracy, "auc": auc, "jets": len(labels)}
        return found

    def gap(self) -> Any:
        """The gap between the domains in z."""
        (z, labels), (other, others) = self.sides["simulation"], self.sides["target"]
        trees = self.work.settings.trees
        return domain_gap(z.numpy(), other.numpy(), labels, others, self.work.jets.classes, trees=trees)
