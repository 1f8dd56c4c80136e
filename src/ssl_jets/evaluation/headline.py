"""Best reader of z against the strongest baseline, on the same jets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.probes.results import ProbeResult


@dataclass(frozen=True)
class HeadlineSide:
    """A reader, its number of labelled jets, and its accuracy."""

    reader: str
    of: str
    fit_jets: int
    accuracy: Estimate


@dataclass(frozen=True)
class Headline:
    """Best reader of z against the strongest baseline.

    Attributes:
        z, baseline: the two readers, each the one of largest accuracy.
        test_jets: jets that both are tested on.
        difference: of their accuracies, with paired resamples of the jets; the choice of the readers is not in it.
    """

    z: HeadlineSide
    baseline: HeadlineSide
    test_jets: int
    difference: Estimate


def headline(probes: Sequence[ProbeResult]) -> Headline | None:
    """Compare the most accurate reader of z with the most accurate baseline; None where either is missing."""
    own, baselines = ([probe for probe in probes if (probe.of == "z") is of_z] for of_z in (True, False))
    if not own or not baselines:
        return None
    best, strongest = (max(group, key=lambda probe: probe.accuracy.value or 0.0) for group in (own, baselines))
    if best.rows is None or strongest.rows is None:
        return None
    difference = Estimate.of_rows(best.rows - strongest.rows)
    return Headline(_side(best), _side(strongest), best.test_jets, difference)


def _side(probe: ProbeResult) -> HeadlineSide:
    return HeadlineSide(probe.reader, probe.of, probe.fit_jets, probe.accuracy)
