"""Accuracy on jets that differ from the training: lost particles, worse resolution, missing columns.

The reader is fitted or trained on unchanged jets; only the jets it is tested on are changed, and at every strength they
are the same jets, so that differences along a curve have smaller errors than its points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ssl_jets.arrays import Array
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc, largest_class
from ssl_jets.evaluation.probes.results import RobustnessCurve
from ssl_jets.jets import Jets
from ssl_jets.nn import random
from ssl_jets.nn.augment import hide_kind, hide_tracks, resolution, smear


@dataclass(frozen=True)
class Stress:
    """One way to change jets.

    Attributes:
        name: of the curve.
        unit: of the strength.
        strengths: in the order of the curve; `neutral` is added in its place.
        neutral: the strength that changes nothing.
        apply: jets and a strength to jets.
        needs: required particle columns.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    neutral: float
    apply: Callable[[Jets, float], Jets]
    needs: tuple[str, ...] = ()


def lose(jets: Jets, share: float) -> Jets:
    """Lose each particle with the probability `share`, hard and soft alike; the hardest is left if all others go."""
    kept = random.uniform(jets) >= share
    alone = jets.mean(kept.float()) == 0
    return jets.keep(kept | (alone[jets.jet_of_particle] & (jets.rank_by_pt() == 0)))


def rescale(jets: Jets, factor: float) -> Jets:
    """Multiply pt and energy of every particle."""
    factors = torch.ones(len(jets.columns))
    factors[[index for index, name in enumerate(jets.columns) if name in ("pt", "energy")]] = factor
    return replace(jets, particles=jets.particles * factors.to(jets.particles))


STRESSES = (
    Stress("lost particles", "share of the particles", (0.05, 0.1, 0.2, 0.3, 0.5), 0.0, lose),
    Stress("worse resolution", "a of σ(pt)/pt = a / sqrt(pt/GeV)", (0.1, 0.25, 0.5, 1.0), 0.0, resolution),
    Stress("worse directions", "a of σ = a / (pt/GeV), at most 0.1", (0.02, 0.05, 0.1, 0.2), 0.0, smear),
    Stress("scale of pt", "factor", (0.8, 0.9, 0.95, 1.05, 1.1, 1.2), 1.0, rescale),
    Stress("no track columns", "removed", (1.0,), 0.0, hide_tracks, ("d0", "d0err")),
    Stress("no kinds of particles", "removed", (1.0,), 0.0, hide_kind, ("kind",)),
)
"""Changes of jets. Columns that are removed are declared missing, as in files that lack them."""


def robustness(
    read: Callable[[Jets], Array], jets: Jets, labels: Array, *, weights: Array | None = None, seed: int = 0
) -> list[RobustnessCurve]:
    """Measure a curve for each stress.

    Args:
        read: jets to probabilities `[jet, class]`.
        jets: jets to test on.
        labels: int64 `[jet]`.
        weights: of the jets, `[jet]`.
        seed: of the changes and the bootstrap.
    """
    guess = largest_class(labels, np.ones(len(labels)) if weights is None else weights)
    plain = accuracy_and_auc(read(jets), labels, weights=weights, seed=seed)
    curves = []
    for stress in STRESSES:
        if not set(stress.needs) <= set(jets.columns):
            continue
        points = {stress.neutral: plain}
        for strength in stress.strengths:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                changed = stress.apply(jets, strength)
            points[strength] = accuracy_and_auc(read(changed), labels, weights=weights, seed=seed)
        strengths = tuple(sorted(points))
        accuracy, auc = ([points[strength][which] for strength in strengths] for which in (0, 1))
        curves.append(RobustnessCurve(stress.name, stress.unit, stress.neutral, strengths, accuracy, auc, guess))
    return curves
