"""The masked autoencoder against its formula, jet by jet and particle by particle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_jets.jets import Jets
from ssl_jets.methods.mae import MaskedAutoencoder
from ssl_jets.nn.features import FEATURES, TARGETS, TRACK_TARGETS
from support.hidden_particles import decoded_of_jet, fix_mask
from support.small_models import tiny_encoder, without_columns


def build(jets: Jets, **settings: float | str) -> MaskedAutoencoder:
    return MaskedAutoencoder(MaskedAutoencoder.Config(**settings), tiny_encoder(jets, blocks=2))


def decode_jet(method: MaskedAutoencoder, visible: Jets, hidden_pts: list[float]) -> Tensor:
    """Decoder output for the hidden particles of one jet, of which nothing is used but the order of their pts."""
    z, tokens = method.encoder(visible)
    if method.cfg.decoder == "transformer":
        return decoded_of_jet(method, method.decoder, z, tokens, hidden_pts)
    ranks = torch.tensor([sum(other > pt for other in hidden_pts) for pt in hidden_pts])
    return torch.stack([method.decoder(method.mask_tokens(rank) + method.z_in(z)[0]) for rank in ranks])


def reference(method: MaskedAutoencoder, jets: Jets, hidden: Tensor, missing: tuple[int, ...] = ()) -> float:
    """The loss as the docstring of `mae` writes it, in plain loops."""
    features = method.encoder.features
    total = 0.0
    for jet in range(len(jets)):
        one, mask = jets.select(torch.tensor([jet])), hidden[int(jets.offsets[jet]) : int(jets.offsets[jet + 1])]
        masked = one.keep(mask)
        if not len(masked.particles):
            continue
        decoded = decode_jet(method, one.keep(~mask), masked.column("pt").tolist())
        predicted, logits = method.features_out(decoded), method.kinds_out(decoded)
        truth = features(masked)[0]
        jet_total = 0.0
        for row in range(len(masked.particles)):
            charge = float(masked.column("charge")[row])
            used = [i for i in range(TARGETS) if i not in missing and (charge != 0 or i not in TRACK_TARGETS)]
            l1 = sum(abs(float((predicted[row, i] - truth[row, i]).detach())) for i in used) / len(used)
            code = 3 * int(masked.column("kind")[row]) + int(charge > 0) - int(charge < 0) + 1
            jet_total += l1 - method.cfg.kind_weight * float(logits[row].detach().log_softmax(0)[code])
        total += jet_total / len(masked.particles)
    return total / len(jets)


@pytest.mark.parametrize("settings", [{}, {"kind_weight": 0.3, "mask_tokens": 4}, {"decoder": "mlp"}], ids=str)
def test_the_loss_is_that_of_plain_loops_over_jets_and_particles(
    monkeypatch: pytest.MonkeyPatch, sample_jets: Jets, settings: dict[str, float | str]
) -> None:
    jets = sample_jets.select(torch.arange(6))
    jets = jets.keep(jets.rank_by_pt() < torch.tensor([1, 2, 3, 12, 30, 200])[jets.jet_of_particle])
    method, hidden = build(jets, **settings), fix_mask(monkeypatch, jets)
    assert float(method(jets, 0.0)["loss"].detach()) == pytest.approx(reference(method, jets, hidden), rel=1e-4)


def test_a_missing_column_is_not_predicted(monkeypatch: pytest.MonkeyPatch, sample_jets: Jets) -> None:
    jets = without_columns(sample_jets.select(torch.arange(4)), "d0")
    method, hidden = build(sample_jets), fix_mask(monkeypatch, jets)
    missing = tuple(index for index, feature in enumerate(FEATURES[:TARGETS]) if "d0" in feature.needs)
    assert missing
    assert float(method(jets, 0.0)["loss"].detach()) == pytest.approx(
        reference(method, jets, hidden, missing), rel=1e-4
    )


def test_unknown_kinds_leave_the_features_to_learn_from(sample_jets: Jets) -> None:
    jets = without_columns(sample_jets.select(torch.arange(4)), "kind")
    parts = build(sample_jets)(jets, 0.0)
    assert float(parts["kind_loss"]) == 0.0
    assert float(parts["loss"].detach()) == pytest.approx(float(parts["feature_loss"]))


def test_the_share_of_hidden_particles_is_the_mask_ratio(monkeypatch: pytest.MonkeyPatch, batch: Jets) -> None:
    seen = []
    method = build(batch, mask_ratio=0.7)
    monkeypatch.setattr(method.encoder, "forward", lambda jets: seen.append(jets) or type(method.encoder).forward(
        method.encoder, jets
    ))  # fmt: skip
    method(batch, 0.0)
    assert len(seen) == 1
    assert len(seen[0].particles) / len(batch.particles) == pytest.approx(0.3, abs=0.01)


def test_the_prediction_uses_nothing_of_a_hidden_particle_but_its_rank(
    monkeypatch: pytest.MonkeyPatch, batch: Jets
) -> None:
    method, hidden = build(batch), fix_mask(monkeypatch, batch)
    outputs: list[Tensor] = []
    method.features_out.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    method(batch, 0.0)
    particles = batch.particles.clone()
    particles[hidden, 0] **= 1.1  # keeps the order
    particles[hidden, 1:4] += 0.2
    method(Jets(particles, batch.offsets, batch.columns), 0.0)
    assert torch.equal(outputs[0], outputs[1])
