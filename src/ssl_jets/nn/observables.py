"""What a jet amounts to: sums over its particles, which a z that stands for the jet should tell.

With w_i = pt_i / sum pt and r_i e^(i phi_i) the direction of particle i from the centroid of pt, the numbers are

    ln n, ln sum pt, ln m
    ln |sum w r^k e^(i q phi)| / k         for (k, q) of `MOMENTS`: width, elongation, number of prongs
    sqrt(n_c), sum over c of w             for each signed kind c
    mean of x, x^2, and w-weighted         for x of log_pt, dr, d0_size, dz_size, standardised

None of them depends on the order of the particles, or on how the jet is turned about its axis or reflected (m very
little: (deta, dphi) are not quite angles). A column that the jets lack gives numbers that do not vary, and these do
not count.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ssl_jets.jets import Jets
from ssl_jets.nn.features import FEATURES, SIGNED_KINDS, Features

MOMENTS = ((1, 0), (2, 0), (2, 2), (3, 1), (3, 3), (4, 0), (4, 2), (4, 4))
"""Powers k of the distance and q of the phase."""
AVERAGED = tuple(index for index, f in enumerate(FEATURES) if f.name in ("log_pt", "dr", "d0_size", "dz_size"))
"""Features of the particles whose means are taken."""
OBSERVABLES = 3 + len(MOMENTS) + 2 * SIGNED_KINDS + 4 * len(AVERAGED)
"""Numbers of a summary."""
PT = 1
"""Where ln sum pt stands among them."""


class JetObservables(nn.Module):
    """Summaries of jets, standardised with the statistics of training jets, and a linear map from z to them.

    Linear, so that what z says of the jet as a whole is said plainly, and changes evenly along a line in z.

    Args:
        dim: numbers of z.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(OBSERVABLES))
        self.register_buffer("std", torch.ones(OBSERVABLES))
        self.from_z = nn.Linear(dim, OBSERVABLES)

    def fit_statistics(self, batches: Iterable[Jets], features: Features) -> None:
        """Set mean and standard deviation from `batches` of training jets."""
        found = torch.cat([jet_observables(jets, features) for jets in batches]).double()
        std = found.std(0, correction=0)
        self.mean.copy_(found.mean(0))
        self.std.copy_(torch.where(std > 1e-5, std, torch.zeros_like(std)))

    def pt(self, z: Tensor) -> Tensor:
        """The sum of the particles' pt that z `[jet, dim]` tells of, in GeV, `[jet]`."""
        said: Tensor = self.from_z(z).float()[:, PT] * self.std[PT] + self.mean[PT]
        return said.exp()

    def error(self, z: Tensor, jets: Jets, features: Features) -> Tensor:
        """Smooth L1 between what z `[jet, dim]` says and the summary of each jet, `[jet]`.

        It is the mean over the numbers that vary at all: not, say, those of a kind that does not occur.
        """
        vary = self.std > 0
        truth = (jet_observables(jets, features) - self.mean)[:, vary] / self.std[vary]
        return nn.functional.smooth_l1_loss(self.from_z(z).float()[:, vary], truth, reduction="none").mean(1)


@torch.no_grad()
def jet_observables(jets: Jets, features: Features) -> Tensor:
    """The numbers above, not standardised, `[jet, SUMMARY]`; a jet has at least one particle."""
    values, weights, kinds = features.targets(jets)
    averaged = (values * weights)[:, list(AVERAGED)]
    pt, number, owner = jets.column("pt"), jets.lengths.float(), jets.jet_of_particle
    total = jets.sum(pt)
    share = (pt * (number / total)[owner]).unsqueeze(1)  # the mean of share * x over a jet is the weighted mean of x
    kind = nn.functional.one_hot(kinds.clamp(min=0), SIGNED_KINDS) * (kinds >= 0).unsqueeze(1)
    means = [averaged, averaged * share, averaged.square(), averaged.square() * share]
    return torch.cat(
        [
            torch.stack([number, total, jets.mass().clamp(min=0.1)], dim=1).log(),
            _moments(jets, share),
            jets.sum(kind.float()).sqrt(),
            jets.mean(kind * share),
            jets.mean(torch.cat(means, dim=1)),
        ],
        dim=1,
    )


def _moments(jets: Jets, share: Tensor) -> Tensor:
    """ln |sum w r^k e^(i q phi)| / k, `[jet, MOMENTS]`."""
    place = torch.stack([jets.column("deta"), jets.column("dphi")], dim=1)
    x, y = (place - jets.mean(place * share)[jets.jet_of_particle]).unbind(1)
    distance, angle = torch.hypot(x, y), torch.atan2(y, x)
    found = []
    for k, q in MOMENTS:
        turned = torch.stack([(q * angle).cos(), (q * angle).sin()], dim=1) * distance.pow(k).unsqueeze(1)
        found.append(jets.mean(turned * share).norm(dim=1).clamp(min=1e-6).log() / k)
    return torch.stack(found, dim=1)
