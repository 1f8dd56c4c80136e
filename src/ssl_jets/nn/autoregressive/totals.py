"""Totals of jets, pt, mass and number of particles, and what the particles drawn so far leave of them.

An autoregressive model that knows them makes jets with this pt and this mass: the pt of particles that are drawn
without them does not add up.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ssl_jets.jets import Jets
from ssl_jets.nn.masking import sum_before

STORED = 10_000
"""Training jets whose totals are stored."""

STATE = 10
"""Width of `JetTotals.state`."""


def totals_of(jets: Jets) -> Tensor:
    """Return sum of pt [GeV], mass of massless particles, at least 0.1 [GeV], and number of particles, `[jet, 3]`."""
    return torch.stack([jets.sum(jets.column("pt")), jets.mass().clamp(min=0.1), jets.lengths.float()], dim=1)


def pt_before_each(jets: Jets, totals: Tensor) -> Tensor:
    """Return pt of the particle before each one, and of the jet before the first one, `[particle]`."""
    return jets.column("pt").roll(1).index_copy(0, jets.offsets[:-1], totals[:, 0])


class JetTotals(nn.Module):
    """Stored totals of training jets, to be drawn for new jets."""

    stored: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("stored", torch.ones(STORED, 3))

    def fit_statistics(self, batches: Iterable[Jets]) -> None:
        """Store the totals of `STORED` jets: every n-th one, or each several times."""
        totals = torch.cat([totals_of(jets) for jets in batches])
        self.stored.copy_(totals[torch.arange(STORED) * len(totals) // STORED])

    def draw(self, jets: int) -> Tensor:
        """Return the totals of randomly chosen jets, `[jet, 3]`."""
        return self.stored[torch.randint(STORED, (jets,), device=self.stored.device)]

    def state(self, jets: Jets, totals: Tensor) -> Tensor:
        """Return the state of a jet before each of its particles, `[particle, STATE]`.

        It has the standardized logarithms of the totals, ln(mass / pt) + 2, the logarithms of the fraction of pt left,
        of the number of particles left and of their ratio, ten times the sum of pt / total pt * (deta, dphi) before,
        which is near 0 for a whole jet, and the mass before / total mass.

        Args:
            jets: the jets; a particle enters the states of later particles only.
            totals: of the whole jets, `[jet, 3]`.
        """
        log, known = totals.log(), self.stored.log()
        std = known.std(0)
        standardized = (log - known.mean(0)) / std.where(std > 1e-3, 1.0)
        of_jet = [standardized, log[:, 1:2] - log[:, :1] + 2]
        owner, total = jets.jet_of_particle, totals.double()
        pt, deta, dphi = (jets.column(name).double() for name in ("pt", "deta", "dphi"))
        momenta = [pt * deta.cosh(), pt * dphi.cos(), pt * dphi.sin(), pt * deta.sinh()]
        sums = torch.stack([pt, pt * deta, pt * dphi, *momenta], dim=1)
        before = sum_before(jets, jets.place, sums).unbind(1)
        all_pt, mass, number = total[owner].unbind(1)
        left, number = (1 - before[0] / all_pt).clamp(min=1e-3), (number - jets.place).clamp(min=1)
        mass_before = (before[3].square() - torch.stack(before[4:]).square().sum(0)).clamp(min=0).sqrt()
        of_particle = [left.log(), number.log(), (left / number).log()]
        of_particle += [10 * before[1] / all_pt, 10 * before[2] / all_pt, mass_before / mass]
        return torch.cat([torch.cat(of_jet, dim=1)[owner], torch.stack(of_particle, dim=1).float()], dim=1)
