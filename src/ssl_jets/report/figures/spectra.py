"""Figure of the spectra of the training jets before and after `data.flatten`, from `flatten.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ssl_jets.report.figures.style import axis_label, colour, density_label, in_figure, line_style, panel_grid


def spectra(facts: Mapping[str, Any]) -> Figure:
    """Draw the density of each class in each column from the facts of a `Spectrum`: a panel before, one after."""
    by, bins, classes = facts["settings"]["by"], facts["settings"]["bins"], facts["classes"]
    before = np.array(facts["before"], dtype=float)  # [class, bin, ...]
    after = before * np.array(facts["factors"], dtype=float)
    figure, axes = panel_grid(2 * len(by), 4.5, 3.4, most=2)
    for number, (name, edges) in enumerate(zip(by, bins, strict=True)):
        for panel, (title, counts) in zip(axes[2 * number :], (("before", before), ("after", after))):
            others = tuple(axis for axis in range(1, counts.ndim) if axis != number + 1)
            for of_class, contents in zip(classes, counts.sum(axis=others), strict=True):
                density = contents / np.diff(edges) / max(contents.sum(), np.finfo(float).tiny)
                look: dict[str, Any] = {"color": colour(of_class, classes), "linestyle": line_style(of_class, classes)}
                panel.stairs(density, edges, label=in_figure(of_class or "all jets"), linewidth=1.6, **look)
            panel.set_ylim(0, None)
            panel.set_title(title)
            panel.set_xlabel(axis_label(name))
            panel.set_ylabel(density_label(axis_label(name)))
    axes[0].legend(fontsize=8, ncols=2)
    return figure
