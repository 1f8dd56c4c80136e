"""Masked autoencoder whose decoder is a flow: a density of the hidden particles, not one guess.

    visible, hidden = mask(x)
    tokens, z       = g(visible)
    x_t             = (1 - t) n + t x_hidden,           n ~ N(0, 1),  t ~ U(0, 1) for each jet
    v, k            = decoder({z tokens, tokens, z + t + x_t of each hidden particle})[hidden]
    L = mean over jets of mean over its hidden particles of
        |v - (x_hidden - n)|^2 averaged over the features + w CE(k, kind and charge)

DiffMAE (Wei et al., arXiv:2304.03283) by flow matching (Lipman et al., arXiv:2210.02747), on sets as SSFM (Leigh et
al., arXiv:2409.12589). A hidden particle needs no name: its noised features tell it from the others, and the density is
blind to the order of the particles. Kind and charge are classified from the noised features.
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


class DiffusionMaskedAutoencoder(Method):
    """Hide particles, encode the rest, carry noise to the hidden ones."""

    class Config(MethodSettings):
        """Settings of `diffusion_mae`."""

        mask: masking.Strategy = "random"
        """What is hidden: particles at random, a region of (deta, dphi), particles up to a share of pt, or kinds."""
        mask_ratio: float = Field(default=0.5, gt=0, lt=1)
        """Share of each jet's particles (of its pt with mask `pt`) that is hidden."""
        decoder_blocks: int = Field(default=3, ge=1)
        """Blocks of the decoder."""
        decoder_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the decoder; it has one head for every 16."""
        kind_weight: float = Field(default=1.0, ge=0)
        """Weight w of the cross-entropy on kind and charge beside the squared error of the velocity."""
        steps: int = Field(default=25, ge=1)
        """Steps of the integration when particles are drawn, two evaluations of the decoder each."""

    saves_full_method: ClassVar[bool] = True

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.cfg, self.encoder = cfg, encoder
        self.decoder = SetFlow(
            encoder.dim, cfg.decoder_width, cfg.decoder_blocks, encoder.cfg.z_tokens, token_width=encoder.width
        )

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Squared error of the velocity and cross-entropy on the kind of the hidden particles."""
        given, masked = self._encode(jets, masking.hide(jets, self.cfg.mask, self.cfg.mask_ratio))
        values, _, kinds = self.encoder.features.targets(masked)
        t, noise = random.uniform_per_jet(jets).float(), random.normal(masked, TARGETS)
        error, wrong_kind = self.decoder.errors(values, kinds, noise, t, given)
        flow, kind = masked.mean(error).mean(), masked.mean(wrong_kind).mean()
        return {"loss": flow + self.cfg.kind_weight * kind, "flow_loss": flow.detach(), "kind_loss": kind.detach()}

    def _encode(self, jets: Jets, hidden: Tensor) -> tuple[Condition, Jets]:
        """What the decoder is told, and the hidden particles."""
        z, tokens = self.encoder(jets.keep(~hidden))
        return Condition(z, jets.offsets, hidden, self.encoder.features.present(jets), tokens), jets.keep(hidden)

    @torch.no_grad()
    def complete(self, jets: Jets, hidden: Tensor, samples: int) -> list[Jets]:
        """Jets whose hidden particles (bool `[particle]`) are drawn anew, given the visible ones, `samples` times."""
        given, masked = self._encode(jets, hidden)
        columns = [COLUMNS.index(name) for name in jets.columns]
        completed = []
        for _ in range(samples):
            values, kinds = self.decoder.sample(random.normal(masked, TARGETS + 1), given, self.cfg.steps)
            particles = jets.particles.clone()
            particles[hidden] = self.encoder.features.particles(values, kinds)[:, columns]
            completed.append(replace(jets, particles=particles))
        return completed

    def exported(self) -> Encoder:
        """The encoder itself."""
        return self.encoder
