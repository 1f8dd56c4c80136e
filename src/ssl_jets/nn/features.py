"""Canonical columns to standardised inputs, by a layer whose statistics travel with the weights.

Momenta, energies and track uncertainties enter by their logarithm; impact parameters by tanh and by the logarithm of
their significance, since |d0| reaches hundreds of millimetres (as in ParT, arXiv:2202.03772).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_jets.jets import KINDS, Jets


@dataclass(frozen=True)
class Feature:
    """One number computed from canonical columns of a particle."""

    name: str
    unit: str
    needs: tuple[str, ...]
    compute: Callable[..., Tensor]


def _significance(value: Tensor, error: Tensor) -> Tensor:
    """sign(s) ln(1 + |s|) with s = value / error; zero where there is no track (error = 0)."""
    ratio = torch.where(error > 0, value / error.clamp(min=1e-6), torch.zeros_like(value))
    return ratio.sign() * ratio.abs().log1p()


FEATURES = (
    Feature("log_pt", "ln GeV", ("pt",), lambda pt: pt.clamp(min=1e-3).log()),
    Feature("log_energy", "ln GeV", ("energy",), lambda energy: energy.clamp(min=1e-3).log()),
    Feature("deta", "1", ("deta",), lambda deta: deta),
    Feature("dphi", "rad", ("dphi",), lambda dphi: dphi),
    Feature("dr", "1", ("deta", "dphi"), torch.hypot),
    Feature("tanh_d0", "tanh mm", ("d0",), torch.tanh),
    Feature("tanh_dz", "tanh mm", ("dz",), torch.tanh),
    Feature("log_d0err", "ln(1 + d0err / 10 um)", ("d0err",), lambda error: (error.clamp(min=0) * 100).log1p()),
    Feature("log_dzerr", "ln(1 + dzerr / 10 um)", ("dzerr",), lambda error: (error.clamp(min=0) * 100).log1p()),
    Feature("d0_size", "ln(1 + |d0 / d0err|)", ("d0", "d0err"), lambda d0, error: _significance(d0, error).abs()),
    Feature("dz_size", "ln(1 + |dz / dzerr|)", ("dz", "dzerr"), lambda dz, error: _significance(dz, error).abs()),
    Feature("d0_significance", "sign * ln(1 + |d0 / d0err|)", ("d0", "d0err"), _significance),
    Feature("dz_significance", "sign * ln(1 + |dz / dzerr|)", ("dz", "dzerr"), _significance),
    Feature("charge", "e", ("charge",), lambda charge: charge),
)
"""The continuous inputs. Decoders predict the first `TARGETS` of them (and kind and charge); the others only help the
encoder. The sizes of the impact parameters are targets beside their signed values because the sign is nearly random:
an L1 loss on a signed value alone is best met by zero, however displaced the track."""

TARGETS = 11
TRACK_TARGETS = tuple(range(5, TARGETS))
SIGNED_KINDS = 3 * len(KINDS)
"""Kind and sign of the charge in one index, `3 * kind + sign + 1`: what decoders classify."""


class Features(nn.Module):
    """Continuous features standardised, and kind as one-hot: `[particle, width]`.

    A column that the input lacks is not filled with zeros silently: its standardised value is the mean of the training
    data (0), and the embedding of the encoder adds a learned vector that says which features are missing.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(FEATURES)))
        self.register_buffer("std", torch.ones(len(FEATURES)))

    @property
    def width(self) -> int:
        """Numbers per particle."""
        return len(FEATURES) + len(KINDS)

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Set mean and standard deviation from `batches` of the training stream (at least two particles)."""
        count, total, square = 0, torch.zeros(len(FEATURES)).double(), torch.zeros(len(FEATURES)).double()
        for jets in batches:
            values = self._raw(jets)[0].double()
            count, total, square = count + len(values), total + values.sum(0), square + values.square().sum(0)
        mean = total / count
        variance = (square / count - mean.square()).clamp(min=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(variance > 1e-12, variance.sqrt(), torch.ones_like(variance)))

    def forward(self, jets: Jets) -> tuple[Tensor, Tensor]:
        """Inputs `[particle, width]` and which continuous features are missing, float `[feature]`."""
        values, missing = self._raw(jets)
        continuous = ((values - self.mean) / self.std).masked_fill(missing.bool(), 0.0)
        return torch.cat([continuous, self._one_hot(jets)], dim=1), missing

    def targets(self, jets: Jets) -> tuple[Tensor, Tensor, Tensor]:
        """What a decoder of particles predicts.

        Returns:
            Standardised values float `[particle, TARGETS]`; their weights float `[particle, TARGETS]`, 0 where the
            particle has no such number (a column the input lacks, a track parameter of a neutral particle); the
            signed kind int64 `[particle]`, -1 where kind or charge are not known.
        """
        raw, missing = self._raw(jets)
        values = ((raw - self.mean) / self.std)[:, :TARGETS]
        weights = (1 - missing[:TARGETS]).expand_as(values).clone()
        if "charge" in jets.columns:
            weights[:, list(TRACK_TARGETS)] *= (jets.column("charge") != 0).float().unsqueeze(1)
        if "kind" in jets.columns and "charge" in jets.columns:
            kinds = 3 * jets.column("kind").long() + jets.column("charge").sign().long() + 1
        else:
            kinds = torch.full((len(values),), -1, dtype=torch.int64, device=values.device)
        return values, weights, kinds

    def present(self, jets: Jets) -> Tensor:
        """Which targets the columns of these jets give, float `[TARGETS]`."""
        return self.mean.new_tensor([set(feature.needs) <= set(jets.columns) for feature in FEATURES[:TARGETS]])

    def particles(self, values: Tensor, kinds: Tensor) -> Tensor:
        """Back from what a decoder predicts to canonical columns in physical units: the inverse of `targets`.

        The targets say more than there is to know. Used are log_pt, log_energy, deta, dphi, log_d0err and log_dzerr; of
        an impact parameter the size is that of d0_size times its uncertainty, which resolves micrometres and does not
        saturate as tanh_d0 does, which gives the sign. dr follows from deta and dphi and is not read. However the
        values come out, the particle is physical: all finite, energy at least pt (the momentum along the beam is not
        known to a particle), no uncertainty below zero, and a neutral particle has zeros for a track.

        Args:
            values: standardised, `[particle, TARGETS]`.
            kinds: the signed kind, int64 `[particle]`, none of them -1.

        Returns:
            `[particle, column]` in the order of `jets.COLUMNS`. Columns that the training data lacked mean nothing.
        """
        raw = values.float() * self.std[:TARGETS] + self.mean[:TARGETS]
        # Beyond this lie 160 TeV, or 160,000 standard deviations; it keeps exp finite for a decoder gone astray.
        of = {feature.name: raw[:, index].clamp(-12, 12) for index, feature in enumerate(FEATURES[:TARGETS])}
        pt, charge = of["log_pt"].exp(), (kinds % 3 - 1).to(raw.dtype)
        tracks = []
        for name in ("d0", "dz"):
            error = of[f"log_{name}err"].clamp(min=0).expm1() / 100
            size = of[f"{name}_size"].clamp(min=0).expm1() * error
            tracks += [of[f"tanh_{name}"].sign() * size, error]
        columns = [pt, of["deta"], of["dphi"], of["log_energy"].exp().maximum(pt), charge, (kinds // 3).to(raw.dtype)]
        return torch.stack(columns + [track * charge.abs() for track in tracks], dim=1)

    def _raw(self, jets: Jets) -> tuple[Tensor, Tensor]:
        absent = jets.particles.new_zeros(len(jets.particles))
        has = [all(name in jets.columns for name in feature.needs) for feature in FEATURES]
        values = [
            feature.compute(*(jets.column(name) for name in feature.needs)) if present else absent
            for feature, present in zip(FEATURES, has, strict=True)
        ]
        return torch.stack(values, dim=1), absent.new_tensor([not present for present in has])

    def _one_hot(self, jets: Jets) -> Tensor:
        if "kind" not in jets.columns:
            return jets.particles.new_zeros(len(jets.particles), len(KINDS))
        return nn.functional.one_hot(jets.column("kind").long(), len(KINDS)).to(jets.particles.dtype)
