"""Best reader of z against the best baseline, and of both together, on the same jets, as numbers and as sentences."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.probes.results import BOTH, OBSERVABLES, TRAINED, WITH_Z, ProbeResult


@dataclass(frozen=True)
class HeadlineSide:
    """A reader, its number of labelled jets, and its accuracy."""

    reader: str
    of: str
    fit_jets: int
    accuracy: Estimate


@dataclass(frozen=True)
class Headline:
    """Best reader of z, or of z and observables, against the strongest baseline.

    Attributes:
        z, baseline: the two readers, each the one of largest accuracy.
        test_jets: jets that both are tested on.
        difference: of their accuracies, with paired resamples of the jets; the choice of the readers is not in it.
    """

    z: HeadlineSide
    baseline: HeadlineSide
    test_jets: int
    difference: Estimate

    @property
    def verdict(self) -> str:
        """Relation of z to the baseline by the 95 % interval of the difference; "" without an interval."""
        low, high = self.difference.low95, self.difference.high95
        if low is None or high is None:
            return ""
        return "is better than" if low > 0 else "is worse than" if high < 0 else "cannot be distinguished from"


def headline(probes: Sequence[ProbeResult], baselines: Collection[str] = (), *, of: str = TRAINED) -> Headline | None:
    """Compare the most accurate reader of z with the most accurate baseline; None where either is missing.

    Args:
        probes: of z and of the baselines, all scored on the same jets.
        baselines: inputs of the baselines to compare with; by default all.
        of: the input of the readers that are compared: z, or z and observables.
    """
    readers = [probe for probe in probes if probe.of == of]
    others = [probe for probe in probes if (probe.of in baselines if baselines else probe.of not in WITH_Z)]
    if not readers or not others:
        return None
    best, strongest = (max(group, key=lambda probe: probe.accuracy.value or 0.0) for group in (readers, others))
    if best.rows is None or strongest.rows is None:
        return None
    difference = Estimate.of_difference(best.rows - strongest.rows, best.effective_jets)
    return Headline(_side(best), _side(strongest), best.test_jets, difference)


def together(probes: Sequence[ProbeResult]) -> Headline | None:
    """Compare the reader of z and observables with the most accurate reader of one of them; None without either."""
    return headline(probes, (TRAINED, OBSERVABLES), of=BOTH)


def headline_sentences(
    strongest: Headline | None,
    observables: Headline | None,
    labelled_jets: int | None = None,
    both: Headline | None = None,
) -> list[str]:
    """Return sentences on z against observables, against the strongest baseline if that is another, and on both.

    Args:
        strongest: z against the strongest baseline.
        observables: z against observables.
        labelled_jets: jets whose labels the model has learned from; they are named where they are more than those of
            the reader of z.
        both: z and observables against the better of them.
    """
    sentences = []
    if observables is not None and observables.verdict:
        sentences.append(_sentence(observables, "observables computed from the particles"))
    if (
        strongest is not None
        and strongest.verdict
        and (observables is None or strongest.baseline != observables.baseline)
    ):
        sentences.append(_sentence(strongest, "the strongest baseline"))
    if sentences and (known := observables or strongest) and (labelled_jets or 0) > known.z.fit_jets:
        sentences[0] += f" The model itself has learned from {labelled_jets:,} labelled jets."
    if both is not None and both.verdict:
        sentences.append(_sentence(both, "the best reader of one of them", "The linear probe of z and observables"))
    return sentences


def _sentence(result: Headline, baseline: str, reader: str = "z") -> str:
    gap = result.difference
    return (
        f"{reader} {result.verdict} {baseline}: accuracy {_described(result.z)} against {_described(result.baseline)}, "
        f"difference {gap.value:+.3f} (95 %: {gap.low95:+.3f} to {gap.high95:+.3f}) on the same "
        f"{result.test_jets:,} test jets."
    )


def _described(side: HeadlineSide) -> str:
    reader = f"{side.reader} probe" if side.reader in ("linear", "kNN") else side.reader
    return f"{side.accuracy.value or 0:.3f} ({reader} on {side.of}, {side.fit_jets:,} labelled jets)"


def _side(probe: ProbeResult) -> HeadlineSide:
    return HeadlineSide(probe.reader, probe.of, probe.fit_jets, probe.accuracy)
