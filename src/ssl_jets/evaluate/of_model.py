"""Evaluate a trained model on files of jets."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssl_jets.config import DataSettings
from ssl_jets.data.files import JetFile, count, open_files, shared_labels
from ssl_jets.data.sources import resolve_sources, sample_sources
from ssl_jets.data.stream import Request
from ssl_jets.errors import DataError
from ssl_jets.evaluate.collapse import spreads
from ssl_jets.evaluate.estimate import Array
from ssl_jets.evaluate.evaluation import Evaluation, InputFile, ZMap, check_folder
from ssl_jets.evaluate.probes import PARTICLES, TREE_COLUMNS, knn_probe, linear_probe, tree_columns, tree_probe
from ssl_jets.evaluate.selection import Roles, assign_roles, draw
from ssl_jets.evaluate.task import TaskMetrics, classify_metrics
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model, load_model
from ssl_jets.nn.encoder import Encoder, random_like
from ssl_jets.precision import autocast, native_precision

BATCH = 512
"""Jets of one forward pass."""

_DATA = DataSettings()

Say = Callable[[str], None]


def to_stderr(message: str) -> None:
    """One line on stderr."""
    print(message, file=sys.stderr, flush=True)


def evaluate_model(
    model_path: str | Path,
    sources: Sequence[str],
    out: str | Path,
    *,
    data: DataSettings = _DATA,
    seed: int = 0,
    max_fit_jets: int = 20_000,
    max_test_jets: int = 50_000,
    device: str | None = None,
    force: bool = False,
    say: Say = to_stderr,
) -> Evaluation:
    """Measure a model and write `metrics.json` and `curves.json`.

    With labels: linear and kNN probes of z, the same of an encoder of random weights, and boosted trees on jet columns;
    for a model with a head, the metrics of its classification. Always: the spread of z, and whether it has collapsed.
    Of files the model was trained on, only the jets held out from the training are test jets.

    Args:
        model_path: a run folder, or its `model/`.
        sources: files, folders, patterns, lists (see `resolve_sources`); none means the bundled sample.
        out: folder to write to.
        data: labels, bad jets, and the split of files the model was not trained on.
        seed: of the choice of jets, the random encoder, the trees and the bootstrap.
        max_fit_jets: most jets the probes are fitted on.
        max_test_jets: most jets anything is measured on.
        device: torch device; by default the GPU if there is one.
        force: replace an evaluation.
        say: called with each message.

    Raises:
        SslJetsError: no model, no jets, classes that are not those of the head, or an evaluation that exists.
    """
    began = time.perf_counter()
    check_folder(Path(out), force=force)
    model = load_model(model_path)
    tell = _Notes(say)
    opened = open_files(resolve_sources(sources) if sources else sample_sources(), data.labels, data.format, data.jets)
    files, classes = _labelled_files(opened, tell)
    if model.head is not None and classes:
        _check_classes(model.labels, classes)
    roles = assign_roles(files, model.facts.get("training", {}), data)
    _tell_roles(roles, files, model, tell)
    work = _Work(model, files, data, seed, torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    limits = (max_fit_jets, max_test_jets)
    found = work.labelled(roles, classes, *limits) if classes else work.unlabelled(roles, max_test_jets)
    for verdict in found["collapse"]:
        tell(f"z has collapsed: {verdict.text}")
    if work.skipped:
        tell(f"{work.skipped.total()} bad jets are left out")
    evaluation = Evaluation(
        folder=Path(out),
        model=_facts(model),
        files=[
            InputFile(file.name, file.bytes, file.entries, trained, bool(file.label_names))
            for file, trained in zip(files, roles.trained)
        ],
        classes=classes,
        left_out=dict(work.skipped),
        settings={
            "seed": seed,
            "max_fit_jets": max_fit_jets,
            "max_test_jets": max_test_jets,
            "validation_fraction": data.validation_fraction,
            "split_seed": data.split_seed,
            "precision": work.precision,
            "device": work.device.type,
        },
        notes=tell.said,
        seconds=time.perf_counter() - began,
        **found,
    )
    evaluation.write()
    return evaluation


class _Notes:
    """Says a message and keeps it."""

    def __init__(self, say: Say) -> None:
        self.say, self.said = say, list[str]()

    def __call__(self, message: str) -> None:
        self.said.append(message)
        self.say(message)


@dataclass
class _Work:
    """Reads and encodes jets for one evaluation."""

    model: Model
    files: list[JetFile]
    data: DataSettings
    seed: int
    device: torch.device

    def __post_init__(self) -> None:
        self.precision = native_precision(self.device)
        self.skipped: Counter[str] = Counter()
        self.random = random_like(self.model.encoder, self.seed)
        there = set.intersection(*(set(file.jet_columns) for file in self.files))
        self.request = Request(tuple(name for name in TREE_COLUMNS if name in there), self.data.bad_jets)

    def read(self, parts: list[Any], most: int) -> Jets:
        """At most `most` random jets of the parts."""
        return draw(self.files, parts, most, self.seed, self.request, self.data.workers, self.skipped)

    def encode(self, encoder: Encoder, jets: Jets) -> Array:
        """z, float32 `[jet, D]`."""
        return encode(encoder, jets, self.device)

    def spreads(self, jets: Jets, z: Array, random: Array) -> dict[str, Any]:
        """The spread of z of model and random weights, and whether z has collapsed."""
        pairs = (self.model.encoder, z), (self.random, random)
        return spreads(self.encode, jets, *pairs, labels=self.model.head is not None)

    def unlabelled(self, roles: Roles, max_test_jets: int) -> dict[str, Any]:
        """What can be said without labels."""
        jets = self.read(roles.task, max_test_jets)
        z = self.encode(self.model.encoder, jets)
        random = self.encode(self.random, jets)
        return {
            "jets": {"test": len(jets)},
            "task": None,
            "probes": [],
            **self.spreads(jets, z, random),
            "map": ZMap.of(z, np.full(len(z), -1), self.seed),
        }

    def labelled(self, roles: Roles, classes: tuple[str, ...], max_fit_jets: int, max_test_jets: int) -> dict[str, Any]:
        """Task metrics, probes and baselines."""
        fit, test = self.read(roles.fit, max_fit_jets), self.read(roles.test, max_test_jets)
        y_fit, y_test = _labels(fit), _labels(test)
        _check_present(y_fit, y_test, classes)
        encoder, random = self.model.encoder, self.random
        z_fit, z_test = self.encode(encoder, fit), self.encode(encoder, test)
        random_fit, random_test = self.encode(random, fit), self.encode(random, test)
        x_fit, x_test = _tree_inputs(fit), _tree_inputs(test)
        of_random = "z of random weights"
        probes = [
            linear_probe(z_fit, y_fit, z_test, y_test, seed=self.seed),
            knn_probe(z_fit, y_fit, z_test, y_test, seed=self.seed),
            linear_probe(random_fit, y_fit, random_test, y_test, of=of_random, seed=self.seed),
            knn_probe(random_fit, y_fit, random_test, y_test, of=of_random, seed=self.seed),
            tree_probe(x_fit, y_fit, x_test, y_test, seed=self.seed),
        ]
        jets = {"fit": len(fit), "test": len(test)}
        task = None
        if self.model.head is not None:
            task_jets = test if roles.task == roles.test else self.read(roles.task, max_test_jets)
            z = z_test if task_jets is test else self.encode(encoder, task_jets)
            task = self.head_metrics(z, _labels(task_jets), classes)
            jets["task"] = len(task_jets)
        return {
            "jets": jets,
            "task": task,
            "probes": probes,
            **self.spreads(test, z_test, random_test),
            "map": ZMap.of(z_test, y_test, self.seed),
        }

    def head_metrics(self, z: Array, labels: Array, classes: tuple[str, ...]) -> TaskMetrics:
        """Of the model's own head; its classes are brought into the order of the files."""
        head = self.model.head
        assert head is not None
        with torch.inference_mode():
            logits = torch.cat([head(rows) for rows in torch.split(torch.from_numpy(z), BATCH)]).double()
        probabilities = logits[:, [self.model.labels.index(name) for name in classes]].softmax(dim=1).numpy()
        return classify_metrics(probabilities, labels, classes, seed=self.seed)


@torch.inference_mode()
def encode(encoder: Encoder, jets: Jets, device: torch.device) -> Array:
    """z of jets in memory, float32 `[jet, D]`, in the precision of the device."""
    encoder = encoder.to(device).eval()
    z = []
    with autocast(device, native_precision(device)):
        for rows in torch.split(torch.arange(len(jets)), BATCH):
            z.append(encoder(jets.select(rows).to(device)).z.float().cpu())
    result: Array = torch.cat(z).numpy()
    return result


def _labelled_files(files: list[JetFile], tell: _Notes) -> tuple[list[JetFile], tuple[str, ...]]:
    """The files with labels and their classes; all files and no classes where none has labels."""
    labelled = [file for file in files if file.label_names]
    if not labelled:
        tell("the files have no labels, so only the spread of z is measured: probes and task metrics need labels")
        return files, ()
    if len(labelled) < len(files):
        tell(f"{len(files) - len(labelled)} of {len(files)} files have no labels and are left out")
    return labelled, shared_labels(labelled)


def _check_classes(head: tuple[str, ...], files: tuple[str, ...]) -> None:
    if set(head) != set(files):
        raise DataError(
            "the classes of the model's head are not those of the files",
            found=f"in the files {', '.join(files)}",
            allowed=head,
            hint="--set data.labels=[...] names the label columns to use",
        )


def _check_present(y_fit: Array, y_test: Array, classes: tuple[str, ...]) -> None:
    for labels, purpose in ((y_fit, "fit"), (y_test, "test")):
        present = np.unique(labels)
        if len(present) < 2:
            raise DataError(
                f"the jets to {purpose} probes with are all of one class",
                found=", ".join(classes[label] for label in present),
                allowed=["two classes or more"],
                hint="name files of the other classes too: --data FILE --data FILE",
            )


def _tell_roles(roles: Roles, files: Sequence[JetFile], model: Model, tell: _Notes) -> None:
    held = [part for part in roles.test if not roles.new[part.file]]
    if not all(roles.new):
        tell(
            f"the training of the model knew {len(files) - sum(roles.new)} of the {len(files)} files: "
            f"of these only the {count(held):,} jets held out from it are test jets"
        )
    if any(roles.new):
        jets = sum(file.entries for file, new in zip(files, roles.new) if new)
        text = f"{sum(roles.new)} of the {len(files)} files are new to the model"
        if model.head is not None:
            text += f": all their {jets:,} jets test its head"
        tell(
            text + f"; {count(roles.test) - count(held):,} of their {jets:,} jets test the probes, the others fit them"
        )


def _tree_inputs(jets: Jets) -> Array:
    """Columns of the boosted trees, float64 `[jet, column]`."""
    columns = {name: values.numpy() for name, values in jets.jet.items()}
    return np.column_stack(list(tree_columns({**columns, PARTICLES: jets.lengths.numpy()}).values()))


def _labels(jets: Jets) -> Array:
    assert jets.labels is not None
    labels: Array = jets.labels.numpy()
    return labels


def _facts(model: Model) -> dict[str, Any]:
    return {
        "sha256": model.sha256,
        "method": model.method,
        "parameters": model.parameters,
        "dim": model.encoder.dim,
        "encoder": model.encoder.cfg.model_dump(mode="json"),
        "head": model.head is not None,
    }
