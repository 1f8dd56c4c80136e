"""Particle tokenizer: a VQ-VAE of particles in the context of their jet.

    tokens, z    = g(x)
    e_i, k_i     = nearest code to LayerNorm(W tokens_i)                       (straight-through)
    R(p)         = |p - x| averaged over the features it has + w CE(kind and charge)
                   + error of the features of a schema that are targets (`FeatureHead`)
    L = mean over jets of mean over particles of
        R(decoder({e_i})) + c |LayerNorm(W tokens_i) - e_i|^2, averaged over the width of a code,
        + b R(decoder({z, z + mask token of each particle}))

van den Oord et al., arXiv:1711.00937, on jets as in OmniJet-alpha (Birk et al., arXiv:2403.05618). Encoder and decoder
are transformers, so one code can decode to different particles in different jets. Codes are decoded without z, so that
jets can be generated from codes alone. The last term trains z: the same decoder reconstructs the jet from z alone, with
mask tokens by pT rank.
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
from ssl_jets.nn import masking, random
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.features import SIGNED_KINDS, TARGETS
from ssl_jets.nn.heads import particle_errors, target_head, target_loss
from ssl_jets.nn.quantizer import VectorQuantizer, perplexity, usage
from ssl_jets.nn.transformer import Transformer


class Tokenizer(Method):
    """Encode particles in context, quantize them, decode them from the codes of their jet."""

    class Config(MethodSettings):
        """Settings of `tokenizer`."""

        codes: int = Field(default=512, ge=2)
        """Size of the codebook."""
        code_width: int = Field(default=16, ge=3)
        """Dimension of a code's vector; LayerNorm leaves two different vectors of width 2, and one of width 1."""
        decoder_blocks: int = Field(default=3, ge=1)
        """Blocks of the decoder."""
        decoder_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the decoder; one attention head for every 16."""
        kind_weight: float = Field(default=1.0, ge=0)
        """Weight w of the cross-entropy on kind and charge, relative to the L1 loss on the features."""
        commitment: float = Field(default=1.0, ge=0)
        """Weight c of the squared distance between a particle's vector and its code, averaged over the code's width."""
        z_weight: float = Field(default=1.0, gt=0)
        """Weight b of the reconstruction from z alone, which trains z."""
        mask_tokens: int = Field(default=64, ge=1)
        """Number of mask tokens of that reconstruction, by pT rank; softer particles share the last one."""
        decay: float = Field(default=0.95, ge=0, lt=1)
        """Decay of the codebook's moving averages per step."""
        dead_below: float = Field(default=0.03, ge=0, lt=1)
        """Usage, relative to the mean over codes, below which a code is moved to a particle of the batch."""

    saves_full_method: ClassVar[bool] = True
    cfg: Config

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.size, width = cfg.codes, cfg.decoder_width
        self.to_code = nn.Sequential(
            nn.Linear(encoder.width, cfg.code_width), nn.LayerNorm(cfg.code_width, elementwise_affine=False)
        )
        self.quantizer = VectorQuantizer(cfg.codes, cfg.code_width, cfg.decay, cfg.dead_below)
        self.from_code = nn.Linear(cfg.code_width, width)
        self.decoder = Transformer(width, cfg.decoder_blocks, max(1, width // 16))
        self.features_out = nn.Linear(width, TARGETS)
        self.kinds_out = nn.Linear(width, SIGNED_KINDS)
        self.targets_out = target_head(width, encoder.features)
        self.z_in = nn.Linear(encoder.dim, width)
        self.mask_tokens = masking.MaskTokens(cfg.mask_tokens, width)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute the reconstruction losses from the codes and from z, and the commitment to the codes."""
        z, tokens = self.encoder(jets)
        vectors = self.to_code(tokens).float()  # [particle, code width]
        quantized = self.quantizer(vectors)
        if self.training:
            self.quantizer.collect(vectors, quantized.codes, random.uniform(jets))
        z = self.z_in(z).float()  # [jet, width]
        mask_tokens = self.mask_tokens(jets.rank_by_pt()) + z[jets.jet_of_particle]
        without_z = z.new_empty(len(jets), 0, z.shape[1])
        decoded = self.decoder(self.from_code(quantized.vectors), jets.offsets, without_z)[1]  # [particle, width]
        decoded_from_z = self.decoder(mask_tokens, jets.offsets, z[:, None])[1]
        from_codes, from_z = self._errors(jets, decoded), self._errors(jets, decoded_from_z)
        terms = torch.stack([*from_codes, quantized.commitment, *from_z], dim=1)  # [particle, 5]
        features, kind, commitment, z_features, z_kind = jets.mean(terms).mean(0)
        w, c, b = self.cfg.kind_weight, self.cfg.commitment, self.cfg.z_weight
        parts = {"feature_loss": features, "kind_loss": kind, "commitment": commitment}
        parts |= {"z_feature_loss": z_features, "z_kind_loss": z_kind}
        loss = features + w * kind + c * commitment + b * (z_features + w * z_kind)
        for prefix, output, weight in (("", decoded, 1.0), ("z_", decoded_from_z, b)):
            for name, part in target_loss(self.targets_out, output, jets, self.encoder.features).items():
                loss, parts[f"{prefix}{name}"] = loss + weight * part, part
        return {"loss": loss} | {name: part.detach() for name, part in parts.items()}

    def _errors(self, jets: Jets, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """Return L1 on the features and cross-entropy on the kind of each particle, both `[particle]`."""
        return particle_errors(self.features_out(decoded), self.kinds_out(decoded), jets, self.encoder.features)

    def after_step(self, progress: float) -> None:
        """Update the codebook."""
        self.quantizer.update()

    @torch.no_grad()
    def codes(self, jets: Jets) -> Tensor:
        """Return the code of each particle, int64 `[particle]`."""
        codes: Tensor = self.quantizer(self.to_code(self.encoder(self.learned(jets)).tokens)).codes
        return codes

    @torch.no_grad()
    def particles(self, codes: Tensor, offsets: Tensor) -> Jets:
        """Return jets of the particles that these codes decode to; `offsets` as in `Jets`."""
        vectors = self.from_code(self.quantizer.codebook[codes])
        decoded = self.decoder(vectors, offsets, vectors.new_empty(len(offsets) - 1, 0, vectors.shape[1]))[1]
        values, logits = self.features_out(decoded).float(), self.kinds_out(decoded).float()
        return self.only_learned(Jets(self.encoder.features.particles(values, logits.argmax(1)), offsets))

    def validation_metrics(self, batches: Iterable[Jets]) -> dict[str, float]:
        """Return usage and perplexity of the codebook, and median reconstruction errors of pt, angle and jet mass."""
        counts = torch.zeros(self.size)
        errors: dict[str, list[Tensor]] = {"pt": [], "angle": [], "mass": []}
        for jets in batches:
            codes = self.codes(jets)
            counts += codes.bincount(minlength=self.size).cpu()
            decoded = self.particles(codes, jets.offsets)
            dpt, deta, dphi = (decoded.column(name) - jets.column(name) for name in ("pt", "deta", "dphi"))
            errors["pt"].append((dpt / jets.column("pt")).abs())
            errors["angle"].append(torch.hypot(deta, dphi))
            ratio = decoded.mass() / jets.mass().clamp(min=1e-3)
            errors["mass"].append((ratio - 1).abs()[jets.lengths > 1])  # a single particle has no mass
        medians = {f"{name}_error": float(torch.cat(values).median()) for name, values in errors.items()}
        return {"code_usage": usage(counts), "code_perplexity": perplexity(counts)} | medians
