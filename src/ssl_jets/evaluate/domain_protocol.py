"""The domain protocol: pretrain on data without labels, finetune on simulation with labels, measure on both.

For each start (pretrained models, and a random one: supervised learning on the simulation alone), each adaptation and
each seed, one finetuning. Of each are measured accuracy and AUC on jets of the simulation that were held out and on
labelled jets of the other domain, which nothing is trained on; and the gap between the two in z, before and after.

Runs and results are kept in the folder: a protocol that is stopped goes on where it was, within a run too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from ssl_jets.config import DataSettings, RunSettings, Settings, read_config
from ssl_jets.data.files import JetFile, open_files, shared_labels
from ssl_jets.data.sources import resolve_sources
from ssl_jets.data.stream import Request
from ssl_jets.embed import embed_jets
from ssl_jets.errors import DataError, UsageError
from ssl_jets.evaluate.domain_gap import domain_gap
from ssl_jets.evaluate.domain_result import SUPERVISED, DomainResult
from ssl_jets.evaluate.estimate import Array
from ssl_jets.evaluate.of_model import Say, to_stderr
from ssl_jets.evaluate.pieces import Pieces
from ssl_jets.evaluate.selection import assign_roles, draw
from ssl_jets.evaluate.task import accuracy_and_auc
from ssl_jets.finetune import finetune, resolve_finetune
from ssl_jets.finetune.settings import ADAPTED_Z
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model, load_model
from ssl_jets.nn.encoder import Encoder, random_like
from ssl_jets.precision import resolve_precision
from ssl_jets.pretrain import pretrain, resolve_pretrain


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
    mode: Literal["last", "lora", "full"] = "full"
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
    method: dict[str, Any] = Field(default={})
    """Further settings of every finetuning."""
    train: dict[str, Any] = Field(default={})
    """Further settings of every finetuning."""


def domain_protocol(
    settings: DomainRun, out: Path, *, models: Sequence[Path] = (), say: Say = to_stderr
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
    starts = {model.resolve().name: model for model in models} or work.pretrained()
    modes: dict[str, str] = dict.fromkeys(starts, protocol.mode)
    if protocol.supervised:
        starts[SUPERVISED], modes[SUPERVISED] = next(iter(starts.values())), "scratch"
    before = {start: work.before(start, model) for start, model in starts.items()}
    rows = [
        work.row(start, starts[start], mode, adapt, seed)
        for start, mode in modes.items()
        for adapt in protocol.adapt
        for seed in range(protocol.seeds)
    ]
    result = DomainResult(
        folder=out,
        classes=work.classes,
        settings=settings.model_dump(mode="json"),
        files={name: [file.name for file in files] for name, files in work.files.items()},
        before=before,
        rows=rows,
        seconds=time.perf_counter() - began,
    )
    result.write()
    return result


class _Protocol:
    """Opens the files, trains, and measures; every piece once."""

    def __init__(self, settings: DomainRun, out: Path, models: int, say: Say) -> None:
        self.run, self.settings, self.data, self.out = settings, settings.protocol, settings.data, out
        self.files = self._opened()
        self.classes = self._checked()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        starts = (models or len(self.settings.pretrain)) + self.settings.supervised
        made_from = {"files": {name: [file.identity for file in files] for name, files in self.files.items()}}
        total = starts * (1 + len(self.settings.adapt) * self.settings.seeds)
        self.pieces = Pieces(out / "pieces", made_from | {"device": str(self.device)}, total, say)
        self.target_jets = self._draw("target", {})
        self._tests: dict[str, Jets] = {}

    def _opened(self) -> dict[str, list[JetFile]]:
        """The files of the three roles."""
        given = {"simulation": self.data.sources, "data": self.data.unlabelled, "target": self.settings.target}
        for (name, sources), option in zip(given.items(), ("--data", "--domain", "--target")):
            if not sources:
                raise UsageError(
                    f"the domain protocol needs jets of the {name}",
                    where=option,
                    hint="--data SIMULATION --domain DATA --target LABELLED_DATA",
                )
        labels = {"simulation": self.data.labels, "data": None, "target": self.data.labels}
        return {name: open_files(resolve_sources(sources), labels[name]) for name, sources in given.items()}

    def pretrained(self) -> dict[str, Path]:
        """A run of each method on the jets of the domain, whose labels, if any, no method sees."""
        runs = {}
        for method in self.settings.pretrain:
            layers = {
                "data": {"sources": self.data.unlabelled, "bad_jets": self.data.bad_jets},
                "model": {"size": self.settings.size},
                "train": {"steps": self.settings.pretrain_steps, **self._precision()},
            }
            runs[method] = self._run(method, resolve_pretrain(method, layers), pretrain)
        return runs

    def before(self, start: str, model: Path) -> dict[str, Any]:
        """The gap between the domains in z, before any finetuning."""

        def make() -> dict[str, Any]:
            loaded = load_model(model)
            encoder = random_like(loaded.encoder, 0) if start == SUPERVISED else loaded.encoder
            facts = {} if start == SUPERVISED else loaded.facts["training"]
            return {"gap": self._gap(encoder, self._source(facts), self._target(facts))}

        return self.pieces.get(f"before-{start}", self._facts(model), make)

    def row(self, start: str, model: Path, mode: str, adapt: str, seed: int) -> dict[str, Any]:
        """One finetuning, measured on both domains."""
        settings = self._finetuning(model, mode, adapt, seed)

        def make() -> dict[str, Any]:
            began = time.perf_counter()
            tuned = load_model(self._run(f"{start}-{adapt}-{seed}", settings, finetune))
            facts = tuned.facts["training"]
            source, target = self._source(facts), self._target(facts)
            return {
                "start": start,
                "adapt": adapt,
                "seed": seed,
                "simulation": self._measured(tuned, source, seed),
                "target": self._measured(tuned, target, seed),
                "gap": self._gap(tuned.encoder, source, target),
                "seconds": time.perf_counter() - began,
            }

        facts = self._facts(model) | {"settings": settings.model_dump(mode="json")}
        return self.pieces.get(f"{start}-{adapt}-{seed}", facts, make)

    def _finetuning(self, model: Path, mode: str, adapt: str, seed: int) -> RunSettings[Any]:
        """Every finetuning has the same number of labelled jets in a step, and the same number of steps."""
        settings, both = self.settings, adapt in ADAPTED_Z
        data: dict[str, Any] = {"sources": self.data.sources, "bad_jets": self.data.bad_jets}
        data |= {} if self.data.labels is None else {"labels": self.data.labels}
        data |= {} if adapt == "none" else {"unlabelled": self.data.unlabelled}
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
        further = {"method": self.run.method, "train": self.run.train}
        return resolve_finetune(model, ours, further)

    def _run(self, name: str, settings: RunSettings[Any], train: Callable[..., Path]) -> Path:
        """The finished run of these settings: found, taken up where it stopped, or made."""
        run = self.out / "runs" / name
        stored = run / "config.yaml"
        same = stored.is_file() and read_config(stored) == settings.model_dump(mode="json")
        if not (same and (run / "model" / "config.json").is_file()):
            train(settings, run, resume=same, force=not same)
        return run

    def _precision(self) -> dict[str, Any]:
        """Said outright, so that the settings of a run are those it was begun with."""
        return {"precision": resolve_precision("auto", self.device)}

    def _facts(self, model: Path) -> dict[str, Any]:
        chosen = ("test_jets", "trees")
        return {"model": load_model(model).sha256, **{name: getattr(self.settings, name) for name in chosen}}

    def _checked(self) -> tuple[str, ...]:
        """The classes, where the files go together."""
        twice = {file.identity for file in self.files["data"]} & {file.identity for file in self.files["target"]}
        if twice:
            raise UsageError(
                "the labelled jets of the other domain are only to test on, and must not be trained on",
                where="--domain, --target",
                found=", ".join(sorted(name for name, _ in twice)),
            )
        ours, theirs = (shared_labels(self.files[name]) for name in ("simulation", "target"))
        if not ours or set(ours) != set(theirs):
            raise DataError(
                "the two domains need labels of the same classes",
                where="--data, --target",
                found=f"{', '.join(ours) or 'none'} and {', '.join(theirs) or 'none'}",
            )
        return ours

    def _source(self, training: Mapping[str, Any]) -> Jets:
        """Jets of the simulation that the model has not seen."""
        key = str(training.get("held_out"))
        if key not in self._tests:
            self._tests[key] = self._draw("simulation", training)
        return self._tests[key]

    def _target(self, training: Mapping[str, Any]) -> Jets:
        """Labelled jets of the other domain, none of which any training has seen."""
        seen = {(str(name), int(size)) for name, size in training.get("files", [])}
        if trained := [file.name for file in self.files["target"] if file.identity in seen]:
            raise DataError("the model was trained on the jets to test on", where="--target", found=", ".join(trained))
        return self.target_jets

    def _draw(self, which: str, training: Mapping[str, Any]) -> Jets:
        files = self.files[which]
        parts = assign_roles(files, training, self.data).task
        if which == "simulation" and not training:
            parts = assign_roles(files, training, self.data).test
        return draw(files, parts, self.settings.test_jets, 0, Request(jet_columns=(), bad_jets=self.data.bad_jets))

    def _gap(self, encoder: Encoder, source: Jets, target: Jets) -> Any:
        z, other = (embed_jets(encoder, jets, device=self.device).numpy() for jets in (source, target))
        labels, others = self._labels(source, "simulation"), self._labels(target, "target")
        return domain_gap(z, other, labels, others, self.classes, trees=self.settings.trees)

    def _measured(self, model: Model, jets: Jets, seed: int) -> dict[str, Any]:
        """Accuracy and AUC of the model's head."""
        assert model.head is not None
        with torch.inference_mode():
            logits = model.head.cpu()(embed_jets(model.encoder, jets, device=self.device)).double()
        order = [model.labels.index(name) for name in self.classes]
        which = "target" if jets is self.target_jets else "simulation"
        accuracy, auc = accuracy_and_auc(logits[:, order].softmax(1).numpy(), self._labels(jets, which))
        return {"accuracy": accuracy, "auc": auc, "jets": len(jets)}

    def _labels(self, jets: Jets, which: str) -> Array:
        """Indices into `classes`."""
        assert jets.labels is not None
        names = shared_labels(self.files[which])
        order = np.array([self.classes.index(name) for name in names])
        found: Array = order[jets.labels.numpy()]
        return found
