"""Heads f(z) = y, and projectors to the space where views are compared."""

from __future__ import annotations

from collections.abc import Callable

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
    """`[jet, dim]` to the space of a loss, `[jet, out]`: linear maps with a norm and GELU between them.

    The papers have BatchNorm here. LayerNorm, the default, knows nothing of the other jets: the loss is the same in
    training and evaluation and on any number of ranks, and no view learns of another through the statistics of the
    batch. No map has a bias: a norm follows and has one, and after the last it is the easiest way to a constant.

    Args:
        dim: numbers in.
        hidden: width between the maps.
        out: numbers out.
        layers: number of linear maps; 0 for none, the identity, which needs `out` to be `dim`.
        norm: from a width to the layer between the maps.
    """

    def __init__(
        self, dim: int, hidden: int, out: int, layers: int, norm: Callable[[int], nn.Module] = nn.LayerNorm
    ) -> None:
        widths = [dim, *[hidden] * (layers - 1), out]
        steps: list[nn.Module] = []
        for index in range(layers):
            steps += [norm(hidden), nn.GELU()] if index else []
            steps.append(nn.Linear(widths[index], widths[index + 1], bias=False))
        super().__init__(*steps)


class CountHead(nn.Module):
    """p(n | z): how many particles a jet has, as a class for each number from 1 to `most`. Larger n count as `most`.

    Args:
        dim: numbers of z.
        most: largest number.
        hidden: width of the hidden layer.
    """

    def __init__(self, dim: int, most: int, hidden: int) -> None:
        super().__init__()
        self.most = most
        self.logits = ClassHead(dim, most, hidden)

    def error(self, z: Tensor, counts: Tensor) -> Tensor:
        """-ln p(n | z) of each jet, `[jet]`, for int64 counts `[jet]`."""
        target = counts.clamp(1, self.most) - 1
        return nn.functional.cross_entropy(self.logits(z).float(), target, reduction="none")

    def quantile(self, z: Tensor, share: Tensor) -> Tensor:
        """The smallest n that p(n | z) exceeds with no more than 1 - share, int64 `[jet]`: 0.5 gives the median, a
        uniform random number gives a draw."""
        reached: Tensor = self.logits(z).float().softmax(1).cumsum(1)
        return (reached < share.float().unsqueeze(1)).sum(1).clamp(max=self.most - 1) + 1
