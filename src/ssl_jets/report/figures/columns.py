"""Figure of the particle columns of files, as histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from ssl_jets.report.figures.look import style
from ssl_jets.report.figures.style import COLOURS, PARTICLE_LABELS
from ssl_jets.runtime.atomic import whole_file

if TYPE_CHECKING:  # a profile reads files, and the report imports no torch
    from ssl_jets.data.profile import Profile


_COUNT = "particles in a jet"

_MOST_FILES = 10
"""Files that are drawn: there are ten colours."""


def draw_columns(samples: Mapping[str, Profile], path: Path, *, force: bool = False) -> str:
    """Draw the number of particles and every particle column, a line for each file (at most ten).

    The lines are densities, so that files with other bins can be compared.

    Returns:
        A note on files that are not drawn; "" without any.

    Raises:
        UsageError: the figure exists and `force` is not given.
    """
    drawn = dict(zip(short_names(list(samples)), list(samples.values())[:_MOST_FILES]))
    few = f"the first {_MOST_FILES} of {len(samples)} files" if len(samples) > _MOST_FILES else ""
    names = list(dict.fromkeys(name for sample in drawn.values() for name in sample.columns))
    with style(), whole_file(path, force=force) as temporary:
        rows = -(-(len(names) + 1) // 4)
        figure, axes = plt.subplots(rows, 4, figsize=(14, 3 * rows), layout="constrained", squeeze=False)
        for panel, name in zip(axes.flat, [_COUNT, *names]):
            for (file, sample), colour in zip(drawn.items(), COLOURS):
                column = sample.particles if name == _COUNT else sample.columns.get(name)
                if column is not None and any(column.histogram):
                    counts, width = np.array(column.histogram), np.diff(column.edges)
                    panel.stairs(counts / counts.sum() / width, column.edges, label=file, color=colour)
            panel.set(xlabel=PARTICLE_LABELS.get(name, name.replace("$", r"\$")), yscale="log")
        for panel in axes.flat[len(names) + 1 :]:
            panel.set_axis_off()
        for first in axes[:, 0]:
            first.set_ylabel("density")
        options = {"ncols": 5, "fontsize": 9, "title_fontsize": 9, "title": few}
        figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside upper left", **options)
        figure.savefig(temporary, format="png", dpi=100)
        plt.close(figure)
    return few


def short_names(paths: Sequence[str]) -> list[str]:
    """Return the shortest unique ends of paths: the names of the files if these differ.

    >>> short_names(["/data/a/jets.root", "/data/b/jets.root"])
    ['a/jets.root', 'b/jets.root']
    """
    parts = [path.split("/") for path in paths]
    for depth in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(one[-depth:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)
