"""CORAL, MMD and Sinkhorn divergence against sums, linear programs, in known limits, and over two ranks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment, linprog
from torch import Tensor

from ssl_jets.nn import collectives
from ssl_jets.nn.domain.distance import coral, kernel, mmd, sinkhorn
from support.ranks import all_ranks

SCALES = (0.25, 1.0, 4.0)


def cloud(jets: int, seed: int, width: int = 3, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(jets, width, generator=torch.Generator().manual_seed(seed)) + shift


def plain_mmd(source: Tensor, target: Tensor) -> float:
    """The formula, one pair at a time."""
    s, t = source.tolist(), target.tolist()
    joined = s + t
    pairs = [(x, y) for i, x in enumerate(joined) for j, y in enumerate(joined) if i != j]
    ruler = sum(math.dist(x, y) ** 2 for x, y in pairs) / len(pairs)

    def k(x: list[float], y: list[float]) -> float:
        return sum(math.exp(-(math.dist(x, y) ** 2) / (2 * c * ruler)) for c in SCALES) / len(SCALES)

    same = [sum(k(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j) / (len(a) * (len(a) - 1))
            for a in (s, t)]  # fmt: skip
    return sum(same) - 2 * sum(k(x, y) for x in s for y in t) / (len(s) * len(t))


def test_coral_is_the_distance_of_the_covariances() -> None:
    source, target = cloud(40, 0), cloud(25, 1, scale=2.0, shift=5.0)
    difference = np.cov(source.numpy(), rowvar=False) - np.cov(target.numpy(), rowvar=False)
    assert float(coral(source, target)) == pytest.approx(float((difference**2).sum()) / (4 * 3**2), rel=1e-4)


def test_coral_sees_a_change_of_width_and_not_one_of_place() -> None:
    source = cloud(500, 0)
    assert float(coral(source, source + 3)) == pytest.approx(0, abs=1e-6)
    # |C - 4 C|^2 of a C near the unit matrix
    assert float(coral(source, 2 * source)) == pytest.approx(9 * 3 / 36, rel=0.2)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_mmd_is_the_sum_over_pairs(shift: float) -> None:
    source, target = cloud(9, 0), cloud(6, 1, shift=shift)
    assert float(mmd(source, target, SCALES)) == pytest.approx(plain_mmd(source, target), abs=1e-6)


def test_mmd_of_one_distribution_is_zero_in_expectation_and_not_of_two() -> None:
    same = [float(mmd(cloud(20, 2 * i), cloud(20, 2 * i + 1), SCALES)) for i in range(200)]
    apart = [float(mmd(cloud(20, 2 * i), cloud(20, 2 * i + 1, shift=0.7), SCALES)) for i in range(20)]
    error = float(np.std(same)) / math.sqrt(len(same))
    assert abs(np.mean(same)) < 3 * error
    assert min(same) < 0 < max(same)
    assert np.mean(apart) > 10 * error


def test_mmd_sees_a_change_of_width_at_the_same_mean() -> None:
    assert float(mmd(cloud(300, 0), cloud(300, 1, scale=2.0), SCALES)) > 0.01


def test_mmd_does_not_depend_on_the_scale_or_offset_of_z() -> None:
    source, target = cloud(30, 0), cloud(30, 1, shift=1.0)
    found = float(mmd(source, target, SCALES))
    assert float(mmd(100 * source + 1000, 100 * target + 1000, SCALES)) == pytest.approx(found, rel=1e-3)
    factor = torch.ones((), requires_grad=True)  # the ruler has no gradient: a smaller z is a smaller distance
    mmd(factor * source, factor * target, SCALES).backward()
    assert factor.grad is not None
    assert float(factor.grad) > 0.1 * found


def test_a_kernel_is_one_for_equal_jets_and_falls() -> None:
    values = kernel(torch.tensor([[0.0], [0.0], [1.0], [5.0]]), SCALES)
    assert float(values[0, 1]) == pytest.approx(1)
    assert 1 > float(values[0, 2]) > float(values[0, 3]) > 0


def costs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x[:, None] - y[None]) ** 2).sum(2)


def ruler(source: Tensor, target: Tensor) -> float:
    """The mean squared distance of two different jets."""
    joined = torch.cat([source, target]).double().numpy()
    return float(costs(joined, joined).sum() / (len(joined) * (len(joined) - 1)))


def plain_sinkhorn(source: np.ndarray, target: np.ndarray, scale: float, regularization: float) -> float:
    """The formula: plans from rescaled rows and columns of exp(-cost / regularization), and the value of each."""

    def transport(x: np.ndarray, y: np.ndarray) -> float:
        cost = costs(x, y) / scale
        rows, columns = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
        factors, right = np.exp(-cost / regularization), np.ones(len(y))
        for _ in range(2000):
            left = rows / (factors @ right)
            right = columns / (factors.T @ left)
        plan = left[:, None] * factors * right
        divergence = (plan * np.log(plan / (rows[:, None] * columns))).sum()
        return float((plan * cost).sum() + regularization * divergence)

    return transport(source, target) - (transport(source, source) + transport(target, target)) / 2


@pytest.mark.parametrize(("jets", "regularization"), [(9, 0.5), (9, 0.1), (6, 0.5)])
def test_sinkhorn_is_the_debiased_entropic_transport(jets: int, regularization: float) -> None:
    source, target = cloud(9, 0), cloud(jets, 1, shift=0.5)
    expected = plain_sinkhorn(source.double().numpy(), target.double().numpy(), ruler(source, target), regularization)
    assert float(sinkhorn(source, target, regularization)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("jets", "width"), [(8, 1), (8, 3), (5, 3)])
def test_sinkhorn_of_small_regularization_is_the_optimal_transport(jets: int, width: int) -> None:
    source, target = cloud(8, 0, width), cloud(jets, 1, width, shift=1.0)
    cost = costs(source.double().numpy(), target.double().numpy())
    places = np.eye(8 * jets).reshape(8, jets, 8 * jets)
    sums = np.concatenate([places.sum(1), places.sum(0)])
    shares = np.concatenate([np.full(8, 1 / 8), np.full(jets, 1 / jets)])
    exact = float(linprog(cost.ravel(), A_eq=sums, b_eq=shares).fun)
    if jets == 8:
        assert exact == pytest.approx(cost[linear_sum_assignment(cost)].mean())
    if width == 1:
        assert exact == pytest.approx(float((source.sort(0)[0] - target.sort(0)[0]).square().mean()))
    assert float(sinkhorn(source, target, 0.01)) == pytest.approx(exact / ruler(source, target), rel=0.02)


def test_sinkhorn_of_large_regularization_is_the_distance_of_the_means() -> None:
    source, target = cloud(8, 0), cloud(6, 1, shift=1.0)
    expected = float((source.mean(0) - target.mean(0)).square().sum()) / ruler(source, target)
    assert float(sinkhorn(source, target, 100.0)) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("regularization", [0.02, 0.5])
def test_sinkhorn_is_zero_for_equal_samples_alone(regularization: float) -> None:
    source = cloud(20, 0)
    assert float(sinkhorn(source, source.flip(0), regularization)) == pytest.approx(0, abs=1e-5)
    for other in (cloud(20, 1), source + 0.3, 1.3 * (source - source.mean(0)) + source.mean(0)):
        assert float(sinkhorn(source, other, regularization)) > 1e-3


@pytest.mark.parametrize("regularization", [0.1, 0.5])
def test_the_gradient_of_sinkhorn_is_the_finite_difference(regularization: float) -> None:
    """Of the formula by every coordinate, although no gradient passes through the iterations."""
    source, target = cloud(5, 0, 2).requires_grad_(), cloud(4, 1, 2, shift=0.5).requires_grad_()
    sinkhorn(source, target, regularization).backward()
    for side, z in enumerate((source, target)):
        assert z.grad is not None
        for place in np.ndindex(*z.shape):
            values = []
            for step in (1e-4, -1e-4):
                moved = [each.detach().double() for each in (source, target)]
                moved[side][place] += step
                plain = [each.numpy() for each in moved]
                values.append(plain_sinkhorn(plain[0], plain[1], ruler(*moved), regularization))
            assert float(z.grad[place]) == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-3, abs=1e-5)


def test_z_cannot_change_sinkhorn_by_its_scale() -> None:
    """Its gradient has no part along z; with a constant scale of the cost it would pull all jets into one point."""
    z = torch.cat([cloud(12, 0), cloud(10, 1, shift=0.5)])
    z = (z - z.mean(0)).requires_grad_()
    sinkhorn(z[:12], z[12:], 0.5).backward()
    assert z.grad is not None
    along, size = (z.grad * z.detach()).sum(), z.grad.norm() * z.detach().norm()
    assert float(along / size) == pytest.approx(0, abs=1e-5)


def test_sinkhorn_does_not_depend_on_the_scale_or_offset_of_z() -> None:
    source, target = cloud(30, 0), cloud(30, 1, shift=1.0)
    found = float(sinkhorn(source, target, 0.5))
    assert float(sinkhorn(100 * source + 1000, 100 * target + 1000, 0.5)) == pytest.approx(found, rel=1e-3)


def test_sinkhorn_moves_the_jets_of_one_batch_onto_the_others() -> None:
    source, target = cloud(20, 0), cloud(20, 1, scale=2.0, shift=1.0).requires_grad_()
    optimizer = torch.optim.Adam([target], lr=0.1)
    before = float(sinkhorn(source, target.detach(), 0.5))
    for _ in range(150):
        optimizer.zero_grad()
        sinkhorn(source, target, 0.5).backward()
        optimizer.step()
    assert float(sinkhorn(source, target.detach(), 0.5)) < 0.01 * before


DISTANCES = {
    "coral": coral,
    "mmd": lambda source, target: mmd(source, target, SCALES),
    "sinkhorn": lambda source, target: sinkhorn(source, target, 0.5),
}


@pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)
def test_its_gradient_brings_the_domains_together(distance: object) -> None:
    """The encoder is a width and a place of each dimension of the target."""
    source, target = cloud(150, 0), cloud(150, 1, scale=2.0, shift=0.5)
    width, place = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([width, place], lr=0.05)
    before = float(distance(source, target))  # type: ignore[operator]
    for _ in range(60):
        optimizer.zero_grad()
        distance(source, width * target + place).backward()  # type: ignore[operator]
        optimizer.step()
    assert float(distance(source, width.detach() * target + place.detach())) < 0.1 * before  # type: ignore[operator]
    torch.testing.assert_close(width.detach(), torch.full((3,), 0.5), atol=0.15, rtol=0)


def gradients(source: Tensor, target: Tensor) -> Tensor:
    """Of all distances by a common factor and offset of z, which stand for the weights of an encoder."""
    factor, offset = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    moved = source * factor + offset
    torch.stack([distance(moved, target * factor) for distance in DISTANCES.values()]).sum().backward()
    assert factor.grad is not None
    assert offset.grad is not None
    return torch.cat([factor.grad, offset.grad])


def gradients_on_rank(out: Path) -> None:
    torch.distributed.init_process_group("gloo")
    own = [z.chunk(2)[collectives.rank()] for z in (cloud(24, 0), cloud(16, 1, shift=1.0))]
    torch.save(gradients(*own), out / f"{collectives.rank()}.pt")
    torch.distributed.destroy_process_group()


def test_the_mean_over_ranks_has_the_gradient_of_the_joined_batch(tmp_path: Path) -> None:
    all_ranks(gradients_on_rank, tmp_path)
    mean = sum(torch.load(tmp_path / f"{number}.pt") for number in range(2)) / 2
    torch.testing.assert_close(mean, gradients(cloud(24, 0), cloud(16, 1, shift=1.0)), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)
def test_distances_are_of_float32_under_autocast(distance: Callable[..., torch.Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randn(64, 8, generator=generator) + shift for shift in (0.0, 0.1))
    expected = distance(source, target)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(distance(source, target), expected)
