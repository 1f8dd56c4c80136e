"""Supervised contrastive learning: pull the views of all jets of a class together, and push other classes away.

    p_i        = projector(g(view i).z), normalized to unit length; two views of each jet
    P(i)       = the other views of the jets of its class; without a label, the other view of the same jet
    l_i        = -mean over p in P(i) of log( exp(p_i . p_p / t) / sum over all other views a of exp(p_i . p_a / t) )
    L          = mean over views of l_i

Khosla et al., arXiv:2004.11362, L_out (Eq. 2); on jets Chen et al., arXiv:2511.12829. A jet without a label (-1) has
the loss of SimCLR, so batches of labelled and unlabelled jets (`data.unlabelled_ratio`) need no second method. z is the
input of the projector. No classifier is trained.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ssl_jets.config import MethodSettings
from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.augment import Views, make_view
from ssl_jets.nn.collectives import gather
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import Projector
from ssl_jets.nn.regularizers import similarities


class SupCon(Method):
    """Identify the views of the jets of the same class among the views of all jets of the batch."""

    class Config(MethodSettings):
        """Settings of `supcon`."""

        views: Views = Views(thin=0.5, beam=2.0)
        """Augmentations of the two views."""
        temperature: float = Field(default=0.1, gt=0)
        """Temperature t: a lower one puts more weight on the nearest views of other classes."""
        projector_hidden: int = Field(default=256, ge=1)
        """Width of the projector's hidden layers."""
        projector_out: int = Field(default=128, ge=1)
        """Dimension of the projections."""
        projector_layers: int = Field(default=2, ge=1)
        """Linear layers of the projector."""

    compares_jets: ClassVar[bool] = True  # views of a jet with views of the others
    compares_views: ClassVar[bool] = True
    cfg: Config

    def __init__(self, cfg: Config, encoder: Encoder, labels: tuple[str, ...] = ()) -> None:
        super().__init__(cfg, encoder, labels)
        self.projector = Projector(encoder.dim, cfg.projector_hidden, cfg.projector_out, cfg.projector_layers)

    def loss(self, jets: Jets, progress: float) -> dict[str, Tensor]:
        """Compute L_out, and the fraction of views whose nearest view is of the same class, or of the same jet."""
        if jets.labels is None:
            raise SslJetsError("method supcon needs labels, and these jets have none")
        first = self.projector(self.encoder(make_view(jets, self.cfg.views), z_only=True).z)  # [jet, out]
        second = self.projector(self.encoder(make_view(jets.second_view(), self.cfg.views), z_only=True).z)
        logits, partner = similarities(first, second, self.cfg.temperature)  # [2 jets, 2 jets of all ranks]
        positive = positives(logits, partner, jets.labels)
        log_p = logits.log_softmax(1).masked_fill(~positive, 0.0)
        loss = -(log_p.sum(1) / positive.sum(1)).mean()
        accuracy = positive.gather(1, logits.argmax(1, keepdim=True)).float().mean()
        return {"loss": loss, "accuracy": accuracy}

    @classmethod
    def needs_labels(cls, cfg: MethodSettings) -> bool:
        """Return True: the classes are learned."""
        return True


@torch.no_grad()
def positives(logits: Tensor, partner: Tensor, labels: Tensor) -> Tensor:
    """Return the views that each view is pulled to: of the same class, and always the other view of the same jet.

    Args:
        logits: of `similarities`, `[2 jets, 2 jets of all ranks]`, minus infinity for a view with itself.
        partner: column of the other view of the same jet, int64 `[2 jets]`.
        labels: class of each jet of this rank, int64 `[jet]`; -1 without a label.

    Returns:
        bool, of the shape of `logits`.

    Example:
        >>> logits = torch.zeros(6, 6).fill_diagonal_(-torch.inf)  # 3 jets, of which the last has no label
        >>> positives(logits, torch.tensor([3, 4, 5, 0, 1, 2]), torch.tensor([7, 7, -1])).int()[[0, 2]].tolist()
        [[0, 1, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1]]
    """
    own, everyone = labels.repeat(2), gather(labels).repeat(2)
    same = (own.unsqueeze(1) == everyone) & (own >= 0).unsqueeze(1)
    return same.scatter(1, partner.unsqueeze(1), value=True) & (logits > -torch.inf)
