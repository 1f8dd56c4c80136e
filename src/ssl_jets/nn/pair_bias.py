"""Pairwise interaction bias of attention (ParT, arXiv:2202.03772)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_jets.jets import Jets
from ssl_jets.nn.attention import AttentionLayout


class PairBias(nn.Module):
    """MLP from ln dR, ln kT, ln z, ln m^2 of each pair of particles to one attention score per head.

    With massless particles m^2 = 2 pt_i pt_j (cosh(deta) - cos(dphi)), kT = min(pt_i, pt_j) dR and
    z = min(pt_i, pt_j) / (pt_i + pt_j). Class token and registers have no bias. The same bias serves every block.
    """

    def __init__(self, heads: int, width: int = 64) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(4, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, heads)
        )

    def forward(self, jets: Jets, layout: AttentionLayout, extra: int) -> list[Tensor]:
        """Return for each run of `layout` a bias `[jet, head, length, length]`.

        Args:
            jets: the jets in the order of `layout`.
            layout: the layout of sequences with `extra` tokens before the particles of each jet.
            extra: number of extra tokens of each jet.
        """
        kinematics = torch.stack([jets.column("pt").log(), jets.column("deta"), jets.column("dphi")], dim=1)
        sizes = [(count, length - extra) for _, count, length in layout.runs]
        runs = kinematics.split([count * length for count, length in sizes])
        pairs = [_pairs(run.view(*size, 3)) for run, size in zip(runs, sizes, strict=True)]
        scores = self.mlp(torch.cat([pair.flatten(0, 2) for pair in pairs]))
        parts = scores.split([count * length * length for count, length in sizes])
        return [
            nn.functional.pad(
                part.view(count, length, length, scores.shape[1]).permute(0, 3, 1, 2), (extra, 0, extra, 0)
            )
            for part, (count, length) in zip(parts, sizes, strict=True)
        ]

    def padded(self, kinematics: Tensor, extra: int) -> Tensor:
        """Return the bias `[jet, head, token, token]` of a padded batch, for exported graphs.

        Args:
            kinematics: ln pt, deta, dphi of each particle, `[jet, particle, 3]`, finite also for padding.
            extra: number of extra tokens of each jet.
        """
        scores = self.mlp(_pairs(kinematics)).permute(0, 3, 1, 2)  # [jet, head, particle, particle]
        return nn.functional.pad(scores, (extra, 0, extra, 0))


def _pairs(run: Tensor) -> Tensor:
    """Compute `[jet, n, n, (ln dR, ln kT, ln z, ln m^2)]` from kinematics `[jet, n, (ln pt, deta, dphi)]`."""
    _, deta, dphi = run.unsqueeze(2).sub(run.unsqueeze(1)).unbind(-1)
    softer = torch.minimum(run[:, :, None, 0], run[:, None, :, 0])
    total = torch.logaddexp(run[:, :, None, 0], run[:, None, :, 0])
    distance = torch.hypot(deta, dphi).clamp(min=1e-4).log()
    # cosh a - cos b = 2 (sinh^2(a/2) + sin^2(b/2)) has no cancellation for close particles.
    angle = 4 * ((deta / 2).sinh().square() + (dphi / 2).sin().square())
    mass = run[:, :, None, 0] + run[:, None, :, 0] + angle.clamp(min=1e-8).log()
    return torch.stack([distance, softer + distance, softer - total, mass], dim=-1)
