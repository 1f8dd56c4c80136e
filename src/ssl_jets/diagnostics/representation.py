"""Statistics of a representation z that fall when it collapses.

They need no labels, so they can be monitored during training and used for model selection.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssl_jets.diagnostics.results import RepresentationStatistics as RepresentationStatistics
from ssl_jets.nn.normalize import nonzero_std
from ssl_jets.nn.normalize import variation as variation


def representation_statistics(z: Tensor, view: Tensor | None = None) -> RepresentationStatistics:
    """Compute all statistics of z `[jet, D]`, of two jets or more.

    Args:
        z: the representation.
        view: z of another view of the first of these jets, `[viewed jet, D]`.

    >>> z = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0], [-2.0, 0.0]])
    >>> statistics = representation_statistics(z)
    >>> statistics.dead, round(statistics.participation_ratio, 3)
    (1, 1.0)
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
    """Compute the standard deviation of each dimension of z `[jet, D]` over the jets, `[D]`."""
    return z.std(dim=0)


def rankme(z: Tensor, epsilon: float = 1e-7) -> Tensor:
    """Compute RankMe (arXiv:2210.02885): exp of the entropy of the normalized singular values of z `[jet, D]`.

    z is not centred, as in the paper, so a large common offset counts as one dominant direction.
    """
    singular = _eigenvalues(z.double()).sqrt()
    p = singular / singular.sum().clamp(min=torch.finfo(singular.dtype).tiny) + epsilon
    return torch.exp(-(p * p.log()).sum())


def participation_ratio(z: Tensor) -> Tensor:
    """Compute (sum l)^2 / (sum l^2) over the eigenvalues l of the covariance of z `[jet, D]`, a scalar."""
    centred = z.double() - z.double().mean(dim=0)
    values = _eigenvalues(centred)
    return values.sum().square() / values.square().sum().clamp(min=torch.finfo(values.dtype).tiny)


def mean_cosine(z: Tensor) -> Tensor:
    """Compute the mean cosine of two different jets of z `[jet, D]`. A jet with z = 0 has cosine 0 with all."""
    unit = torch.nn.functional.normalize(z.double(), dim=1)
    total = unit.sum(dim=0).square().sum()
    return (total - unit.square().sum()) / (len(z) * (len(z) - 1))


def uniformity(z: Tensor, most: int = 2000) -> Tensor:
    """Compute ln mean exp(-2 |u - v|^2) over pairs of jets, u the centred z `[jet, D]` on the sphere.

    Uniformity of arXiv:2005.10242, after subtraction of the mean of z: early in training a common offset is most of z.

    Args:
        z: the representation.
        most: number of jets to form pairs of, evenly spaced, since jets may be ordered by class.
    """
    rows = torch.linspace(0, len(z) - 1, min(most, len(z)), device=z.device).round().long()
    unit = _centred_unit(z[rows], z.double().mean(dim=0))
    return torch.pdist(unit).square().mul(-2).exp().mean().log()


def alignment(z: Tensor, other: Tensor) -> Tensor:
    """Compute mean |u - v|^2 over jets, u and v the z `[jet, D]` of two views, centred, on the sphere.

    Alignment of arXiv:2005.10242: 0 for identical views, 2 if two views of a jet differ as much as two jets.
    """
    mean = torch.cat([z, other]).double().mean(dim=0)
    return (_centred_unit(z, mean) - _centred_unit(other, mean)).square().sum(dim=1).mean()


def distance(z: Tensor, other: Tensor) -> Tensor:
    """Compute the rms distance between two z `[jet, D]` of each jet, in units of the rms spread of `other`."""
    z, other = z.double(), other.double()
    spread = (other - other.mean(dim=0)).square().sum(dim=1).mean().clamp(min=torch.finfo(z.dtype).tiny)
    return ((z - other).square().sum(dim=1).mean() / spread).sqrt()


def _centred_unit(z: Tensor, mean: Tensor) -> Tensor:
    return torch.nn.functional.normalize(z.double() - mean, dim=1)


def _eigenvalues(z: Tensor) -> Tensor:
    """Compute the squared singular values of z `[jet, D]` from the smaller of its two Gram matrices."""
    gram = z.T @ z if z.shape[0] >= z.shape[1] else z @ z.T
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values.clamp(min=0)


def ridge_accuracy(z: Tensor, labels: Tensor, fit: Tensor, classes: int) -> float:
    """Compute the accuracy of a ridge classifier of standardized z; NaN if the labels are of one class.

    A closed form that takes milliseconds: a guide during training, not the probe of `evaluate`.

    Args:
        z: representation `[jet, D]`.
        labels: class of each jet `[jet]`, -1 for unlabelled jets, which are left out.
        fit: jets to fit on `[jet]`; the classifier is tested on the others.
        classes: number of classes.
    """
    labelled = labels >= 0
    train, test = fit & labelled, ~fit & labelled
    if len(labels[train].unique()) < 2 or not test.any():
        return float("nan")
    z = (z - z[train].mean(0)) / nonzero_std(z[train])
    z = torch.cat([z, torch.ones(len(z), 1)], dim=1).double()
    target = torch.nn.functional.one_hot(labels[train], classes).double()
    ridge = 1e-2 * train.sum() * torch.eye(z.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(z[train].T @ z[train] + ridge, z[train].T @ target)
    return float(((z[test] @ weights).argmax(1) == labels[test]).double().mean())
