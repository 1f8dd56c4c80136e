"""Probes of physics quantities in z.

Each quantity x is predicted from z by ridge regression and by boosted trees, fitted on some jets and scored on others
by the share of its variance that is explained,

    R^2 = 1 - mean((p - x)^2) / var(x),

0 for a guess of the mean and 1 for a perfect prediction. Baselines are an encoder of random weights, and boosted trees
that read the other quantities, that is x without the particles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.bootstrap import Bootstrap
from ssl_jets.evaluation.metrics.regression import explained
from ssl_jets.evaluation.probes.classes import ITERATIONS, readable, standardize, to_fit_with, tree_columns
from ssl_jets.evaluation.probes.observables import observables
from ssl_jets.evaluation.probes.results import TREES, PhysicsProbe
from ssl_jets.jets import Jets
from ssl_jets.runtime.threads import with_one_thread

QUANTITIES = {
    "mass": "GeV",
    "soft-drop mass": "GeV",
    "tau21": "1",
    "tau32": "1",
    "particles": "1",
    "charged particles": "1",
    "displaced tracks": "1",
    "pt": "GeV",
    "|eta|": "1",
}
"""Quantities that are predicted from z, with their unit. A displaced track has |d0| above `DISPLACED` of its errors, as
of bottom and charm decays. The sign of eta is in no column of particles: deta is relative to it."""

DISPLACED = 3.0

OTHER = "other quantities"
"""Input of the reference trees."""

ALPHAS = tuple(10 ** (power / 2) for power in range(-2, 7))
"""Strengths of the ridge, on standardised z, of which leave-one-out validation chooses."""

_KIN = (
    {"mass", "soft-drop mass"},
    {"particles", "charged particles", "displaced tracks"},
    {"tau21", "tau32"},
)
"""Groups of nearly equivalent quantities: the reference does not read others of the group of its target."""

_TAIL = (0.1, 99.9)
"""Percentiles of the fit jets to which a quantity is clipped, so that no single jet decides the fit or the score."""

_COLUMNS = {"soft-drop mass": "jet_sdmass", "pt": "jet_pt", "|eta|": "jet_eta", "tau21": "tau21", "tau32": "tau32"}


def quantities(jets: Jets) -> dict[str, Array]:
    """Compute the `QUANTITIES` that the columns of jets allow, float64 `[jet]` each; NaN if a jet has none."""
    available = {"mass": jets.mass().numpy().astype(np.float64), "particles": jets.lengths.numpy().astype(np.float64)}
    if "charge" in jets.columns:
        available["charged particles"] = _count(jets, jets.column("charge").numpy() != 0)
    if {"d0", "d0err"} <= set(jets.columns):
        d0, error = (jets.column(name).numpy() for name in ("d0", "d0err"))
        available["displaced tracks"] = _count(jets, (error > 0) & (np.abs(d0) > DISPLACED * error))
    columns = tree_columns({name: values.numpy() for name, values in jets.jet.items()})
    if "tau21" not in columns:
        columns |= {name: values for name, values in observables(jets).items() if name in ("tau21", "tau32")}
    if "jet_pt" not in columns:
        pt, dphi = (jets.column(name).double() for name in ("pt", "dphi"))
        columns["jet_pt"] = jets.sum(pt * dphi.cos()).hypot(jets.sum(pt * dphi.sin())).numpy()
    if "jet_eta" in columns:
        columns["jet_eta"] = np.abs(columns["jet_eta"])
    available |= {name: columns[column] for name, column in _COLUMNS.items() if column in columns}
    return {name: available[name] for name in QUANTITIES if name in available}


@dataclass(frozen=True)
class Side:
    """The jets to fit on, or those to score on: quantities and weights `[jet]`."""

    quantities: dict[str, Array]
    weights: Array

    @classmethod
    def of(cls, jets: Jets, weights: Array) -> Side:
        return cls(quantities(jets), weights)


def physics_probes(
    z_fit: Array, z_test: Array, fit: Side, test: Side, *, of: str = "z", seed: int = 0
) -> list[PhysicsProbe]:
    """Predict every quantity from z `[jet, D]` by ridge and by trees."""
    x_fit, x_test = standardize(z_fit, z_test)
    results = []
    for name in _shared(fit, test):
        for reader in ("ridge", TREES):
            results.append(_probe(name, reader, of, x_fit, x_test, fit, test, seed))
    return results


def reference_probes(fit: Side, test: Side, *, seed: int = 0) -> list[PhysicsProbe]:
    """Predict every quantity by trees from the quantities outside of its group."""
    results = []
    for name in _shared(fit, test):
        kin = next((group for group in _KIN if name in group), {name})
        others = [other for other in _shared(fit, test) if other not in kin]
        x_fit, x_test = (np.column_stack([side.quantities[other] for other in others]) for side in (fit, test))
        results.append(_probe(name, TREES, OTHER, x_fit, x_test, fit, test, seed))
    return results


def _shared(fit: Side, test: Side) -> list[str]:
    """Return the quantities that both sides have, and that vary among the jets to fit on."""

    def defined(side: Side, name: str) -> Array:
        values: Array = side.quantities[name]
        return values[np.isfinite(values) & (side.weights > 0)]

    shared = [name for name in fit.quantities if name in test.quantities and len(defined(test, name))]
    return [name for name in shared if len(defined(fit, name)) and defined(fit, name).std() > 0]


@with_one_thread
def _probe(
    name: str, reader: str, of: str, x_fit: Array, x_test: Array, fit: Side, test: Side, seed: int
) -> PhysicsProbe:
    defined_fit, defined_test = (np.isfinite(side.quantities[name]) & (side.weights > 0) for side in (fit, test))
    low, high = np.percentile(fit.quantities[name][defined_fit], _TAIL)
    sides = ((fit, defined_fit), (test, defined_test))
    y_fit, y_test = (np.clip(side.quantities[name][defined], low, high) for side, defined in sides)
    centre, width = y_fit.mean(), max(float(y_fit.std()), np.finfo(np.float64).tiny)
    model = (
        RidgeCV(ALPHAS)
        if reader == "ridge"
        else HistGradientBoostingRegressor(
            max_iter=ITERATIONS, learning_rate=0.1, early_stopping=False, random_state=seed
        )
    )
    weights = to_fit_with(fit.weights[defined_fit])
    x_fit, x_test = x_fit[defined_fit], readable(x_test[defined_test], x_fit[defined_fit])
    model.fit(readable(x_fit, x_fit), (y_fit - centre) / width, sample_weight=weights)
    predicted = model.predict(x_test) * width + centre
    bootstrap = Bootstrap(len(y_test), seed=seed, weights=test.weights[defined_test])
    share = explained(predicted, y_test, bootstrap)
    return PhysicsProbe(name, QUANTITIES.get(name, ""), reader, of, len(y_fit), len(y_test), share)


def _count(jets: Jets, chosen: Array) -> Array:
    counted: Array = np.bincount(jets.jet_of_particle.numpy(), chosen, len(jets)).astype(np.float64)
    return counted
