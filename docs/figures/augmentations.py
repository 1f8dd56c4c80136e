"""Draw every augmentation on one real jet, before and after: `python docs/figures/augmentations.py`.

A top jet of the bundled sample in the plane around its axis. Areas are as pt, colours are kinds of particles, black
rings are displaced tracks; energies are not shown. Hollow grey markers are where particles were before.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ssl_jets.data.files import EntryRange, open_files
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.sources import sample_sources
from ssl_jets.jets import KINDS, Jets
from ssl_jets.nn.augment import AUGMENTATIONS
from ssl_jets.report.figures.look import style
from ssl_jets.report.figures.style import COLOURS, GREY

STRENGTH = {
    "rotate": math.pi, "reflect": 1.0, "boost": 0.6, "shift": 0.3, "crop_region": 0.7, "crop_hardest": 0.7,
    "thin": 0.7, "drop": 0.99, "split": 1.0, "smear": 0.3, "resolution": 1.0, "beam": 2.0,
    "hide_tracks": 1.0, "hide_kind": 1.0,
}  # fmt: skip
"""Stronger than in any training, so that each is seen."""
SEED = {"crop_region": 2, "crop_hardest": 2, "thin": 4}
"""Where the default 5 draws a change that is hard to see."""
SAMPLE, ENTRY, REACH = "TTBar.root", 2, 0.75
TRACK_SIGNIFICANCE = 5.0


def main() -> None:
    """Write `augmentations.png` beside this file."""
    (file,) = (file for file in open_files(sample_sources()) if file.name == SAMPLE)
    (jet,) = ordered([file], [EntryRange(0, ENTRY, ENTRY + 1)])
    with style():
        figure, grid = plt.subplots(3, 5, figsize=(13, 8.6), sharex=True, sharey=True, layout="constrained")
        panels = iter(grid.flat)
        draw(next(panels), jet, "as it is")
        for augmentation in AUGMENTATIONS:
            name = augmentation.__name__
            torch.manual_seed(SEED.get(name, 5))
            axes = next(panels)
            before(axes, jet)
            draw(axes, augmentation(jet, STRENGTH[name]), name)
        for axes in grid[-1]:
            axes.set_xlabel(r"$\Delta\eta$")
        for axes in grid[:, 0]:
            axes.set_ylabel(r"$\Delta\phi$")
        figure.legend(handles=key(), loc="outside lower center", ncols=8, frameon=False, fontsize=11)
        figure.savefig(Path(__file__).with_suffix(".png"), dpi=85, metadata={"Software": None})


def before(axes: Axes, jet: Jets) -> None:
    """Where the particles were."""
    place = (jet.column("deta"), jet.column("dphi"))
    axes.scatter(*place, s=area(jet), facecolors="none", edgecolors="#c8c8c8", linewidths=0.8)


def draw(axes: Axes, jet: Jets, title: str) -> None:
    """The particles as they are now."""
    place = (jet.column("deta"), jet.column("dphi"))
    colours: str | list[str] = GREY
    if "kind" in jet.columns:
        colours = [COLOURS[kind] for kind in jet.column("kind").long().tolist()]
    axes.scatter(*place, s=area(jet), c=colours, linewidths=0, alpha=0.75)
    if "d0" in jet.columns:
        far = jet.column("d0").abs() > TRACK_SIGNIFICANCE * jet.column("d0err").clamp(min=1e-6)
        rings = [values[far] for values in (*place, area(jet))]
        axes.scatter(*rings[:2], s=rings[2] + 12, facecolors="none", edgecolors="black", linewidths=1.2)
    axes.set(title=title, xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
    axes.axhline(0, color="#e4e4e4", linewidth=0.8, zorder=0)
    axes.axvline(0, color="#e4e4e4", linewidth=0.8, zorder=0)


def area(jet: Jets) -> torch.Tensor:
    """Of the markers, in points squared."""
    return (2.0 * jet.column("pt")).clamp(min=5)


def key() -> list[Line2D]:
    """What colours and rings mean."""
    dots = [Line2D([], [], marker="o", linestyle="", color=COLOURS[i], label=KINDS[i]) for i in range(len(KINDS) - 1)]
    ring = {"marker": "o", "linestyle": "", "markerfacecolor": "none"}
    dots.append(Line2D([], [], **ring, markeredgecolor="black", label="displaced track"))
    dots.append(Line2D([], [], **ring, markeredgecolor="#b0b0b0", label="before"))
    return dots


if __name__ == "__main__":
    main()
