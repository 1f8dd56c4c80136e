"""How much of its space z uses: numbers that fall when a representation collapses.

They need no labels, so training may watch them and model selection may use them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_jets.diagnostics.results import RepresentationStatistics as RepresentationStatistics


def representation_statistics(z: Tensor, view: Tensor | None = None) -> RepresentationStatistics:
    """All measures of z `[jet, D]` at once. Needs two jets or more.

    Args:
        z: the representation.
        view: z of another view of the first of these jets, `[viewed jet, D]`.
    """
    z = z.detach().double()
    std = dimension_std(z)
    return RepresentationStatistics(
        jets=z.shape[0],
        dimensions=z.shape[1],
        std=float(std.mean()),
        std_min=float(std.min()),
        variation=float(variation(z)),
        dead=int((std <= 1e-3 * std.max()).sum()),
        rankme=float(rankme(z)),
        participation_ratio=float(participation_ratio(z)),
        mean_cosine=float(mean_cosine(z)),
        uniformity=float(uniformity(z)),
        alignment=math.nan if view is None else float(alignment(z[: len(view)], view)),
    )


def dimension_std(z: Tensor) -> Tensor:
    """Standard deviation over the jets of each dimension of z `[jet, D]`, `[D]`."""
    return z.std(dim=0)


def variation(z: Tensor) -> Tensor:
    """sqrt(mean |z - mean z|^2 / mean |z|^2) of z `[jet, D]`, a scalar: blind to the scale of z, but not to an offset.

    Its square is one minus the mean cosine, for z of equal length.
    """
    z = z.double()
    length = z.square().sum(dim=1).mean().clamp(min=torch.finfo(z.dtype).tiny)
    return ((z - z.mean(dim=0)).square().sum(dim=1).mean() / length).sqrt()


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


def uniformity(z: Tensor, most: int = 2000) -> Tensor:
    """ln mean exp(-2 |u - v|^2) over pairs of jets, u the centred z `[jet, D]` on the sphere (arXiv:2005.10242).

    The mean is taken off first: what all jets have in common says nothing, and in a early encoder it is most of z.

    Args:
        z: the representation.
        most: jets whose pairs are looked at, evenly from all, since jets may come class by class.
    """
    rows = torch.linspace(0, len(z) - 1, min(most, len(z)), device=z.device).round().long()
    unit = _centred_unit(z[rows], z.double().mean(dim=0))
    return torch.pdist(unit).square().mul(-2).exp().mean().log()


def alignment(z: Tensor, other: Tensor) -> Tensor:
    """Mean |u - v|^2 over jets, u and v the z `[jet, D]` of two views, centred, on the sphere (arXiv:2005.10242).

    0 where a view changes nothing, 2 where views of one jet differ as much as two jets do.
    """
    mean = torch.cat([z, other]).double().mean(dim=0)
    return (_centred_unit(z, mean) - _centred_unit(other, mean)).square().sum(dim=1).mean()


def distance(z: Tensor, other: Tensor) -> Tensor:
    """Root mean square distance between two z `[jet, D]` of each jet, in units of the spread of `other`; a scalar."""
    z, other = z.double(), other.double()
    representation_statistics = (
        (other - other.mean(dim=0)).square().sum(dim=1).mean().clamp(min=torch.finfo(z.dtype).tiny)
    )
    return ((z - other).square().sum(dim=1).mean() / representation_statistics).sqrt()


def _centred_unit(z: Tensor, mean: Tensor) -> Tensor:
    return torch.nn.functional.normalize(z.double() - mean, dim=1)


def _eigenvalues(z: Tensor) -> Tensor:
    """Squared singular values of z `[jet, D]`, from the smaller of its two Gram matrices."""
    gram = z.T @ z if z.shape[0] >= z.shape[1] else z @ z.T
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values.clamp(min=0)
