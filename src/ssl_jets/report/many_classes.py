"""What a report shows of many classes: the best and the worst in figures, all of them in tables and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ssl_jets.report import page

Json = Mapping[str, Any]

MOST_CLASSES = 20
"""Classes that a figure shows by name, at most: of more the best and the worst."""


def shown_classes(metrics: Json) -> list[str]:
    """Return the classes to show, in their order: of many, those told best and worst from the rest, half of each."""
    classes: list[str] = list(metrics["classes"])
    areas = {} if metrics["task"] is None else metrics["task"]["class_auc"]
    known = [name for name in classes if areas.get(name, {}).get("value") is not None]
    if len(classes) <= MOST_CLASSES:
        return classes
    ranked = sorted(known, key=lambda name: areas[name]["value"])
    chosen = {*ranked[: MOST_CLASSES // 2], *ranked[-(MOST_CLASSES // 2) :]}
    return [name for name in classes if name in chosen]


def many_classes(metrics: Json) -> list[str]:
    """Name the choice of classes in the figures, where they do not show all."""
    shown, classes = shown_classes(metrics), metrics["classes"]
    if len(shown) == len(classes):
        return []
    text = (
        f"Of {len(classes)} classes, the figures of classification show the {len(shown)} with the highest and the "
        "lowest area against the rest; all are in the tables and files."
    )
    return [page.paragraph(text)]


def folded_if_many(title: str, table: str, rows: int) -> str:
    """Fold a table of more rows than fit a screen."""
    return table if rows <= 2 * MOST_CLASSES else page.folded(title, table)
