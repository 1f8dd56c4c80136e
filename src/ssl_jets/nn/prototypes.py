"""Prototypes: soft assignments of jets to learned directions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ssl_jets.nn.collectives import gather, rank
from ssl_jets.nn.heads import Projector
from ssl_jets.nn.normalize import BatchNorm


class PrototypeHead(nn.Module):
    """Cosines of projected z `[jet, dim]` with K prototypes, `[jet, K]` (DINO).

    Args:
        dim: dimension of z.
        hidden: width of the projector's hidden layers.
        width: dimension of the projection.
        prototypes: number K of prototypes.
        norm: function from a width to the norm layer of the projector.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        width: int,
        prototypes: int,
        norm: Callable[[int], nn.Module] = BatchNorm,
    ) -> None:
        super().__init__()
        self.projector = Projector(dim, hidden, width, 3, norm)
        self.prototypes = nn.Parameter(torch.randn(prototypes, width))

    def forward(self, z: Tensor) -> Tensor:
        """Return the cosines `[jet, K]`, float32."""
        projected = nn.functional.normalize(self.projector(z).float(), dim=1)
        with torch.autocast(z.device.type, enabled=False):  # bfloat16 is too coarse for small temperatures
            return projected @ nn.functional.normalize(self.prototypes, dim=1).T


def centred(cosines: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """Compute softmax((cosines - centre) / temperature), `[jet, K]` (DINO, arXiv:2104.14294)."""
    return ((cosines - centre) / temperature).softmax(1)


@torch.no_grad()
def sinkhorn(cosines: Tensor, temperature: float, rounds: int = 3) -> Tensor:
    """Balance assignments `[jet, K]` so that the jets of all ranks use every prototype equally.

    Rows and columns of exp(cosines / temperature) are normalized in turn, rows last (SwAV, arXiv:2006.09882).

    Args:
        cosines: `[jet, K]` of this rank; every rank has equally many jets.
        temperature: a smaller one gives sharper assignments.
        rounds: number of iterations.
    """
    jets = len(cosines)
    logs = gather(cosines.float()) / temperature
    for _ in range(rounds):
        logs = logs - logs.logsumexp(0, keepdim=True)
        logs = logs - logs.logsumexp(1, keepdim=True)
    return logs[rank() * jets : (rank() + 1) * jets].exp()
