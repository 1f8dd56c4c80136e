"""Collapse criteria: thresholds on the representation statistics, and a first remedy for each verdict.

Absolute thresholds do not detect a collapse: early in a healthy training z lies within a few degrees of its mean and
varies in two or three directions. So z is compared with z of a randomly initialized encoder of the same shape on the
same jets. The other thresholds keep a margin from healthy trainings. `docs/collapse.md` has the measurements.
"""

from __future__ import annotations

from ssl_jets.diagnostics.results import RepresentationStatistics
from ssl_jets.diagnostics.results import Verdict as Verdict

MIN_VARIATION = 0.05
"""Lowest variation of z relative to a random encoder; below it all jets have nearly the same z."""
MIN_PARTICIPATION = 1 / 3
"""Lowest participation ratio of z relative to a random encoder; below it z keeps one or two directions."""
MIN_PROJECTION_VARIATION = 2 / 3
"""Lowest variation of the projections in the loss, relative to the start. In a healthy training it rises."""
MAX_ALIGNMENT = 1.6
"""Largest alignment, of 2; above it two views of a jet differ nearly as much as two jets do."""
MIN_SWAP_RISE = 1e-3
"""Smallest rise of the loss, relative to the loss, when jets swap their z; below it the loss does not read z."""
MIN_CODE_USAGE = 0.02
"""Smallest share of the codebook that is used."""

MIN_EMBEDDING_VARIATION = 2 / 3
"""Lowest variation of embedded particles that a loss predicts, relative to random weights."""

ADVICE = {
    "constant": "--resume with a smaller --set train.lr=...",
    "low-rank": "wait for the next validation; if it stays, a smaller train.lr, a larger batch or another method",
    "noise": "milder augmentations, or more steps",
    "constant-projection": "--resume with a smaller --set train.lr=...",
    "teacher": "a smaller momentum of the teacher (`ssl-jets methods NAME` lists the settings)",
    "uninformative": "hide more of the jet, or a method whose decoder reads z alone, such as bottleneck_mae",
    "constant-embedding": "--resume with a smaller --set train.lr=...",
    "codes": "a smaller codebook, or a smaller train.lr",
}
"""First remedy by the name of the verdict; docs/collapse.md has more."""


def verdicts_on_z(
    z: RepresentationStatistics, random: RepresentationStatistics, *, targets: bool = False, early: bool = False
) -> list[Verdict]:
    """Compare the statistics of z with a random encoder.

    Args:
        z: statistics of z.
        random: statistics of z of a randomly initialized encoder, on the same jets.
        targets: z was trained for classes or columns of jets. Few directions are no fault then: one column leaves one,
            and so do two classes (neural collapse, arXiv:2008.08186).
        early: the training is in its first steps, when a healthy z also passes through few directions.
    """
    verdicts = []
    if z.variation < MIN_VARIATION * random.variation:
        text = f"all jets have nearly the same z: {z.variation:.2g} of its length varies ({random.variation:.2g} with"
        verdicts.append(Verdict("constant", text + " random weights)"))
    if not targets and not early and z.participation_ratio < MIN_PARTICIPATION * random.participation_ratio:
        text = f"z has lost its directions: it varies in {z.participation_ratio:.3g}"
        verdicts.append(Verdict("low-rank", text + f" ({random.participation_ratio:.3g} with random weights)"))
    if z.alignment > MAX_ALIGNMENT:
        text = f"z is noise: the distance of two views of a jet is {z.alignment:.2g}, of two jets 2"
        verdicts.append(Verdict("noise", text + f" ({random.alignment:.2g} with random weights)"))
    return verdicts


def verdicts_on_projection(variation: float, start: float) -> list[Verdict]:
    """Compare the variation of the projections in the loss with its value before the first step."""
    if variation >= MIN_PROJECTION_VARIATION * start:
        return []
    text = f"the projections in the loss become constant: {variation:.2g} of their length varies"
    return [Verdict("constant-projection", f"{text} ({start:.2g} at the start)")]


def verdicts_on_swap(rise: float, loss: float) -> list[Verdict]:
    """Check that the loss rises when jets swap their z."""
    if rise >= MIN_SWAP_RISE * abs(loss):
        return []
    text = f"the loss does not read z: it rises from {loss:.4g} by {rise:.1g} when jets swap z"
    return [Verdict("uninformative", text)]


def verdicts_on_embedding(variation: float) -> list[Verdict]:
    """Check the variation of embedded particles relative to random weights."""
    if variation >= MIN_EMBEDDING_VARIATION:
        return []
    text = f"the predicted embeddings become equal: their variation is {variation:.2g} of the one with random weights"
    return [Verdict("constant-embedding", text)]


def verdicts_on_codes(usage: float) -> list[Verdict]:
    """Check the share of the codebook that is used."""
    return [Verdict("codes", f"the codebook is dead: {usage:.2%} of it is used")] if usage < MIN_CODE_USAGE else []
