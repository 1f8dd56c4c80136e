"""How much of its space z uses: numbers that fall when a representation collapses.

They need no labels, so training may watch them and model selection may use them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Spread:
    """The spread of z over a set of jets.

    Attributes:
        jets: number of jets.
        dimensions: width D of z.
        std: mean over the dimensions of the standard deviation over jets.
        std_min: the smallest standard deviation of a dimension.
        dead: dimensions whose standard deviation is below 1e-3 of the largest.
        rankme: effective rank of the uncentred z, 1 to D.
        participation_ratio: effective rank of the covariance, 1 to D; 0 where no dimension varies.
        mean_cosine: mean cosine between two different jets; 1 where all point the same way.
    """

    jets: int
    dimensions: int
    std: float
    std_min: float
    dead: int
    rankme: float
    participation_ratio: float
    mean_cosine: float


def spread(z: Tensor) -> Spread:
    """All measures of z `[jet, D]` at once. Needs two jets or more."""
    z = z.detach().double()
    std = dimension_std(z)
    return Spread(
        jets=z.shape[0],
        dimensions=z.shape[1],
        std=float(std.mean()),
        std_min=float(std.min()),
        dead=int((std <= 1e-3 * std.max()).sum()),
        rankme=float(rankme(z)),
        participation_ratio=float(participation_ratio(z)),
        mean_cosine=float(mean_cosine(z)),
    )


def dimension_std(z: Tensor) -> Tensor:
    """Standard deviation over the jets of each dimension of z `[jet, D]`, `[D]`."""
    return z.std(dim=0)


def rankme(z: Tensor, epsilon: float = 1e-7) -> Tensor:
    """RankMe (arXiv:2210.02885): exp of the entropy of the normalised singular values of z `[jet, D]`, a scalar.

    z is not centred, as in the paper, so a large common offset counts as one dominant direction.
    """
    singular = _eigenvalues(z.double()).sqrt()
    p = singular / singular.sum().clamp(min=torch.finfo(singular.dtype).tiny) + epsilon
    return torch.exp(-(p * p.log()).sum())


def participation_ratio(z: Tensor) -> Tensor:
    """(sum of l)^2 / (sum of l^2) of the eigenvalues l of the covariance of z `[jet, D]`, a scalar."""
    centred = z.double() - z.double().mean(dim=0)
    values = _eigenvalues(centred)
    return values.sum().square() / values.square().sum().clamp(min=torch.finfo(values.dtype).tiny)


def mean_cosine(z: Tensor) -> Tensor:
    """Mean cosine between two different jets of z `[jet, D]`, a scalar. A jet with z = 0 has cosine 0 with all."""
    unit = torch.nn.functional.normalize(z.double(), dim=1)
    total = unit.sum(dim=0).square().sum()
    return (total - unit.square().sum()) / (len(z) * (len(z) - 1))


def _eigenvalues(z: Tensor) -> Tensor:
    """Squared singular values of z `[jet, D]`, from the smaller of its two Gram matrices."""
    gram = z.T @ z if z.shape[0] >= z.shape[1] else z @ z.T
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values.clamp(min=0)
