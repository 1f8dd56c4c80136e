"""Observables computed from the particles of jets, as inputs of baselines."""

from __future__ import annotations

import torch

from ssl_jets.arrays import Array
from ssl_jets.jets import Jets
from ssl_jets.nn.features import Features
from ssl_jets.nn.observables import jet_observables

BATCH = 2000
"""Jets whose observables are computed at one time."""


def observable_inputs(fit: Jets, test: Jets) -> tuple[Array, Array]:
    """Compute the observables of `nn.observables` of both sets of jets, float64 `[jet, OBSERVABLES]` each.

    Features of particles are standardized with the statistics of `fit`, as an encoder does with the statistics
    of its training. Without track columns or kinds, the observables of these are constant.
    """
    features = Features()
    features.fit_statistics([fit])
    observed_fit, observed_test = (
        torch.cat([jet_observables(jets.select(rows), features) for rows in torch.arange(len(jets)).split(BATCH)])
        for jets in (fit, test)
    )
    return observed_fit.double().numpy(), observed_test.double().numpy()
