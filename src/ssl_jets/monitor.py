"""What is watched while training: validation loss, a probe of z and the spread of z, on held-out jets.

Nothing here feeds back into the training: the method is in evaluation mode, no gradient is kept, and the random numbers
are drawn from a generator state that is put back.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.spread import spread


class Monitor:
    """Looks at a method on fixed held-out jets.

    Args:
        jets: held-out jets.
        batch_size: jets of one forward pass.
        classes: number of classes; 0 for jets without labels, which cannot be probed.
    """

    def __init__(self, jets: Jets, batch_size: int, classes: int) -> None:
        self.jets, self.batch_size, self.classes = jets, batch_size, classes

    @torch.no_grad()
    def look(self, method: Method, progress: float) -> dict[str, float]:
        """Mean loss and its parts, `probe_accuracy`, and the spread of z. Every look draws the same random numbers."""
        method.eval()
        encoder = method.exported()
        device = next(method.parameters()).device
        totals: dict[str, float] = {}
        z = []
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for jets in self._batches():
                moved = jets.to(device)
                for name, value in method(moved, progress).items():
                    totals[name] = totals.get(name, 0.0) + float(value) * len(jets) / len(self.jets)
                z.append(encoder(moved).z.float().cpu())
            looks = method.look(jets.to(device) for jets in self._batches())
        method.train()
        features = torch.cat(z)
        measured = spread(features)
        looks |= totals | {
            "z_std": measured.std,
            "z_mean_cosine": measured.mean_cosine,
            "z_participation_ratio": measured.participation_ratio,
            "rankme": measured.rankme,
        }
        if self.classes and self.jets.labels is not None and self.jets.source is not None:
            fit = first_half(self.jets.source)
            looks["probe_accuracy"] = ridge_accuracy(features, self.jets.labels, fit, self.classes)
        return looks

    def _batches(self) -> Iterator[Jets]:
        for index in torch.arange(len(self.jets)).split(self.batch_size):
            yield self.jets.select(index)


def first_half(source: Tensor) -> Tensor:
    """True for the jets in the first half of their file's entries, so that no event lies on both sides (but one)."""
    fit = torch.zeros(len(source), dtype=torch.bool)
    for file in source[:, 0].unique():
        inside = source[:, 0] == file
        fit[inside] = source[inside, 1] < source[inside, 1].median()
    return fit


def ridge_accuracy(z: Tensor, labels: Tensor, fit: Tensor, classes: int) -> float:
    """Accuracy of a ridge classifier of standardised z, fitted where `fit` is true and tested on the rest.

    A closed form that takes milliseconds: a guide while training, not the probe of `evaluate`.
    """
    known = labels >= 0
    train, test = fit & known, ~fit & known
    if not train.any() or not test.any():
        return float("nan")
    z = (z - z[train].mean(0)) / z[train].std(0).clamp(min=1e-6)
    z = torch.cat([z, torch.ones(len(z), 1)], dim=1).double()
    target = torch.nn.functional.one_hot(labels[train], classes).double()
    ridge = 1e-2 * train.sum() * torch.eye(z.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(z[train].T @ z[train] + ridge, z[train].T @ target)
    return float(((z[test] @ weights).argmax(1) == labels[test]).double().mean())
