"""Inputs of the encoder: standardized features of canonical columns, and features and context that a schema declares.

Their statistics are saved with the weights.

Momenta, energies and track uncertainties enter by their logarithm; impact parameters by tanh and by the logarithm of
their significance, since |d0| reaches hundreds of millimetres (as in ParT, arXiv:2202.03772).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ssl_jets.config import FeatureSettings, Transform
from ssl_jets.jets import KINDS, Jets


@dataclass(frozen=True)
class Feature:
    """Feature computed from canonical columns of a particle."""

    name: str
    unit: str
    needs: tuple[str, ...]
    compute: Callable[..., Tensor]


def _significance(value: Tensor, error: Tensor) -> Tensor:
    """Compute sign(s) ln(1 + |s|) with s = value / error; zero without a track (error = 0)."""
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
"""The continuous inputs. Decoders predict kind, charge and the first `TARGETS` of them; the others are inputs only.
The sizes of the impact parameters are targets in addition to their signed values because the sign is nearly random:
the minimum of an L1 loss on the signed value alone is zero for any displacement."""

TARGETS = 11
TRACK_TARGETS = tuple(range(5, TARGETS))
SIGNED_KINDS = 3 * len(KINDS)
"""Classes of the decoders: kind and sign of the charge in one index, `3 * kind + sign + 1`."""


TRANSFORMS: Mapping[Transform, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "log": torch.log,
    "log1p": torch.log1p,
    "signed_log": lambda x: x.sign() * x.abs().log1p(),
    "tanh": torch.tanh,
    "sqrt": torch.sqrt,
}
"""Transforms of continuous features; a result that is not finite, such as the logarithm of 0, counts as missing."""

CATEGORY_WIDTH = 8
"""Width of the learned vector of a category."""


class DeclaredInputs(nn.Module):
    """Inputs from features, or context, that a schema declares: `[row, width]`, rows being particles or jets.

    Continuous values are transformed and standardized; each category has a learned vector of `CATEGORY_WIDTH` numbers,
    and unlisted ones share another. A missing value gives zeros.

    Attributes:
        names: their names in the order of the values: continuous features by transform, then categorical ones.

    Example:
        >>> inputs = DeclaredInputs(
        ...     {"hits": FeatureSettings(categories=(0, 1)), "chi2": FeatureSettings(transform="log")}
        ... )
        >>> inputs.names
        ('chi2', 'hits')
        >>> values, missing = inputs(torch.tensor([[1.0, 2.0], [0.0, torch.nan]]))
        >>> values.shape, missing.tolist()
        (torch.Size([2, 9]), [[0.0, 0.0], [1.0, 1.0]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, definitions: Mapping[str, FeatureSettings]) -> None:
        super().__init__()
        self.definitions = dict(definitions)
        continuous = [name for name, definition in definitions.items() if not definition.categories]
        by_transform = [[name for name in continuous if definitions[name].transform == one] for one in TRANSFORMS]
        self.transforms = [
            (TRANSFORMS[one], len(names)) for one, names in zip(TRANSFORMS, by_transform, strict=True) if names
        ]
        self.continuous = tuple(name for names in by_transform for name in names)
        self.categorical = tuple(name for name in definitions if name not in self.continuous)
        self.names = (*self.continuous, *self.categorical)
        self.register_buffer("mean", torch.zeros(len(self.continuous)))
        self.register_buffer("std", torch.ones(len(self.continuous)))
        sizes = [len(definitions[name].categories) + 1 for name in self.categorical]
        self.tables = nn.ModuleList(nn.Embedding(size, CATEGORY_WIDTH) for size in sizes)

    @property
    def width(self) -> int:
        """Number of inputs per row."""
        return len(self.continuous) + CATEGORY_WIDTH * len(self.categorical)

    def fit_statistics(self, rows: Iterable[Tensor]) -> None:
        """Fit mean and standard deviation on the values that are there; `rows` are batches `[row, feature]`."""
        values = torch.cat([self.transformed(batch) for batch in rows]).double()
        present = values.isfinite()
        count = present.sum(0).clamp(min=1)
        mean = values.where(present, 0.0).sum(0) / count
        std = ((values - mean).where(present, 0.0).square().sum(0) / count).sqrt()
        self.mean.copy_(mean)
        # In any unit: a time of flight in seconds varies by 1e-10.
        self.std.copy_(torch.where(std > 1e-12 * mean.abs(), std, torch.ones_like(std)))

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs `[row, width]` and missing values, float `[row, feature]`, from values `[row, feature]`."""
        values, first = self.standardized(rows), len(self.continuous)
        absent = ~torch.cat([values, rows[:, first:]], dim=1).isfinite()
        parts = [values.masked_fill(absent[:, :first], 0.0)]
        for index, table in enumerate(self.tables, start=first):
            codes = rows[:, index].masked_fill(absent[:, index], 0.0).long()
            parts.append(table(codes).masked_fill(absent[:, index : index + 1], 0.0))
        return torch.cat(parts, dim=1), absent.to(rows.dtype)

    def rows(self, jets: Jets) -> Tensor:
        """Return the values of the features of particles, `[particle, feature]`; NaN for one that the jets lack."""
        absent = jets.particles.new_full((len(jets.particles),), torch.nan)
        return torch.stack([jets.column(name) if name in jets.columns else absent for name in self.names], dim=1)

    def describe(self) -> list[dict[str, Any]]:
        """Return name, definition and, of continuous features, mean and std of the transformed values, as JSON."""
        described = {name: {"name": name, **one.model_dump(mode="json")} for name, one in self.definitions.items()}
        for name, mean, std in zip(self.continuous, self.mean.tolist(), self.std.tolist(), strict=True):
            described[name] |= {"mean": mean, "std": std}
        return list(described.values())

    def standardized(self, rows: Tensor) -> Tensor:
        """Return the standardized continuous values, `[row, continuous feature]`; not finite where missing."""
        return (self.transformed(rows) - self.mean) / self.std

    def transformed(self, rows: Tensor) -> Tensor:
        """Return the transformed continuous values, `[row, continuous feature]`."""
        groups = rows[:, : len(self.continuous)].split([count for _, count in self.transforms], dim=1)
        values = [transform(group) for (transform, _), group in zip(self.transforms, groups, strict=True)]
        return torch.cat(values, dim=1) if values else rows[:, :0]


class Features(nn.Module):
    """Standardized continuous features, and kind as one-hot: `[particle, width]`; declared features behind them.

    A missing column gets the mean of the training data (0 after standardization), and the encoder adds a learned vector
    for each missing feature.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, declared: Mapping[str, FeatureSettings] = {}) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(FEATURES)))
        self.register_buffer("std", torch.ones(len(FEATURES)))
        self.declared = DeclaredInputs(declared) if declared else None

    @property
    def width(self) -> int:
        """Number of inputs per particle."""
        return len(FEATURES) + len(KINDS) + (self.declared.width if self.declared is not None else 0)

    @property
    def count(self) -> int:
        """Number of features that may be missing."""
        return len(FEATURES) + (len(self.declared.names) if self.declared is not None else 0)

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Fit mean and standard deviation on `batches` of the training stream (at least two particles)."""
        count, total, square = 0, torch.zeros(len(FEATURES)).double(), torch.zeros(len(FEATURES)).double()
        rows = []
        for jets in batches:
            values = self._raw(jets)[0].double()
            count, total, square = count + len(values), total + values.sum(0), square + values.square().sum(0)
            if self.declared is not None:
                rows.append(self.declared.rows(jets))
        if self.declared is not None:
            self.declared.fit_statistics(rows)
        mean = total / count
        variance = (square / count - mean.square()).clamp(min=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(variance > 1e-12, variance.sqrt(), torch.ones_like(variance)))

    def forward(self, jets: Jets) -> tuple[Tensor, Tensor]:
        """Return inputs `[particle, width]` and missing features, `[feature]`, or `[particle, feature]` if declared."""
        values, missing = self._raw(jets)
        continuous = ((values - self.mean) / self.std).masked_fill(missing.bool(), 0.0)
        inputs = torch.cat([continuous, self._one_hot(jets)], dim=1)
        if self.declared is None:
            return inputs, missing
        further, absent = self.declared(self.declared.rows(jets))
        return torch.cat([inputs, further], dim=1), torch.cat([missing.expand(len(inputs), -1), absent], dim=1)

    def targets(self, jets: Jets) -> tuple[Tensor, Tensor, Tensor]:
        """Return the targets of a decoder of particles.

        Returns:
            Standardized values float `[particle, TARGETS]`; their weights float `[particle, TARGETS]`, 0 for a value
            that the particle lacks (a missing column, a track parameter of a neutral particle); the signed kind int64
            `[particle]`, -1 for an unknown kind or charge.
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

    def declared_targets(self, jets: Jets) -> tuple[Tensor, Tensor]:
        """Return the declared targets of a decoder: standardized values, not finite where missing, and categories.

        The shapes are `[particle, continuous target]` and int64 `[particle, categorical target]`, -1 where missing.
        """
        assert self.declared is not None
        rows, declared = self.declared.rows(jets), self.declared
        values, codes = declared.standardized(rows), rows[:, len(declared.continuous) :]
        continuous = [at for at, name in enumerate(declared.continuous) if declared.definitions[name].target]
        categorical = [at for at, name in enumerate(declared.categorical) if declared.definitions[name].target]
        return values[:, continuous], codes[:, categorical].nan_to_num(-1).long()

    def present(self, jets: Jets) -> Tensor:
        """Return a flag for each target that the columns of these jets provide, float `[TARGETS]`."""
        return self.mean.new_tensor([set(feature.needs) <= set(jets.columns) for feature in FEATURES[:TARGETS]])

    def particles(self, values: Tensor, kinds: Tensor) -> Tensor:
        """Convert predictions of a decoder to canonical columns in physical units: the inverse of `targets`.

        The targets are redundant. log_pt, log_energy, deta, dphi, log_d0err and log_dzerr are inverted directly. The
        size of an impact parameter is d0_size times its uncertainty, which resolves micrometres and does not saturate
        like tanh_d0; tanh_d0 gives the sign. dr is not read. Any prediction gives a physical particle: finite values,
        energy at least pt, non-negative uncertainties, and zeros for the track of a neutral particle.

        Args:
            values: standardized, `[particle, TARGETS]`.
            kinds: signed kinds, int64 `[particle]`, none of them -1.

        Returns:
            `[particle, column]` in the order of `jets.COLUMNS`. Columns missing in the training data are meaningless.
        """
        raw = values.float() * self.std[:TARGETS] + self.mean[:TARGETS]
        # exp(12) = 160,000, a pt of 160 TeV: exp stays finite for a diverged decoder.
        value = {feature.name: raw[:, index].clamp(-12, 12) for index, feature in enumerate(FEATURES[:TARGETS])}
        pt = value["log_pt"].exp()
        energy = value["log_energy"].exp().maximum(pt)
        charge = (kinds % 3 - 1).to(raw.dtype)
        tracks = []
        for name in ("d0", "dz"):
            error = value[f"log_{name}err"].clamp(min=0).expm1() / 100
            size = value[f"{name}_size"].clamp(min=0).expm1() * error
            tracks += [value[f"tanh_{name}"].sign() * size, error]
        columns = [pt, value["deta"], value["dphi"], energy, charge, (kinds // 3).to(raw.dtype)]
        return torch.stack(columns + [track * charge.abs() for track in tracks], dim=1)

    def _raw(self, jets: Jets) -> tuple[Tensor, Tensor]:
        absent = torch.zeros_like(jets.particles[:, 0])  # len() of it would be a constant of an exported graph
        has = [all(name in jets.columns for name in feature.needs) for feature in FEATURES]
        values = [
            feature.compute(*(jets.column(name) for name in feature.needs)) if present else absent
            for feature, present in zip(FEATURES, has, strict=True)
        ]
        return torch.stack(values, dim=1), absent.new_tensor([not present for present in has])

    def _one_hot(self, jets: Jets) -> Tensor:
        if "kind" not in jets.columns:
            return torch.zeros_like(jets.particles[:, :1]).expand(-1, len(KINDS))
        return nn.functional.one_hot(jets.column("kind").long(), len(KINDS)).to(jets.particles.dtype)
