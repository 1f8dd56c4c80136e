"""Regression of jet columns: standardized targets, whose statistics are saved with the weights, and the head f(z).

    t = (asinh((x - c) / s) - m) / d

with the median c and half the central 68 % s of the column, and mean m and standard deviation d of the asinh. It is
linear in the core and logarithmic in both tails, which compresses heavy tails without assuming a positive column; zero
(a jet groomed away) needs no special case. A constant prediction has a mean squared error of 1, so the error is the
fraction of unexplained variance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.nn.heads import mlp


def columns_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the jet columns of targets; a target is a column `A` or the ratio `A/B` of two.

    Example:
        >>> columns_of(["jet_sdmass", "jet_tau2/jet_tau1"])
        ('jet_sdmass', 'jet_tau2', 'jet_tau1')
    """
    return tuple(dict.fromkeys(column for name in names for column in name.split("/")))


class Targets(nn.Module):
    """Jet columns, or ratios of two, as standardized regression targets.

    Args:
        names: names of the targets, `A` or `A/B`.
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

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Fit the statistics on `batches` of the training stream; jets without a target are skipped.

        Raises:
            SslJetsError: no jet has a finite value of a target.
        """
        values = torch.cat([self.raw(jets) for jets in batches])
        for index, name in enumerate(self.names):
            finite = values[:, index][values[:, index].isfinite()]
            if not len(finite):
                raise SslJetsError("no training jet has a finite value of a target", where=f"target {name}")
            low, centre, high = finite.quantile(finite.new_tensor([0.16, 0.5, 0.84]))
            scale = (high - low) / 2 if high > low else finite.std(correction=0)
            scale = scale if scale > 0 else torch.ones_like(scale)
            compressed = torch.asinh((finite - centre) / scale)
            std = compressed.std(correction=0)
            self.centre[index] = centre
            self.scale[index] = scale
            self.mean[index] = compressed.mean()
            self.std[index] = std if std > 1e-9 else 1.0

    def raw(self, jets: Jets) -> Tensor:
        """Return the targets in physical units, float64 `[jet, target]`; NaN or infinite for a missing target."""
        return torch.stack([_raw(name, jets) for name in self.names], dim=1)

    def forward(self, jets: Jets) -> Tensor:
        """Return the standardized targets, float32 `[jet, target]`; NaN for a missing target."""
        return self.standardised(self.raw(jets))

    def standardised(self, raw: Tensor) -> Tensor:
        """Standardize values in the units of the files, float32 `[jet, target]`; NaN for values that are not finite."""
        values = (torch.asinh((raw.double() - self.centre) / self.scale) - self.mean) / self.std
        return values.masked_fill(~raw.isfinite(), torch.nan).float()

    def physical(self, values: Tensor) -> Tensor:
        """Convert standardized values `[jet, target]` to the units of the files, float32."""
        return (self.centre + self.scale * torch.sinh(self.mean + self.std * values.double())).float()


def _raw(name: str, jets: Jets) -> Tensor:
    """Return a target in physical units, float64 `[jet]`."""
    first, *rest = (jets.jet[column].double() for column in name.split("/"))
    return first / rest[0] if rest else first


def jets_having(names: Sequence[str], jets: Jets) -> dict[str, Tensor]:
    """Return the jets with a finite value of each target, bool `[jet]` by name."""
    return {name: _raw(name, jets).isfinite() for name in names}


RegressionOutput = Literal["mean", "quantile", "gaussian"]
"""Output of a regression head: the mean of a target, several quantiles, or a Gaussian for each jet."""

LEVELS = (0.16, 0.5, 0.84)
"""Default quantiles: the median and the central 68 %."""
SMALLEST_WIDTH = 0.01
"""Smallest width of a Gaussian, in standardized units, which bounds its likelihood."""


class Regressor(nn.Module):
    """Regression head from z `[jet, dim]` to standardized targets `[jet, target]`: linear, or one hidden layer.

    The loss of a target t, by the kind of head:

        mean       (t - m)^2
        quantile   mean over levels q of 2 max(q (t - v_q), (q - 1) (t - v_q))      (pinball; the median's is |t - v|)
        gaussian   (t - m)^2 / (2 w^2) + ln w,      width w of each jet

    t is a monotonic function of the jet column, so quantiles of t are quantiles of the column.

    Args:
        dim: dimension of z.
        names: names of the targets.
        hidden: width of the hidden layer; 0 for a linear head.
        kind: kind of the head, as above.
        levels: quantiles of a head of kind "quantile", in rising order and including 0.5.
    """

    def __init__(
        self,
        dim: int,
        names: Sequence[str],
        hidden: int = 0,
        kind: RegressionOutput = "mean",
        levels: Sequence[float] = LEVELS,
    ) -> None:
        super().__init__()
        self.dim, self.hidden, self.kind = dim, hidden, kind
        self.levels = () if kind == "mean" else tuple(levels)
        # Numbers, not a tensor: an exported graph has no operator for them, and models are built on the meta device.
        levels_on_cpu = torch.tensor(self.levels, dtype=torch.float32, device="cpu")
        self.normal_quantiles: list[float] = torch.special.ndtri(levels_on_cpu).tolist()
        self.targets = Targets(names)
        outputs = len(names) * {"mean": 1, "gaussian": 2, "quantile": len(self.levels)}[kind]
        self.layers = mlp(dim, hidden, outputs)

    def describe(self) -> dict[str, Any]:
        """Return the arguments of the constructor, as JSON."""
        lists = {"names": list(self.names), "levels": list(self.levels)}
        return {"dim": self.dim, "hidden": self.hidden, "kind": self.kind, **lists}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the targets, in the order of the outputs."""
        return self.targets.names

    def forward(self, z: Tensor) -> Tensor:
        """Predict standardized targets, float32 `[jet, target]`: the mean, or the median of a "quantile" head.

        The median is that of `bands`, also where quantiles cross.
        """
        outputs = self._outputs(z)
        if self.kind == "quantile":
            return outputs.sort(dim=2).values[..., self.levels.index(0.5)]
        return outputs[..., 0]

    def error(self, z: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of each jet and target, `[jet, target]`, for standardized `target` without NaN."""
        outputs = self._outputs(z)
        if self.kind == "mean":
            return (outputs[..., 0] - target).square()
        if self.kind == "gaussian":
            width = _width(outputs[..., 1])
            return ((target - outputs[..., 0]) / width).square() / 2 + width.log()
        off, levels = target.unsqueeze(2) - outputs, outputs.new_tensor(self.levels)
        return 2 * torch.maximum(levels * off, (levels - 1) * off).mean(2)

    def physical(self, z: Tensor) -> Tensor:
        """Predict targets in the units of the files, float32 `[jet, target]`."""
        return self.targets.physical(self(z))

    def bands(self, z: Tensor) -> Tensor:
        """Predict the quantiles at `levels` in the units of the files, float32 `[jet, target, level]`.

        Empty for a head of kind "mean". Crossing quantiles are sorted (arXiv:0704.3649).
        """
        outputs = self._outputs(z)
        if self.kind == "gaussian":
            outputs = outputs[..., :1] + _width(outputs[..., 1:]) * outputs.new_tensor(self.normal_quantiles)
        else:
            outputs = outputs[..., : len(self.levels)].sort(dim=2).values
        each = [self.targets.physical(outputs[..., index]) for index in range(len(self.levels))]
        return torch.stack(each, dim=2) if each else outputs[..., :0]

    def _outputs(self, z: Tensor) -> Tensor:
        """Return the raw outputs for each target, float32 `[jet, target, output]`."""
        values: Tensor = self.layers(z).float().unflatten(1, (len(self.names), -1))
        return values


def _width(raw: Tensor) -> Tensor:
    width: Tensor = nn.functional.softplus(raw) + SMALLEST_WIDTH
    return width
