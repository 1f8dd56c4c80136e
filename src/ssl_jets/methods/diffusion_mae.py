"""Masked autoencoder whose decoder is a flow: a density of the hidden particles, not one guess.

    visible, hidden = mask(x)
    tokens, z       = g(visible)
    x_t             = (1 - t) n + t x_hidden,           n ~ N(0, 1),  t ~ U(0, 1) for each jet
    v, k            = decoder({z tokens, tokens, z + t + x_t of each hidden particle})[hidden]
    L = mean over jets of mean over its hidden particles of
        |v - (x_hidden - n)|^2 averaged over the features + w CE(k, kind and charge)
        + error of the features of a schema that are targets, from x_t (`FeatureHead`)

DiffMAE (Wei et al., arXiv:2304.03283) by flow matching (Lipman et al., arXiv:2210.02747), on sets as SSFM (Leigh et
al., arXiv:2409.12589). Hidden particles need no mask tokens: their noised features distinguish them, and the density is
permutation invariant. Kind and charge are classified from the noised features.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ssl_jets.config import MethodSettings
from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn import masking, random
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.features import TARGETS
from ssl_jets.nn.flow import Condition, SetFlow
from ssl_jets.nn.heads import target_head, target_loss


class DiffusionMaskedAutoencoder(Method):
    """Hide particles, encode the rest, transport noise to the hidden ones."""

    class Config(MethodSettings):
        """Settings of `diffusion_mae`."""

        mask: masking.MaskStrategy = "random"
        """Hidden particles: random ones, a region of (deta, dphi), random ones up to a fraction of pt, or kinds."""
        mask_ratio: float = Field(default=0.5, gt=0, lt=1)
        """Fraction of each jet's particles (of its pt with mask `pt`) that is hidden."""
        decoder_blocks: int = Field(default=3, ge=1)
        """Blocks of the decoder."""
        decoder_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the decoder; one attention head for every 16."""
        kind_weight: float = Field(default=1.0, ge=0)
        """Weight w of the cross-entropy on kind and charge, relative to the squared error of the velocity."""
        steps: int = Field(default=25, ge=1)
        """Integration steps for drawing particles; each evaluates the decoder twice."""

    saves_full_method: ClassVar[bool] = True
    sees_collections: ClassVar[bool] = True
    cfg: Config

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.decoder = SetFlow(
            encoder.dim, cfg.decoder_width, cfg.decoder_blocks, encoder.cfg.z_tokens, token_width=encoder.width
        )
        self.targets_out = target_head(cfg.decoder_width, encoder.features)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute the squared error of the velocity and the cross-entropy on the kind of the hidden particles."""
        condition, masked = self._encode(jets, masking.hide(jets, self.cfg.mask, self.cfg.mask_ratio))
        values, _, kinds = self.encoder.features.targets(masked)
        t, noise = random.uniform_per_jet(jets).float(), random.normal(masked, TARGETS)
        velocity_error, kind_error, decoded = self.decoder.errors(values, kinds, noise, t, condition)
        flow_loss = masked.mean(velocity_error).mean()
        kind_loss = masked.mean(kind_error).mean()
        loss = flow_loss + self.cfg.kind_weight * kind_loss
        parts = {"flow_loss": flow_loss, "kind_loss": kind_loss}
        parts |= target_loss(self.targets_out, decoded, masked, self.encoder.features)
        loss = loss + parts["target_loss"] if "target_loss" in parts else loss
        return {"loss": loss} | {name: part.detach() for name, part in parts.items()}

    def _encode(self, jets: Jets, hidden: Tensor) -> tuple[Condition, Jets]:
        """Return the condition of the decoder, and the hidden particles."""
        z, tokens = self.encoder(masking.visible(jets, hidden))
        return Condition(z, jets.offsets, hidden, self.encoder.features.present(jets), tokens), jets.keep(hidden)

    @torch.no_grad()
    def complete(self, jets: Jets, hidden: Tensor, samples: int) -> list[Jets]:
        """Draw the hidden particles (bool `[particle]`) given the visible ones, `samples` times, as complete jets.

        A loaded method leaves out the columns that it was not trained with.
        """
        jets = self.learned(jets)
        condition, masked = self._encode(jets, hidden)
        columns = [COLUMNS.index(name) for name in jets.columns if name in COLUMNS]
        completed = []
        for _ in range(samples):
            values, kinds = self.decoder.sample(random.normal(masked, TARGETS + 1), condition, self.cfg.steps)
            particles = jets.particles.clone()
            particles[hidden] = torch.nan  # features of a schema are not drawn
            particles[hidden, : len(columns)] = self.encoder.features.particles(values, kinds)[:, columns]
            completed.append(self.only_learned(replace(jets, particles=particles)))
        return completed
