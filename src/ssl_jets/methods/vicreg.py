"""VICReg: views of a jet agree (invariance), every dimension varies (variance), no two correlate (covariance).

    p', p''    = projector(g(x').z), projector(g(x'').z) of two views of each jet, `[jet, D]`
    s          = mean over jets and dimensions of (p' - p'')^2
    v(p)       = mean over dimensions of max(0, 1 - sqrt(Var(p) + 1e-4)),  Var over the jets
    c(p)       = sum over pairs of different dimensions of Cov(p)^2 / D
    L          = invariance s + variance (v(p') + v(p'')) + covariance (c(p') + c(p''))

Bardes, Ponce, LeCun, arXiv:2105.04906, Algorithm 1. Var and Cov are taken over the jets of all
ranks. There is neither a teacher nor a negative: the variance term alone excludes a constant z.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from ssl_jets.config import MethodSettings, Recipe, TrainSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.augment import Views, make_view
from ssl_jets.nn.collectives import gather
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import Projector
from ssl_jets.nn.normalize import BatchNorm
from ssl_jets.nn.regularizers import vicreg_terms


class VICReg(Method):
    """Variance, invariance and covariance of the projections of two views."""

    class Config(MethodSettings):
        """Settings of `vicreg`."""

        views: Views = Views(thin=0.8, beam=2.0)
        """Augmentations of the two views."""
        invariance: float = Field(default=25.0, ge=0)
        """Weight of the distance between the views."""
        variance: float = Field(default=25.0, ge=0)
        """Weight of the hinge on the standard deviation of each dimension."""
        covariance: float = Field(default=1.0, ge=0)
        """Weight of the squared covariances."""
        projector_hidden: int = Field(default=256, ge=1)
        """Width of the projector's hidden layers."""
        projector_out: int = Field(default=256, ge=2)
        """Dimension D of the projections."""
        projector_layers: int = Field(default=3, ge=1)
        """Linear layers of the projector."""

    recipe: ClassVar[Recipe] = Recipe(train=TrainSettings(epochs=5, batch_size=128, lr=1e-3))
    compares_jets: ClassVar[bool] = True  # variance and covariance are over the jets
    compares_views: ClassVar[bool] = True
    cfg: Config

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.projector = Projector(
            encoder.dim, cfg.projector_hidden, cfg.projector_out, cfg.projector_layers, BatchNorm
        )

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute the weighted sum of the three terms."""
        cfg = self.cfg
        first, second = (
            self.projector(self.encoder(make_view(view, cfg.views), z_only=True).z).float()
            for view in (jets, jets.second_view())
        )  # [jet, D]
        invariance = (first - second).square().mean()
        v1, c1 = vicreg_terms(gather(first))
        v2, c2 = vicreg_terms(gather(second))
        return {
            "loss": cfg.invariance * invariance + cfg.variance * (v1 + v2) + cfg.covariance * (c1 + c2),
            "invariance": invariance.detach(),
            "variance": (v1 + v2).detach(),
            "covariance": (c1 + c2).detach(),
        }
