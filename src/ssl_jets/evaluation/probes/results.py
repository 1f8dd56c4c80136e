"""Results of probes, without torch and scikit-learn: classes, physics quantities, changed jets."""

from __future__ import annotations

from dataclasses import dataclass, field

from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.result_base import Values

TRAINED = "z"
"""Input of probes: z of the evaluated model."""

TREES, DEEP_SETS = "boosted trees", "Deep Sets"
"""Readers: gradient-boosted trees, and a small network of the particles that is trained from scratch."""

RANDOM = "z of random weights"
"""Input of baselines: z of an encoder of the same shape that was never trained."""

COLUMNS = "jet columns"
"""Input of baselines: columns of the files."""

OBSERVABLES = "observables"
"""Input of baselines: observables computed from the particles."""

BOTH = "z and observables"
"""Input of the probe that shows what z adds to observables, and they to z."""

WITH_Z = (TRAINED, BOTH)
"""Inputs of which z of the evaluated model is a part; all others are of baselines."""

PARTICLES = "particles"
"""Input of Deep Sets."""


@dataclass(frozen=True)
class ProbeResult:
    """The result of one probe.

    Attributes:
        reader: "linear", "kNN", `TREES` or `DEEP_SETS`.
        of: its input: "z", `BOTH`, `RANDOM`, `COLUMNS`, `OBSERVABLES` or `PARTICLES`.
        columns: number of columns it reads.
        fit_jets, test_jets: jets it was fitted and scored on.
        accuracy, auc: the latter macro, one-versus-one.
        largest_class: the accuracy of a guess that ignores the jet.
        rows: accuracy of every row of the bootstrap, for paired differences; not written.
        effective_jets: effective number of test jets, (sum w)^2 / sum w^2, for the same; not written.
    """

    reader: str
    of: str
    columns: int
    fit_jets: int
    test_jets: int
    accuracy: Estimate
    auc: Estimate
    largest_class: float
    rows: Values | None = field(default=None, repr=False, compare=False)
    effective_jets: float = field(default=0.0, repr=False, compare=False)


@dataclass(frozen=True)
class PhysicsProbe:
    """Result of the probe of one physics quantity.

    Attributes:
        quantity, unit: of `QUANTITIES`, or a column of a z file, of unknown unit.
        reader: "ridge" or "boosted trees".
        of: "z", "z of random weights" or "other quantities".
        fit_jets, test_jets: jets that have it.
        explained: share of the variance.
    """

    quantity: str
    unit: str
    reader: str
    of: str
    fit_jets: int
    test_jets: int
    explained: Estimate


@dataclass(frozen=True)
class RobustnessCurve:
    """Accuracy and macro AUC (one-versus-one) at each strength, `[strength]` each; the accuracy of a constant guess."""

    name: str
    unit: str
    neutral: float
    strengths: tuple[float, ...]
    accuracy: list[Estimate]
    auc: list[Estimate]
    largest_class: float
