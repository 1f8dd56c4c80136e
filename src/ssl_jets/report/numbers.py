"""The numbers of a figure, as CSV: what is drawn in it, read from the figure itself, so that it cannot differ."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

HEAD = ("panel", "series", "x", "y", "value")

Row = tuple[str, str, float, float, float | str]


def csv_of(figure: Figure) -> str:
    """Lines, points, steps and cells of all panels; `value` only where a cell has one."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEAD)
    for number, axes in enumerate(figure.axes, start=1):
        panel = axes.get_title() or axes.get_ylabel() or axes.get_xlabel() or str(number)
        for name, series, x, y, value in _rows(axes, f"{number}: {panel}"):
            if np.isfinite(x) and np.isfinite(y):
                writer.writerow((name, series, f"{x:.6g}", f"{y:.6g}", value))
    return stream.getvalue()


def _rows(axes: Axes, panel: str) -> Iterator[Row]:
    for index, line in enumerate(axes.get_lines()):
        x, y = (np.asarray(values, dtype=float).ravel() for values in line.get_data())
        yield from ((panel, _name(line, f"line {index}"), *point, "") for point in zip(x, y))
    for index, mark in enumerate(axes.collections):
        if isinstance(mark, PathCollection):
            points = np.asarray(mark.get_offsets(), dtype=float)
            yield from ((panel, _name(mark, f"points {index}"), *point, "") for point in points.tolist())
        elif isinstance(mark, QuadMesh):
            yield from _cells(panel, mark)
    for index, patch in enumerate(axes.patches):
        if isinstance(patch, StepPatch):
            heights, edges, _ = patch.get_data()
            yield from ((panel, _name(patch, f"steps {index}"), *point, "") for point in zip(edges[:-1], heights))
    for image in axes.get_images():
        values: Any = np.ma.filled(np.ma.asarray(image.get_array()), np.nan)
        for (row, column), value in np.ndenumerate(values):
            yield panel, "cells", float(column), float(row), f"{value:.6g}"


def _cells(panel: str, mesh: QuadMesh) -> Iterator[Row]:
    corners = np.asarray(mesh.get_coordinates(), dtype=float)
    centres = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    values: Any = np.ma.filled(np.ma.asarray(mesh.get_array()), np.nan)
    for place, value in np.ndenumerate(values):
        if np.isfinite(value):
            yield panel, "cells", float(centres[place][0]), float(centres[place][1]), f"{value:.6g}"


def _name(artist: Any, otherwise: str) -> str:
    """Its label in the legend, or a number."""
    label = str(artist.get_label())
    return otherwise if label.startswith("_") else label
