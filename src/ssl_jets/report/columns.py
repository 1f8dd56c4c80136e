"""The columns of files of jets as histograms, in one figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import matplotlib.pyplot as plt

from ssl_jets.data.survey import UNITS
from ssl_jets.output import whole_file
from ssl_jets.report.figures import style


class Histogram(Protocol):
    """Counts in bins."""

    @property
    def histogram(self) -> list[int]: ...
    @property
    def edges(self) -> list[float]: ...


class Sample(Protocol):
    """What some jets of a file look like."""

    @property
    def particles(self) -> Histogram: ...
    @property
    def columns(self) -> Mapping[str, Histogram]: ...


_MOST_FILES = 10
"""Files that are drawn; more could not be told apart."""


def draw_columns(samples: Mapping[str, Sample], path: Path, *, force: bool = False) -> None:
    """Write a figure of the particles of a jet and of every particle column, a line for each file (at most ten).

    Raises:
        UsageError: the figure exists and `force` is not given.
    """
    drawn = dict(list(samples.items())[:_MOST_FILES])
    names = list(dict.fromkeys(name for sample in drawn.values() for name in sample.columns))
    with style(), whole_file(path, force=force) as temporary:
        rows = -(-(len(names) + 1) // 4)
        figure, axes = plt.subplots(rows, 4, figsize=(14, 3 * rows), layout="constrained", squeeze=False)
        for place, name in zip(axes.flat, ["particles a jet", *names]):
            for file, sample in drawn.items():
                column = sample.particles if name == "particles a jet" else sample.columns.get(name)
                if column is not None and any(column.histogram):
                    share = [count / sum(column.histogram) for count in column.histogram]
                    place.stairs(share, column.edges, label=file)
            place.set(xlabel=_with_unit(name), yscale="log")
        for place in axes.flat[len(names) + 1 :]:
            place.set_axis_off()
        for first in axes[:, 0]:
            first.set_ylabel("share")
        axes.flat[0].legend(fontsize=7)
        figure.savefig(temporary, format="png", dpi=100)
        plt.close(figure)


def _with_unit(name: str) -> str:
    return f"{name} [{UNITS[name]}]" if UNITS.get(name) else name
