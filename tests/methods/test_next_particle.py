"""Next-particle prediction: its loss jet by jet and particle by particle, causality, and jets made from nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.methods.next_particle import NextParticle
from ssl_jets.nn import random
from ssl_jets.nn.autoregressive.totals import pt_before_each, totals_of
from ssl_jets.nn.features import Features
from support.hidden_particles import learn_by_heart, shuffled_rows
from support.small_models import made_jets, shuffle_particles, tiny_encoder, without_columns


def build(jets: Jets, **settings: float) -> NextParticle:
    cfg = NextParticle.Config(**{"decoder_width": 32, "decoder_blocks": 2, "observables_weight": 0.0, **settings})
    method = NextParticle(cfg, tiny_encoder(jets))
    method.prepare([jets])
    return method


def fix_chance(monkeypatch: pytest.MonkeyPatch, length: Tensor, nothing: Tensor) -> None:
    """Fix the draws of the loss: the prefixes, and for the flow a time and noise that every particle shares."""
    draws = [length, nothing]
    monkeypatch.setattr(random, "uniform_per_jet", lambda _jets: draws.pop(0))
    monkeypatch.setattr(random, "uniform", lambda jets: torch.full((len(jets.particles),), 0.3).double())
    monkeypatch.setattr(
        random, "normal", lambda jets, width: torch.linspace(-1, 1, width).repeat(len(jets.particles), 1)
    )


def reference(method: NextParticle, jets: Jets, length: Tensor, nothing: Tensor) -> Tensor:
    """The four errors as the docstring writes them: each particle from a jet that ends with it."""
    total = torch.zeros(4)
    for number in range(len(jets)):
        jet = jets.select(torch.tensor([number]))
        order = torch.argsort(-jet.column("pt"))
        jet = Jets(jet.particles[order], jet.offsets, jet.columns)
        count, totals = len(order), totals_of(jet)
        alone = count == 1 or float(nothing[number]) < method.cfg.from_nothing
        read = 0 if alone else 1 + int(float(length[number]) * (count - 1))
        place = torch.arange(count)
        z = method.encoder(jet.keep(place < read)).z
        for last in range(read, count):
            so_far = jet.keep(place <= last)
            state, pt_before = method.totals.state(so_far, totals)[read:], pt_before_each(so_far, totals)[read:]
            rest = so_far.keep(place[: last + 1] >= read)
            h = method._decode(z, rest, state, place[read : last + 1])
            errors = method.density.errors(h, rest, pt_before, method.encoder.features)
            total += errors[-1].detach() / (count - read) / len(jets)
    return total


def test_the_loss_is_that_of_plain_loops_over_jets_and_particles(
    monkeypatch: pytest.MonkeyPatch, sample_jets: Jets
) -> None:
    jets = sample_jets.select(torch.arange(6))
    jets = jets.keep(jets.rank_by_pt() < torch.tensor([1, 2, 3, 7, 9, 9])[jets.jet_of_particle])
    jets = shuffle_particles(jets)[0]
    method = build(jets)
    length = torch.tensor([0.5, 0.99, 0.0, 0.7, 0.0, 0.3]).double()
    nothing = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.1, 0.9]).double()
    fix_chance(monkeypatch, length, nothing)
    parts = method(jets, 0.0)
    expected = reference(method, jets, length, nothing)
    found = [float(parts[f"{name}_loss"]) for name in ("kind", "pt", "direction", "flow")]
    assert found == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-5)
    assert float(parts["loss"].detach()) == pytest.approx(float(expected.sum()), rel=1e-4, abs=1e-5)


def test_new_jets_have_totals_of_training_jets_and_a_seed_gives_the_same_ones(batch: Jets) -> None:
    method = build(batch, steps=1).eval()
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(method.generate(30))
    torch.manual_seed(0)
    counts = method.totals.draw(30)[:, 2]
    assert torch.equal(made[0].lengths.float(), counts)
    assert made[0].columns == COLUMNS
    assert made[0].particles.isfinite().all()
    assert torch.equal(made[0].rank_by_pt(), made[0].place)  # in falling pt
    assert bool((made[0].column("energy") >= made[0].column("pt")).all())
    assert torch.equal(made[0].particles, made[1].particles)
    assert not torch.equal(made[0].lengths, made[2].lengths)


def test_particles_are_drawn_from_the_density_that_the_loss_has(monkeypatch: pytest.MonkeyPatch, batch: Jets) -> None:
    method = build(batch, steps=1).eval()
    seen: list[Tensor] = []
    draw = method.density.draw

    def spied(h: Tensor, jets: Jets, pt_before: Tensor, features: Features) -> Tensor:
        seen.append(h.unflatten(0, (len(jets), -1))[:, -1])
        return draw(h, jets, pt_before, features)

    monkeypatch.setattr(method.density, "draw", spied)
    torch.manual_seed(0)
    made = method.generate(12)
    torch.manual_seed(0)
    totals = method.totals.draw(12)
    empty = Jets(made.particles[:0], torch.zeros(13, dtype=torch.int64), made.columns)
    z = method.encoder(empty).z
    with torch.no_grad():
        h = method._decode(z, made, method.totals.state(made, totals), made.place)
    order = torch.cat([(made.place == place).nonzero()[:, 0] for place in range(int(made.lengths.max()))])
    assert len(set(made.lengths.tolist())) > 3
    torch.testing.assert_close(torch.cat(seen), h[order], rtol=1e-3, atol=1e-4)


def test_while_drawing_only_columns_of_the_training_are_read(batch: Jets) -> None:
    bare = without_columns(batch, "charge", "kind", "d0", "d0err", "dz", "dzerr")
    method = build(bare, steps=1).eval()
    method.columns = bare.columns
    seen: list[tuple[str, ...]] = []
    embedded = method.encoder.embedded

    def spied(jets: Jets) -> Tensor:
        seen.append(jets.columns)
        return embedded(jets)

    method.encoder.embedded = spied  # type: ignore[method-assign]
    assert method.generate(3).columns == bare.columns
    assert set(seen) == {bare.columns}


def test_columns_that_are_not_drawn_have_no_influence_on_what_is_drawn(batch: Jets) -> None:
    tracks = without_columns(batch, "kind")  # charges and impact parameters without kinds are not drawn
    drawn = without_columns(tracks, "charge", "d0", "d0err", "dz", "dzerr")
    method = build(tracks, from_nothing=1.0).eval()
    losses = []
    for jets in (tracks, drawn):
        torch.manual_seed(0)
        losses.append(method(jets, 0.0))
    for name, value in losses[0].items():
        torch.testing.assert_close(value, losses[1][name], msg=name)
    assert not torch.equal(method.encoder(tracks).z, method.encoder(drawn).z)  # z may depend on them


@pytest.fixture(scope="module")
def overfitted() -> tuple[NextParticle, Jets, float, float]:
    """A method that has learned four jets by heart: method, jets, mean loss of the first and the last steps."""
    jets = made_jets([3, 5, 4, 6]).by_pt()
    torch.manual_seed(0)
    method = build(jets)
    losses = [
        parts["loss"] for parts in learn_by_heart(method, jets.select(torch.arange(4).repeat(8)), steps=500, lr=5e-3)
    ]
    return method.eval(), jets, sum(losses[:5]) / 5, sum(losses[-5:]) / 5


@pytest.mark.slow
def test_one_batch_can_be_learned_by_heart_and_z_tells_which_jet_it_is(
    overfitted: tuple[NextParticle, Jets, float, float],
) -> None:
    method, jets, first, last = overfitted
    assert last < first - 10
    many = jets.select(torch.arange(4).repeat(8))

    def loss() -> float:
        torch.manual_seed(0)
        return float(method(many, 0.0)["loss"].detach())

    right = loss()
    with shuffled_rows(method.z_in):
        assert loss() > right + 0.5


@pytest.mark.slow
def test_jets_made_from_nothing_are_those_that_were_learned(
    overfitted: tuple[NextParticle, Jets, float, float],
) -> None:
    method, jets = overfitted[:2]
    torch.manual_seed(0)
    made = method.generate(40)
    errors = []
    for number in range(40):
        one = made.select(torch.tensor([number]))
        truth = jets.select(torch.tensor([jets.lengths.tolist().index(len(one.particles))]))
        pt = (one.column("pt") / truth.column("pt")).log().abs()
        errors.append(torch.stack([pt.mean(), (one.particles[:, 1:3] - truth.particles[:, 1:3]).abs().mean()]))
    pt, direction = torch.stack(errors).median(0).values.tolist()
    assert pt < 0.4 * float(jets.column("pt").log().std())
    assert direction < 0.6 * float(jets.particles[:, 1:3].std())
