"""Particle tokenizer: a VQ-VAE of particles in the context of their jet.

    tokens, z    = g(x)
    e_i, k_i     = nearest code to LayerNorm(W tokens_i)                       (straight-through)
    prediction   = decoder({e_i})
    L = mean over jets of mean over particles of
        |prediction - x| averaged over the features it has + w CE(kind and charge) + c |W tokens_i - e_i|^2
        - b log softmax(V z)[k_i]

van den Oord et al., arXiv:1711.00937, on jets as in OmniJet-alpha (Birk et al., arXiv:2403.05618): encoder and decoder
are transformers, so that a code means one particle here and another there. The decoder sees the codes alone, else no
jet could be made from codes. z therefore learns by the last term: it predicts the bag of codes of its jet, which share
of the particles has which code (BoWNet, Gidaris et al., arXiv:2002.12247).
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
from ssl_jets.nn import chance
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.features import SIGNED_KINDS, TARGETS
from ssl_jets.nn.quantise import Quantiser, perplexity, usage
from ssl_jets.nn.trunk import Trunk


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
        decoder_width: int = Field(default=64, ge=8, multiple_of=8)
        """Width of the decoder; it has one head for every 16."""
        kind_weight: float = Field(default=1.0, ge=0)
        """Weight w of the cross-entropy on kind and charge beside the L1 loss on the features."""
        commitment: float = Field(default=1.0, ge=0)
        """Weight c of the distance between a particle's vector and its code, averaged over the code's width."""
        bag_weight: float = Field(default=0.3, gt=0)
        """Weight b of the bag of codes, from which z learns."""
        decay: float = Field(default=0.95, ge=0, lt=1)
        """Share of the old codebook that stays at each step."""
        dead_below: float = Field(default=0.03, ge=0, lt=1)
        """A code that is used less than this share of the mean is moved to a particle of the batch."""

    whole: ClassVar[bool] = True

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.cfg, self.encoder, self.size = cfg, encoder, cfg.codes
        width = cfg.decoder_width
        self.to_code = nn.Sequential(
            nn.Linear(encoder.width, cfg.code_width), nn.LayerNorm(cfg.code_width, elementwise_affine=False)
        )
        self.quantiser = Quantiser(cfg.codes, cfg.code_width, cfg.decay, cfg.dead_below)
        self.from_code = nn.Linear(cfg.code_width, width)
        self.decoder = Trunk(width, cfg.decoder_blocks, max(1, width // 16))
        self.features_out = nn.Linear(width, TARGETS)
        self.kinds_out = nn.Linear(width, SIGNED_KINDS)
        self.bag_out = nn.Linear(encoder.dim, cfg.codes)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Reconstruction through the codes, commitment to them, and the bag of codes from z."""
        encoded = self.encoder(jets)
        vectors = self.to_code(encoded.tokens).float()
        quantised = self.quantiser(vectors)
        if self.training:
            self.quantiser.collect(vectors, quantised.codes, chance.uniform(jets))
        predicted, logits = self._decode(quantised.vectors, jets.offsets)
        values, weights, kinds = self.encoder.features.targets(jets)
        error = ((predicted - values).abs() * weights).sum(1) / weights.sum(1).clamp(min=1)
        kind = nn.functional.cross_entropy(logits, kinds, ignore_index=-1, reduction="none")
        bag = -self.bag_out(encoded.z).float().log_softmax(1)[jets.jet_of_particle, quantised.codes]
        terms = torch.stack([error, kind, quantised.commitment, bag], dim=1)
        features, kind, commitment, bag = jets.mean(terms).mean(0)
        cfg = self.cfg
        return {
            "loss": features + cfg.kind_weight * kind + cfg.commitment * commitment + cfg.bag_weight * bag,
            "feature_loss": features.detach(),
            "kind_loss": kind.detach(),
            "commitment": commitment.detach(),
            "bag_loss": bag.detach(),
        }

    def after_step(self, progress: float) -> None:
        """The codebook moves."""
        self.quantiser.update()

    def _decode(self, vectors: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Features `[particle, TARGETS]` and logits of the kind from the codes' vectors, in float32."""
        nothing = vectors.new_empty(len(offsets) - 1, 0, self.cfg.decoder_width)
        decoded = self.decoder(self.from_code(vectors), offsets, nothing)[1]
        return self.features_out(decoded).float(), self.kinds_out(decoded).float()

    @torch.no_grad()
    def codes(self, jets: Jets) -> Tensor:
        """The code of each particle, int64 `[particle]`."""
        codes: Tensor = self.quantiser(self.to_code(self.encoder(jets).tokens)).codes
        return codes

    @torch.no_grad()
    def particles(self, codes: Tensor, offsets: Tensor) -> Jets:
        """Jets of the particles that these codes stand for; `offsets` as in `Jets`."""
        values, logits = self._decode(self.quantiser.codebook[codes], offsets)
        return Jets(self.encoder.features.particles(values, logits.argmax(1)), offsets)

    def look(self, batches: Iterable[Jets]) -> dict[str, float]:
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
