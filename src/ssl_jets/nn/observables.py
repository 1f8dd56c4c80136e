"""Permutation-invariant jet observables, the target of an auxiliary regression from z.

With w_i = pt_i / sum pt and r_i e^(i phi_i) the direction of particle i from the centroid of pt, they are

    ln n, ln sum pt, ln m
    ln |sum w r^k e^(i q phi)| / k         for (k, q) of `MOMENTS`: width, elongation, number of prongs
    sqrt(n_c), sum over c of w             for each signed kind c
    mean of x, x^2, and w-weighted         for x of log_pt, dr, d0_size, dz_size, standardized
    sqrt(sum of w_i w_j)                   over the pairs i != j in each bin of dR(i, j), and in each of
                                           sqrt(pt_i pt_j) dR(i, j): energy-energy correlators (arXiv:1305.0007)
    sqrt(n_d), sqrt(sum over d of w)       of the tracks d with |d0 / d0err| above each of `DISPLACED`

They are invariant under permutations of the particles and under rotations about the jet axis and reflections (m only
approximately, since (deta, dphi) are not exactly angles). Statistics and error leave out observables that need a
column which the batch lacks or `train.hide_features` hides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from ssl_jets.jets import Jets
from ssl_jets.nn.attention.pair_bias import pairs_of
from ssl_jets.nn.features import FEATURES, SIGNED_KINDS, TRACK_TARGETS, Features

MOMENTS = ((1, 0), (2, 0), (2, 2), (3, 1), (3, 3), (4, 0), (4, 2), (4, 4))
"""Powers k of the distance and q of the phase."""
AVERAGED = tuple(index for index, f in enumerate(FEATURES) if f.name in ("log_pt", "dr", "d0_size", "dz_size"))
"""Indices of the particle features that are averaged."""
RADII = (0.02, 0.04, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8)
"""Edges of the bins of the distance of a pair."""
MASSES = (1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0)
"""Edges of the bins of the mass of a pair [GeV]."""
DISPLACED = (2.0, 5.0, 10.0)
"""Significances of the transverse impact parameter above which tracks are counted."""
CORRELATORS = len(RADII) + 1 + len(MASSES) + 1
"""Number of bins of pairs."""
OBSERVABLES = 3 + len(MOMENTS) + 2 * SIGNED_KINDS + 4 * len(AVERAGED) + CORRELATORS + 2 * len(DISPLACED)
"""Number of observables."""
PAIRS = 2**18
"""Pairs of particles held at one time: fastest if they fit into the cache of a core."""
PT = 1
"""Index of ln sum pt among them."""


class JetObservables(nn.Module):
    """Regression of jet observables, standardized with the statistics of training jets, by a linear map of z.

    The map is linear so that the observables are linearly decodable from z and vary linearly along a line in z.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(OBSERVABLES))
        self.register_buffer("std", torch.ones(OBSERVABLES))
        self.from_z = nn.Linear(dim, OBSERVABLES)
        self.register_load_state_dict_pre_hook(_pad)

    def fit_statistics(self, batches: Iterable[Jets], features: Features) -> None:
        """Fit mean and standard deviation on `batches` of training jets; the others have std 0."""
        rows = [jet_observables(jets, features).double().where(known(jets), torch.nan) for jets in batches]
        values = [column[column.isfinite()] for column in torch.cat(rows).unbind(1)]
        std = torch.stack([value.std(correction=0) if len(value) else value.new_zeros(()) for value in values])
        mean = torch.stack([value.mean() if len(value) else value.new_zeros(()) for value in values])
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-5, std, torch.zeros_like(std)))

    def pt(self, z: Tensor) -> Tensor:
        """Predict the sum of the particles' pt from z `[jet, dim]`, in GeV, `[jet]`."""
        log_pt: Tensor = self.from_z(z).float()[:, PT] * self.std[PT] + self.mean[PT]
        return log_pt.exp()

    def error(self, z: Tensor, jets: Jets, features: Features) -> Tensor:
        """Compute the smooth L1 error of the observables predicted from z `[jet, dim]`, `[jet]`.

        It is the mean over the observables that these jets have and that vary: an absent kind has constant ones.
        """
        used = (self.std > 0) & known(jets)
        truth = (jet_observables(jets, features) - self.mean)[:, used] / self.std[used]
        return nn.functional.smooth_l1_loss(self.from_z(z).float()[:, used], truth, reduction="none").mean(1)


def _pad(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Fill up the state of an earlier version, which had fewer observables, in place: a std of 0 leaves one out."""
    for name, now in module.state_dict().items():
        if len(old := state.get(prefix + name, now)) < OBSERVABLES:
            state[prefix + name] = torch.cat([old, now.new_zeros(OBSERVABLES - len(old), *now.shape[1:])])


def known(jets: Jets) -> Tensor:
    """Return whether the jets have the columns of each observable, bool `[OBSERVABLES]`.

    Track parameters need the charge too, since neutral particles have none.
    """
    columns = set(jets.columns)
    kinds = {"kind", "charge"} <= columns
    averaged = [
        set(FEATURES[index].needs) | ({"charge"} if index in TRACK_TARGETS else set()) <= columns for index in AVERAGED
    ]
    of_momenta = [True] * (3 + len(MOMENTS))
    of_kinds, of_pairs = [kinds] * 2 * SIGNED_KINDS, [True] * CORRELATORS
    of_tracks = [{"d0", "d0err", "charge"} <= columns] * 2 * len(DISPLACED)
    return torch.tensor(of_momenta + of_kinds + averaged * 4 + of_pairs + of_tracks, device=jets.particles.device)


@torch.no_grad()
def jet_observables(jets: Jets, features: Features) -> Tensor:
    """Return the observables, not standardized, `[jet, OBSERVABLES]`; a jet has at least one particle.

    The values of observables that are not `known` mean nothing.
    """
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
            _correlators(jets, pt / total[owner]),
            _displaced_tracks(jets, pt / total[owner]),
        ],
        dim=1,
    )


def _moments(jets: Jets, share: Tensor) -> Tensor:
    """Compute ln |sum w r^k e^(i q phi)| / k, `[jet, MOMENTS]`."""
    position = torch.stack([jets.column("deta"), jets.column("dphi")], dim=1)
    x, y = (position - jets.mean(position * share)[jets.jet_of_particle]).unbind(1)
    distance, angle = torch.hypot(x, y), torch.atan2(y, x)
    moments = []
    for k, q in MOMENTS:
        powers = torch.stack([(q * angle).cos(), (q * angle).sin()], dim=1) * distance.pow(k).unsqueeze(1)
        moments.append(jets.mean(powers * share).norm(dim=1).clamp(min=1e-6).log() / k)
    return torch.stack(moments, dim=1)


def _correlators(jets: Jets, share: Tensor) -> Tensor:
    """Compute energy-energy correlators in bins of distance, then of mass, `[jet, CORRELATORS]`."""
    pt, deta, dphi, owner = jets.column("pt"), jets.column("deta"), jets.column("dphi"), jets.jet_of_particle
    edges = share.new_tensor(RADII), share.new_tensor(MASSES)
    sums = share.new_zeros(len(jets) * CORRELATORS)
    for offsets, particles, pairs in _parts(jets):
        first, second = (index + offsets[0] for index in pairs_of(offsets - offsets[0], particles, pairs))
        turn = (dphi[first] - dphi[second]).abs()
        distance = torch.hypot(deta[first] - deta[second], torch.minimum(turn, 2 * torch.pi - turn))
        mass = (pt[first] * pt[second]).sqrt() * distance
        weight = 2 * share[first] * share[second] * (first != second)  # both orders of the pair
        bins = CORRELATORS * owner[first]
        sums.index_add_(0, bins + torch.bucketize(distance, edges[0]), weight)
        sums.index_add_(0, bins + len(RADII) + 1 + torch.bucketize(mass, edges[1]), weight)
    return sums.view(len(jets), CORRELATORS).sqrt()


def _parts(jets: Jets) -> Iterator[tuple[Tensor, int, int]]:
    """Yield consecutive jets with about `PAIRS` pairs: their offsets, and their numbers of particles and of pairs."""
    start = particles = pairs = 0
    for end, length in enumerate(jets.lengths.tolist(), start=1):
        particles, pairs = particles + length, pairs + length * (length + 1) // 2
        if pairs >= PAIRS or end == len(jets):
            yield jets.offsets[start : end + 1], particles, pairs
            start, particles, pairs = end, 0, 0


def _displaced_tracks(jets: Jets, share: Tensor) -> Tensor:
    """Compute number and pt fraction of displaced tracks, `[jet, 2 * len(DISPLACED)]`; 0 without tracks."""
    if not {"d0", "d0err", "charge"} <= set(jets.columns):
        return share.new_zeros(len(jets), 2 * len(DISPLACED))
    error = jets.column("d0err")
    least = share.new_tensor(DISPLACED) * error.unsqueeze(1)
    track = ((error > 0) & (jets.column("charge") != 0)).unsqueeze(1)
    far = ((jets.column("d0").abs().unsqueeze(1) > least) & track).float()
    return jets.sum(torch.cat([far, far * share.unsqueeze(1)], dim=1)).sqrt()
