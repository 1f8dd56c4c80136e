"""Masked autoencoder with compression: the decoder sees z and nothing else.

    visible, hidden = mask(x)
    z               = u(g(visible)) + s e,      u(z) = z / rms(z), K x d numbers,  e ~ N(0, 1)
    prediction      = decoder({z tokens, z + mask token of each particle to predict})
    L = mean over jets of mean over its predicted particles of
        |prediction - x| averaged over the features it has + w CE(kind and charge)
        + c CE(number of particles | z) + a |A z - observables(x)|

The masked autoencoder of He et al., arXiv:2111.06377, with a decoder that reads z only. All information about the jet
passes through z, and the noise s bounds its rate. Mask tokens are by pT rank among the predicted particles; the rank
leaks no pt, since the decoder has no visible particles to compare with. The number of particles and permutation-
invariant jet observables (`nn/observables.py`) are regressed from z as well: the errors of single particles hardly
depend on the information in z about mass and prongs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings, ModelSettings, Recipe
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets, offsets_of
from ssl_jets.methods._method import Method
from ssl_jets.nn import masking
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.features import SIGNED_KINDS, TARGETS
from ssl_jets.nn.heads import CountHead, particle_errors
from ssl_jets.nn.normalize import add_noise, project_to_sphere
from ssl_jets.nn.observables import JetObservables
from ssl_jets.nn.transformer import Transformer


class BottleneckMaskedAutoencoder(Method):
    """Hide particles, compress the rest into z, predict from z alone."""

    class Config(MethodSettings):
        """Settings of `bottleneck_mae`."""

        mask: masking.MaskStrategy = "random"
        """Hidden particles: random ones, a region of (deta, dphi), random ones up to a fraction of pt, or kinds."""
        mask_ratio: float = Field(default=0.4, gt=0, lt=1)
        """Fraction of each jet's particles (of its pt with mask `pt`) that is hidden."""
        predict: Literal["hidden", "all"] = "all"
        """Particles that the decoder predicts: the hidden ones, or all, which trains `reconstruct`."""
        blur: float = Field(default=0.1, ge=0)
        """Standard deviation s of the noise on z in training; z is scaled to a mean square of 1."""
        decoder_blocks: int = Field(default=3, ge=1)
        """Blocks of the decoder."""
        decoder_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the decoder; one attention head for every 16."""
        kind_weight: float = Field(default=1.0, ge=0)
        """Weight w of the cross-entropy on kind and charge, relative to the L1 loss on the features."""
        count_weight: float = Field(default=0.1, ge=0)
        """Weight c of the cross-entropy on the number of particles."""
        observables_weight: float = Field(default=5.0, ge=0)
        """Weight a of the regression of jet observables from a linear map of z."""
        mask_tokens: int = Field(default=128, ge=1)
        """Number of mask tokens, by pT rank, and largest multiplicity predicted; softer particles share the last."""

    recipe: ClassVar[Recipe] = Recipe(model=ModelSettings(z_tokens=8, z_width=8))
    saves_full_method: ClassVar[bool] = True
    sees_collections: ClassVar[bool] = True
    regresses_observables: ClassVar[bool] = True
    cfg: Config

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        width = cfg.decoder_width
        self.z_in = nn.Linear(encoder.dim, (1 + encoder.cfg.z_tokens) * width)
        self.mask_tokens = masking.MaskTokens(cfg.mask_tokens, width)
        self.decoder = Transformer(width, cfg.decoder_blocks, max(1, width // 16))
        self.features_out = nn.Linear(width, TARGETS)
        self.kinds_out = nn.Linear(width, SIGNED_KINDS)
        self.counts = CountHead(encoder.dim, cfg.mask_tokens, width)
        self.observables = JetObservables(encoder.dim)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute the errors of features, kind, number of particles and jet observables."""
        hidden = masking.hide(jets, self.cfg.mask, self.cfg.mask_ratio)
        z = add_noise(jets, self.encoder(masking.visible(jets, hidden), z_only=True).z, self.cfg.blur)
        predicted = jets.keep(hidden) if self.cfg.predict == "hidden" else jets
        decoded = self._decode(z, predicted.offsets, predicted.rank_by_pt())
        error, kind = particle_errors(*decoded, predicted, self.encoder.features)
        parts = {
            "feature_loss": predicted.mean(error).mean(),
            "kind_loss": predicted.mean(kind).mean(),
            "count_loss": self.counts.error(z, jets.lengths).mean(),
            "observables_loss": self.observables.error(z, jets, self.encoder.features).mean(),
        }
        weights_of_parts = (1.0, self.cfg.kind_weight, self.cfg.count_weight, self.cfg.observables_weight)
        weighted = [weight * part for weight, part in zip(weights_of_parts, parts.values(), strict=True)]
        loss = torch.stack(weighted).sum()
        return {"loss": loss} | {name: part.detach() for name, part in parts.items()}

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Fit the statistics of the jet observables."""
        self.observables.fit_statistics(batches, self.encoder.features)

    def _decode(self, z: Tensor, offsets: Tensor, ranks: Tensor) -> tuple[Tensor, Tensor]:
        """Return features `[particle, TARGETS]` and logits of the kind of the particles of these pT ranks."""
        z_tokens = self.z_in(z).float().view(len(z), -1, self.cfg.decoder_width)  # [jet, 1 + z_tokens, width]
        jet = torch.repeat_interleave(torch.arange(len(z), device=z.device), offsets[1:] - offsets[:-1])
        mask_tokens = self.mask_tokens(ranks) + z_tokens[jet, 0]  # [particle, width]
        decoded = self.decoder(mask_tokens, offsets, z_tokens[:, 1:])[1]
        return self.features_out(decoded).float(), self.kinds_out(decoded).float()

    @torch.no_grad()
    def reconstruct(self, jets: Jets) -> Jets:
        """Reconstruct jets from the z of their visible particles: median multiplicity, most probable kinds, features.

        Particles are hidden as in training, with torch's generator: the z of a whole jet would give too many.

        Raises:
            UsageError: the method was trained to predict hidden particles only.
        """
        if self.cfg.predict == "hidden":
            raise UsageError("no jet can be reconstructed", where="method.predict", found="hidden", allowed=["all"])
        jets = self.learned(jets)
        seen = masking.visible(jets, masking.hide(jets, self.cfg.mask, self.cfg.mask_ratio))
        z = project_to_sphere(self.encoder(seen, z_only=True).z)
        offsets = offsets_of(self.counts.quantile(z, z.new_full((len(z),), 0.5)))
        ranks = torch.arange(int(offsets[-1]), device=z.device) - torch.repeat_interleave(offsets[:-1], offsets.diff())
        values, logits = self._decode(z, offsets, ranks)
        return self.only_learned(Jets(self.encoder.features.particles(values, logits.argmax(1)), offsets))
