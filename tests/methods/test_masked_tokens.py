"""Masked prediction of codes against its formula, jet by jet and particle by particle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_jets.jets import Jets
from ssl_jets.methods.masked_tokens import MaskedTokens
from ssl_jets.methods.tokenizer import Tokenizer
from ssl_jets.nn import masking
from support.small_models import build_method, made_jets, tiny_encoder


def build(jets: Jets, tokenizer_seed: int = 10, **settings: float) -> MaskedTokens:
    tokenizer = build_method("tokenizer", jets, tokenizer_seed, codes=32).eval()
    return MaskedTokens(MaskedTokens.Config(**settings), tiny_encoder(jets), tokenizer=tokenizer)


def fix_mask(monkeypatch: pytest.MonkeyPatch, jets: Jets, ratio: float = 0.4) -> Tensor:
    torch.manual_seed(5)
    hidden = masking.hide(jets, "random", ratio)
    monkeypatch.setattr(masking, "hide", lambda _jets, _how, _ratio: hidden)
    return hidden


def reference(method: MaskedTokens, jets: Jets, hidden: Tensor) -> tuple[float, float]:
    """Loss and accuracy as the docstring of `masked_tokens` writes them, in plain loops."""
    tokenizer = method.tokenizer
    assert isinstance(tokenizer, Tokenizer)
    loss = accuracy = 0.0
    for jet in range(len(jets)):
        one, mask = jets.select(torch.tensor([jet])), hidden[int(jets.offsets[jet]) : int(jets.offsets[jet + 1])]
        if not mask.any():
            continue
        codes = tokenizer.codes(one)[mask]  # of the whole jet
        pts = one.keep(mask).column("pt").tolist()
        z, tokens = method.encoder(one.keep(~mask))
        of_jet = method.z_in(z)
        ranks = torch.tensor([sum(other > pt for other in pts) for pt in pts])
        particles = torch.cat(
            [method.tokens_in(tokens), method.mask_tokens(ranks.clamp(max=method.cfg.mask_tokens - 1)) + of_jet]
        )
        decoded = method.decoder(particles, torch.tensor([0, len(particles)]), of_jet[:, None])[1][len(tokens) :]
        logits = method.codes_out(decoded).detach()
        for row, code in enumerate(codes.tolist()):
            loss -= float(logits[row].log_softmax(0)[code]) / len(codes)
            accuracy += float(int(logits[row].argmax()) == code) / len(codes)
    return loss / len(jets), accuracy / len(jets)


@pytest.mark.parametrize("settings", [{}, {"mask_tokens": 4}], ids=str)
def test_the_loss_is_that_of_plain_loops_over_jets_and_particles(
    monkeypatch: pytest.MonkeyPatch, sample_jets: Jets, settings: dict[str, float]
) -> None:
    jets = sample_jets.select(torch.arange(6))
    jets = jets.keep(jets.rank_by_pt() < torch.tensor([1, 2, 3, 12, 30, 200])[jets.jet_of_particle])
    method, hidden = build(jets, **settings), fix_mask(monkeypatch, jets)
    parts, (loss, accuracy) = method(jets, 0.0), reference(method, jets, hidden)
    assert float(parts["loss"].detach()) == pytest.approx(loss, rel=1e-4)
    assert float(parts["accuracy"]) == pytest.approx(accuracy, rel=1e-4)


def test_the_encoder_never_sees_hidden_particles(monkeypatch: pytest.MonkeyPatch, batch: Jets) -> None:
    method, hidden = build(batch), fix_mask(monkeypatch, batch)
    outputs: list[Tensor] = []
    method.encoder.register_forward_hook(lambda module, inputs, output: outputs.extend(output))

    def encoded(rows: Tensor) -> list[Tensor]:
        particles = batch.particles.clone()
        particles[rows, :4] *= 1.3
        outputs.clear()
        method(Jets(particles, batch.offsets, batch.columns), 0.0)
        return list(outputs)

    nothing, unseen, seen = encoded(hidden & ~hidden), encoded(hidden), encoded(~hidden)
    assert all(torch.equal(a, b) for a, b in zip(nothing, unseen, strict=True))
    assert not any(torch.allclose(a, b, atol=1e-3) for a, b in zip(nothing, seen, strict=True))


def test_the_tokenizer_stays_as_it_was(batch: Jets) -> None:
    method = build(batch).train()
    before = {name: value.clone() for name, value in method.tokenizer.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=1.0)
    method(batch, 0.0)["loss"].backward()
    optimizer.step()
    method.after_step(1.0)
    assert all(parameter.grad is None for parameter in method.tokenizer.parameters())
    assert all(torch.equal(value, before[name]) for name, value in method.tokenizer.state_dict().items())


@pytest.fixture(scope="module")
def overfitted(sample_jets: Jets) -> tuple[MaskedTokens, Jets, Tensor, float, float]:
    """A method trained on one batch of 32 jets with one mask: method, jets, mask, first and last loss."""
    jets = sample_jets.select(torch.arange(32))
    jets = jets.keep(jets.rank_by_pt() < 12)
    method = build(jets)
    torch.manual_seed(5)
    hidden = masking.hide(jets, "random", 0.4)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=2e-3)
    losses = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masking, "hide", lambda _jets, _how, _ratio: hidden)
        for _ in range(120):
            loss = method(jets, 0.0)["loss"]
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
    return method.eval(), jets, hidden, losses[0], losses[-1]


@pytest.mark.slow
def test_one_batch_can_be_learned_by_heart(overfitted: tuple[MaskedTokens, Jets, Tensor, float, float]) -> None:
    *_, first, last = overfitted
    assert last < first / 5


@pytest.mark.slow
@pytest.mark.parametrize("which", ["z", "tokens"])
def test_predictions_depend_on_z_and_the_tokens_of_the_same_jet(
    overfitted: tuple[MaskedTokens, Jets, Tensor, float, float], monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    method, jets, hidden, _, _ = overfitted
    monkeypatch.setattr(masking, "hide", lambda _jets, _how, _ratio: hidden)
    right = float(method(jets, 0.0)["loss"].detach())
    generator = torch.Generator().manual_seed(0)
    layer = method.z_in if which == "z" else method.tokens_in
    hook = layer.register_forward_hook(lambda _, inputs, out: out[torch.randperm(len(out), generator=generator)])
    wrong = float(method(jets, 0.0)["loss"].detach())
    hook.remove()
    assert wrong > 1.2 * right


def test_jets_of_one_particle_have_nothing_to_predict() -> None:
    assert float(build(made_jets([30]))(made_jets([1, 1]), 0.0)["loss"].detach()) == 0.0
