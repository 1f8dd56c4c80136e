"""The density of particles against torch.distributions; particles drawn from it against the density."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from ssl_jets.jets import Jets
from ssl_jets.nn import random
from ssl_jets.nn.autoregressive.density import EQUAL, FLOWING, KEY, WIDTHS, Normals, ParticleDensity, pairs_before
from ssl_jets.nn.features import Features
from support.small_models import made_jets

WIDTH = 16


@pytest.fixture
def density() -> ParticleDensity:
    torch.manual_seed(3)
    return ParticleDensity(WIDTH, 16, 4)


@pytest.fixture
def features(jets: Jets) -> Features:
    features = Features()
    features.fit_statistics([jets])
    return features


@pytest.fixture
def jets() -> Jets:
    return made_jets([3, 1, 5]).by_pt()


def plane(normals: Normals, key: Tensor, before: Tensor, row: int) -> MixtureSameFamily:
    """The density of the direction of one particle after those at `before` `[particle, 2]`, with their keys."""
    logits, centres, widths = [*normals.weight[row]], [*normals.centre[row]], [*normals.centre_scale[row].exp()]
    for one, direction in zip(key, before, strict=True):
        for number in range(len(WIDTHS)):
            logits.append(normals.queries[row, number] @ one[:KEY] + one[KEY + number] + normals.shift[row, number])
            centres.append(direction)
            widths.append(normals.scale[row, number].exp())
    matrices = torch.stack(widths)[:, None, None] * torch.eye(2)
    normal = MultivariateNormal(torch.stack(centres), scale_tril=matrices, validate_args=False)
    return MixtureSameFamily(Categorical(logits=torch.stack(logits)), normal)


def test_errors_are_those_of_the_distributions(
    monkeypatch: pytest.MonkeyPatch, density: ParticleDensity, features: Features, jets: Jets
) -> None:
    count = len(jets.particles)
    h, pt_before = torch.randn(count, WIDTH), jets.column("pt").roll(1)
    pt_before[jets.offsets[:-1]] = 2 * jets.sum(jets.column("pt"))
    t, noise = torch.rand(count).double(), torch.randn(count, len(FLOWING))
    monkeypatch.setattr(random, "uniform", lambda _jets: t)
    monkeypatch.setattr(random, "normal", lambda _jets, _width: noise)
    values, _, kinds = features.targets(jets)
    with torch.no_grad():
        errors = density.errors(h, jets, pt_before, features)
        with_kind = h + density.kind_in.weight[kinds]
        kind = -density.kind_out(h).log_softmax(1)[torch.arange(count), kinds]
        s = ((pt_before / jets.column("pt")).log() + EQUAL).log()
        weight, mean, scale = density._logistics(with_kind)
        y = (s[:, None] - mean) / scale.exp()
        pt = -(weight.exp() * y.sigmoid() * (-y).sigmoid() / scale.exp()).sum(1).log()  # derivative of the sigmoid
        context = density._with_pt(with_kind, s, values[:, 0])
        normals, key = density._normals(context), density.key(h)
        position = jets.particles[:, 1:3]
        for row in range(count):
            first = int(jets.offsets[jets.jet_of_particle[row]])
            expected = -plane(normals, key[first + 1 : row + 1], position[first:row], row).log_prob(position[row])
            assert float(errors[row, 2]) == pytest.approx(float(expected), rel=1e-4, abs=1e-4), row
        energy = values[:, 1] - values[:, 0] * features.std[0] / features.std[1]
        goal = torch.cat([energy[:, None], values[:, 5:11]], dim=1)
        x = (1 - t.float())[:, None] * noise + t.float()[:, None] * goal
        velocity = density.flow(x, t.float(), torch.cat([context, values[:, 2:4]], dim=1))
    torch.testing.assert_close(errors[:, 0], kind)
    torch.testing.assert_close(errors[:, 1], pt)
    torch.testing.assert_close(errors[:, 3], (velocity - (goal - noise)).square().mean(1))


def test_a_particle_does_not_depend_on_later_ones(density: ParticleDensity, features: Features, jets: Jets) -> None:
    h, pt_before = torch.randn(len(jets.particles), WIDTH), torch.full((len(jets.particles),), 1e4)

    def errors(jets: Jets, h: Tensor) -> Tensor:
        torch.manual_seed(0)
        return density.errors(h, jets, pt_before, features)[:, :3].detach()

    right, moved, changed = errors(jets, h), jets.particles.clone(), h.clone()
    moved[6, 1] += 0.05  # the third of the five particles of the last jet
    changed[7] += 1  # the row of the fourth one, its key for the fifth too
    shifted, other = errors(replace(jets, particles=moved), h), errors(jets, changed)
    same = [torch.equal(a, b) for a, b in zip(right, shifted, strict=True)]
    assert same == [True] * 6 + [False] * 3
    assert [torch.equal(a, b) for a, b in zip(right, other, strict=True)] == [True] * 7 + [False] * 2


def test_what_is_unknown_has_no_error_and_what_is_absent_no_influence(
    density: ParticleDensity, features: Features, jets: Jets
) -> None:
    bare = jets.without(["charge", "kind", "d0", "d0err", "dz", "dzerr", "energy"])
    h, pt_before = torch.randn(len(jets.particles), WIDTH), torch.full((len(jets.particles),), 1e4)
    errors = density.errors(h, bare, pt_before, features)
    assert not errors[:, [0, 3]].any()
    errors.sum().backward()
    grad = density.kind_in.weight.grad
    assert grad is not None
    assert grad[-1].any()
    assert not grad[:-1].any()


def ks_distance(drawn: Tensor, cumulative: Tensor) -> float:
    """Largest distance of the empirical distribution from the cumulative one at the sorted draws."""
    steps = torch.arange(1, len(drawn) + 1) / len(drawn)
    return float(torch.maximum((cumulative - steps).abs(), (cumulative - steps + 1 / len(drawn)).abs()).max())


def test_drawn_directions_have_the_density(density: ParticleDensity) -> None:
    count = 4000
    one = Jets.of([[[9.0, 0.1, 0.0], [8.0, -0.2, 0.3], [1.0, 0.0, 0.0]]], ("pt", "deta", "dphi"))
    h, context = torch.randn(3, WIDTH), torch.randn(1, WIDTH)
    torch.manual_seed(0)
    many = one.select(torch.zeros(count, dtype=torch.int64))
    with torch.no_grad():
        drawn = density._draw_direction(h.expand(count, 3, WIDTH), context.expand(count, WIDTH), many)
        mixture = plane(density._normals(context), density.key(h)[1:], one.particles[:2, 1:], 0)
    weights, normal = mixture.mixture_distribution.probs, mixture.component_distribution
    assert isinstance(normal, MultivariateNormal)
    for axis in (0, 1):
        sorted_draws = drawn[:, axis].sort().values
        along = Normal(normal.loc[:, axis], normal.scale_tril[:, 0, 0])
        cumulative = (weights * along.cdf(sorted_draws[:, None])).sum(1)
        assert ks_distance(sorted_draws, cumulative) < 1.95 / math.sqrt(count)  # 0.1 % of the time


def test_drawn_kinds_and_pts_have_the_density(density: ParticleDensity, features: Features, jets: Jets) -> None:
    count, h = 4000, torch.randn(1, WIDTH)
    one = jets.select(torch.zeros(count, dtype=torch.int64) + 1)  # of one particle
    torch.manual_seed(0)
    drawn = density.draw(h.expand(count, WIDTH), one, torch.full((count,), 100.0), features)
    with torch.no_grad():
        kinds = density.kind_out(h)[0].softmax(0)
        weight, mean, scale = density._logistics(h + density.kind_in.weight[:-1])  # of each kind
    found = (3 * drawn[:, 5] + drawn[:, 4] + 1).long().bincount(minlength=len(kinds)) / count
    assert float((found - kinds).abs().max()) < 4 * math.sqrt(0.25 / count)
    spacing = ((100.0 / drawn[:, 0]).log() + EQUAL).log()
    inside = (spacing > math.log(EQUAL) + 1e-3) & (spacing < 1.99)
    sorted_draws = spacing[inside].sort().values
    assert len(sorted_draws) > count / 2
    ends = torch.tensor([math.log(EQUAL) + 1e-3, 1.99])

    def cumulative(s: Tensor) -> Tensor:
        y = (s[:, None, None] - mean) / scale.exp()
        return (kinds[:, None] * weight.exp() * y.sigmoid()).sum((1, 2))

    low, high = cumulative(ends)
    share = (cumulative(sorted_draws) - low) / (high - low)
    assert ks_distance(sorted_draws, share) < 1.95 / math.sqrt(len(sorted_draws))


def test_energy_and_track_are_drawn_in_the_units_of_the_loss(
    monkeypatch: pytest.MonkeyPatch, density: ParticleDensity, features: Features, jets: Jets
) -> None:
    """A flow that ends at the targets of one particle, as `_flow_error` has them, draws its E / pt and its track."""
    values, charge = features.targets(jets)[0], jets.column("charge")
    row = int((charge != 0).nonzero()[0])
    relative = values[row, :1] * features.std[0] / features.std[1]
    goal = torch.cat([values[row, 1:2] - relative, values[row, 5:11]])
    monkeypatch.setattr(density.flow, "forward", lambda x, t, _condition: (goal - x) / (1 - t)[:, None])
    some = jets.select(torch.full((300,), 2))
    torch.manual_seed(0)
    drawn = density.draw(torch.randn(1500, WIDTH), some, torch.full((300,), 10.0), features)
    ratio = (jets.column("energy") / jets.column("pt"))[row].clamp(min=1)
    torch.testing.assert_close(drawn[:, 3] / drawn[:, 0], ratio.expand(300), rtol=1e-4, atol=0)
    tracks = drawn[drawn[:, 4] != 0, 6:]
    torch.testing.assert_close(tracks, jets.particles[row, 6:].expand_as(tracks), rtol=1e-3, atol=1e-5)


def test_drawn_particles_are_possible(density: ParticleDensity, features: Features, jets: Jets) -> None:
    some = jets.select(torch.full((500,), 2))
    torch.manual_seed(0)
    drawn = density.draw(torch.randn(2500, WIDTH), some, torch.full((500,), 10.0), features)
    pt, energy, charge = drawn[:, 0], drawn[:, 3], drawn[:, 4]
    assert drawn.isfinite().all()
    assert bool((pt > 0).all())
    assert bool((pt <= 10.0001).all())
    assert bool((energy >= pt).all())
    assert not drawn[charge == 0][:, 6:].any()


def test_pairs_are_those_of_two_loops() -> None:
    lengths = torch.tensor([4, 0, 1, 3])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    expected = [
        (later, earlier)
        for first, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        for later in range(first, end)
        for earlier in range(first, later)
    ]
    assert list(zip(*(side.tolist() for side in pairs_before(offsets)), strict=True)) == expected
