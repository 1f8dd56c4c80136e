"""LeJEPA: views of a jet agree, and their projections follow an isotropic normal distribution.

    p_v = projector(z of view v)                        G global views and any local ones
    c   = mean over the global views of p_v
    L   = mean over jets, views and dimensions of (p_v - c)^2  +  w  mean over views of S(p_v)

Balestriero and LeCun, arXiv:2511.08544. S is SIGReg, the distance of the projections from a standard normal
distribution along random directions (`nn/regularizers.py`); it prevents collapse. There is no teacher and no predictor.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ssl_jets.config import MethodSettings, Recipe, TrainSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn import random
from ssl_jets.nn.augment import Views, make_view
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import Projector
from ssl_jets.nn.normalize import BatchNorm
from ssl_jets.nn.regularizers import sigreg


class LeJepa(Method):
    """Pull the views of a jet together, regularized by SIGReg."""

    class Config(MethodSettings):
        """Settings of `lejepa`."""

        global_views: int = Field(default=2, ge=1)
        """Views G of (nearly) the whole jet."""
        local_views: int = Field(default=0, ge=0)
        """Views of part of the jet."""
        global_view: Views = Views(thin=0.8, beam=2.0)
        """Augmentations of a global view."""
        local_view: Views = Views(thin=0.9, beam=2.0)
        """Augmentations of a local view."""
        projector_width: int = Field(default=64, ge=1)
        """Dimension of p."""
        directions: int = Field(default=128, ge=1)
        """Random directions of S, redrawn in every step."""
        sigreg_weight: float = Field(default=5.0, ge=0)
        """Weight w of S; the paper's weight is w divided by the number of jets of a batch."""

    recipe: ClassVar[Recipe] = Recipe(train=TrainSettings(epochs=5, batch_size=128, lr=1e-3))
    compares_jets: ClassVar[bool] = True  # SIGReg and BatchNorm are over the jets
    compares_views: ClassVar[bool] = True
    cfg: Config

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.projector = Projector(encoder.dim, 4 * encoder.dim, cfg.projector_width, 2, BatchNorm)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute the squared distance of the views from their centre, and SIGReg of each view."""
        kinds = [self.cfg.global_view] * self.cfg.global_views + [self.cfg.local_view] * self.cfg.local_views
        pair = jets, jets.second_view()  # of pairs, the views are of both jets in turn
        views = torch.stack(
            [
                self.projector(self.encoder(make_view(pair[number % 2], kind), z_only=True).z).float()
                for number, kind in enumerate(kinds)
            ]
        )  # [view, jet, p]
        centre = views[: self.cfg.global_views].mean(0)
        agreement = (views - centre).square().mean()
        directions = random.directions(self.cfg.projector_width, self.cfg.directions, views.device)
        regularizer = torch.stack([sigreg(view, directions) for view in views]).mean()
        loss = agreement + self.cfg.sigreg_weight * regularizer
        return {"loss": loss, "agreement_loss": agreement.detach(), "sigreg": regularizer.detach()}
