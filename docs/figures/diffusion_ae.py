"""Jets of a run of `diffusion_ae`, next to real ones: `python docs/figures/diffusion_ae.py RUN --data TRAIN_FOLDER`.

Writes two figures beside this file. `interpolation.png`: along the great circle in z from a top jet to a QCD jet, one
pair as jets, and of many pairs mass and number of particles. `reconstructed.png`: real jets of several classes, the
same drawn again from their z, and new jets. All real jets were held out of the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import matplotlib.pyplot as plt
import numpy as np
import torch
from augmentations import draw, key
from held_out import asked, held_out
from matplotlib.figure import Figure

from ssl_jets.evaluation.probes.observables import observables
from ssl_jets.jets import Jets
from ssl_jets.methods.diffusion_ae import DiffusionAutoencoder
from ssl_jets.model_file import load_method
from ssl_jets.report.figures.look import style

SHOWN = ("QCD", "Wqq", "Hbb", "H4q", "Tbqq", "Tbl")
FROM, TO = "Tbqq", "QCD"
PLACES, PAIRS = 7, 200
OBSERVABLES = {"mass": "mass of the jet [GeV]", "particles": "particles"}


def main() -> None:
    """Write both figures."""
    args = asked(__doc__)
    jets, of = held_out(args, 4000)
    method = cast(DiffusionAutoencoder, load_method(args.run).eval())
    with style():
        real = jets.select(torch.stack([of[name][0] for name in SHOWN]))
        save(reconstructed(real, method.reconstruct(real), method.generate(len(SHOWN))), "reconstructed")
        ends = (jets.select(of[name][:PAIRS]) for name in (FROM, TO))
        save(interpolation(method.interpolate(*ends, PLACES)), "interpolation")


def save(figure: Figure, name: str) -> None:
    """As a PNG beside this file."""
    figure.savefig(Path(__file__).with_name(f"{name}.png"), dpi=70, metadata={"Software": None})
    plt.close(figure)


def reconstructed(real: Jets, again: Jets, new: Jets) -> Figure:
    """Real jets, the same from their z, and jets from the prior."""
    figure, grid = plt.subplots(3, len(SHOWN), figsize=(13, 7.6), sharex=True, sharey=True, layout="constrained")
    for axes, jets, names in zip(grid, (real, again, new), (SHOWN, ["from its z"] * 6, ["new"] * 6), strict=True):
        row(axes, jets, names)
    figure.legend(handles=key()[:-1], loc="outside lower center", ncols=7, frameon=False, fontsize=11)
    return figure


def row(panels: Sequence[plt.Axes], jets: Jets, names: Sequence[str]) -> None:
    """One jet a panel, with its mass and number of particles."""
    found = observables(jets)
    for index, (axes, name) in enumerate(zip(panels, names, strict=True)):
        sizes = f"{found['mass'][index]:.0f} GeV, {found['particles'][index]:.0f} particles"
        draw(axes, jets.select(torch.tensor([index])), f"{name}\n{sizes}")
        axes.title.set_fontsize(10)


def interpolation(places: list[Jets]) -> Figure:
    """Above the first pair at each place, below the median and the central 68 % of all pairs."""
    figure = plt.figure(figsize=(13, 6), layout="constrained")
    grid = figure.add_gridspec(2, 2 * len(places), height_ratios=(1, 1.3))
    along = np.linspace(0, 1, len(places))
    for index, jets in enumerate(places):
        axes = figure.add_subplot(grid[0, 2 * index : 2 * index + 2])
        row([axes], jets.select(torch.tensor([0])), [f"{along[index]:.2f}"])
        axes.tick_params(labelbottom=False, labelleft=False)
    found = [observables(jets) for jets in places]
    for half, (name, title) in enumerate(OBSERVABLES.items()):
        axes = figure.add_subplot(grid[1, half * len(places) : (half + 1) * len(places)])
        low, middle, high = np.array([np.quantile(f[name], (0.16, 0.5, 0.84)) for f in found]).T
        axes.fill_between(along, low, high, alpha=0.25, linewidth=0, label=f"68 % of {PAIRS} pairs")
        axes.plot(along, middle, "o-", label="median")
        axes.plot(along, [f[name][0] for f in found], "--", color="0.4", label="the pair above")
        axes.set(xlabel=f"from {FROM} (0) to {TO} (1) in z", ylabel=title)
        axes.legend(frameon=False, fontsize=10)
    return figure


if __name__ == "__main__":
    main()
