"""Figures of several panels."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure


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
