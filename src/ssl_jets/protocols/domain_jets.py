"""The jets of the domain protocol: of the simulation, of the data without labels, and labelled ones only to test on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from ssl_jets.arrays import Array
from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import open_named
from ssl_jets.data.files import EntryRange, shared_labels
from ssl_jets.data.loading.stream import Request
from ssl_jets.data.seen import Seen, shared
from ssl_jets.data.skipped import skipped_lines
from ssl_jets.errors import DataError, UsageError
from ssl_jets.evaluation.roles import assign_roles, draw
from ssl_jets.jets import Jets


class DomainJets:
    """Opens the files, checks that they go together, and draws jets to test on.

    Args:
        data: `sources` are the simulation, `unlabelled` the data.
        target: labelled jets of the data.
        most: most jets of each domain to test on.

    Raises:
        UsageError: a role has no files, or the labelled data are among the unlabelled.
        DataError: the classes differ.

    Attributes:
        files: by role: `simulation`, `data`, `target`.
        classes: names of the classes, in the order of the simulation.
        files_left_out: files that could not be opened, with the reason.
        skipped: jets left out of those to test on, by reason.
    """

    def __init__(self, data: DataSettings, target: tuple[str, ...], most: int) -> None:
        self.data, self.most = data, most
        self.files_left_out: dict[str, str] = {}
        self.skipped: Counter[str] = Counter()
        self._counted: dict[str, list[EntryRange]] = {}
        given = {"simulation": data.sources, "data": data.unlabelled, "target": target}
        for (role, sources), option in zip(given.items(), ("--data", "--domain", "--target")):
            if not sources:
                hint = "--data SIMULATION --domain DATA --target LABELLED_DATA"
                raise UsageError(f"the domain protocol needs jets of the {role}", where=option, hint=hint)
        self.files = {
            role: open_named(sources, data, self.files_left_out, labelled=role != "data")
            for role, sources in given.items()
        }
        self.classes = self._checked()
        self._target = self._draw("target", {})
        self._simulation: dict[str, Jets] = {}

    def simulation(self, training: Mapping[str, Any]) -> tuple[Jets, Array]:
        """Jets of the simulation that a training has not seen, and their labels as indices into `classes`.

        Args:
            training: facts of the training; empty where nothing was trained.
        """
        key = str(training.get("held_out"))
        if key not in self._simulation:
            self._simulation[key] = self._draw("simulation", training)
        return self._simulation[key], self._labels(self._simulation[key], "simulation")

    def target(self, training: Mapping[str, Any]) -> tuple[Jets, Array]:
        """Labelled jets of the data and their labels.

        Raises:
            DataError: the training has seen them.
        """
        seen = Seen.of(training)
        if trained := [file.name for file in self.files["target"] if seen.trained(file.identity)]:
            raise DataError("the model was trained on the jets to test on", where="--target", found=", ".join(trained))
        return self._target, self._labels(self._target, "target")

    def left_out(self) -> list[str]:
        """What to say of files and jets that were left out."""
        return skipped_lines(self.files_left_out, self.skipped)

    def _checked(self) -> tuple[str, ...]:
        if twice := shared(self.files["data"], self.files["target"]):
            raise UsageError(
                "the labelled jets of the other domain are only to test on, and must not be trained on",
                where="--domain, --target",
                found=", ".join(sorted(file.name for file in twice)),
            )
        ours, theirs = (shared_labels(self.files[role]) for role in ("simulation", "target"))
        if not ours or set(ours) != set(theirs):
            raise DataError(
                "the two domains need labels of the same classes",
                where="--data, --target",
                found=f"{', '.join(ours) or 'none'} and {', '.join(theirs) or 'none'}",
            )
        return ours

    def _draw(self, role: str, training: Mapping[str, Any]) -> Jets:
        roles = assign_roles(self.files[role], training, self.data)
        # Where nothing is trained yet, the jets of the simulation are those that will be held out.
        parts = roles.test if role == "simulation" else roles.task
        counted = self._counted.setdefault(role, [])
        return draw(self.files[role], parts, self.most, 0, Request.of(self.data), skipped=self.skipped, counted=counted)

    def _labels(self, jets: Jets, role: str) -> Array:
        assert jets.labels is not None
        if unlabelled := [file for file in self.files[role] if not file.label_names]:
            raise DataError("a file to test on has no labels", where=unlabelled[0].source)
        order = np.array([self.classes.index(name) for name in shared_labels(self.files[role])])
        found: Array = order[jets.labels.numpy()]
        return found
