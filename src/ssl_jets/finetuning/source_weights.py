"""Weights of source jets, for `--adapt reweight`: the density ratio in z of the encoder as it was before finetuning."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ssl_jets.embedding.encoding import embed_jets
from ssl_jets.finetuning.settings import ReweightSettings
from ssl_jets.jets import Jets, concatenate
from ssl_jets.nn.domain.density_ratio import DensityRatio, Fitted
from ssl_jets.nn.encoder import Encoder


class SourceWeights(nn.Module):
    """w of each jet of a batch, from a frozen copy of the encoder. Both go into the checkpoint.

    Args:
        cfg: how the weights are fitted.
        encoder: the encoder before its first step.
    """

    def __init__(self, cfg: ReweightSettings, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.ratio = DensityRatio(encoder.dim, cfg.clip)

    @torch.no_grad()
    def forward(self, jets: Jets) -> Tensor:
        """`[jet]`; 1 in the mean over the source."""
        weights: Tensor = self.ratio(self.encoder(jets).z)
        return weights

    def fit(self, source: Iterable[Jets], target: Iterable[Jets], seed: int) -> Fitted:
        """Fit on samples of both domains.

        Args:
            source, target: batches of jets, in any order.
            seed: of the halves that are fitted and measured on.
        """
        generator = torch.Generator().manual_seed(seed)
        z = [embed_jets(self.encoder, concatenate(list(batches))) for batches in (source, target)]
        return self.ratio.fit(*(rows[torch.randperm(len(rows), generator=generator)] for rows in z))
