"""The jets of an evaluation: chosen so that no model has been trained on them, read once, the same for every model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from ssl_jets.arrays import Array
from ssl_jets.data.dataset import open_named
from ssl_jets.data.files import EntryRange, JetFile, count
from ssl_jets.data.inputs import joint_requests
from ssl_jets.data.profile import find_suspicions
from ssl_jets.data.request import CollectionRequest, Request
from ssl_jets.data.schemas.check import like_labels
from ssl_jets.data.seen import Seen, copies_of, joint_training, stages
from ssl_jets.data.shared import shared_labels
from ssl_jets.data.skipped import skipped_files, skipped_jets
from ssl_jets.data.split import every_other_block
from ssl_jets.data.subset import rows_of_labels
from ssl_jets.embedding.encoding import columns_to_encode, log_far_from_training
from ssl_jets.errors import DataError
from ssl_jets.evaluation.metrics.bootstrap import relative
from ssl_jets.evaluation.probes.classes import MULTIPLICITY, TREE_COLUMNS, Labelled, tree_columns
from ssl_jets.evaluation.roles import LEFT_OUT, Roles, assign_roles, draw, log_absent_classes, only_class, repeated_jets
from ssl_jets.evaluation.settings import EvaluateSettings
from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.model_file import Model
from ssl_jets.nn.regression import columns_of
from ssl_jets.nn.tasks import weights_of
from ssl_jets.runtime.console import MessageLog

KINEMATICS = ("jet_pt", "jet_eta")
"""Jet columns in whose bins bias and resolution of a regressed column are shown, if the files have them."""

FEWEST = (50, 10)
"""Jets below which no physics quantity is fitted, and tested."""


@dataclass
class EvaluationData:
    """Jets of an evaluation, in memory.

    Attributes:
        files: input files.
        named: names of the classes of the labels; empty where the files have none.
        roles: use of each entry.
        settings: seeds, limits, weights.
        note: logs a message and keeps it.
        columns: particle columns and features that any encoder reads; `Model.embed` selects its own.
        context, collections: context and elements that any encoder can read.
        targets: regressed columns of the models, whose true values are read.
        particle_labels: targets of particles of the models, whose labels are read.
        skipped: jets left out that cannot be used or read, or have weight 0, by reason; each jet once.
        files_left_out: files that could not be opened, with the reason.
        counted: entries whose jets left out are in `skipped`.
    """

    files: list[JetFile]
    named: tuple[str, ...]
    roles: Roles
    settings: EvaluateSettings
    note: MessageLog
    columns: tuple[str, ...] | None = None
    context: tuple[str, ...] = ()
    collections: tuple[CollectionRequest, ...] = ()
    targets: tuple[str, ...] = ()
    particle_labels: tuple[str, ...] = ()
    skipped: Counter[str] = field(default_factory=Counter)
    files_left_out: dict[str, str] = field(default_factory=dict)
    counted: list[EntryRange] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        models: Sequence[Model],
        sources: Sequence[str],
        settings: EvaluateSettings,
        note: MessageLog,
        also: Sequence[Mapping[str, Any]] = (),
    ) -> EvaluationData:
        """Choose the jets of `sources` that no model was trained on; by default the bundled sample.

        `also` are facts of further trainings, those to come, whose jets are not tested on either, and whose columns are
        read, too.

        Raises:
            SslJetsError: no jets, none that all models have not seen, classes that differ from a head's.
        """
        lost: dict[str, str] = {}
        found = open_named(sources, settings.data, lost)
        training = joint_training([*(model.training for model in models), *also])
        for line in (*skipped_files(lost), *copies_of(found), *find_suspicions(found), *Seen.of(training).notes(found)):
            note(line)
        files, classes = _labelled_files(found, note)
        headed = [model for model in models if model.head is not None]
        for model in headed if classes else ():
            _check_classes(model.labels, classes)
        roles = assign_roles(files, training, settings.data, seen=settings.evaluate.seen)
        trained = "the protocol trains" if also else "the model was trained"
        _note_roles(roles, files, settings.data.validation_fraction, bool(headed), note, trained=trained)
        known = [columns_to_encode(model, files, note) for model in models]
        log_far_from_training(models, files, settings.data.where, note)
        names = dict.fromkeys(name for one in (*known, *(facts.get("columns", ()) for facts in also)) for name in one)
        columns = (*(name for name in COLUMNS if name in names), *(name for name in names if name not in COLUMNS))
        # Also those that no model was trained with yet, for later finetuning.
        context = tuple(dict.fromkeys(name for model in models for name in model.encoder.cfg.context))
        elements = joint_requests(model.encoder.cfg.collections for model in models)
        regressed = (name for model in models if model.regressor is not None for name in model.regressor.names)
        labels = (target.name for model in models if model.particles is not None for target in model.particles.targets)
        read = (columns, context, elements, tuple(dict.fromkeys(regressed)), tuple(dict.fromkeys(labels)))
        return cls(files, classes, roles, settings, note, *read, files_left_out=lost)

    @cached_property
    def fit(self) -> Jets:
        """Jets to fit probes on."""
        return self._read(self.roles.fit, self.settings.evaluate.fit_jets)

    @cached_property
    def test(self) -> Jets:
        """Jets to test probes on."""
        return self._read(self.roles.test if self.named else self.roles.task, self.settings.evaluate.test_jets)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """`named`; empty, with a message, if the jets to fit or to test on are all of one class."""
        if not self.named:
            return ()
        y_test, y_fit = labels_of(self.test), labels_of(self.fit)
        if alone := only_class(y_fit, y_test, self.named):
            self.note(f"{alone}, so nothing of classes is measured: {LEFT_OUT}")
            return ()
        log_absent_classes(y_fit, y_test, self.named, self.note)
        if twice := repeated_jets(self.fit, self.test):
            self.note(twice)
        return self.named

    def with_labels_of(self, model: Model) -> Array | None:
        """Choose rows of `fit` as labelled as the head of a model was, so that readers of them compare with it.

        They are the jets that the head was trained on where `fit` has all jets of its training, else as many others.
        None where the number is not known, or no smaller than for `fit`.
        """
        labels = labelled_jets(model)
        if model.head is None or labels is None or labels >= len(self.fit):
            return None
        assert self.fit.source is not None
        seed = model.facts["training"].get("labelled_seed") or 0
        return rows_of_labels(self.files, self.fit.source.numpy(), labels_of(self.fit), labels, seed)

    @cached_property
    def probed(self) -> Jets:
        """Jets to test probes of physics quantities on, none of which is in `fit`; `test` where there are classes."""
        return self.test if self.classes else self._read(self.roles.test, self.settings.evaluate.physics_jets)

    @cached_property
    def has_physics(self) -> bool:
        """True with enough jets for probes of physics quantities; logs a message with too few."""
        if not self.settings.evaluate.physics_jets:
            return False
        fit, test = count(self.roles.fit), count(self.roles.test)
        if fit >= FEWEST[0] and test >= FEWEST[1]:
            return True
        self.note(
            f"there are too few jets for probes of physics quantities: {fit} to fit and {test} to test, "
            f"where {FEWEST[0]} and {FEWEST[1]} are needed"
        )
        return False

    def need_classes(self, who: str) -> None:
        """Refuse jets of fewer than two classes.

        Raises:
            DataError: there are no labels, or only one class among the jets to fit or to test on.
        """
        if not self.classes:
            hint = "name files of the other classes too: --data FILE --data FILE"
            raise DataError(f"{who} needs jets of two classes or more", hint=hint)

    @cached_property
    def task(self) -> Jets:
        """Jets to test heads on: `test` itself where they are the same."""
        if self.roles.task == self.roles.test or not self.classes:
            return self.test
        return self._read(self.roles.task, self.settings.evaluate.test_jets)

    @property
    def seed(self) -> int:
        return self.settings.evaluate.seed

    def weights(self, jets: Jets) -> Array:
        """Return the weights of jets of mean 1, float64 `[jet]`; all 1 without a weight column."""
        return relative(weights_of(jets).numpy().astype(np.float64))

    def labelled(self, jets: Jets, x: Array) -> Labelled:
        """Return `x` `[jet, column]` with the labels and weights of its jets."""
        return Labelled(x, labels_of(jets), self.weights(jets))

    def _read(self, parts: list[EntryRange], most: int) -> Jets:
        """Read at most `most` random jets of the parts, none of weight 0."""
        there = set.intersection(*(set(file.jet_columns) for file in self.files))
        needed = columns_of(name for name in self.targets if set(columns_of([name])) <= there)
        columns = dict.fromkeys((*(name for name in (*TREE_COLUMNS, *KINEMATICS) if name in there), *needed))
        inputs: Any = {"columns": self.columns, "context": self.context, "collections": self.collections}
        request = Request.of(self.settings.data, tuple(columns), **inputs, weighted=True)
        request = replace(request, particle_labels=self.particle_labels)
        skipped: Counter[str] = Counter()
        jets = draw(self.files, parts, most, self.seed, request, self.settings.data.workers, skipped, self.counted)
        if skipped:
            self.note(skipped_jets(skipped))
            self.skipped += skipped
        return jets


def labelled_jets(model: Model) -> int | None:
    """Return how many labelled jets a model was trained on, in its finetuning or before; None where it is not known."""
    found = [facts.get("labelled_jets") for facts in stages(model.training)]
    return max((number for number in found if number is not None), default=None)


def labels_of(jets: Jets) -> Array:
    """Return the labels, int64 `[jet]`."""
    assert jets.labels is not None
    labels: Array = jets.labels.numpy()
    return labels


def halves_of(jets: Jets) -> Array:
    """Return a mask of half of the entries of each file, bool `[jet]`."""
    assert jets.source is not None
    source = jets.source.numpy()
    return every_other_block(source[:, 0], source[:, 1])


def tree_inputs(jets: Jets) -> Array:
    """Return the columns of the boosted trees, float64 `[jet, column]`."""
    columns = {name: values.numpy() for name, values in jets.jet.items()}
    return np.column_stack(list(tree_columns({**columns, MULTIPLICITY: jets.lengths.numpy()}).values()))


def subset(jets: Jets, rows: Array) -> Jets:
    """Select the jets of `rows`, int64 `[selected jet]`."""
    return jets if len(rows) == len(jets) else jets.select(torch.from_numpy(rows))


def _labelled_files(files: list[JetFile], note: MessageLog) -> tuple[list[JetFile], tuple[str, ...]]:
    """Return the files with labels and their classes; all files and no classes without any labels."""
    labelled = [file for file in files if file.label_names]
    if not labelled:
        note(f"the files have no labels, so nothing of classes is measured: {LEFT_OUT}")
        if hint := like_labels(column for file in files for column in file.jet_columns):
            note(hint)
        return files, ()
    if len(labelled) < len(files):
        note(f"{len(files) - len(labelled)} of {len(files)} files have no labels and are left out")
    return labelled, shared_labels(labelled)


def _check_classes(head: tuple[str, ...], files: tuple[str, ...]) -> None:
    if set(head) != set(files):
        raise DataError(
            "the classes of the model's head are not those of the files",
            found=f"in the files {', '.join(files)}",
            allowed=head,
            hint="--set data.labels=[...] names the label columns to use",
        )


def _note_roles(
    roles: Roles, files: Sequence[JetFile], fraction: float, headed: bool, note: MessageLog, *, trained: str
) -> None:
    if roles.leaked:
        note(
            f"WARNING: as asked for (evaluate.seen), the model was trained on {roles.leaked:,} of the "
            f"{count(roles.task):,} jets: these numbers say how well it remembers, not how well it does"
        )
        return
    held = [part for part in roles.test if not roles.new[part.file]]
    if not all(roles.new):
        note(
            f"{trained} on {len(files) - sum(roles.new)} of the {len(files)} files: "
            f"of these only the {count(held):,} jets held out from it are test jets"
        )
    if any(roles.new):
        jets = sum(file.entries for file, new in zip(files, roles.new) if new)
        text = f"{sum(roles.new)} of the {len(files)} files are new to the model"
        if headed:
            text += f": any of their {jets:,} jets can test its head"
        tested = count(roles.test) - count(held)
        text += f"; {tested:,} of their {jets:,} jets can test the probes, the others fit them"
        note(f"{text} (data.validation_fraction={fraction:g})")
