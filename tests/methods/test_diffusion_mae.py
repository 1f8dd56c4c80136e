"""The masked autoencoder with a flow for a decoder: its loss in plain loops, its completions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ssl_jets.diagnostics.monitor import swapped_z
from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.methods.diffusion_mae import DiffusionMaskedAutoencoder
from ssl_jets.nn import masking, random
from ssl_jets.nn.features import FEATURES, TARGETS
from support.hidden_particles import learn_by_heart, log_pts
from support.small_models import made_jets, tiny_encoder, without_columns


def build(jets: Jets, **settings: float) -> DiffusionMaskedAutoencoder:
    return DiffusionMaskedAutoencoder(DiffusionMaskedAutoencoder.Config(**settings), tiny_encoder(jets))


def fix_chance(monkeypatch: pytest.MonkeyPatch, jets: Jets) -> tuple[Tensor, Tensor, Tensor]:
    """Mask, times and noise, drawn once."""
    torch.manual_seed(5)
    hidden = masking.hide(jets, "random", 0.5)
    t, noise = torch.rand(len(jets)), torch.randn(int(hidden.sum()), TARGETS)
    monkeypatch.setattr(masking, "hide", lambda _jets, _how, _ratio: hidden)
    monkeypatch.setattr(random, "uniform_per_jet", lambda _jets: t.double())
    monkeypatch.setattr(random, "normal", lambda _jets, _width: noise)
    return hidden, t, noise


def velocity_and_logits(
    method: DiffusionMaskedAutoencoder, visible: Jets, x: Tensor, t: float, used: list[int]
) -> tuple[Tensor, Tensor]:
    """The decoder at the noised hidden particles x of one jet, as the docstrings write it."""
    net = method.decoder
    z, tokens = method.encoder(visible)
    s2 = t**2 + (1 - t) ** 2
    inputs = torch.zeros_like(x)
    inputs[:, used] = x[:, used] / math.sqrt(s2)
    of_jet = net.z_in(z).view(2, -1) + net.time(torch.tensor([t]))
    rows = torch.cat([net.tokens_in(tokens), net.data_in(inputs) + of_jet[0]])
    out = net.transformer(rows, torch.tensor([0, len(rows)]), of_jet[None, 1:])[1][len(tokens) :]
    return (2 * t - 1) / s2 * x + net.velocity_out(out) / math.sqrt(s2), net.kinds_out(out)


def reference(
    method: DiffusionMaskedAutoencoder, jets: Jets, hidden: Tensor, times: Tensor, noise: Tensor, used: list[int]
) -> float:
    """The loss as the docstring of `diffusion_mae` writes it, in plain loops."""
    total, done = 0.0, 0
    for jet in range(len(jets)):
        one, mask = jets.select(torch.tensor([jet])), hidden[int(jets.offsets[jet]) : int(jets.offsets[jet + 1])]
        masked, t = one.keep(mask), float(times[jet])
        if not len(masked.particles):
            continue
        truth = method.encoder.features(masked)[0][:, :TARGETS]
        n = noise[done : done + len(truth)]
        done += len(truth)
        velocity, logits = velocity_and_logits(method, one.keep(~mask), (1 - t) * n + t * truth, t, used)
        of_jet = 0.0
        for row in range(len(truth)):
            squares = [float(velocity[row, i] - (truth[row, i] - n[row, i])) ** 2 for i in used]
            charge = int(masked.column("charge")[row])
            code = 3 * int(masked.column("kind")[row]) + charge + 1
            of_jet += sum(squares) / len(used) - method.cfg.kind_weight * float(logits[row].log_softmax(0)[code])
        total += of_jet / len(truth)
    return total / len(jets)


@pytest.mark.parametrize("settings", [{}, {"kind_weight": 0.3, "decoder_width": 32}], ids=str)
@pytest.mark.parametrize("missing", [(), ("d0",)], ids=str)
def test_the_loss_is_that_of_plain_loops_over_jets_and_particles(
    monkeypatch: pytest.MonkeyPatch, sample_jets: Jets, settings: dict[str, float], missing: tuple[str, ...]
) -> None:
    jets = sample_jets.select(torch.arange(6))
    jets = jets.keep(jets.rank_by_pt() < torch.tensor([1, 2, 3, 12, 30, 200])[jets.jet_of_particle])
    method, jets = build(jets, **settings), without_columns(jets, *missing)
    hidden, t, noise = fix_chance(monkeypatch, jets)
    used = [i for i in range(TARGETS) if not set(FEATURES[i].needs) & set(missing)]
    with torch.no_grad():
        expected = reference(method, jets, hidden, t, noise, used)
        assert float(method(jets, 0.0)["loss"]) == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def overfitted() -> tuple[DiffusionMaskedAutoencoder, Jets, Tensor]:
    """A method that has learned the hidden particles of eight jets by heart."""
    jets = made_jets([4, 9, 6, 12, 5, 10, 7, 8])
    torch.manual_seed(0)
    method, hidden = build(jets), masking.hide(jets, "random", 0.5)
    many = jets.select(torch.arange(8).repeat(4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masking, "hide", lambda _jets, _how, _ratio: hidden.repeat(4))
        learn_by_heart(method, many, steps=200, lr=3e-3)
    return method.eval(), jets, hidden


@pytest.mark.slow
def test_particles_learned_by_heart_are_drawn_again(
    overfitted: tuple[DiffusionMaskedAutoencoder, Jets, Tensor],
) -> None:
    method, jets, hidden = overfitted
    torch.manual_seed(0)
    truth = log_pts(jets.keep(hidden))
    for completed in method.complete(jets, hidden, 2):
        error = (log_pts(completed.keep(hidden)) - truth).abs().mean()
        assert error < 0.5 * (truth - truth.mean()).abs().mean()


@pytest.mark.slow
def test_completions_differ_in_the_hidden_particles_alone(
    overfitted: tuple[DiffusionMaskedAutoencoder, Jets, Tensor],
) -> None:
    method, jets, hidden = overfitted
    torch.manual_seed(0)
    one, other = method.complete(jets, hidden, 2)
    for completed in (one, other):
        assert torch.equal(completed.particles[~hidden], jets.particles[~hidden])
        assert completed.columns == jets.columns
        assert (completed.column("energy") >= completed.column("pt"))[hidden].all()
        assert completed.particles.isfinite().all()
    pt = COLUMNS.index("pt")
    assert ((one.particles[:, pt] != other.particles[:, pt]) == hidden).all()


def test_completions_have_the_columns_of_the_jets(batch: Jets) -> None:
    jets = without_columns(batch, "d0", "kind")
    completed = build(batch, steps=2).complete(jets, torch.ones(len(jets.particles), dtype=torch.bool)
                                               & (jets.rank_by_pt() > 3), 1)[0]  # fmt: skip
    assert completed.columns == jets.columns
    assert completed.particles.shape == jets.particles.shape


def test_completions_lack_tracks_if_the_training_had_no_charges(batch: Jets) -> None:
    """A drawn kind decides on the track of a particle, and these kinds were never learned."""
    jets = without_columns(batch, "charge", "kind")
    method = build(batch, steps=1)
    method.columns = jets.columns
    assert method.complete(jets, jets.rank_by_pt() > 3, 1)[0].columns == ("pt", "deta", "dphi", "energy")


@pytest.mark.slow
def test_with_the_z_of_another_jet_the_loss_is_higher(
    overfitted: tuple[DiffusionMaskedAutoencoder, Jets, Tensor],
) -> None:
    method, jets, hidden = overfitted

    def loss() -> float:
        torch.manual_seed(0)
        return float(method(jets, 0.0)["loss"].detach())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masking, "hide", lambda _jets, _how, _ratio: hidden)
        right = loss()
        with swapped_z(method):
            assert loss() > 1.05 * right
