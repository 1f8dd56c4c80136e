"""Masked autoencoder with compression: the decoder sees z and nothing else.

    visible, hidden = mask(x)
    z               = u(g(visible)) + s e,      u(z) = z / rms(z), K x d numbers,  e ~ N(0, 1)
    prediction      = decoder({z tokens, z + name of each particle to predict})
    L = mean over jets of mean over its predicted particles of
        |prediction - x| averaged over the features it has + w CE(kind and charge)
        + c CE(number of particles | z) + a |A z - summary(x)|

The masked autoencoder of He et al., arXiv:2111.06377, with the particle tokens withheld from the decoder: all that it
knows of the jet has passed through z, whose rate the noise s bounds. A particle is named by its pt rank among those
predicted; no particle stands beside it in the decoder that its rank could be compared with. How many there are is for
z to say as well, and what they amount to (`nn/observables.py`): the errors of single particles are nearly the same
whether z knows the mass and the prongs of the jet or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.jets import Jets, offsets_of
from ssl_jets.methods._method import Method
from ssl_jets.nn import masking
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.features import SIGNED_KINDS, TARGETS
from ssl_jets.nn.heads import CountHead
from ssl_jets.nn.normalize import add_noise, project_to_sphere
from ssl_jets.nn.observables import JetObservables
from ssl_jets.nn.transformer import Transformer


class BottleneckMaskedAutoencoder(Method):
    """Hide particles, compress the rest into z, predict from z alone."""

    class Config(MethodSettings):
        """Settings of `bottleneck_mae`."""

        mask: masking.Strategy = "random"
        """What is hidden: particles at random, a region of (deta, dphi), particles up to a share of pt, or kinds."""
        mask_ratio: float = Field(default=0.4, gt=0, lt=1)
        """Share of each jet's particles (of its pt with mask `pt`) that is hidden."""
        predict: Literal["hidden", "all"] = "all"
        """Which particles the decoder predicts: the hidden ones, or the visible ones as well, which `reconstruct` is
        trained for."""
        blur: float = Field(default=0.1, ge=0)
        """Standard deviation s of the noise on z in training; the numbers of z are of order one."""
        decoder_blocks: int = Field(default=3, ge=1)
        """Blocks of the decoder."""
        decoder_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the decoder; it has one head for every 16."""
        kind_weight: float = Field(default=1.0, ge=0)
        """Weight w of the cross-entropy on kind and charge beside the L1 loss on the features."""
        count_weight: float = Field(default=0.1, ge=0)
        """Weight c of the cross-entropy on the number of particles."""
        summary_weight: float = Field(default=5.0, ge=0)
        """Weight a of the error of the jet's summary, told by a linear map of z."""
        ranks: int = Field(default=128, ge=1)
        """Particles with a name of their own; softer ones share the last name. Also the largest number predicted."""

    saves_full_method: ClassVar[bool] = True

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.cfg, self.encoder = cfg, encoder
        width = cfg.decoder_width
        self.z_in = nn.Linear(encoder.dim, (1 + encoder.cfg.z_tokens) * width)
        self.names = nn.Embedding(cfg.ranks, width)
        nn.init.normal_(self.names.weight, std=0.02)
        self.decoder = Transformer(width, cfg.decoder_blocks, max(1, width // 16))
        self.features_out = nn.Linear(width, TARGETS)
        self.kinds_out = nn.Linear(width, SIGNED_KINDS)
        self.counts = CountHead(encoder.dim, cfg.ranks, width)
        self.summary = JetObservables(encoder.dim)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """L1 on the features, cross-entropy on the kind and on the number of particles."""
        hidden = masking.hide(jets, self.cfg.mask, self.cfg.mask_ratio)
        z = add_noise(jets, self.encoder(jets.keep(~hidden)).z, self.cfg.blur)
        predicted = jets.keep(hidden) if self.cfg.predict == "hidden" else jets
        values, weights, kinds = self.encoder.features.targets(predicted)
        guess, logits = self._decode(z, predicted.offsets, predicted.rank_by_pt())
        per_particle = ((guess - values).abs() * weights).sum(1) / weights.sum(1).clamp(min=1)
        kind = nn.functional.cross_entropy(logits, kinds, ignore_index=-1, reduction="none")
        parts = {
            "feature_loss": predicted.mean(per_particle).mean(),
            "kind_loss": predicted.mean(kind).mean(),
            "count_loss": self.counts.error(z, jets.lengths).mean(),
            "summary_loss": self.summary.error(z, jets, self.encoder.features).mean(),
        }
        weighted = (1.0, self.cfg.kind_weight, self.cfg.count_weight, self.cfg.summary_weight)
        loss = torch.stack([weight * part for weight, part in zip(weighted, parts.values(), strict=True)]).sum()
        return {"loss": loss} | {name: part.detach() for name, part in parts.items()}

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Statistics of the summaries."""
        self.summary.fit_statistics(batches, self.encoder.features)

    def _decode(self, z: Tensor, offsets: Tensor, ranks: Tensor) -> tuple[Tensor, Tensor]:
        """Features `[particle, TARGETS]` and logits of the kind of the particles with these ranks."""
        of_jet = self.z_in(z).float().view(len(z), -1, self.cfg.decoder_width)
        owner = torch.repeat_interleave(torch.arange(len(z), device=z.device), offsets[1:] - offsets[:-1])
        names = self.names(ranks.clamp(max=self.cfg.ranks - 1)) + of_jet[owner, 0]
        decoded = self.decoder(names, offsets, of_jet[:, 1:])[1]
        return self.features_out(decoded).float(), self.kinds_out(decoded).float()

    @torch.no_grad()
    def reconstruct(self, jets: Jets) -> Jets:
        """The jets again, from their z alone: the median number of particles, the best kind and features of each."""
        z = project_to_sphere(self.encoder(jets).z)
        offsets = offsets_of(self.counts.quantile(z, z.new_full((len(z),), 0.5)))
        ranks = torch.arange(int(offsets[-1]), device=z.device) - torch.repeat_interleave(offsets[:-1], offsets.diff())
        values, logits = self._decode(z, offsets, ranks)
        return Jets(self.encoder.features.particles(values, logits.argmax(1)), offsets)

    def exported(self) -> Encoder:
        """The encoder itself."""
        return self.encoder
