"""Masked prediction of codes against its formula, jet by jet and particle by particle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_jets.jets import Jets
from ssl_jets.methods.masked_tokens import MaskedTokens
from ssl_jets.methods.tokenizer import Tokenizer
from support.hidden_particles import decoded_of_jet, fix_mask
from support.small_models import build_method, tiny_encoder


def build(jets: Jets, tokenizer_seed: int = 10, **settings: float) -> MaskedTokens:
    tokenizer = build_method("tokenizer", jets, tokenizer_seed, codes=32).eval()
    return MaskedTokens(MaskedTokens.Config(**settings), tiny_encoder(jets), tokenizer=tokenizer)


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
        logits = method.codes_out(decoded_of_jet(method, method.decoder, z, tokens, pts)).detach()
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


def test_the_tokenizer_stays_as_it_was(batch: Jets) -> None:
    method = build(batch).train()
    before = {name: value.clone() for name, value in method.tokenizer.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=1.0)
    method(batch, 0.0)["loss"].backward()
    optimizer.step()
    method.after_step(1.0)
    assert all(parameter.grad is None for parameter in method.tokenizer.parameters())
    assert all(torch.equal(value, before[name]) for name, value in method.tokenizer.state_dict().items())
