"""Regression of jet columns: standardised targets whose statistics travel with the weights, and the head f(z).

    t = (asinh((x - c) / s) - m) / d

with the median c and half the central 68 % s of the column, and mean m and standard deviation d of the asinh. It is
linear in the core and logarithmic in both tails, so heavy tails are tamed without declaring a column positive, and a
zero (a jet groomed away) is no special case. A constant has a mean squared error of 1: what is left of it is the share
of the variance that is not explained.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets


def columns_of(names: Iterable[str]) -> tuple[str, ...]:
    """The jet columns that targets are computed from: a target is a column `A` or the ratio `A/B` of two."""
    return tuple(dict.fromkeys(column for name in names for column in name.split("/")))


class Targets(nn.Module):
    """Jet columns, or ratios of two, as standardised regression targets.

    Args:
        names: of the targets, `A` or `A/B`.
    """

    centre: Tensor
    scale: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        for statistic, value in (("centre", 0.0), ("scale", 1.0), ("mean", 0.0), ("std", 1.0)):
            self.register_buffer(statistic, torch.full((len(self.names),), value, dtype=torch.float64))

    def measure(self, batches: Iterable[Jets]) -> None:
        """Set the statistics from `batches` of the training stream; jets without a target are passed over.

        Raises:
            SslJetsError: no jet has a finite value of a target.
        """
        values = torch.cat([self.raw(jets) for jets in batches])
        for index, name in enumerate(self.names):
            known = values[:, index][values[:, index].isfinite()]
            if not len(known):
                raise SslJetsError("no training jet has a finite value of a target", where=f"target {name}")
            low, centre, high = known.quantile(known.new_tensor([0.16, 0.5, 0.84]))
            scale = (high - low) / 2 if high > low else known.std(correction=0)
            scale = scale if scale > 0 else torch.ones_like(scale)
            tamed = torch.asinh((known - centre) / scale)
            std = tamed.std(correction=0)
            self.centre[index], self.scale[index], self.mean[index] = centre, scale, tamed.mean()
            self.std[index] = std if std > 1e-9 else 1.0

    def raw(self, jets: Jets) -> Tensor:
        """The targets in physical units, float64 `[jet, target]`; NaN or infinite where a jet has none."""
        found = []
        for name in self.names:
            first, *rest = (jets.jet[column].double() for column in name.split("/"))
            found.append(first / rest[0] if rest else first)
        return torch.stack(found, dim=1)

    def forward(self, jets: Jets) -> Tensor:
        """The targets standardised, float32 `[jet, target]`; NaN where a jet has none."""
        raw = self.raw(jets)
        values = (torch.asinh((raw - self.centre) / self.scale) - self.mean) / self.std
        return values.masked_fill(~raw.isfinite(), torch.nan).float()

    def physical(self, values: Tensor) -> Tensor:
        """Standardised values `[jet, target]` in the units of the files, float32."""
        return (self.centre + self.scale * torch.sinh(self.mean + self.std * values.double())).float()


class Regressor(nn.Module):
    """z `[jet, dim]` to standardised targets `[jet, target]`: linear, or an MLP with one hidden layer.

    Args:
        dim: numbers in z.
        names: of the targets.
        hidden: width of the hidden layer; 0 for a linear head.
    """

    def __init__(self, dim: int, names: Sequence[str], hidden: int = 0) -> None:
        super().__init__()
        self.dim, self.hidden = dim, hidden
        self.targets = Targets(names)
        self.layers = (
            nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, len(names)))
            if hidden
            else nn.Sequential(nn.Linear(dim, len(names)))
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the targets, in the order of the outputs."""
        return self.targets.names

    def forward(self, z: Tensor) -> Tensor:
        """Standardised targets, float32 `[jet, target]`."""
        values: Tensor = self.layers(z)
        return values.float()

    def physical(self, z: Tensor) -> Tensor:
        """Targets in the units of the files, float32 `[jet, target]`."""
        return self.targets.physical(self(z))
