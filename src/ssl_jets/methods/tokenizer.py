"""Particle tokenizer: a VQ-VAE of particles in the context of their jet.

    tokens, z    = g(x)
    e_i, k_i     = nearest code to LayerNorm(W tokens_i)                       (straight-through)
    R(p)         = |p - x| averaged over the features it has + w CE(kind and charge)
    L = mean over jets of mean over particles of
        R(decoder({e_i})) + c |W tokens_i - e_i|^2 + b R(decoder({z, z + name of each particle}))

van den Oord et al., arXiv:1711.00937, on jets as in OmniJet-alpha (Birk et al., arXiv:2403.05618): encoder and decoder
are transformers, so that a code means one particle here and another there. Codes are decoded without z, else no jet
could be made from codes. So that z is trained, the same decoder also has to find the jet from z alone, where a particle
is named by its pt rank; z is what the codes of a jet have in common, said in one vector.
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
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.features import SIGNED_KINDS, TARGETS
from ssl_jets.nn.quantizer import VectorQuantizer, perplexity, usage
from ssl_jets.nn.transformer import Transformer


class Tokenizer(Method):
    """Encode particles in context, quantise them, decode them from the codes of their jet."""

    class Config(MethodSettings):
        """Settings of `tokenizer`."""

        codes: int = Field(default=512, ge=2)
        """Size of the codebook."""
        code_width: int = Field(default=16, ge=1)
        """Numbers of a code's vector."""
        decoder_blocks: int = Field(default=3, ge=1)
        """Blocks of the decoder."""
        decoder_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the decoder; it has one head for every 16."""
        kind_weight: float = Field(default=1.0, ge=0)
        """Weight w of the cross-entropy on kind and charge beside the L1 loss on the features."""
        commitment: float = Field(default=1.0, ge=0)
        """Weight c of the distance between a particle's vector and its code, averaged over the code's width."""
        z_weight: float = Field(default=1.0, gt=0)
        """Weight b of the reconstruction from z alone, from which z learns."""
        ranks: int = Field(default=64, ge=1)
        """Particles with a name of their own in that reconstruction; softer ones share the last name."""
        decay: float = Field(default=0.95, ge=0, lt=1)
        """Share of the old codebook that stays at each step."""
        dead_below: float = Field(default=0.03, ge=0, lt=1)
        """A code that is used less than this share of the mean is moved to a particle of the batch."""

    saves_full_method: ClassVar[bool] = True

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.cfg, self.encoder, self.size = cfg, encoder, cfg.codes
        width = cfg.decoder_width
        self.to_code = nn.Sequential(
            nn.Linear(encoder.width, cfg.code_width), nn.LayerNorm(cfg.code_width, elementwise_affine=False)
        )
        self.quantiser = VectorQuantizer(cfg.codes, cfg.code_width, cfg.decay, cfg.dead_below)
        self.from_code = nn.Linear(cfg.code_width, width)
        self.decoder = Transformer(width, cfg.decoder_blocks, max(1, width // 16))
        self.features_out = nn.Linear(width, TARGETS)
        self.kinds_out = nn.Linear(width, SIGNED_KINDS)
        self.z_in = nn.Linear(encoder.dim, width)
        self.names = nn.Embedding(cfg.ranks, width)
        nn.init.normal_(self.names.weight, std=0.02)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Reconstruction from the codes and from z, and commitment to the codes."""
        encoded = self.encoder(jets)
        vectors = self.to_code(encoded.tokens).float()
        quantised = self.quantiser(vectors)
        if self.training:
            self.quantiser.collect(vectors, quantised.codes, random.uniform(jets))
        z = self.z_in(encoded.z).float()
        names = self.names(jets.rank_by_pt().clamp(max=self.cfg.ranks - 1)) + z[jets.jet_of_particle]
        from_codes = self._errors(
            jets, *self._decode(self.from_code(quantised.vectors), jets.offsets, z.new_empty(len(jets), 0, z.shape[1]))
        )
        from_z = self._errors(jets, *self._decode(names, jets.offsets, z[:, None]))
        terms = torch.stack([*from_codes, quantised.commitment, *from_z], dim=1)
        features, kind, commitment, z_features, z_kind = jets.mean(terms).mean(0)
        w, c, b = self.cfg.kind_weight, self.cfg.commitment, self.cfg.z_weight
        parts = {"feature_loss": features, "kind_loss": kind, "commitment": commitment}
        parts |= {"z_feature_loss": z_features, "z_kind_loss": z_kind}
        loss = features + w * kind + c * commitment + b * (z_features + w * z_kind)
        return {"loss": loss} | {name: part.detach() for name, part in parts.items()}

    def _errors(self, jets: Jets, predicted: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """L1 on the features and cross-entropy on the kind of each particle, both `[particle]`."""
        values, weights, kinds = self.encoder.features.targets(jets)
        error = ((predicted - values).abs() * weights).sum(1) / weights.sum(1).clamp(min=1)
        return error, nn.functional.cross_entropy(logits, kinds, ignore_index=-1, reduction="none")

    def after_step(self, progress: float) -> None:
        """The codebook moves."""
        self.quantiser.update()

    def _decode(self, particles: Tensor, offsets: Tensor, extra: Tensor) -> tuple[Tensor, Tensor]:
        """Features `[particle, TARGETS]` and logits of the kind, in float32, from what stands for each particle."""
        decoded = self.decoder(particles, offsets, extra)[1]
        return self.features_out(decoded).float(), self.kinds_out(decoded).float()

    @torch.no_grad()
    def codes(self, jets: Jets) -> Tensor:
        """The code of each particle, int64 `[particle]`."""
        codes: Tensor = self.quantiser(self.to_code(self.encoder(jets).tokens)).codes
        return codes

    @torch.no_grad()
    def particles(self, codes: Tensor, offsets: Tensor) -> Jets:
        """Jets of the particles that these codes stand for; `offsets` as in `Jets`."""
        vectors = self.from_code(self.quantiser.codebook[codes])
        values, logits = self._decode(vectors, offsets, vectors.new_empty(len(offsets) - 1, 0, vectors.shape[1]))
        return Jets(self.encoder.features.particles(values, logits.argmax(1)), offsets)

    def validation_metrics(self, batches: Iterable[Jets]) -> dict[str, float]:
        """Use of the codebook, and medians of what is lost in pt, angle and jet mass."""
        counts = torch.zeros(self.size)
        lost: dict[str, list[Tensor]] = {"pt": [], "angle": [], "mass": []}
        for jets in batches:
            codes = self.codes(jets)
            counts += codes.bincount(minlength=self.size).cpu()
            back = self.particles(codes, jets.offsets)
            away = [back.column(name) - jets.column(name) for name in ("pt", "deta", "dphi")]
            lost["pt"].append((away[0] / jets.column("pt")).abs())
            lost["angle"].append(torch.hypot(away[1], away[2]))
            several = jets.lengths > 1
            lost["mass"].append((back.mass() / jets.mass().clamp(min=1e-3) - 1).abs()[several])
        medians = {f"{name}_error": float(torch.cat(errors).median()) for name, errors in lost.items()}
        return {"code_usage": usage(counts), "code_perplexity": perplexity(counts)} | medians

    def exported(self) -> Encoder:
        """The encoder itself."""
        return self.encoder
