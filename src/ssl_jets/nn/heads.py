"""Heads f(z) = y."""

from __future__ import annotations

from torch import Tensor, nn


class ClassHead(nn.Module):
    """z `[jet, dim]` to logits `[jet, classes]`: linear, or an MLP with one hidden layer.

    Args:
        dim: numbers in z.
        classes: number of classes.
        hidden: width of the hidden layer; 0 for a linear head.
    """

    def __init__(self, dim: int, classes: int, hidden: int = 0) -> None:
        super().__init__()
        self.dim, self.classes, self.hidden = dim, classes, hidden
        self.layers = (
            nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, classes))
            if hidden
            else nn.Sequential(nn.Linear(dim, classes))
        )

    def forward(self, z: Tensor) -> Tensor:
        """Logits `[jet, classes]`."""
        logits: Tensor = self.layers(z)
        return logits
