"""Pairwise interaction bias of attention (ParT, arXiv:2202.03772)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssl_jets.jets import Jets
from ssl_jets.nn.attention import AttentionLayout


class PairBias(nn.Module):
    """MLP from ln dR, ln kT, ln z, ln m^2 of each pair of particles to one attention score per head.

    With massless particles m^2 = 2 pt_i pt_j (cosh(deta) - cos(dphi)), kT = min(pt_i, pt_j) dR and
    z = min(pt_i, pt_j) / (pt_i + pt_j). They are symmetric, so each pair is computed once. Class token and registers
    have no bias. The same bias serves every block. It is zero at first: a trained encoder that gets one goes on from
    its own z.
    """

    def __init__(self, heads: int, width: int = 64) -> None:
        super().__init__()
        last = nn.Linear(width, heads)
        self.mlp = nn.Sequential(nn.Linear(4, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

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
        pairs, places = [], []
        for run, (count, length) in zip(runs, sizes, strict=True):
            first, second = torch.triu_indices(length, length, device=run.device)
            particles = run.view(count, length, 3)
            pairs.append(_pairs(particles[:, first], particles[:, second]).flatten(0, 1))
            place = first.new_empty(length, length)
            place[first, second] = place[second, first] = torch.arange(len(first), device=run.device)
            places.append(place)
        parts = self.mlp(torch.cat(pairs)).split([len(pair) for pair in pairs])
        return [
            nn.functional.pad(part.unflatten(0, (count, -1)).transpose(1, 2)[:, :, place], (extra, 0, extra, 0))
            for part, (count, _), place in zip(parts, sizes, places, strict=True)
        ]

    def padded(self, kinematics: Tensor, extra: int) -> Tensor:
        """Return the bias `[jet, head, token, token]` of a padded batch, for exported graphs.

        Args:
            kinematics: ln pt, deta, dphi of each particle, `[jet, particle, 3]`, finite also for padding.
            extra: number of extra tokens of each jet.
        """
        pairs = _pairs(kinematics.unsqueeze(2), kinematics.unsqueeze(1))
        scores = self.mlp(pairs).permute(0, 3, 1, 2)  # [jet, head, particle, particle]
        return nn.functional.pad(scores, (extra, 0, extra, 0))


def _pairs(first: Tensor, second: Tensor) -> Tensor:
    """Compute `[..., (ln dR, ln kT, ln z, ln m^2)]` of particles with kinematics `[..., (ln pt, deta, dphi)]`."""
    _, deta, dphi = first.sub(second).unbind(-1)
    log_pt, other = first[..., 0], second[..., 0]
    softer, total = torch.minimum(log_pt, other), torch.logaddexp(log_pt, other)
    distance = torch.hypot(deta, dphi).clamp(min=1e-4).log()
    # cosh a - cos b = 2 (sinh^2(a/2) + sin^2(b/2)) has no cancellation for close particles.
    angle = 4 * ((deta / 2).sinh().square() + (dphi / 2).sin().square())
    mass = log_pt + other + angle.clamp(min=1e-8).log()
    return torch.stack([distance, softer + distance, softer - total, mass], dim=-1)
