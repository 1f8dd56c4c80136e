"""Heads f(z) = y, and projectors to the space where views are compared."""

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


class Projector(nn.Sequential):
    """`[jet, dim]` to the space of a loss, `[jet, out]`: linear maps with LayerNorm and GELU between them.

    The papers have BatchNorm here. LayerNorm knows nothing of the other jets: the loss is the same in training and
    evaluation and on any number of ranks, a batch of one jet is fine, a teacher has no running statistics to follow,
    and no view learns of the other through the statistics of the batch. The last map has no bias: VICReg's loss does
    not see one, and it is the easiest way to a constant.

    Args:
        dim: numbers in.
        hidden: width between the maps.
        out: numbers out.
        layers: number of linear maps; 0 for none, the identity, which needs `out` to be `dim`.
    """

    def __init__(self, dim: int, hidden: int, out: int, layers: int) -> None:
        widths = [dim, *[hidden] * (layers - 1), out]
        steps: list[nn.Module] = []
        for index in range(layers):
            steps += [nn.LayerNorm(hidden), nn.GELU()] if index else []
            steps.append(nn.Linear(widths[index], widths[index + 1], bias=index < layers - 1))
        super().__init__(*steps)
