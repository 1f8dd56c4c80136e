"""Next-embedding prediction in falling pt, after a prefix that the encoder reads; without tokenizer.

    e_1 ... e_n     = embeddings of the particles at the input of the encoder, in falling pt
    z               = g(the m hardest particles),            m uniform from 1 to n - 1
    h_m ... h_{n-1} = causal transformer(start(z), e_{m+1} ... e_{n-1}), with learned positions m ... n - 1
    L = mean over jets of mean over i = m ... n - 1 of -cos(W h_i, e_{i+1} cut from the gradient)

NEPA (Xu et al., arXiv:2512.16922), on point clouds PointNTP (arXiv:2605.17566). There the encoder itself is causal and
predicts from the first token on. Here, as in `next_token`, a prefix is read by the set encoder, with attention among
all of its particles, and reaches the predictions through z alone, so that z is trained. Embeddings are trained as
inputs only: as targets they would become equal for all particles.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn import random
from ssl_jets.nn.encoder import Encoder, random_like
from ssl_jets.nn.normalize import variation
from ssl_jets.nn.transformer import Transformer


class NextEmbedding(Method):
    """Encode the hardest particles, predict the embeddings of the others one by one."""

    class Config(MethodSettings):
        """Settings of `nepa`."""

        predictor_blocks: int = Field(default=3, ge=1)
        """Blocks of the causal transformer."""
        predictor_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the causal transformer; one attention head for every 16."""
        longest: int = Field(default=128, ge=1)
        """Number of learned positions by pT rank; softer particles share the last one."""

    loss_can_be_negative: ClassVar[bool] = True  # minus a cosine
    cfg: Config

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        width = cfg.predictor_width
        self.z_in = nn.Linear(encoder.dim, width)
        self.embeddings_in = nn.Linear(encoder.width, width)
        self.positions = nn.Embedding(cfg.longest + 1, width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.predictor = Transformer(width, cfg.predictor_blocks, max(1, width // 16))
        self.embeddings_out = nn.Linear(width, encoder.width)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute minus the cosine of each predicted embedding with the embedding of the particle."""
        # Example: one jet of n = 4 particles, prefix of m = 1; predicted are e_2, e_3, e_4.
        prefix_lengths = (random.uniform_per_jet(jets) * (jets.lengths - 1)).long() + 1  # [jet], m = 1 ... n - 1
        rank = jets.rank_by_pt()
        prefix = rank < prefix_lengths[jets.jet_of_particle]  # bool [particle]: the hardest one
        z = self.encoder(jets.keep(prefix), z_only=True).z
        rest = jets.keep(~prefix)
        row = rest.offsets[:-1][rest.jet_of_particle] + rest.rank_by_pt()
        embeddings = torch.empty(len(row), self.encoder.width, device=row.device)
        embeddings = embeddings.index_copy(0, row, self.encoder.embedded(rest).float())  # e_2, e_3, e_4
        predictions = self._predict(z, prefix_lengths, embeddings, rest)
        cosines = nn.functional.cosine_similarity(predictions, embeddings.detach(), dim=1)
        return {"loss": -rest.mean(cosines).mean()}

    def _predict(self, z: Tensor, prefix_lengths: Tensor, embeddings: Tensor, rest: Jets) -> Tensor:
        """Return the prediction of each embedding from those before it and from z, `[particle, encoder width]`."""
        owner, longest = rest.jet_of_particle, self.cfg.longest
        place = rest.place  # 0, 1, 2
        x = self.positions((place + prefix_lengths[owner] + 1).clamp(max=longest)) + self.embeddings_in(embeddings)
        start = self.positions(prefix_lengths.clamp(max=longest)) + self.z_in(z)  # [jet, predictor width]
        first, others = self.predictor(x, rest.offsets, start.unsqueeze(1), causal=True)
        # Outputs at start, e_2, e_3 predict e_2, e_3, e_4; the last output predicts nothing.
        before = torch.where((place == 0).unsqueeze(1), first[owner, 0], others.roll(1, dims=0))
        predictions: Tensor = self.embeddings_out(before)
        return predictions.float()

    def validation_metrics(self, batches: Iterable[Jets]) -> dict[str, float]:
        """Return the variation of embeddings between particles, relative to random weights: 0 if all are equal."""
        encoders, batches = (self.encoder, random_like(self.encoder, seed=0)), list(batches)
        embeddings = [torch.cat([encoder.embedded(jets) for jets in batches]) for encoder in encoders]
        trained, untrained = (float(variation(values.detach())) for values in embeddings)
        return {"embedding_variation": trained / untrained}
