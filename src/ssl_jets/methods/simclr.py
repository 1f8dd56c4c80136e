"""SimCLR: contrast the two views of a jet with the views of all other jets.

    x', x''    = two views of each jet
    p', p''    = projector(g(x').z), projector(g(x'').z), normalized to unit length
    l(a, b)    = -log( exp(a . b / t) / sum over the other views c of all jets of exp(a . c / t) )
    L          = mean over jets of (l(p', p'') + l(p'', p')) / 2 + w |A z - observables|

Chen et al., arXiv:2002.05709; on jets JetCLR, Dillon et al., arXiv:2108.04253. Every jet has 2N - 2 negatives, taken
from the batches of all ranks. z is the input of the projector, not its output: the projector discards all information
that the two views do not share.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from ssl_jets.config import MethodSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.augment import Views, make_view
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import Projector
from ssl_jets.nn.regularizers import similarities


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
        observables_weight: float = Field(default=5.0, ge=0)
        """Weight w of the regression of jet observables from a linear map A of z; 0 is SimCLR as published."""

    compares_jets: ClassVar[bool] = True  # views of a jet with views of the others
    compares_views: ClassVar[bool] = True
    cfg: Config

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.projector = Projector(encoder.dim, cfg.projector_hidden, cfg.projector_out, cfg.projector_layers)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute NT-Xent, and the fraction of views whose nearest view is their partner."""
        first = self.projector(self.encoder(make_view(jets, self.cfg.views), z_only=True).z)  # [jet, out]
        second = self.projector(self.encoder(make_view(jets.second_view(), self.cfg.views), z_only=True).z)
        logits, partner = similarities(first, second, self.cfg.temperature)
        accuracy = (logits.argmax(1) == partner).float().mean()
        return {"loss": nn.functional.cross_entropy(logits, partner), "accuracy": accuracy}
