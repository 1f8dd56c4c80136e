"""Masked autoencoder on sets, without compression.

    visible, hidden = mask(x)
    tokens, z       = g(visible)
    prediction      = decoder({z, tokens, z + mask token of each hidden particle})[hidden]
    L = mean over jets of mean over its hidden particles of
        |prediction - x| averaged over the features it has + w CE(kind and charge)
        + error of the features of a schema that are targets (`FeatureHead`)

He et al., arXiv:2111.06377, on sets as in MPM v2 (Leigh et al., arXiv:2409.12589). A set has no positions, so the mask
token of a hidden particle is a learned vector of its pT rank among the hidden particles. z is a token of the decoder
and is added to every mask token: properties common to all hidden particles are best encoded in z. With `decoder=mlp`
each hidden particle is predicted from its mask token and z alone.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn import masking
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.features import SIGNED_KINDS, TARGETS
from ssl_jets.nn.heads import particle_errors, target_head, target_loss
from ssl_jets.nn.transformer import Transformer


class MaskedAutoencoder(Method):
    """Hide particles, encode the rest, predict the hidden ones."""

    class Config(MethodSettings):
        """Settings of `mae`."""

        mask: masking.MaskStrategy = "random"
        """Hidden particles: random ones, a region of (deta, dphi), random ones up to a fraction of pt, or kinds."""
        mask_ratio: float = Field(default=0.4, gt=0, lt=1)
        """Fraction of each jet's particles (of its pt with mask `pt`) that is hidden."""
        decoder: Literal["transformer", "mlp"] = "transformer"
        """Transformer over z, tokens and mask tokens, or an MLP of each mask token plus z."""
        decoder_blocks: int = Field(default=3, ge=1)
        """Blocks of the transformer."""
        decoder_width: int = Field(default=64, ge=16, multiple_of=16)
        """Width of the decoder; one attention head for every 16."""
        kind_weight: float = Field(default=1.0, ge=0)
        """Weight w of the cross-entropy on kind and charge, relative to the L1 loss on the features."""
        mask_tokens: int = Field(default=64, ge=1)
        """Number of mask tokens, by pT rank; softer hidden particles share the last one."""

    sees_collections: ClassVar[bool] = True
    cfg: Config

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        width = cfg.decoder_width
        self.z_in = nn.Linear(encoder.dim, width)
        self.mask_tokens = masking.MaskTokens(cfg.mask_tokens, width)
        self.decoder: nn.Module
        if cfg.decoder == "mlp":
            self.decoder = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        else:
            self.tokens_in = nn.Linear(encoder.width, width)
            self.decoder = Transformer(width, cfg.decoder_blocks, max(1, width // 16))
        self.features_out = nn.Linear(width, TARGETS)
        self.kinds_out = nn.Linear(width, SIGNED_KINDS)
        self.targets_out = target_head(width, encoder.features)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute L1 on the features and cross-entropy on the kind of the hidden particles."""
        hidden = masking.hide(jets, self.cfg.mask, self.cfg.mask_ratio)  # bool [particle]
        z, tokens = self.encoder(masking.visible(jets, hidden))  # [jet, dim], [visible particle, encoder width]
        decoded = self._decode(jets, hidden, z, tokens)  # [hidden particle, width]
        masked = jets.keep(hidden)
        features = self.encoder.features
        errors = particle_errors(self.features_out(decoded), self.kinds_out(decoded), masked, features)
        feature_loss, kind_loss = (masked.mean(error).mean() for error in errors)  # over particles, then over jets
        further = target_loss(self.targets_out, decoded, masked, features)
        return {
            "loss": sum(further.values(), start=feature_loss + self.cfg.kind_weight * kind_loss),
            "feature_loss": feature_loss.detach(),
            "kind_loss": kind_loss.detach(),
            **{name: part.detach() for name, part in further.items()},
        }

    def _decode(self, jets: Jets, hidden: Tensor, z: Tensor, tokens: Tensor) -> Tensor:
        """Return the decoder output at the hidden particles, `[hidden particle, width]`."""
        z, mask_tokens = self.z_in(z), self.mask_tokens(masking.hidden_pt_rank(jets, hidden))
        if isinstance(self.decoder, Transformer):
            return masking.decode_hidden(self.decoder, jets, hidden, z, self.tokens_in(tokens), mask_tokens)
        decoded: Tensor = self.decoder(mask_tokens + z.float()[jets.jet_of_particle[hidden]])
        return decoded
