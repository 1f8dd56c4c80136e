"""The line above a figure: experiment and status at its left end, luminosity and energy at its right end."""

from __future__ import annotations

import mplhep
from matplotlib.figure import Figure

from ssl_jets.evaluation.settings import FigureSettings

_LEAST_WIDTH = 6.0
"""Room of the line, where the figure has it [inch]."""

_SIZES = (17, 14, 13, 13)
"""Font sizes of experiment, status, right end, and supplement."""


def draw_label(figure: Figure, label: FigureSettings) -> None:
    """Draw the line above the panels of a figure with `mplhep`; nothing without settings."""
    if label == FigureSettings():
        return
    figure.suptitle(" ", fontsize=_SIZES[0])  # makes room in the layout
    figure.draw_without_rendering()
    boxes = [axes.get_position() for axes in figure.axes if axes.get_visible()]
    left = min(box.x0 for box in boxes)
    # A narrow panel lends the line the room of its legend, so that both ends do not meet.
    right = min(0.99, max(*(box.x1 for box in boxes), left + _LEAST_WIDTH / figure.get_figwidth()))
    tops = [axes.get_tightbbox() for axes in figure.axes if axes.get_visible()]
    top = max(box.y1 for box in tops if box is not None) / figure.bbox.height
    strip = figure.add_axes((left, 0, right - left, top), frameon=False, label="<label>")
    strip.set_in_layout(False)
    strip.set_axis_off()
    experiment = label.experiment
    own = getattr(getattr(mplhep, experiment.lower(), None), "label", None) if experiment.isalpha() else None
    draw = own or mplhep.label.exp_label
    texts = {"llabel": _plain(label.status), "rlabel": _data(label), "fontsize": _SIZES, "loc": 0, "ax": strip}
    draw(**texts if own else {**texts, "exp": _plain(experiment)})


def _data(label: FigureSettings) -> str:
    """Return luminosity and energy, such as `138 fb^-1 (13.6 TeV)`; without those that are not set."""
    luminosity, energy = label.luminosity, label.energy
    parts = [rf"{luminosity:g} $\mathrm{{fb}}^{{-1}}$"] if luminosity else []
    if energy:
        parts.append(f"({energy:g} TeV)" if luminosity else f"{energy:g} TeV")
    return " ".join(parts)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")
