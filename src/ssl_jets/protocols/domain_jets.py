"""Jets of the domain protocol: simulation, data without labels, and labelled data only to test on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import open_named
from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.inputs import all_inputs
from ssl_jets.data.request import Request
from ssl_jets.data.seen import Seen, shared
from ssl_jets.data.shared import shared_labels
from ssl_jets.data.skipped import skipped_lines
from ssl_jets.errors import DataError, UsageError
from ssl_jets.evaluation.probes.observables import observable_inputs
from ssl_jets.evaluation.roles import assign_roles, draw
from ssl_jets.jets import Jets

SIMULATION, DATA, TARGET = "simulation", "data", "target"
"""Roles of the input files."""


class DomainJets:
    """Input files of both domains, checked against each other, and their test jets.

    Args:
        data: `sources` are the simulation, `unlabelled` the data.
        target: labelled jets of the data.
        max_jets: most test jets of each domain.

    Raises:
        UsageError: a role has no files, or the labelled data are among the unlabelled.
        DataError: the classes differ.

    Attributes:
        files: by role: `simulation`, `data`, `target`.
        classes: names of the classes, in the order of the simulation.
        files_left_out: files that could not be opened, with the reason.
        skipped: skipped test jets, by reason.
    """

    def __init__(self, data: DataSettings, target: tuple[str, ...], max_jets: int) -> None:
        self.data, self.max_jets = data, max_jets
        self.files_left_out: dict[str, str] = {}
        self.skipped: Counter[str] = Counter()
        self._counted: dict[str, list[EntryRange]] = {}
        inputs = {SIMULATION: data.sources, DATA: data.unlabelled, TARGET: target}
        for (role, sources), option in zip(inputs.items(), ("--data", "--domain", "--target")):
            if not sources:
                hint = "--data SIMULATION --domain DATA --target LABELLED_DATA"
                raise UsageError(f"the domain protocol needs jets of the {role}", where=option, hint=hint)
        self.files: dict[str, list[JetFile]] = {}
        for role, sources in inputs.items():
            self.files[role] = open_named(sources, data, self.files_left_out, labelled=role != DATA)
        self.classes = self._checked_classes()
        self._target = self._draw(TARGET, {})
        self._simulation: dict[Seen, Jets] = {}
        self._observables: dict[Seen, tuple[Array, Array]] = {}

    def simulation(self, training: Mapping[str, Any]) -> tuple[Jets, Array]:
        """Return jets of the simulation that a training has not seen, and their labels as indices into `classes`.

        Args:
            training: facts of the training; empty for random weights.
        """
        seen = Seen.of(training)
        if seen not in self._simulation:
            self._simulation[seen] = self._draw(SIMULATION, training)
        return self._simulation[seen], self._labels(self._simulation[seen], SIMULATION)

    def target(self, training: Mapping[str, Any]) -> tuple[Jets, Array]:
        """Return labelled jets of the data and their labels as indices into `classes`.

        Raises:
            UsageError: the training has seen them.
        """
        seen = Seen.of(training)
        if trained := [file.name for file in self.files[TARGET] if seen.trained(file.identity)]:
            raise UsageError("the model was trained on the jets to test on", where="--target", found=", ".join(trained))
        return self._target, self._labels(self._target, TARGET)

    def observables(self, training: Mapping[str, Any]) -> tuple[Array, Array]:
        """Return observables of the jets of `simulation` and `target`, float64 `[jet, observable]`.

        They are computed from the columns that both have: a missing column would tell the domains apart.
        """
        seen = Seen.of(training)
        if seen not in self._observables:
            sides = self.simulation(training)[0], self._target
            different = set(sides[0].columns) ^ set(sides[1].columns)
            self._observables[seen] = observable_inputs(*(jets.without(different) for jets in sides))
        return self._observables[seen]

    def left_out(self) -> list[str]:
        """Return messages about skipped files and jets."""
        return skipped_lines(self.files_left_out, self.skipped)

    def _checked_classes(self) -> tuple[str, ...]:
        """Return the classes of both domains, in the order of the simulation."""
        if twice := shared(self.files[DATA], self.files[TARGET]):
            raise UsageError(
                "the labelled jets of the other domain are only to test on, and must not be trained on",
                where="--domain, --target",
                found=", ".join(sorted(file.name for file in twice)),
            )
        simulated, measured = shared_labels(self.files[SIMULATION]), shared_labels(self.files[TARGET])
        if not simulated or set(simulated) != set(measured):
            raise DataError(
                "the two domains need labels of the same classes",
                where="--data, --target",
                found=f"{', '.join(simulated) or 'none'} and {', '.join(measured) or 'none'}",
            )
        return simulated

    def _draw(self, role: str, training: Mapping[str, Any]) -> Jets:
        roles = assign_roles(self.files[role], training, self.data)
        # Before any training, the jets of the simulation are the ones that it will hold out.
        parts = roles.test if role == SIMULATION else roles.task
        counted = self._counted.setdefault(role, [])
        columns, context, collections = all_inputs(self.files[role])
        request = Request.of(self.data, columns=columns, context=context, collections=collections)
        return draw(self.files[role], parts, self.max_jets, 0, request, skipped=self.skipped, counted=counted)

    def _labels(self, jets: Jets, role: str) -> Array:
        assert jets.labels is not None
        if unlabelled := [file for file in self.files[role] if not file.label_names]:
            raise DataError("a file to test on has no labels", where=unlabelled[0].source)
        # Files may list their classes in another order: (W, QCD) against (QCD, W) -> [1, 0].
        order = np.array([self.classes.index(name) for name in shared_labels(self.files[role])])
        labels: Array = order[jets.labels.numpy()]
        return labels
