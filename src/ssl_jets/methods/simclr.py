"""SimCLR: contrast the two views of a jet with the views of all other jets.

    x', x''    = two views of each jet
    p', p''    = projector(g(x').z), projector(g(x'').z), normalized to unit length
    l(a, b)    = -log( exp(a . b / t) / sum over the other views c of all jets of exp(a . c / t) )
    L          = mean over jets of (l(p', p'') + l(p'', p')) / 2

Chen et al., arXiv:2002.05709; on jets JetCLR, Dillon et al., arXiv:2108.04253. Every jet has 2N - 2 negatives, taken
from the batches of all ranks. z is the input of the projector, not its output: the projector discards all information
that the two views do not share.
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
    """Identify the second view of a jet among the views of all jets of the batch (NT-Xent)."""

    class Config(MethodSettings):
        """Settings of `simclr`."""

        views: Views = Views(thin=0.5, beam=2.0)
        """Augmentations of the two views."""
        temperature: float = Field(default=0.1, gt=0)
        """Temperature t: a lower one puts more weight on the nearest negatives."""
        projector_hidden: int = Field(default=256, ge=1)
        """Width of the projector's hidden layers."""
        projector_out: int = Field(default=128, ge=1)
        """Dimension of the projections."""
        projector_layers: int = Field(default=2, ge=1)
        """Linear layers of the projector."""

    cfg: Config

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.projector = Projector(encoder.dim, cfg.projector_hidden, cfg.projector_out, cfg.projector_layers)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute NT-Xent, and the fraction of views whose nearest view is their partner."""
        first = self.projection(self.encoder(make_view(jets, self.cfg.views), z_only=True).z)  # [jet, out]
        second = self.projection(self.encoder(make_view(jets.second_view(), self.cfg.views), z_only=True).z)
        logits, partner = similarities(first, second, self.cfg.temperature)
        accuracy = (logits.argmax(1) == partner).float().mean()
        return {"loss": nn.functional.cross_entropy(logits, partner), "accuracy": accuracy}

    def projection(self, z: Tensor) -> Tensor:
        """Return the projections `[jet, out]`."""
        projections: Tensor = self.projector(z)
        return projections

    @classmethod
    def compares_views(cls, cfg: MethodSettings) -> bool:
        """Return True: every second view is of `Jets.second_view`."""
        return True


def similarities(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Compute cosines over the temperature between own and all views, and the column of each view's partner.

    Args:
        first: projections of one view of the jets of this rank, `[jet, out]`.
        second: projections of the other view, `[jet, out]`.
        temperature: t.

    Returns:
        float32 `[2 jets, 2 jets of all ranks]`, first views before second ones, minus infinity for a view with itself;
        int64 `[2 jets]`.
    """
    with torch.autocast(first.device.type, enabled=False):  # a cosine in bfloat16 is off by .004 / t
        first = nn.functional.normalize(first.float(), dim=1)
        second = nn.functional.normalize(second.float(), dim=1)
        all_views = torch.cat([gather(first), gather(second)])
        logits = torch.cat([first, second]) @ all_views.T / temperature
    jets = len(first)
    index = rank() * jets + torch.arange(jets, device=first.device)
    # 3 jets on one rank: view i has itself in column [0 1 2 3 4 5], its partner in column [3 4 5 0 1 2].
    itself = torch.cat([index, index + len(all_views) // 2])
    return logits.scatter(1, itself.unsqueeze(1), -torch.inf), itself.roll(jets)
