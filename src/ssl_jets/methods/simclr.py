"""SimCLR: two views of one jet attract each other, views of different jets repel each other.

    x', x''    = two views of each jet
    p', p''    = projector(g(x').z), projector(g(x'').z), each divided by its length
    l(a, b)    = -log( exp(a . b / t) / sum over the other views c of all jets of exp(a . c / t) )
    L          = mean over jets of (l(p', p'') + l(p'', p')) / 2

Chen et al., arXiv:2002.05709; on jets JetCLR, Dillon et al., arXiv:2108.04253. Every jet has 2N - 2 negatives, of the
batches of all ranks. z is what enters the projector: what comes out has lost what the views do not share.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.augment import Views, make_view
from ssl_jets.nn.collectives import gather, rank
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import Projector


class SimCLR(Method):
    """Tell the two views of a jet among those of all jets of the batch (NT-Xent)."""

    class Config(MethodSettings):
        """Settings of `simclr`."""

        views: Views = Views(thin=0.5, beam=2.0)
        """How the two views are made."""
        temperature: float = Field(default=0.1, gt=0)
        """Temperature t: the lower, the more the nearest negatives count."""
        projector_hidden: int = Field(default=256, ge=1)
        """Width of the projector's hidden layers."""
        projector_out: int = Field(default=128, ge=1)
        """Numbers that are compared."""
        projector_layers: int = Field(default=2, ge=1)
        """Linear maps of the projector."""

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.cfg, self.encoder = cfg, encoder
        self.projector = Projector(encoder.dim, cfg.projector_hidden, cfg.projector_out, cfg.projector_layers)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """NT-Xent, and how often the other view of a jet is the nearest of all."""
        first, second = (self.projection(self.encoder(make_view(jets, self.cfg.views)).z) for _ in range(2))
        logits, partner = similarities(first, second, self.cfg.temperature)
        accuracy = (logits.argmax(1) == partner).float().mean()
        return {"loss": nn.functional.cross_entropy(logits, partner), "accuracy": accuracy}

    def projection(self, z: Tensor) -> Tensor:
        """The projections."""
        projections: Tensor = self.projector(z)
        return projections

    def exported(self) -> Encoder:
        """The encoder itself."""
        return self.encoder


def similarities(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Cosines over the temperature of each own view and all views, and where its partner is.

    Args:
        first, second: projections of the two views of the jets of this rank, `[jet, out]`.
        temperature: t.

    Returns:
        float32 `[2 jets, 2 jets of all ranks]`, first views before second ones, minus infinity for a view and itself;
        int64 `[2 jets]`.
    """
    with torch.autocast(first.device.type, enabled=False):  # a cosine in bfloat16 is off by .004 / t
        first, second = (nn.functional.normalize(views.float(), dim=1) for views in (first, second))
        everyone = torch.cat([gather(first), gather(second)])
        logits = torch.cat([first, second]) @ everyone.T / temperature
    jets = len(first)
    index = rank() * jets + torch.arange(jets, device=first.device)
    itself = torch.cat([index, index + len(everyone) // 2])
    return logits.scatter(1, itself.unsqueeze(1), -torch.inf), itself.roll(jets)
