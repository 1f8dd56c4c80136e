"""Encoder on padded jets: the packed encoder up to rounding, with operators that a graph can hold.

A value NaN is a missing one. A particle that lacks a column gets the mean of the training data for the features of this
column and the learned vectors of missing features, exactly as jets without the column do in `Encoder`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ssl_jets.jets import NEEDED, Jets
from ssl_jets.nn.encoder import Encoded, Encoder
from ssl_jets.nn.features import FEATURES

PADDING = 1.0
"""Value of every column of padding: its features and the logarithm of its pt are finite."""


class PaddedEncoder(nn.Module):
    """Encoder of a padded table of particles; it shares the weights of `encoder`.

    Args:
        encoder: the packed encoder.
        columns: names of the columns of the table, a subset of `jets.COLUMNS` in that order.

    Example:
        >>> from ssl_jets.config import ModelSettings
        >>> encoder = Encoder(ModelSettings(size="tiny")).eval()
        >>> jets = Jets.of([[[310.0, 0.02, -0.01], [95.0, -0.11, 0.07]], [[50.0, 0, 0]]], ("pt", "deta", "dphi"))
        >>> table, mask = jets.to_padded()
        >>> z, tokens = PaddedEncoder(encoder, jets.columns)(table, mask.float())
        >>> z.shape, tokens.shape, torch.allclose(z, encoder(jets).z, atol=1e-5)
        (torch.Size([2, 64]), torch.Size([2, 2, 64]), True)
    """

    needs: Tensor
    optional: Tensor

    def __init__(self, encoder: Encoder, columns: Sequence[str]) -> None:
        super().__init__()
        self.encoder, self.columns = encoder, tuple(columns)
        needs = [[float(column in feature.needs) for feature in FEATURES] for column in columns]
        self.register_buffer("needs", torch.tensor(needs), persistent=False)  # [column, feature]
        optional = torch.tensor([column not in NEEDED for column in columns])
        self.register_buffer("optional", optional, persistent=False)  # [column]

    def forward(self, particles: Tensor, mask: Tensor) -> Encoded:
        """Encode jets.

        Args:
            particles: `[jet, particle, column]` in physical units; NaN for a missing value. NaN of pt, deta or dphi is
                an error that makes z NaN. Values of padding are ignored.
            mask: 1 for a real particle, 0 for padding, `[jet, particle]`.

        Returns:
            z `[jet, dim]` and tokens `[jet, particle, width]`, zero for padding.
        """
        encoder = self.encoder
        real = mask > 0.5
        particles = torch.where(real.unsqueeze(2), particles, PADDING)
        extra = encoder.extra_tokens.expand(particles.shape[0], -1, -1)  # [jet, extra, width]
        bias = None
        if encoder.pair_bias is not None:
            bias = encoder.pair_bias.padded(self._kinematics(particles), encoder.extra_tokens.shape[0])
        extra, tokens = encoder.transformer.padded(self._embedded(particles), real, extra, bias)
        if encoder.pool is not None:
            z = encoder.pool.padded(extra[:, 0], tokens, real)
        else:
            z = encoder.z_out(extra[:, : encoder.cfg.z_tokens]).flatten(1)
        return Encoded(z, torch.where(real.unsqueeze(2), tokens, 0.0))

    def _embedded(self, particles: Tensor) -> Tensor:
        """Return the embedded particles, `[jet, particle, width]`."""
        lacks = (particles != particles) & self.optional  # NaN is not equal to itself; [jet, particle, column]
        flat = torch.where(lacks, PADDING, particles).flatten(0, 1)
        offsets = torch.zeros(1, dtype=torch.int64)  # not read by the features of particles
        inputs, absent = self.encoder.features(Jets(flat, offsets, self.columns))
        missing = (lacks.float().flatten(0, 1) @ self.needs + absent).clamp(max=1)  # [particle, feature]
        continuous = torch.where(missing > 0, 0.0, inputs[:, : len(FEATURES)])
        kind = inputs[:, len(FEATURES) :]
        if "kind" in self.columns:
            unknown = lacks.flatten(0, 1)[:, self.columns.index("kind")].unsqueeze(1)
            kind = torch.where(unknown, 0.0, kind)
        embedded = self.encoder.embed(torch.cat([continuous, kind], dim=1)) + missing @ self.encoder.missing
        table: Tensor = embedded.unflatten(0, particles.shape[:2])
        return table

    def _kinematics(self, particles: Tensor) -> Tensor:
        """Return ln pt, deta, dphi, `[jet, particle, 3]`."""
        pt, deta, dphi = (particles[:, :, self.columns.index(name)] for name in NEEDED)
        return torch.stack([pt.log(), deta, dphi], dim=2)
