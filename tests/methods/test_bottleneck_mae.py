"""The masked autoencoder with compression against its formula; all that its decoder knows is z."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_jets.diagnostics.monitor import swapped_z
from ssl_jets.errors import UsageError
from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.methods.bottleneck_mae import BottleneckMaskedAutoencoder
from ssl_jets.nn import masking, random
from ssl_jets.nn.encoder import Encoded
from ssl_jets.nn.features import TARGETS, TRACK_TARGETS
from support.hidden_particles import learn_by_heart
from support.small_models import made_jets, tiny_encoder


def build(jets: Jets, **settings: float | str) -> BottleneckMaskedAutoencoder:
    encoder = tiny_encoder(jets, z_tokens=3, z_width=5)
    return BottleneckMaskedAutoencoder(BottleneckMaskedAutoencoder.Config(**settings), encoder)


def fix_chance(monkeypatch: pytest.MonkeyPatch, jets: Jets) -> tuple[Tensor, Tensor]:
    """Mask and noise of z, drawn once."""
    torch.manual_seed(5)
    hidden, noise = masking.hide(jets, "random", 0.4), torch.randn(len(jets), 15)
    monkeypatch.setattr(masking, "hide", lambda _jets, _how, _ratio: hidden)
    monkeypatch.setattr(random, "normal_per_jet", lambda _jets, _width: noise)
    return hidden, noise


def reference(method: BottleneckMaskedAutoencoder, jets: Jets, hidden: Tensor, noise: Tensor) -> float:
    """The loss as the docstring writes it, in plain loops."""
    cfg, total = method.cfg, 0.0
    for jet in range(len(jets)):
        one, mask = jets.select(torch.tensor([jet])), hidden[int(jets.offsets[jet]) : int(jets.offsets[jet + 1])]
        z = method.encoder(one.keep(~mask)).z
        z = z / z.square().mean().sqrt() + cfg.blur * noise[jet]
        counted = -float(method.counts.logits(z)[0].log_softmax(0)[len(one.particles) - 1])
        summary = float(method.observables.error(z, one, method.encoder.features))
        total += cfg.count_weight * counted + cfg.observables_weight * summary
        wanted = one.keep(mask) if cfg.predict == "hidden" else one
        pts = wanted.column("pt").tolist()
        if not pts:
            continue
        of_z = method.z_in(z).view(-1, cfg.decoder_width)
        names = method.mask_tokens.weight[[min(sum(b > a for b in pts), cfg.mask_tokens - 1) for a in pts]]
        decoded = method.decoder(names + of_z[0], torch.tensor([0, len(pts)]), of_z[None, 1:])[1]
        truth, of_jet = method.encoder.features(wanted)[0], 0.0
        for row in range(len(pts)):
            charge = float(wanted.column("charge")[row])
            used = [i for i in range(TARGETS) if charge != 0 or i not in TRACK_TARGETS]
            off = method.features_out(decoded[row]) - truth[row, :TARGETS]
            code = 3 * int(wanted.column("kind")[row]) + int(charge > 0) - int(charge < 0) + 1
            kind = -float(method.kinds_out(decoded[row]).log_softmax(0)[code])
            of_jet += sum(abs(float(off[i])) for i in used) / len(used) + cfg.kind_weight * kind
        total += of_jet / len(pts)
    return total / len(jets)


@pytest.mark.parametrize(
    "settings",
    [{}, {"predict": "hidden", "kind_weight": 0.3, "count_weight": 2.0, "observables_weight": 0.7, "blur": 0.5}],
    ids=str,
)
def test_the_loss_is_that_of_plain_loops_over_jets_and_particles(
    monkeypatch: pytest.MonkeyPatch, sample_jets: Jets, settings: dict[str, float | str]
) -> None:
    jets = sample_jets.select(torch.arange(6))
    jets = jets.keep(jets.rank_by_pt() < torch.tensor([1, 2, 3, 12, 30, 200])[jets.jet_of_particle])
    method = build(jets, **settings)
    hidden, noise = fix_chance(monkeypatch, jets)
    with torch.no_grad():
        assert float(method(jets, 0.0)["loss"]) == pytest.approx(reference(method, jets, hidden, noise), rel=1e-4)


def test_the_decoder_depends_on_z_alone(monkeypatch: pytest.MonkeyPatch, batch: Jets) -> None:
    method = build(batch)
    made: list[Tensor] = []
    method.features_out.register_forward_hook(lambda module, inputs, output: made.append(output))
    z = torch.randn(len(batch), method.encoder.dim)
    monkeypatch.setattr(method.encoder, "forward", lambda jets, z_only: Encoded(z, torch.empty(0)))
    particles = batch.particles.clone()
    particles[:, COLUMNS.index("pt")] **= 1.1  # keeps the order
    particles[:, COLUMNS.index("deta")] *= -1.0
    for jets in (batch, Jets(particles, batch.offsets)):
        torch.manual_seed(0)
        method(jets, 0.0)
    assert torch.equal(*made)


def test_jets_are_reconstructed_from_the_particles_that_are_visible_in_training(batch: Jets) -> None:
    method, seen = build(batch, mask_ratio=0.7).eval(), list[Jets]()
    method.encoder.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    torch.manual_seed(0)
    made = method.reconstruct(batch)
    torch.manual_seed(0)
    method(batch, 0.0)
    assert torch.equal(seen[0].particles, seen[1].particles)
    assert len(made) == len(batch)
    with pytest.raises(UsageError, match=r"method\.predict"):
        build(batch, predict="hidden").reconstruct(batch)


@pytest.fixture(scope="module")
def overfitted() -> tuple[BottleneckMaskedAutoencoder, Jets, float, float]:
    """A method that has learned eight jets by heart."""
    jets = made_jets([4, 9, 6, 12, 5, 10, 7, 8])
    torch.manual_seed(0)
    method = build(jets)
    losses = [parts["loss"] for parts in learn_by_heart(method, jets, steps=200, lr=2e-3)]
    return method, jets, losses[0], losses[-1]


@pytest.mark.slow
def test_one_batch_can_be_learned_by_heart(overfitted: tuple[BottleneckMaskedAutoencoder, Jets, float, float]) -> None:
    *_, first, last = overfitted
    assert last < first / 3


@pytest.mark.slow
def test_jets_learned_by_heart_are_reconstructed_from_z(
    overfitted: tuple[BottleneckMaskedAutoencoder, Jets, float, float],
) -> None:
    method, jets, *_ = overfitted
    again = method.reconstruct(jets)
    assert again.lengths.tolist() == jets.lengths.tolist()
    order = torch.argsort(jets.jet_of_particle * 1000 + jets.rank_by_pt())
    truth = jets.particles[order]
    near = (again.column("pt") / truth[:, 0]).log().abs()
    assert float(near.median()) < 0.2
    assert float((again.column("kind") == truth[:, COLUMNS.index("kind")]).float().mean()) > 0.9


@pytest.mark.slow
def test_with_the_z_of_another_jet_the_prediction_is_worse(
    overfitted: tuple[BottleneckMaskedAutoencoder, Jets, float, float],
) -> None:
    method, jets, *_ = overfitted

    def loss() -> float:
        torch.manual_seed(1)
        return float(method(jets, 0.0)["loss"].detach())

    right = loss()
    with swapped_z(method):
        assert loss() > 1.5 * right
