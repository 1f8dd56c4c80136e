"""Choice of classes where there are many: the best and the worst in figures, all in tables and files."""

from __future__ import annotations

from ssl_jets.evaluation.metrics.classification import ClassificationMetrics
from ssl_jets.report import page

MOST_CLASSES = 20
"""Classes that a figure shows by name, at most: of more the best and the worst."""


def shown_classes(task: ClassificationMetrics) -> list[str]:
    """Return the classes to show, in their order: of many, half with the highest and half with the lowest AUC."""
    if len(task.names) <= MOST_CLASSES:
        return list(task.names)
    areas = {name: auc.value for name, auc in task.class_auc.items() if auc.value is not None}
    ranked = sorted(areas, key=areas.__getitem__)
    chosen = {*ranked[: MOST_CLASSES // 2], *ranked[-(MOST_CLASSES // 2) :]}
    return [name for name in task.names if name in chosen]


def many_classes(task: ClassificationMetrics) -> list[str]:
    """Return a paragraph on the choice of classes in figures; none where they show all."""
    shown = shown_classes(task)
    if len(shown) == len(task.names):
        return []
    text = (
        f"Of {len(task.names)} classes, the figures of classification show the {len(shown)} with the highest and the "
        "lowest area against the rest; all are in the tables and files."
    )
    return [page.paragraph(text)]
