"""Prototypes: a jet is described by how near its projection is to learned directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_jets.nn.collectives import gather, rank
from ssl_jets.nn.heads import Projector
from ssl_jets.nn.normalize import BatchNorm


class PrototypeHead(nn.Module):
    """z `[jet, dim]` to its cosines with K prototypes `[jet, K]`: a projector, both brought to unit length (DINO).

    Args:
        dim: numbers in z.
        hidden: width of the projector's hidden layers.
        width: numbers of the projection.
        prototypes: their number K.
    """

    def __init__(self, dim: int, hidden: int, width: int, prototypes: int) -> None:
        super().__init__()
        self.projector = Projector(dim, hidden, width, 3, BatchNorm)
        self.prototypes = nn.Parameter(torch.randn(prototypes, width))

    def forward(self, z: Tensor) -> Tensor:
        """Cosines `[jet, K]`, float32."""
        projected = nn.functional.normalize(self.projector(z).float(), dim=1)
        with torch.autocast(z.device.type, enabled=False):  # divided by a small temperature: bfloat16 is too coarse
            return projected @ nn.functional.normalize(self.prototypes, dim=1).T


def centred(cosines: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Shares softmax((cosines - centre) / temperature), `[jet, K]` (DINO, arXiv:2104.14294)."""
    return ((cosines - centre) / temperature).softmax(1)


@torch.no_grad()
def sinkhorn(cosines: Tensor, temperature: float, rounds: int = 3) -> Tensor:
    """Shares of each jet `[jet, K]` such that over the jets of all ranks every prototype is used alike.

    Rows and columns of exp(cosines / temperature) are scaled in turn, rows last (SwAV, arXiv:2006.09882).

    Args:
        cosines: `[jet, K]` of this rank; every rank has as many jets.
        temperature: small for sharp shares.
        rounds: how often.
    """
    jets = len(cosines)
    logs = gather(cosines.float()) / temperature
    for _ in range(rounds):
        logs = logs - logs.logsumexp(0, keepdim=True)
        logs = logs - logs.logsumexp(1, keepdim=True)
    return logs[rank() * jets : (rank() + 1) * jets].exp()
