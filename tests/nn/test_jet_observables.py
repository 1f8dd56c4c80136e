"""What a jet amounts to: the sums by plain loops, what they do not depend on, and what z is asked to say of them."""

from __future__ import annotations

import bisect
import cmath
import itertools
import math
from dataclasses import replace

import pytest
import torch

from ssl_jets.jets import Jets
from ssl_jets.nn import observables as module
from ssl_jets.nn.augment import Views, make_view
from ssl_jets.nn.features import FEATURES, SIGNED_KINDS
from ssl_jets.nn.masking import TRACKS
from ssl_jets.nn.observables import (
    AVERAGED,
    CORRELATORS,
    DISPLACED,
    MASSES,
    MOMENTS,
    OBSERVABLES,
    RADII,
    JetObservables,
    jet_observables,
    known,
)
from support.small_models import made_jets, shuffle_particles, tiny_encoder, without_columns


def by_loops(jet: Jets, standardized: torch.Tensor) -> list[float]:
    """The numbers that the docstring of the module lists, of a single jet."""
    pts, charged = jet.column("pt").tolist(), (jet.column("charge") != 0).tolist()
    share = [pt / sum(pts) for pt in pts]
    place = [complex(*pair) for pair in zip(jet.column("deta").tolist(), jet.column("dphi").tolist(), strict=True)]
    centre = sum(w * r for w, r in zip(share, place, strict=True))
    polar = [cmath.polar(r - centre) for r in place]
    found = [math.log(len(pts)), math.log(sum(pts)), math.log(max(float(jet.mass()), 0.1))]
    for k, q in MOMENTS:
        moment = sum(w * r**k * cmath.exp(1j * q * phi) for w, (r, phi) in zip(share, polar, strict=True))
        found.append(math.log(max(abs(moment), 1e-6)) / k)
    signed = (3 * jet.column("kind") + jet.column("charge").sign() + 1).tolist()
    found += [math.sqrt(signed.count(c)) for c in range(SIGNED_KINDS)]
    found += [sum(w for w, kind in zip(share, signed, strict=True) if kind == c) for c in range(SIGNED_KINDS)]
    flat = [1 / len(pts)] * len(pts)
    for power, weights in ((1, flat), (1, share), (2, flat), (2, share)):
        for index in AVERAGED:
            of_track = FEATURES[index].name in ("d0_size", "dz_size")
            used = [c or not of_track for c in charged]
            values = standardized[:, index].tolist()
            found.append(sum(w * x**power * u for w, x, u in zip(weights, values, used, strict=True)))
    return [*found, *correlators_by_loops(pts, share, jet), *displaced_by_loops(share, jet)]


def correlators_by_loops(pts: list[float], share: list[float], jet: Jets) -> list[float]:
    deta, dphi = jet.column("deta").tolist(), jet.column("dphi").tolist()
    of_distance, of_mass = [0.0] * (len(RADII) + 1), [0.0] * (len(MASSES) + 1)
    for i, j in itertools.permutations(range(len(pts)), 2):
        turn = abs(dphi[i] - dphi[j])
        distance = math.hypot(deta[i] - deta[j], min(turn, 2 * math.pi - turn))
        of_distance[bisect.bisect_left(RADII, distance)] += share[i] * share[j]
        of_mass[bisect.bisect_left(MASSES, math.sqrt(pts[i] * pts[j]) * distance)] += share[i] * share[j]
    return [math.sqrt(value) for value in of_distance + of_mass]


def displaced_by_loops(share: list[float], jet: Jets) -> list[float]:
    tracks = zip(share, *(jet.column(name).tolist() for name in ("d0", "d0err", "charge")), strict=True)
    significances = [(w, abs(d0) / error) for w, d0, error, charge in tracks if error > 0 and charge != 0]
    far = [[w for w, significance in significances if significance > least] for least in DISPLACED]
    return [math.sqrt(len(shares)) for shares in far] + [math.sqrt(sum(shares)) for shares in far]


def test_the_summary_is_that_of_plain_loops_over_the_particles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAIRS", 100)  # several parts
    jets = made_jets([1, 2, 7, 30])
    features = tiny_encoder(jets).features
    found = jet_observables(jets, features)
    assert found.shape == (4, OBSERVABLES)
    for row in range(4):
        one = jets.select(torch.tensor([row]))
        expected = torch.tensor(by_loops(one, features(one)[0]))
        torch.testing.assert_close(found[row], expected, rtol=1e-3, atol=1e-3)
        of_pairs_and_tracks = slice(-CORRELATORS - 2 * len(DISPLACED), None)
        torch.testing.assert_close(found[row, of_pairs_and_tracks], expected[of_pairs_and_tracks], rtol=1e-5, atol=1e-5)
    assert found[2, -CORRELATORS:].count_nonzero() > 15


def test_tracks_are_displaced_above_each_significance_and_neighbours_on_either_side_of_pi() -> None:
    columns = {
        "pt": [1.0, 2.0, 3.0, 4.0],
        "deta": [0.0, 0.0, 0.0, 0.0],
        "dphi": [math.pi - 0.05, 0.05 - math.pi, 0.0, 0.0],
        "d0": [-3.0, 6.0, 11.0, 11.0],
        "d0err": [1.0, 1.0, 0.0, 1.0],  # without an error there is no significance
        "charge": [1.0, -1.0, 1.0, 0.0],
    }
    jets = made_jets([4])
    particles = jets.particles.clone()
    for name, values in columns.items():
        particles[:, jets.columns.index(name)] = torch.tensor(values)
    found = jet_observables(replace(jets, particles=particles), tiny_encoder(jets).features)[0]
    displaced = torch.tensor([2, 1, 0, 3 / 10, 2 / 10, 0]).sqrt()
    torch.testing.assert_close(found[-2 * len(DISPLACED) :], displaced)
    near = bisect.bisect_left(RADII, 0.1)
    of_distance = found[-CORRELATORS - 2 * len(DISPLACED) :][: len(RADII) + 1].square()
    torch.testing.assert_close(of_distance[[0, near]], torch.tensor([2 * 3 * 4, 2 * 1 * 2]) / 100)


def test_a_state_of_an_earlier_version_has_the_error_of_its_own_observables(batch: Jets) -> None:
    """Earlier versions had neither pairs nor displaced tracks; their runs go on with the observables they had."""
    features = tiny_encoder(batch).features
    full, loaded = JetObservables(8), JetObservables(8)
    full.fit_statistics([batch], features)
    old = OBSERVABLES - CORRELATORS - 2 * len(DISPLACED)
    loaded.load_state_dict({name: value[:old] for name, value in full.state_dict().items()})
    assert (loaded.std > 0).sum() == (full.std[:old] > 0).sum()
    full.std[old:] = 0
    z = torch.randn(64, 8)
    assert torch.equal(loaded.error(z, batch, features), full.error(z, batch, features))


@pytest.mark.parametrize("views", [{"rotate": math.pi, "reflect": 0.0}, {"rotate": 0.0, "reflect": 1.0}], ids=str)
def test_it_does_not_change_when_jets_are_turned_or_reflected(batch: Jets, views: dict[str, float]) -> None:
    features = tiny_encoder(batch).features
    torch.manual_seed(0)
    turned = make_view(batch, Views(drop=0.0, smear=0.0, **views))
    assert not torch.equal(turned.column("dphi"), batch.column("dphi"))
    change = (jet_observables(turned, features) - jet_observables(batch, features)).abs().amax(0)
    assert change[2] < 0.05  # the mass, of which (deta, dphi) are not quite angles
    assert change[:2].max() < 1e-4
    assert change[3:].max() < 2e-3


def test_it_does_not_change_with_the_order_of_the_particles(batch: Jets) -> None:
    features = tiny_encoder(batch).features
    torch.testing.assert_close(jet_observables(shuffle_particles(batch)[0], features), jet_observables(batch, features))


def test_a_z_that_says_nothing_has_the_error_of_the_mean_and_one_that_says_all_has_none(batch: Jets) -> None:
    features = tiny_encoder(batch).features
    summary = JetObservables(OBSERVABLES)
    summary.fit_statistics([batch.select(torch.arange(40)), batch.select(torch.arange(40, 64))], features)
    vary = summary.std > 0
    truth = ((jet_observables(batch, features) - summary.mean) / summary.std)[:, vary]
    torch.testing.assert_close(truth.mean(0), torch.zeros(int(vary.sum())), atol=1e-4, rtol=0)
    torch.testing.assert_close(truth.std(0, correction=0), torch.ones(int(vary.sum())), atol=1e-4, rtol=0)
    torch.nn.init.zeros_(summary.from_z.bias)
    mean = summary.error(torch.zeros(64, OBSERVABLES), batch, features)
    torch.testing.assert_close(
        mean, torch.where(truth.abs() < 1, truth.square() / 2, truth.abs() - 0.5).mean(1), atol=1e-5, rtol=1e-5
    )
    torch.nn.init.eye_(summary.from_z.weight)
    z = torch.zeros(64, OBSERVABLES)
    z[:, vary] = truth
    assert float(summary.error(z, batch, features).detach().max()) < 1e-6


def test_missing_columns_do_not_count(batch: Jets) -> None:
    lacking = without_columns(batch, "kind", "charge", "d0", "d0err", "dz", "dzerr")
    features = tiny_encoder(lacking).features
    summary = JetObservables(4)
    summary.fit_statistics([lacking], features)
    assert int((summary.std > 0).sum()) == 3 + len(MOMENTS) + 4 * 2 + CORRELATORS  # of log_pt and dr
    assert summary.error(torch.zeros(64, 4), lacking, features).isfinite().all()
    one = replace(batch, particles=batch.particles[:1], offsets=torch.tensor([0, 1]), labels=None, jet={}, source=None)
    assert jet_observables(one, features).isfinite().all()


@pytest.mark.parametrize("hidden", [TRACKS, ("charge", "kind")], ids=["tracks", "kinds"])
def test_columns_that_some_batches_lack_change_neither_the_targets_nor_the_statistics(
    batch: Jets, hidden: tuple[str, ...]
) -> None:
    features = tiny_encoder(batch).features
    complete, mixed = JetObservables(4), JetObservables(4)
    complete.fit_statistics([batch], features)
    mixed.fit_statistics([batch, batch.without(hidden)], features)
    assert torch.equal(mixed.std > 0, complete.std > 0)
    torch.testing.assert_close(mixed.mean, complete.mean)
    torch.testing.assert_close(mixed.std, complete.std)

    torch.nn.init.zeros_(complete.from_z.weight)
    torch.nn.init.zeros_(complete.from_z.bias)
    z, has = torch.zeros(64, 4), known(batch.without(hidden))
    truth = (jet_observables(batch, features) - complete.mean) / complete.std
    each = torch.where(truth.abs() < 1, truth.square() / 2, truth.abs() - 0.5)
    expected = each[:, has & (complete.std > 0)].mean(1)
    torch.testing.assert_close(complete.error(z, batch.without(hidden), features), expected)
    assert int(has.sum()) < OBSERVABLES
