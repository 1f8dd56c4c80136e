"""The diffusion autoencoder: its loss in plain loops, reconstructions, the line between two jets, new jets."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ssl_jets.diagnostics.monitor import swapped_z
from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.methods.diffusion_ae import DiffusionAutoencoder
from ssl_jets.nn import random
from ssl_jets.nn.features import TARGETS
from ssl_jets.nn.normalize import project_to_sphere
from support.hidden_particles import learn_by_heart, log_pts
from support.small_models import made_jets, tiny_encoder, without_columns


def build(jets: Jets, **settings: float) -> DiffusionAutoencoder:
    encoder = tiny_encoder(jets, z_tokens=2, z_width=8)
    return DiffusionAutoencoder(DiffusionAutoencoder.Config(**settings), encoder)


def expected_parts(
    method: DiffusionAutoencoder, one: Jets, t: float, noise: Tensor, blur: Tensor, z_noise: Tensor
) -> tuple[float, float, float, float, float]:
    """Flow, kind, count, summary and prior of one jet as the docstring of `diffusion_ae` writes them."""
    net, s2 = method.decoder, t**2 + (1 - t) ** 2
    z = method.encoder(one).z[0]
    clean = z / z.square().mean().sqrt()
    blurred = clean + method.cfg.blur * blur
    truth = method.encoder.features(one)[0][:, :TARGETS]
    x = (1 - t) * noise + t * truth
    of_jet = net.z_in(blurred).view(1 + 2, -1) + net.time(torch.tensor([t]))
    rows = net.data_in(x / math.sqrt(s2)) + of_jet[0]
    out = net.transformer(rows, torch.tensor([0, len(rows)]), of_jet[None, 1:])[1]
    velocity = (2 * t - 1) / s2 * x + net.velocity_out(out) / math.sqrt(s2)
    logits, flow, kind = net.kinds_out(out).log_softmax(1), 0.0, 0.0
    for row in range(len(truth)):
        flow += sum(float(velocity[row, i] - truth[row, i] + noise[row, i]) ** 2 for i in range(TARGETS)) / TARGETS
        kind -= float(logits[row, 3 * int(one.column("kind")[row]) + int(one.column("charge")[row]) + 1])
    count = -float(method.counts.logits(blurred[None])[0].log_softmax(0)[len(truth) - 1])
    summary = float(method.observables.error(blurred[None], one, method.encoder.features))
    off = method.prior(((1 - t) * z_noise + t * clean)[None], torch.tensor([t]))[0] - (clean - z_noise)
    return flow / len(truth), kind / len(truth), count, summary, float(off.square().mean())


@pytest.mark.parametrize(
    "settings", [{}, {"kind_weight": 0.3, "count_weight": 2.0, "observables_weight": 0.7, "blur": 0.5}], ids=str
)
def test_the_loss_is_that_of_plain_loops_over_jets_and_particles(
    monkeypatch: pytest.MonkeyPatch, sample_jets: Jets, settings: dict[str, float]
) -> None:
    jets = sample_jets.select(torch.arange(6))
    jets = jets.keep(jets.rank_by_pt() < torch.tensor([1, 2, 3, 12, 30, 200])[jets.jet_of_particle])
    method = build(jets, **settings)
    torch.manual_seed(5)
    t, noise, of_z = torch.rand(6), torch.randn(len(jets.particles), TARGETS), torch.randn(2, 6, 16)
    draws = iter(of_z)
    monkeypatch.setattr(random, "uniform_per_jet", lambda _jets: t.double())
    monkeypatch.setattr(random, "normal", lambda _jets, _width: noise)
    monkeypatch.setattr(random, "normal_per_jet", lambda _jets, _width: next(draws))
    weights = (1.0, method.cfg.kind_weight, method.cfg.count_weight, method.cfg.observables_weight, 1.0)
    total = 0.0
    with torch.no_grad():
        for jet in range(6):
            one, rows = jets.select(torch.tensor([jet])), slice(int(jets.offsets[jet]), int(jets.offsets[jet + 1]))
            parts = expected_parts(method, one, float(t[jet]), noise[rows], of_z[0, jet], of_z[1, jet])
            total += sum(weight * part for weight, part in zip(weights, parts, strict=True))
        assert float(method(jets, 0.0)["loss"]) == pytest.approx(total / 6, rel=1e-4)


def test_the_prior_does_not_train_the_encoder(batch: Jets) -> None:
    method = build(batch)
    clean = project_to_sphere(method.encoder(batch).z)
    assert clean.requires_grad
    torch.testing.assert_close(clean.square().mean(1), torch.ones(len(batch)))
    gradients = []
    for scale in (1.0, 1000.0):
        method.zero_grad()
        method.prior.velocity_out.weight.data.mul_(scale)
        torch.manual_seed(0)
        method(batch, 0.0)["loss"].backward()
        gradients.append([p.grad.clone() for p in method.encoder.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.fixture(scope="module")
def overfitted() -> tuple[DiffusionAutoencoder, Jets]:
    """A method that has learned four jets by heart."""
    jets = made_jets([4, 9, 6, 12])
    torch.manual_seed(0)
    method = build(jets, blur=0.05, count_weight=1.0)
    many = jets.select(torch.arange(4).repeat(8))
    learn_by_heart(method, many, steps=200, lr=3e-3)
    return method.eval(), jets


@pytest.mark.slow
def test_jets_learned_by_heart_are_reconstructed(overfitted: tuple[DiffusionAutoencoder, Jets]) -> None:
    method, jets = overfitted
    torch.manual_seed(0)
    again = method.reconstruct(jets)
    assert again.lengths.tolist() == jets.lengths.tolist()
    truth = log_pts(jets)
    assert float((log_pts(again) - truth).abs().mean()) < 0.4 * float((truth - truth.mean()).abs().mean())


@pytest.mark.slow
def test_with_the_z_of_another_jet_the_loss_is_higher(overfitted: tuple[DiffusionAutoencoder, Jets]) -> None:
    method, jets = overfitted

    def loss() -> float:
        torch.manual_seed(0)
        return float(method(jets, 0.0)["loss"].detach())

    right = loss()
    with swapped_z(method):
        assert loss() > 1.2 * right


def test_the_line_between_two_jets_begins_at_one_and_ends_at_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    jets = made_jets([4, 9, 6, 12])
    method, on_sphere = build(jets, steps=5).eval(), []
    quantile = method.counts.quantile
    monkeypatch.setattr(
        method.counts, "quantile", lambda z, share: on_sphere.append(z.square().mean(1)) or quantile(z, share)
    )  # type: ignore[func-returns-value]
    a, b = jets.select(torch.tensor([0, 1])), jets.select(torch.tensor([3, 2]))
    torch.manual_seed(0)
    places = method.interpolate(a, b, 7)
    assert len(places) == 7
    for place, end in ((places[0], a), (places[-1], b)):
        torch.manual_seed(0)
        alone = method.interpolate(end, end, 1)[0]
        torch.testing.assert_close(place.particles, alone.particles, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(torch.cat(on_sphere), torch.ones(18), atol=1e-3, rtol=0)


def test_the_pt_of_drawn_particles_adds_up_to_the_pt_predicted_from_z() -> None:
    jets = made_jets([4, 9, 6, 12])
    method = build(jets, steps=5).eval()
    method.fit_statistics([jets])
    z = project_to_sphere(method.encoder(jets).z)
    torch.manual_seed(0)
    noise = torch.randn(int(jets.lengths.sum()), TARGETS + 1)
    again = method.decode(z, jets.lengths, noise)
    torch.testing.assert_close(again.sum(again.column("pt")), method.observables.pt(z).detach())
    assert torch.equal(method.decode(4 * z, jets.lengths, noise).particles, again.particles)
    method.cfg = method.cfg.model_copy(update={"observables_weight": 0.0})  # then the regression is untrained
    plain = method.decode(z, jets.lengths, noise)
    factor = again.particles / plain.particles
    torch.testing.assert_close(factor[:, COLUMNS.index("pt")], factor[:, COLUMNS.index("energy")])
    assert torch.equal(again.column("deta"), plain.column("deta"))


@pytest.mark.slow
def test_new_jets_are_as_many_as_asked_for_and_physical(overfitted: tuple[DiffusionAutoencoder, Jets]) -> None:
    method, jets = overfitted
    torch.manual_seed(0)
    made = method.generate(50)
    assert len(made) == 50
    assert made.columns == COLUMNS
    assert made.lengths.min() >= 1
    assert made.particles.isfinite().all()
    assert set(made.lengths.tolist()) & set(jets.lengths.tolist())
    torch.manual_seed(0)
    assert torch.equal(method.generate(50).particles, made.particles)
    torch.manual_seed(1)
    assert not torch.equal(method.generate(50).lengths, made.lengths)


def test_the_number_of_particles_is_drawn_by_its_probability() -> None:
    method = build(made_jets([30]), most_particles=10)
    with torch.no_grad():
        shares = method.counts.logits(torch.ones(1, 16)).softmax(1)[0]
    z = torch.ones(20_000, 16)
    torch.manual_seed(0)
    drawn = torch.bincount(method.counts.quantile(z, torch.rand(20_000)), minlength=11)[1:] / 20_000
    assert ((drawn - shares).abs() < 5 * (shares / 20_000).sqrt()).all()


def test_new_jets_are_made_from_a_z_with_the_noise_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    method = build(made_jets([4, 9]), blur=0.3, steps=1, most_particles=3).eval()
    point = project_to_sphere(torch.randn(1, 16))
    used: list[Tensor] = []
    quantile, sample = method.counts.quantile, method.decoder.sample
    monkeypatch.setattr(method.prior, "sample", lambda noise, _steps: 5 * point.expand_as(noise))
    monkeypatch.setattr(method.counts, "quantile", lambda z, share: used.append(z) or quantile(z, share))  # type: ignore[func-returns-value]
    monkeypatch.setattr(
        method.decoder, "sample", lambda noise, given, steps: used.append(given.z) or sample(noise, given, steps)
    )  # type: ignore[func-returns-value]
    torch.manual_seed(0)
    method.generate(2000)
    of_counts, of_particles = used
    assert torch.equal(of_counts, of_particles)
    # As `add_noise` in the loss. For a normal z and x = z the variance of x without it: (1 + s^2 + s^4) / (1 + s^2)^2.
    torch.testing.assert_close(of_counts.mean(0), point[0], atol=0.03, rtol=0)
    torch.testing.assert_close(of_counts.std(0), torch.full((16,), 0.3), atol=0.02, rtol=0)


def test_jets_are_made_under_the_condition_of_the_training(batch: Jets) -> None:
    bare = without_columns(batch, "d0", "d0err", "dz", "dzerr")
    method = build(bare)
    method.fit_statistics([bare])
    assert torch.equal(method.present, method.encoder.features.present(bare))
    assert 0 < method.present.sum() < TARGETS
    seen = []
    method.decoder.sample = (
        lambda noise, given, steps: (
            seen.append(given.present)
            or (  # type: ignore[method-assign]
                noise[:, :TARGETS],
                torch.zeros(len(noise), dtype=torch.int64),
            )
        )
    )
    method.generate(3)
    assert torch.equal(seen[0], method.present)
