"""Figures of several panels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ssl_jets.report.names import GREY


def panel_grid(
    number: int, width: float, height: float, most: int = 3, more: tuple[float, float] = (0, 0), **grid: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of `number` panels in rows of at most `most`; places that are left over are empty.

    Args:
        number: how many; at least one.
        width, height: of a panel [inch].
        most: panels of a row.
        more: width and height of the figure beside the panels [inch].
        grid: for `plt.subplots`, such as `sharex`.
    """
    columns = min(most, number)
    rows = -(-number // columns)
    size = (more[0] + width * columns, more[1] + height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **grid)
    for left_over in axes.flat[number:]:
        left_over.set_visible(False)
    return figure, list(axes.flat[:number])


def colour_bar(axes: Axes, image: AxesImage, label: str) -> None:
    """Add a colour bar as high as the matrix at its right."""
    beside = axes.inset_axes((1.03, 0, 0.045, 1), label="<colorbar>")
    axes.figure.colorbar(image, cax=beside, label=label)


def level(axes: Axes, value: float, name: str) -> None:
    """A dotted line across a panel, with its name at the left end."""
    axes.axhline(value, color=GREY, linestyle=":", linewidth=1.2, label=f"_{name}")
    where: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    axes.annotate(name, (0, value), (5, 3), **where, color=GREY, fontsize=10)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Make `axes` a list, from the top: row n, at height n, has a name and a line above it."""
    for border in range(1, len(names)):
        axes.axhline(border - 0.5, color="#dcdcdc", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", which="both", length=0)
