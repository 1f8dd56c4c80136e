"""Uncertainties of lines and points: drawn, and kept with the line for the numbers beside the figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import offset_copy

Values = np.ndarray[Any, Any]
Along = Literal["x", "y"]


@dataclass(frozen=True)
class Interval:
    """What is drawn around the points of a line.

    Attributes:
        of: what it is, such as "68 %".
        along: the axis it is on.
        low, high: its ends, `[point]`; NaN where a point has none.
    """

    of: str
    along: Along
    low: Values
    high: Values


MOST_BANDS = 3
"""Lines of a panel that have bands: more bands lie on one another and hide the lines."""

_DRAWN: WeakKeyDictionary[Line2D, list[Interval]] = WeakKeyDictionary()


def intervals_of(line: Line2D) -> list[Interval]:
    """All that was drawn around a line by `band` and `bars`."""
    return _DRAWN.get(line, [])


def band(line: Line2D, low: Any, high: Any, of: str = "68 %", along: Along = "y", among: int = 1) -> None:
    """Shade between `low` and `high` `[point]`, in the colour of the line, if the panel has few lines.

    Args:
        line: the line.
        low, high: ends of the interval of each point.
        of: what the interval is.
        along: the axis it is on.
        among: lines of the panel; of more than `MOST_BANDS` the interval is kept for the CSV alone.
    """
    x, y, kept = _keep(line, low, high, of, along)
    if among > MOST_BANDS:
        return
    look: dict[str, Any] = {"color": line.get_color(), "alpha": 0.15, "linewidth": 0}
    if along == "y":
        _axes(line).fill_between(x, kept.low, kept.high, **look)
    else:
        _axes(line).fill_betweenx(y, kept.low, kept.high, **look)


def bars(line: Line2D, low: Any, high: Any, of: str = "68 %", along: Along = "y", width: float = 1.5) -> None:
    """A bar from `low` to `high` through each point; they need not hold the point itself."""
    x, y, kept = _keep(line, low, high, of, along)
    look: dict[str, Any] = {"color": line.get_color(), "linewidth": width, "transform": line.get_transform()}
    if along == "y":
        _axes(line).vlines(x, kept.low, kept.high, **look)
    else:
        _axes(line).hlines(y, kept.low, kept.high, **look)


def band_or_bars(line: Line2D, low: Any, high: Any, of: str, place: int, among: int) -> None:
    """Draw a band, or bars side by side where a panel has more than `MOST_BANDS` lines.

    Args:
        line: a line of few points.
        low, high: ends of the interval of each point.
        of: what the interval is.
        place: number of the line in its panel, from 0.
        among: lines of the panel.
    """
    if among > MOST_BANDS:
        axes = _axes(line)
        points = 4 * (place - (among - 1) / 2)
        line.set_transform(offset_copy(axes.transData, axes.get_figure(root=True), x=points, units="points"))
        bars(line, low, high, of, width=1.2)
    else:
        band(line, low, high, of)


def _keep(line: Line2D, low: Any, high: Any, of: str, along: Along) -> tuple[Values, Values, Interval]:
    x, y = (np.atleast_1d(np.asarray(values, dtype=float)) for values in line.get_data())
    ends = (np.broadcast_to(np.asarray(end, dtype=float), x.shape) for end in (low, high))
    kept = Interval(of, along, *ends)
    _DRAWN.setdefault(line, []).append(kept)
    return x, y, kept


def _axes(line: Line2D) -> Axes:
    assert isinstance(line.axes, Axes)
    return line.axes
