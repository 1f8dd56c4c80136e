"""Heads f(z) = y, and projectors of contrastive and joint-embedding losses."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class ClassHead(nn.Module):
    """Classifier of z `[jet, dim]`, logits `[jet, classes]`: linear, or an MLP with one hidden layer.

    Args:
        dim: dimension of z.
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
        """Return the logits `[jet, classes]`."""
        logits: Tensor = self.layers(z)
        return logits


class Projector(nn.Sequential):
    """Projector `[jet, dim]` to the space of a loss `[jet, out]`: linear layers with norm and GELU in between.

    The papers use BatchNorm. With LayerNorm, the default, the loss is the same in training and evaluation and on any
    number of ranks, and no information leaks between views through batch statistics. The layers have no bias: a norm
    follows and has one, and after the last layer a bias would favour a constant output.

    Args:
        dim: input dimension.
        hidden: width of the hidden layers.
        out: output dimension.
        layers: number of linear layers; 0 is the identity and requires `out` = `dim`.
        norm: function from a width to the norm layer.
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
    """Multiplicity distribution p(n | z), with a class for each n from 1 to `most`; larger n count as `most`.

    Args:
        dim: dimension of z.
        most: largest multiplicity.
        hidden: width of the hidden layer.
    """

    def __init__(self, dim: int, most: int, hidden: int) -> None:
        super().__init__()
        self.most = most
        self.logits = ClassHead(dim, most, hidden)

    def error(self, z: Tensor, counts: Tensor) -> Tensor:
        """Compute -ln p(n | z) of each jet, `[jet]`, for int64 counts `[jet]`."""
        target = counts.clamp(1, self.most) - 1
        return nn.functional.cross_entropy(self.logits(z).float(), target, reduction="none")

    def quantile(self, z: Tensor, share: Tensor) -> Tensor:
        """Return the quantile of p(n | z) at `share` `[jet]`, int64 `[jet]`.

        A share of 0.5 gives the median, a uniform random number a draw.
        """
        cumulative: Tensor = self.logits(z).float().softmax(1).cumsum(1)
        return (cumulative < share.float().unsqueeze(1)).sum(1).clamp(max=self.most - 1) + 1
