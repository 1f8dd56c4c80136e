"""Verdicts: when the measures of a representation say that it has collapsed.

Absolute numbers do not tell a collapse: a early and healthy z lies within a few degrees of its mean and varies in two
or three directions. So z is compared with that of an encoder of the same shape with random weights, on the same jets;
the other limits are such that healthy trainings stay away from them. `docs/collapse.md` has the measurements.
"""

from __future__ import annotations

from ssl_jets.diagnostics.results import RepresentationStatistics
from ssl_jets.diagnostics.results import Verdict as Verdict

MIN_VARIATION = 0.05
"""Of the variation of z of random weights: below it all jets have nearly the same z."""
MIN_PARTICIPATION = 1 / 3
"""Of the participation ratio of z of random weights: below it z has lost its directions but one or two."""
MIN_PROJECTION_VARIATION = 2 / 3
"""Of the variation that what the loss compares had before the first step: below it jets become alike to the loss.
Where all goes well it rises."""
MAX_ALIGNMENT = 1.6
"""Of 2: above it two views of a jet differ nearly as much as two jets do."""
MIN_SWAP_RISE = 1e-3
"""Of the loss: where it rises by less when jets swap their z, the loss does not read z."""
MIN_CODE_USAGE = 0.02
"""Share of the codebook that is used at all."""

ADVICE = {
    "constant": "--resume with a smaller --set train.lr=..., or --set train.on_collapse=rollback",
    "narrow": "wait for the next look; if it stays, a smaller train.lr, a larger batch or another method",
    "noise": "milder augmentations, or more steps",
    "alike": "--resume with a smaller --set train.lr=..., or --set train.on_collapse=rollback",
    "teacher": "a smaller momentum of the teacher (`ssl-jets methods NAME` lists the settings)",
    "ignored": "hide more of the jet, or a method whose decoder reads z alone, such as bottleneck_mae",
    "codes": "a smaller codebook, or a smaller train.lr",
}
"""First remedies, by the name of the verdict; docs/collapse.md has more."""


def verdicts_on_z(
    z: RepresentationStatistics, random: RepresentationStatistics, *, labels: bool = False, early: bool = False
) -> list[Verdict]:
    """Verdicts on z alone.

    Args:
        z: its spread.
        random: that of z of random weights, on the same jets.
        labels: whether z was trained to tell classes, when few directions are no fault: of two classes one is left
            (neural collapse, arXiv:2008.08186).
        early: whether the training has just begun, when z passes through few directions also where all goes well.
    """
    found = []
    if z.variation < MIN_VARIATION * random.variation:
        text = f"all jets have nearly the same z: {z.variation:.2g} of its length varies ({random.variation:.2g} with"
        found.append(Verdict("constant", text + " random weights)"))
    if not labels and not early and z.participation_ratio < MIN_PARTICIPATION * random.participation_ratio:
        text = f"z has lost its directions: it varies in {z.participation_ratio:.3g}"
        found.append(Verdict("narrow", text + f" ({random.participation_ratio:.3g} with random weights)"))
    if z.alignment > MAX_ALIGNMENT:
        text = f"z is noise: a turned jet is {z.alignment:.2g} away from itself and 2 from others"
        found.append(Verdict("noise", text + f" ({random.alignment:.2g} with random weights)"))
    return found


def verdicts_on_projection(variation: float, start: float) -> list[Verdict]:
    """Verdict on the variation of what the loss compares, beside that before the first step."""
    if variation >= MIN_PROJECTION_VARIATION * start:
        return []
    text = f"the loss compares jets that become alike: {variation:.2g} of the length of what it compares varies"
    return [Verdict("alike", f"{text} ({start:.2g} at the start)")]


def verdicts_on_swap(rise: float, loss: float) -> list[Verdict]:
    """Verdict on the rise of the loss when jets swap their z."""
    if rise >= MIN_SWAP_RISE * abs(loss):
        return []
    return [Verdict("ignored", f"the loss does not read z: it rises from {loss:.4g} by {rise:.1g} when jets swap z")]


def verdicts_on_codes(usage: float) -> list[Verdict]:
    """Verdict on the share of a codebook that is used."""
    return [Verdict("codes", f"the codebook is dead: {usage:.2%} of it is used")] if usage < MIN_CODE_USAGE else []
