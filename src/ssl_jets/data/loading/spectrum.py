"""Common spectrum of all classes in some jet columns (`data.flatten`): histograms measured once, and a factor per jet.

    f_c(b) = A_c t(b) / h_c(b),      sum of f_c(b) h_c(b) over all classes c and bins b = sum of h_c(b)

with the histogram h_c of class c, and the target t: the density of a uniform distribution, of one class or of one file.
Then every class has the spectrum t. Its number of jets A_c is the same for all ("balanced") or stays ("as-is"). Bins in
which a class has no jets get the factor 0, in every class. The factors become weights of the jets, or each jet comes
floor(f) or floor(f) + 1 times, so that it comes f times in the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ssl_jets.arrays import Array
from ssl_jets.config import FlattenSettings
from ssl_jets.jets import Jets


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Histograms of the training jets, and the factors that give all classes one spectrum.

    Attributes:
        settings: columns, bins, target.
        classes: names of the classes; one empty name for jets without labels.
        before: sums of weights, float64 `[class, bin, ...]`, an axis of bins for each column.
        target: target spectrum, of sum 1, `[bin, ...]`.
        factors: factor of a jet, `[class, bin, ...]`.
        outside: jets outside of the bins, or of no class.
        jets: all jets.
    """

    settings: FlattenSettings
    classes: tuple[str, ...]
    before: Array
    target: Array
    factors: Array
    outside: int
    jets: int

    @property
    def resamples(self) -> bool:
        """True if jets come several times or never; False if they have weights."""
        return self.settings.how == "resample"

    def of(self, columns: Mapping[str, Array], labels: Array) -> Array:
        """Return the factor of each jet, float64 `[jet]`; 0 outside of the bins and without a class.

        Args:
            columns: jet columns, `[jet]` each.
            labels: class of each jet, `[jet]`; ignored without classes.
        """
        cell, inside = cells_of(self.settings, columns)
        row = labels if self.classes != ("",) else np.zeros(len(inside), dtype=np.int64)
        inside &= row >= 0
        factors = np.zeros(len(inside))
        factors[inside] = self.factors[(row[inside], *(axis[inside] for axis in cell))]
        return factors

    def of_jets(self, jets: Jets) -> Array:
        """Return the factor of each jet in memory, float64 `[jet]`."""
        labels = np.full(len(jets), -1) if jets.labels is None else jets.labels.numpy()
        return self.of({name: jets.jet[name].numpy() for name in self.settings.by}, labels)

    def resampled(self, jets: Jets, seed: int) -> Jets:
        """Return jets in memory, each as often as its factor says; nothing changes for weights."""
        if not self.resamples:
            return jets
        copies = copies_of(self.of_jets(jets), np.random.default_rng(seed))
        return jets.select(torch.from_numpy(np.repeat(np.arange(len(jets)), copies)))

    def effective(self) -> dict[str, float]:
        """Return the effective sample size (sum f)^2 / sum f^2 of each class with jets, as a share of its jets."""
        shares = {}
        for name, counts, factors in zip(self.classes, self.before, self.factors):
            if not counts.any():
                continue
            total, squares = float((counts * factors).sum()), float((counts * factors**2).sum())
            shares[name] = total**2 / squares / float(counts.sum()) if squares else 0.0
        return shares

    def line(self) -> str:
        """Return the message about the measured spectra."""
        number = {name or "all": f"{share:.0%}" for name, share in self.effective().items()}
        lost = f"; {self.outside:,} of {self.jets:,} jets outside of the bins" if self.outside else ""
        shares = ", ".join(f"{name} {share}" for name, share in number.items())
        by = " x ".join(self.settings.by)
        return f"flatten: {self.settings.how}, {by} to {self.settings.to}; effective sample size {shares}{lost}"

    def facts(self) -> dict[str, Any]:
        """Return what `stored` reads, as plain values."""
        arrays = {"before": self.before, "target": self.target, "factors": self.factors}
        return {
            "settings": self.settings.model_dump(mode="json"),
            "classes": list(self.classes),
            **{name: array.tolist() for name, array in arrays.items()},
            "outside": self.outside,
            "jets": self.jets,
            "effective": self.effective(),
        }

    @classmethod
    def stored(cls, facts: Mapping[str, Any]) -> Spectrum:
        """Read the facts of a spectrum."""
        before, target, factors = (np.array(facts[name], dtype=np.float64) for name in ("before", "target", "factors"))
        settings = FlattenSettings.model_validate(facts["settings"])
        return cls(settings, tuple(facts["classes"]), before, target, factors, facts["outside"], facts["jets"])


def copies_of(factors: Array, rng: np.random.Generator) -> Array:
    """Return how often each jet comes, int64 `[jet]`: a factor of 2.25 is 2 or, for every fourth jet, 3."""
    copies: Array = np.floor(factors + rng.random(len(factors))).astype(np.int64)
    return copies


def cells_of(settings: FlattenSettings, columns: Mapping[str, Array]) -> tuple[list[Array], Array]:
    """Return the bin of each jet on each axis, and a mask of the jets inside of all axes, `[jet]` each.

    Edges 0, 1, 3: 0.5 is in bin 0, 1.0 in bin 1, and 3.0, -1.0 and NaN are outside.
    """
    cell = []
    inside = np.ones(len(columns[settings.by[0]]), dtype=np.bool_)
    for name, edges in zip(settings.by, settings.bins, strict=True):
        values = columns[name].astype(np.float64)
        index = np.searchsorted(edges, values, side="right") - 1
        inside &= (values >= edges[0]) & (values < edges[-1])
        cell.append(np.where(inside, index, 0))
    return cell, inside
