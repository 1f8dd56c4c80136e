"""Names, colours and line styles of classes and readers, the same in every figure and table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from matplotlib.transforms import offset_copy

_MATH = {
    "QCD": r"$q/g$",
    "Hbb": r"$H\to b\bar{b}$",
    "Hcc": r"$H\to c\bar{c}$",
    "Hgg": r"$H\to gg$",
    "H4q": r"$H\to 4q$",
    "Hqql": r"$H\to \ell\nu qq'$",
    "Zqq": r"$Z\to q\bar{q}$",
    "Wqq": r"$W\to qq'$",
    "Tbqq": r"$t\to bqq'$",
    "Tbl": r"$t\to b\ell\nu$",
}


_TEXT = {
    "QCD": "q/g (QCD)",
    "Hbb": "H → bb̄",
    "Hcc": "H → cc̄",
    "Hgg": "H → gg",
    "H4q": "H → 4q",
    "Hqql": "H → ℓνqq′",
    "Zqq": "Z → qq̄",
    "Wqq": "W → qq′",
    "Tbqq": "t → bqq′",
    "Tbl": "t → bℓν",
}


COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#92dadd", "#94a4a2", "#717581")
"""Ten colours that people with any colour vision tell apart (Petroff, arXiv:2107.02270), greys last: see `GREY`."""


GREY = "#717581"
"""Colour of references."""


MODEL_COLOURS = tuple(colour for colour in COLOURS if colour not in (COLOURS[2], GREY))
"""Colours of several models: without red and grey, which are of baselines and of a collapse."""


_STYLES = ("-", "--", ":", "-.")


def in_figure(name: str) -> str:
    """Return a class name for matplotlib; a name that is not of JetClass stays as it is."""
    return _MATH.get(name, name.replace("$", r"\$"))


def in_text(name: str) -> str:
    """Return a class name for HTML, not yet escaped."""
    return _TEXT.get(name, name)


def colour(name: str, classes: Sequence[str]) -> str:
    """Return the colour of a class, by its position in `classes`."""
    return COLOURS[list(classes).index(name) % len(COLOURS)]


def line_style(name: str, classes: Sequence[str]) -> str:
    """Return the line style of a class: neighbours in `classes` differ in it, not in colour alone."""
    return _STYLES[list(classes).index(name) % len(_STYLES)]


def reader(name: str, of: str) -> str:
    """Return the name of a probe: reader and input."""
    return f"{name}, {'random weights' if 'random' in of else of}"


_LABELS = {
    "mass": "mass [GeV]",
    "soft-drop mass": "soft-drop mass [GeV]",
    "jet_sdmass": "soft-drop mass [GeV]",
    "tau21": r"$\tau_{21}$",
    "tau32": r"$\tau_{32}$",
    "tau43": r"$\tau_{43}$",
    **{f"jet_tau{n}": rf"$\tau_{n}$" for n in (1, 2, 3, 4)},
    **{f"jet_tau{n}/jet_tau{n - 1}": rf"$\tau_{{{n}{n - 1}}}$" for n in (2, 3, 4)},
    "pt": r"$p_\mathrm{T}$ [GeV]",
    "jet_pt": r"jet $p_\mathrm{T}$ [GeV]",
    "jet_energy": "jet energy [GeV]",
    "|eta|": r"$|\eta|$",
    "jet_eta": r"jet $\eta$",
    "jet_phi": r"jet $\phi$ [rad]",
    "jet_mass": "jet mass [GeV]",
    "jet_nparticles": "particles in a jet",
    "a of σ(pt)/pt = a / sqrt(pt/GeV)": r"$a$ in $\sigma(p_\mathrm{T})/p_\mathrm{T} = a\,(p_\mathrm{T}/$GeV$)^{-1/2}$",
    "a of σ = a / (pt/GeV), at most 0.1": r"$a$ in $\sigma = a\,(p_\mathrm{T}/\mathrm{GeV})^{-1}$, at most 0.1",
    "factor": r"factor on $p_\mathrm{T}$",
}


PARTICLE_LABELS = {
    "pt": r"particle $p_\mathrm{T}$ [GeV]",
    "deta": r"particle $\Delta\eta$",
    "dphi": r"particle $\Delta\phi$ [rad]",
    "energy": "particle energy [GeV]",
    "charge": "charge [e]",
    "kind": "kind of particle",
    "d0": r"$d_0$ [mm]",
    "d0err": r"error of $d_0$ [mm]",
    "dz": r"$d_z$ [mm]",
    "dzerr": r"error of $d_z$ [mm]",
}
"""Titles of axes by canonical column of the particles."""


def axis_label(name: str) -> str:
    """Return the axis title of a jet column or physics quantity; an unknown name stays as it is."""
    return _LABELS.get(name, name.replace("$", r"\$"))


def density_label(title: str) -> str:
    """Return the axis title of a density, per unit of the quantity with this axis title.

    >>> density_label("jet mass [GeV]"), density_label("particles in a jet")
    ('density [1/GeV]', 'density')
    """
    unit = re.search(r" \[(.*)\]$", title)
    return f"density [1/{unit[1]}]" if unit else "density"


Along = Literal["x", "y"]


MOST_BANDS = 3
"""Lines of a panel that have bands: more bands lie on one another and hide the lines."""

SIDEWAYS = 6.0
"""Points by which the first and the last of many lines are moved to the sides, so that their bars can be seen."""


def band(line: Line2D, low: Any, high: Any, along: Along = "y", among: int = 1) -> None:
    """Shade between `low` and `high` `[point]` in the colour of the line, where `among` lines of a panel are few."""
    if among > MOST_BANDS:
        return
    look: dict[str, Any] = {"color": line.get_color(), "alpha": 0.15, "linewidth": 0}
    if along == "y":
        _axes(line).fill_between(line.get_xdata(), low, high, **look)
    else:
        _axes(line).fill_betweenx(line.get_ydata(), low, high, **look)


def bars(line: Line2D, low: Any, high: Any, along: Along = "y", width: float = 1.5) -> None:
    """Draw a bar from `low` to `high` `[point]` at each point of a line; None and NaN have no bar."""
    low, high = (np.atleast_1d(np.asarray(end, dtype=float)) for end in (low, high))
    look: dict[str, Any] = {"color": line.get_color(), "linewidth": width, "transform": line.get_transform()}
    if along == "y":
        _axes(line).vlines(line.get_xdata(), low, high, **look)
    else:
        _axes(line).hlines(line.get_ydata(), low, high, **look)


def band_or_bars(line: Line2D, low: Any, high: Any, position: int, among: int) -> None:
    """Draw a band around a line of few points, or bars where its panel has more than `MOST_BANDS` lines.

    Bars stand side by side: `position` is the number of the line in its panel, from 0, of `among` lines.
    """
    if among > MOST_BANDS:
        axes = _axes(line)
        points = SIDEWAYS * (2 * position / (among - 1) - 1)  # 4 lines: -6, -2, 2, 6
        line.set_transform(offset_copy(axes.transData, axes.get_figure(root=True), x=points, units="points"))
        bars(line, low, high, width=1.2)
        for ends in (low, high):  # limits of the axes do not include bars that are moved
            axes.update_datalim(np.column_stack([line.get_xdata(), ends]))
        axes.autoscale_view()
    else:
        band(line, low, high)


def _axes(line: Line2D) -> Axes:
    assert isinstance(line.axes, Axes)
    return line.axes


def panel_grid(
    number: int, width: float, height: float, most: int = 3, more: tuple[float, float] = (0, 0), **grid: Any
) -> tuple[Figure, list[Axes]]:
    """Make a figure of `number` panels in rows of at most `most`; the rest of the last row is empty.

    Args:
        number: how many; at least one.
        width: of a panel [inch].
        height: of a panel [inch].
        most: panels of a row.
        more: width and height of the figure around the panels [inch].
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
    """Add a colour bar as high as the matrix at its right; the layout keeps room for its label."""
    axes.figure.colorbar(image, ax=axes, label=label, fraction=0.06, pad=0.03, aspect=22)


def level(axes: Axes, value: float, name: str) -> None:
    """Draw a dotted line across a panel, with its name at the left end."""
    axes.axhline(value, color=GREY, linestyle=":", linewidth=1.2)
    where: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    axes.annotate(name, (0, value), (10, 3), **where, color=GREY, fontsize=10)  # right of the ticks


def count_axis(axes: Axes, counts: Iterable[int]) -> None:
    """Make the x axis logarithmic, with ticks at these numbers of jets, or at six of them.

    The ticks of Matplotlib crowd within one decade: 27 and 270 are labelled 3 x 10^1, 4 x 10^1, 6 x 10^1, 10^2, ...
    """
    ticks = sorted(set(counts))
    shown = ticks[:: -(-len(ticks) // 6)]
    axes.set_xscale("log")
    axes.set_xticks(shown, [f"{count:,}" for count in shown])
    axes.xaxis.set_minor_locator(NullLocator())


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Make `axes` a list, from the top: row n, at height n, has a name and a line above it."""
    for border in range(1, len(names)):
        axes.axhline(border - 0.5, color="#dcdcdc", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", which="both", length=0)
