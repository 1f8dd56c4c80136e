"""Weights of source jets, for `--adapt reweight`: density ratio in z of the model before finetuning."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ssl_jets.finetuning.adaptation_settings import ReweightSettings
from ssl_jets.jets import Jets, concatenate
from ssl_jets.model import embed_jets, with_columns
from ssl_jets.nn.domain.density_ratio import DensityRatio, DensityRatioFit
from ssl_jets.nn.ema import teacher_of
from ssl_jets.nn.encoder import BaseEncoder
from ssl_jets.nn.tasks import weights_of


class SourceWeights(nn.Module):
    """Density-ratio weight of each jet, from a frozen copy of an encoder; both go into the checkpoint.

    Args:
        cfg: settings of the weights.
        encoder: the encoder before finetuning.
        columns: columns and features that it was trained with; None for all that the jets have.
    """

    def __init__(self, cfg: ReweightSettings, encoder: BaseEncoder, columns: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.encoder, self.columns = teacher_of(encoder), columns
        self.ratio = DensityRatio(encoder.dim, cfg.clip)

    @torch.no_grad()
    def forward(self, jets: Jets) -> Tensor:
        """Compute the weight of each jet `[jet]`; its mean over the source, with the weights of the jets, is 1."""
        weights: Tensor = self.ratio(self.encoder(self._seen(jets), z_only=True).z)
        return weights

    def fit(self, source: Iterable[Jets], target: Iterable[Jets], seed: int) -> DensityRatioFit:
        """Fit on samples of both domains.

        Args:
            source: batches of source jets, in any order, with the weights that they have in the losses.
            target: batches of target jets, in any order.
            seed: seed of the split into halves to fit and to measure on.
        """
        generator = torch.Generator().manual_seed(seed)

        def shuffled(batches: Iterable[Jets]) -> tuple[Tensor, Tensor]:
            jets = concatenate(list(batches))
            jets = jets.select(weights_of(jets).nonzero()[:, 0])
            order = torch.randperm(len(jets), generator=generator)
            return embed_jets(self.encoder, self._seen(jets))[order], weights_of(jets)[order]

        z, weights = shuffled(source)
        return self.ratio.fit(z, shuffled(target)[0], weights)

    def _seen(self, jets: Jets) -> Jets:
        return jets if self.columns is None else with_columns(jets, self.columns)
