"""The tokenizer against its formula, jet by jet and particle by particle; what codes and z must say."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.methods.tokenizer import Tokenizer
from ssl_jets.nn.features import FEATURES, TARGETS, TRACK_TARGETS
from support.hidden_particles import learn_by_heart
from support.small_models import made_jets, tiny_encoder, without_columns


def build(jets: Jets, **settings: float) -> Tokenizer:
    return Tokenizer(Tokenizer.Config(**settings), tiny_encoder(jets))


def reference(method: Tokenizer, jets: Jets, missing: tuple[int, ...] = ()) -> dict[str, float]:
    """The loss as the docstring of `tokenizer` writes it, in plain loops."""
    features, linear, codebook = method.encoder.features, method.to_code[0], method.quantizer.codebook
    parts = dict.fromkeys(("feature_loss", "kind_loss", "commitment", "z_feature_loss", "z_kind_loss"), 0.0)
    for jet in range(len(jets)):
        one = jets.select(torch.tensor([jet]))
        count = len(one.particles)
        z, tokens = method.encoder(one)
        vectors, away = [], []
        for token in tokens:
            x = linear(token)
            x = (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()
            distances = [float(((x - code) ** 2).sum().detach()) for code in codebook]
            vectors.append(codebook[distances.index(min(distances))])
            away.append(min(distances) / method.cfg.code_width)
        parts["commitment"] += sum(away) / count
        pts, of_jet = one.column("pt").tolist(), method.z_in(z)
        ranks = torch.tensor([sum(other > pt for other in pts) for pt in pts])
        names = method.mask_tokens(ranks.clamp(max=method.cfg.mask_tokens - 1)) + of_jet
        coded, nothing = method.from_code(torch.stack(vectors)), torch.zeros(1, 0, method.cfg.decoder_width)
        for prefix, particles, extra in (("", coded, nothing), ("z_", names, of_jet[None])):
            decoded = method.decoder(particles, torch.tensor([0, count]), extra)[1]
            predicted, logits, truth = method.features_out(decoded), method.kinds_out(decoded), features(one)[0]
            for row in range(count):
                charge = float(one.column("charge")[row])
                used = [i for i in range(TARGETS) if i not in missing and (charge != 0 or i not in TRACK_TARGETS)]
                error = sum(abs(float((predicted[row, i] - truth[row, i]).detach())) for i in used) / len(used)
                kind = 3 * int(one.column("kind")[row]) + int(charge > 0) - int(charge < 0) + 1
                parts[f"{prefix}feature_loss"] += error / count
                parts[f"{prefix}kind_loss"] -= float(logits[row].detach().log_softmax(0)[kind]) / count
    return {name: value / len(jets) for name, value in parts.items()}


@pytest.mark.parametrize(
    "settings", [{}, {"kind_weight": 0.3, "commitment": 0.25, "z_weight": 2.0, "codes": 16, "mask_tokens": 8}]
)
def test_the_loss_is_that_of_plain_loops_over_jets_and_particles(sample_jets: Jets, settings: dict[str, float]) -> None:
    jets = sample_jets.select(torch.arange(4))
    jets = jets.keep(jets.rank_by_pt() < torch.tensor([1, 2, 12, 30])[jets.jet_of_particle])
    method = build(jets, **settings)
    found, expected = method(jets, 0.0), reference(method, jets)
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-4), name
    cfg = method.cfg
    total = expected["feature_loss"] + cfg.kind_weight * expected["kind_loss"] + cfg.commitment * expected["commitment"]
    total += cfg.z_weight * (expected["z_feature_loss"] + cfg.kind_weight * expected["z_kind_loss"])
    assert float(found["loss"].detach()) == pytest.approx(total, rel=1e-4)


def test_a_code_has_at_least_three_numbers(sample_jets: Jets) -> None:
    """LayerNorm leaves (1, -1) and (-1, 1) of width 2: two codes of the codebook would be used."""
    with pytest.raises(ValidationError):
        Tokenizer.Config(code_width=2)
    method = build(sample_jets, code_width=3)
    vectors = method.to_code(method.encoder(sample_jets.select(torch.arange(4))).tokens)
    assert len(vectors.detach().round(decimals=2).unique(dim=0)) > 10


def test_a_missing_column_is_not_reconstructed(sample_jets: Jets) -> None:
    jets = without_columns(sample_jets.select(torch.arange(3)), "d0")
    method = build(sample_jets, codes=32)
    missing = tuple(index for index, feature in enumerate(FEATURES[:TARGETS]) if "d0" in feature.needs)
    assert missing
    expected = reference(method, jets, missing)["feature_loss"]
    assert float(method(jets, 0.0)["feature_loss"]) == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def overfitted(sample_jets: Jets) -> tuple[Tokenizer, Jets, float, float]:
    """A method trained on one batch of 16 jets: method, jets, first and last loss."""
    jets = sample_jets.select(torch.arange(16))
    jets = jets.keep(jets.rank_by_pt() < 10)
    method = build(jets, codes=256)
    history = learn_by_heart(method, jets, steps=250, lr=2e-3, seed=lambda step: step, after_step=True)
    return method.eval(), jets, history[1]["loss"], history[-1]["loss"]


@pytest.mark.slow
def test_one_batch_can_be_learned_by_heart(overfitted: tuple[Tokenizer, Jets, float, float]) -> None:
    _, _, first, last = overfitted
    assert last < first / 3


@pytest.mark.slow
def test_the_particles_come_back_from_their_codes_and_no_others_do(
    overfitted: tuple[Tokenizer, Jets, float, float],
) -> None:
    method, jets, _, _ = overfitted
    codes = method.codes(jets)
    back = method.particles(codes, jets.offsets)
    assert (back.columns, back.offsets.tolist()) == (COLUMNS, jets.offsets.tolist())

    def away(other: Jets) -> float:
        return float((other.column("pt") / jets.column("pt")).log().abs().median())

    shuffled = codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))]
    assert away(back) < 0.15
    assert away(method.particles(shuffled, jets.offsets)) > 3 * away(back)
    assert float((back.column("kind") == jets.column("kind")).float().mean()) > 0.9


@pytest.mark.slow
def test_z_depends_on_its_own_jet_and_codes_are_decoded_without_z(
    overfitted: tuple[Tokenizer, Jets, float, float],
) -> None:
    method, jets, _, _ = overfitted
    right = method(jets, 0.0)
    hook = method.z_in.register_forward_hook(lambda module, inputs, output: output.roll(1, 0))
    wrong = method(jets, 0.0)
    hook.remove()
    for name in ("z_feature_loss", "z_kind_loss"):
        assert wrong[name] > 1.5 * right[name]
    for name in ("feature_loss", "kind_loss", "commitment"):
        assert torch.equal(wrong[name], right[name])


@pytest.mark.slow
def test_a_code_is_read_in_the_context_of_its_jet(overfitted: tuple[Tokenizer, Jets, float, float]) -> None:
    method, jets, _, _ = overfitted
    codes = method.codes(jets)
    first = slice(0, int(jets.offsets[1]))
    changed = codes.clone()
    changed[1 : first.stop] = codes[jets.offsets[1] : jets.offsets[1] + first.stop - 1]
    before, after = (method.particles(c, jets.offsets).column("pt")[0] for c in (codes, changed))
    assert not torch.allclose(before, after, rtol=1e-3)


def test_the_codebook_moves_in_training_only_and_only_after_a_step(batch: Jets) -> None:
    method = build(batch)
    before = method.quantizer.codebook.clone()
    method(batch, 0.0)
    assert torch.equal(method.quantizer.codebook, before)
    method.after_step(0.1)
    after = method.quantizer.codebook.clone()
    assert not torch.equal(after, before)
    method.eval()
    method(batch, 0.0)
    method.after_step(0.2)
    assert torch.equal(method.quantizer.codebook, after)


def test_a_look_is_over_all_batches_together_and_in_physical_units(batch: Jets) -> None:
    method = build(batch).eval()
    method.quantizer.codebook[:] = nn.functional.normalize(torch.randn_like(method.quantizer.codebook)) * 4
    look = method.validation_metrics(batch.select(piece) for piece in torch.arange(64).split(10))
    codes = method.codes(batch)
    used = codes.unique()
    assert look["code_usage"] == pytest.approx(len(used) / 512)
    shares = [float((codes == code).double().mean()) for code in used]
    entropy = -sum(share * float(torch.tensor(share).log()) for share in shares)
    assert look["code_perplexity"] == pytest.approx(float(torch.tensor(entropy).exp()), rel=1e-4)
    back = method.particles(codes, batch.offsets)
    relative = ((back.column("pt") - batch.column("pt")).abs() / batch.column("pt")).median()
    assert look["pt_error"] == pytest.approx(float(relative), rel=1e-4)
    angle = torch.hypot(*(back.column(name) - batch.column(name) for name in ("deta", "dphi")))
    assert look["angle_error"] == pytest.approx(float(angle.median()), rel=1e-4)
    assert look["mass_error"] == pytest.approx(float((back.mass() / batch.mass() - 1).abs().median()), rel=1e-3)


def test_the_mass_of_a_jet_is_that_of_the_sum_of_its_particles() -> None:
    jets = made_jets([1, 2, 5])

    def mass(rows: Tensor) -> float:
        total = torch.zeros(4, dtype=torch.float64)
        for pt, eta, phi in rows[:, :3].double():
            total += torch.stack([pt * eta.cosh(), pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()])
        return float((total[0] ** 2 - (total[1:] ** 2).sum()).clamp(min=0).sqrt())

    expected = [mass(jets.particles[start:stop]) for start, stop in zip(jets.offsets[:-1], jets.offsets[1:])]
    assert jets.mass().tolist() == pytest.approx(expected, rel=1e-5, abs=1e-3)
    assert float(jets.mass()[0]) == pytest.approx(0, abs=1e-3)
    turned = replace(jets, particles=jets.particles + torch.tensor([0, 0.3, -0.7] + [0] * 7))
    torch.testing.assert_close(turned.mass(), jets.mass(), rtol=1e-4, atol=1e-3)
