"""Baselines of an evaluation, computed once for all models.

z of an encoder of random weights, jet columns of the files, observables computed from the particles, and a Deep Sets
network trained from scratch on the same labels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from ssl_jets.arrays import Array, some_rows
from ssl_jets.evaluation.evaluation_data import EvaluationData, subset, tree_inputs
from ssl_jets.evaluation.probes.classes import Labelled, knn_probe, linear_probe, tree_probe
from ssl_jets.evaluation.probes.deep_sets import deep_sets_probe
from ssl_jets.evaluation.probes.observables import observable_inputs
from ssl_jets.evaluation.probes.physics import Side, physics_probes, reference_probes
from ssl_jets.evaluation.probes.results import BOTH, COLUMNS, OBSERVABLES, RANDOM, PhysicsProbe, ProbeResult
from ssl_jets.model import Model
from ssl_jets.nn.encoder import random_like


@dataclass(frozen=True)
class Untrained:
    """Encoder of random weights, its z and its physics probes.

    Attributes:
        model: the encoder, of the same shape, feature statistics and columns.
        z_test: its z of the test jets, `[jet, D]`.
        sides: its z of the jets to fit on and to test on; None without labels.
        physics: of physics quantities.
    """

    model: Model
    z_test: Array
    sides: tuple[Labelled, Labelled] | None
    physics: list[PhysicsProbe]


class Baselines:
    """Baselines on the jets of an evaluation."""

    def __init__(self, data: EvaluationData, device: torch.device) -> None:
        self.data, self.device = data, device
        self._untrained: dict[str, Untrained] = {}
        self._probes: dict[tuple[str, str, int], ProbeResult] = {}

    @cached_property
    def columns(self) -> tuple[Labelled, Labelled]:
        """Jet columns of the jets to fit on and to test on."""
        fit, test = (self.data.labelled(jets, tree_inputs(jets)) for jets in (self.data.fit, self.data.test))
        return fit, test

    @cached_property
    def observables(self) -> tuple[Labelled, Labelled]:
        """Observables computed from the particles of the jets to fit on and to test on."""
        x_fit, x_test = observable_inputs(self.data.fit, self.data.test)
        return self.data.labelled(self.data.fit, x_fit), self.data.labelled(self.data.test, x_test)

    def probes(self, model: Model, rows: Array | None = None) -> list[ProbeResult]:
        """Return the probes of all baselines.

        Args:
            model: the trained model, for shape and columns of the random encoder.
            rows: the jets to fit on, as indices into `EvaluationData.fit`; by default all.
        """
        chosen = "all" if rows is None else hashlib.sha256(rows.tobytes()).hexdigest()
        untrained = self.untrained(model).sides
        assert untrained is not None  # there are classes
        results = []
        for probe, (fit, test), of in (
            (linear_probe, untrained, RANDOM),
            (knn_probe, untrained, RANDOM),
            (tree_probe, self.columns, COLUMNS),
            (linear_probe, self.observables, OBSERVABLES),
            (tree_probe, self.observables, OBSERVABLES),
        ):
            key = (chosen, probe.__name__, id(fit))
            if key not in self._probes:
                self._probes[key] = probe(fit if rows is None else fit.some(rows), test, of=of, seed=self.data.seed)
            results.append(self._probes[key])
        if self.data.settings.evaluate.deep_sets:
            key = (chosen, deep_sets_probe.__name__, 0)
            if key not in self._probes:
                self._probes[key] = self._deep_sets(rows)
            results.append(self._probes[key])
        return results

    def with_observables(self, fit: Labelled, test: Labelled, rows: Array | None = None) -> ProbeResult:
        """Fit a linear probe of z of `rows` of the jets to fit on, and of their observables; score it on `test`."""
        observed, observed_test = self.observables
        observed = observed if rows is None else observed.some(rows)
        both = [z.reading(np.hstack([z.x, other.x])) for z, other in ((fit, observed), (test, observed_test))]
        return linear_probe(*both, of=BOTH, seed=self.data.seed)

    def _deep_sets(self, rows: Array | None) -> ProbeResult:
        """Train and score Deep Sets on the particles, with the labels and weights of the other baselines."""
        fit, test = self.columns
        jets = self.data.fit
        if rows is not None:
            fit, jets = fit.some(rows), subset(jets, rows)
        return deep_sets_probe((jets, self.data.test), fit, test, seed=self.data.seed)

    @cached_property
    def rows(self) -> tuple[Array, Array]:
        """The fit and the test jets that physics probes use, as indices; none where they are left out."""
        data, most = self.data, self.data.settings.evaluate.physics_jets
        return some_rows(len(data.fit), most, data.seed), some_rows(len(data.probed), most, data.seed)

    @cached_property
    def sides(self) -> tuple[Side, Side]:
        """Quantities and weights of the jets that physics probes use."""
        jets = (subset(jets, rows) for jets, rows in zip((self.data.fit, self.data.probed), self.rows))
        fit, test = (Side.of(chosen, self.data.weights(chosen)) for chosen in jets)
        return fit, test

    @cached_property
    def reference(self) -> list[PhysicsProbe]:
        """Probes of physics quantities from the other quantities."""
        return reference_probes(*self.sides, seed=self.data.seed) if self.data.has_physics else []

    def physics(self, z_fit: Array, z_test: Array, of: str) -> list[PhysicsProbe]:
        """Probe physics quantities in z of `EvaluationData.fit` and of `EvaluationData.probed`."""
        if not self.data.has_physics:
            return []
        fit, test = self.rows
        return physics_probes(z_fit[fit], z_test[test], *self.sides, of=of, seed=self.data.seed)

    def physics_of(self, model: Model, of: str) -> list[PhysicsProbe]:
        """Probe physics quantities in z of a model, without classes."""
        if not self.data.has_physics:
            return []
        z_fit, z_test = (model.embed(jets, device=self.device) for jets in (self.data.fit, self.data.probed))
        return self.physics(z_fit, z_test, of)

    def untrained(self, model: Model) -> Untrained:
        """Return the encoder of random weights for `model`: one for all models of a shape, statistics and inputs."""
        encoder = model.encoder
        statistics = [values.tolist() for _, values in encoder.named_buffers()]
        inputs = f"{model.columns} {encoder.reads_context} {encoder.reads_collections}"
        key = f"{encoder.cfg.model_dump_json()} {statistics} {inputs}"
        if key not in self._untrained:
            self._untrained[key] = self._measure(replace(model, encoder=random_like(encoder, self.data.seed)))
        return self._untrained[key]

    def _measure(self, model: Model) -> Untrained:
        data = self.data
        z_test = model.embed(data.test, device=self.device)
        if not data.classes:
            return Untrained(model, z_test, None, self.physics_of(model, RANDOM))
        z_fit = model.embed(data.fit, device=self.device)
        sides = data.labelled(data.fit, z_fit), data.labelled(data.test, z_test)
        return Untrained(model, z_test, sides, self.physics(z_fit, z_test, RANDOM))
