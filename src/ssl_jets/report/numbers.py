"""Numbers of a figure as CSV, read from the figure itself, so that they cannot differ from it.

A series is in it under its label; a label that begins with `_` is not in the legend but in the CSV. Guides
without a label (a diagonal, the line of no gain, a colour bar) are not in it.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import StepPatch
from matplotlib.ticker import FixedLocator, FuncFormatter

from ssl_jets.report.figures.style import intervals_of, plain


class CsvRow(NamedTuple):
    """A point, a bin or a cell of a series; NaN where it has no such number.

    Attributes:
        series: its name.
        x, y: its place; of a line across the whole panel only one of them.
        value: of a cell.
        interval: name of the interval from `low` to `high`, behind its axis, such as `y: 68 %`; a point with several
            intervals has a row for each.
        low, high: the ends of the interval.
    """

    series: str
    x: float
    y: float
    value: float = math.nan
    interval: str = ""
    low: float = math.nan
    high: float = math.nan


HEAD = ("panel", *CsvRow._fields)


def csv_of(figure: Figure) -> str:
    """Return all named series of all panels as rows of `HEAD`; a position on an axis of names is a name.

    A panel is called by its own label, where it has one, else by its title or an axis.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEAD)
    for number, axes in enumerate(figure.axes, start=1):
        panel = axes.get_label() or axes.get_title() or axes.get_ylabel() or axes.get_xlabel() or str(number)
        for row in _rows(axes):
            place = (_place(axes.xaxis, row.x), _place(axes.yaxis, row.y))
            ends = (_text(row.low), _text(row.high))
            name = (f"{number}: {plain(str(panel))}", row.series)
            writer.writerow((*name, *place, _text(row.value), row.interval, *ends))
    return stream.getvalue()


def _rows(axes: Axes) -> Iterator[CsvRow]:
    for line in axes.get_lines():
        if name := _name(line):
            yield from _of_line(axes, line, name)
    for mark in axes.collections:
        if isinstance(mark, PathCollection) and (name := _name(mark)):
            yield from (CsvRow(name, *point) for point in np.asarray(mark.get_offsets(), dtype=float).tolist())
        elif isinstance(mark, QuadMesh) and (name := _name(mark)):
            yield from _of_mesh(mark, name)
    for patch in axes.patches:
        if isinstance(patch, StepPatch) and (name := _name(patch)):
            yield from _of_steps(patch, name)
    for image in axes.get_images():
        if name := _name(image):
            values: Any = np.ma.filled(np.ma.asarray(image.get_array()), np.nan)
            yield from (CsvRow(name, column, row, value) for (row, column), value in np.ndenumerate(values))


def _of_line(axes: Axes, line: Line2D, name: str) -> Iterator[CsvRow]:
    x, y = (np.atleast_1d(np.asarray(values, dtype=float)) for values in line.get_data())
    if line.get_transform() == axes.get_yaxis_transform(which="grid"):
        yield CsvRow(name, math.nan, float(y[0]))
    elif line.get_transform() == axes.get_xaxis_transform(which="grid"):
        yield CsvRow(name, float(x[0]), math.nan)
    else:
        for index in np.flatnonzero(np.isfinite(x) & np.isfinite(y)):
            row = CsvRow(name, float(x[index]), float(y[index]))
            found = [
                row._replace(
                    interval=f"{drawn.along}: {drawn.of}", low=float(drawn.low[index]), high=float(drawn.high[index])
                )
                for drawn in intervals_of(line)
            ]
            yield from found or [row]


def _of_steps(patch: StepPatch, name: str) -> Iterator[CsvRow]:
    """Yield bins at their centres; of an area between two lines its middle."""
    heights, edges, base = patch.get_data()
    if is_area := np.ndim(base) > 0:
        heights, bottom = (heights + base) / 2, np.asarray(base, dtype=float)
    for index, (low, high) in enumerate(pairwise(edges)):
        row = CsvRow(name, (low + high) / 2, float(heights[index]), interval="x: bin", low=low, high=high)
        yield row
        if is_area:
            yield row._replace(interval="y: error", low=bottom[index], high=2 * row.y - bottom[index])


def _of_mesh(mesh: QuadMesh, name: str) -> Iterator[CsvRow]:
    corners = np.asarray(mesh.get_coordinates(), dtype=float)
    centres = (corners[:-1, :-1] + corners[1:, 1:]) / 2
    values: Any = np.ma.filled(np.ma.asarray(mesh.get_array()), np.nan)
    for place, value in np.ndenumerate(values):
        if np.isfinite(value):
            yield CsvRow(name, float(centres[place][0]), float(centres[place][1]), float(value))


def _name(artist: Any) -> str:
    """Return the label of an artist; "" if it has none of its own."""
    label = str(artist.get_label())
    return "" if label.startswith(("_child", "_nolegend_")) else plain(label.removeprefix("_"))


def _place(axis: Axis, value: float) -> str:
    """Return a position on an axis: the nearest name if the axis has names, else the number."""
    formatter = axis.get_major_formatter()
    if isinstance(axis.get_major_locator(), FixedLocator) and isinstance(formatter, FuncFormatter):
        return "" if math.isnan(value) else plain(formatter(round(value), None).replace("\n", " "))
    return _text(value)


def _text(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""
