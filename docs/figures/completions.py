"""Completions by a run of `diffusion_mae`: `python docs/figures/completions.py RUN --data TRAIN_FOLDER`.

Writes `completions.png` beside this file: held-out jets, what of them is visible, and the hidden half drawn thrice.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import matplotlib.pyplot as plt
import torch
from augmentations import draw, key
from held_out import asked, held_out

from ssl_jets.evaluation.probes.observables import observables
from ssl_jets.methods.diffusion_mae import DiffusionMaskedAutoencoder
from ssl_jets.model_file import load_method
from ssl_jets.nn import masking
from ssl_jets.report.figures.look import style

SHOWN = ("QCD", "Hbb", "Tbqq")
SAMPLES = 3


def main() -> None:
    """Write the figure."""
    args = asked(__doc__)
    jets, of = held_out(args, 1000)
    method = cast(DiffusionMaskedAutoencoder, load_method(args.run).eval())
    jets = jets.select(torch.stack([of[name][0] for name in SHOWN]))
    hidden = masking.hide(jets, "random", method.cfg.mask_ratio)
    columns = {"": jets, "visible": jets.keep(~hidden)}
    columns |= {f"completed {number + 1}": made for number, made in enumerate(method.complete(jets, hidden, SAMPLES))}
    with style():
        figure, grid = plt.subplots(
            len(SHOWN), len(columns), figsize=(11, 7.6), sharex=True, sharey=True, layout="constrained"
        )
        for column, (title, drawn) in enumerate(columns.items()):
            masses = observables(drawn)["mass"]
            for row, name in enumerate(SHOWN):
                one = drawn.select(torch.tensor([row]))
                draw(grid[row, column], one, f"{title or name}\n{masses[row]:.0f} GeV")
                grid[row, column].title.set_fontsize(10)
        figure.legend(handles=key()[:-1], loc="outside lower center", ncols=7, frameon=False, fontsize=11)
        figure.savefig(Path(__file__).with_suffix(".png"), dpi=70, metadata={"Software": None})


if __name__ == "__main__":
    main()
