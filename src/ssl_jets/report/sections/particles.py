"""Section of the targets of particles: tables of classes, of numbers and of groups."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.metrics.particles import ParticleClasses, ParticleGroups, ParticleNumbers
from ssl_jets.report import page


def of_particles(
    classes: Sequence[ParticleClasses], numbers: Sequence[ParticleNumbers], groups: Sequence[ParticleGroups] = ()
) -> list[str]:
    """Return the section of the targets of particles; empty without any."""
    if not classes and not numbers and not groups:
        return []
    body = [page.heading("Predictions of particles")]
    for one in classes:
        body += _of_classes(one)
    if numbers:
        rows = [
            (
                one.target,
                one.unit,
                f"{one.particles:,}",
                *(page.with_interval(estimate, page.significant) for estimate in (one.bias, one.resolution)),
                page.significant(one.spread),
                page.number(one.explained.value, 3),
            )
            for one in numbers
        ]
        head = ("target", "unit", "particles", "bias (68 %)", "resolution (68 %)", "spread of the target", "R²")
        body.append(page.table(head, rows))
    return [*body, *_of_groups(groups)]


def _of_groups(groups: Sequence[ParticleGroups]) -> list[str]:
    """Return the table of the groupings."""
    if not groups:
        return []
    rows = [
        (
            one.target,
            f"{one.pairs:,}",
            page.number(one.same, 3),
            *(text for value in (one.auc, one.efficiency, one.purity) for text in _with_interval(value)),
        )
        for one in groups
    ]
    head = ("groups", "pairs", "share of one group", "AUC of pairs", "68 %", "efficiency", "68 %", "purity", "68 %")
    text = "Pairs are of two particles of a jet. Efficiency is the share of the pairs of one group that are joined, "
    return [page.table(head, rows), page.paragraph(text + "purity the share of joined pairs that are of one group.")]


def _of_classes(one: ParticleClasses) -> list[str]:
    """Return the table of the classes of a target, and its confusion matrix."""
    total = sum(one.particles.values())
    rows = [("all", f"{total:,}", *_with_interval(one.accuracy), *_with_interval(one.auc))]
    rows += [
        (name, f"{count:,}", *_with_interval(one.class_accuracy[name]), *_with_interval(one.class_auc[name]))
        for name, count in one.particles.items()
    ]
    text = f"{one.target}: {total:,} particles of {one.jets:,} jets have a label, {one.unlabelled:,} others have none. "
    text += f"The largest class has {one.largest_class:.1%} of the particles. Intervals are of a bootstrap over jets."
    head = (f"class of {one.target}", "particles", "accuracy", "68 %", "AUC against the rest", "68 %")
    confused = [
        (name, *(page.number(share, 3) for share in _shares(row)))
        for name, row in zip(one.classes, one.confusion.tolist(), strict=True)
    ]
    return [
        page.table(head, rows),
        page.paragraph(text),
        page.folded("Share of each true class (row) by most probable class", page.table(("", *one.classes), confused)),
    ]


def _with_interval(estimate: Estimate) -> tuple[str, str]:
    return page.number(estimate.value, 3), page.interval(estimate, digits=3)


def _shares(row: Sequence[float]) -> list[float | None]:
    """Divide a row by its sum; None for a row of zeros."""
    total = sum(row)
    return [value / total if total else None for value in row]
