"""Next-token prediction against its formula, jet by jet; causality; jets made from nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.methods.next_token import NextToken
from ssl_jets.methods.tokenizer import Tokenizer
from ssl_jets.nn import random
from support.hidden_particles import learn_by_heart
from support.small_models import build_method, made_jets, tiny_encoder


def build(jets: Jets, **settings: float) -> NextToken:
    tokenizer = build_method("tokenizer", jets, 10, codes=32).eval()
    return NextToken(NextToken.Config(**settings), tiny_encoder(jets), tokenizer=tokenizer)


def fix_chance(monkeypatch: pytest.MonkeyPatch, length: Tensor, nothing: Tensor) -> None:
    """The two draws of the loss: how much of the jet is read, and whether anything is."""
    draws = [length, nothing]
    monkeypatch.setattr(random, "uniform_per_jet", lambda _jets: draws.pop(0))


def logits_after(method: NextToken, start: Tensor, read: int, codes: list[int]) -> Tensor:
    """Logits of what follows `codes`, from a plain causal computation: the sequence so far and nothing else."""
    x = [start + method.positions(torch.tensor(read))]
    x += [
        method.codes_in(torch.tensor(code)) + method.positions(torch.tensor(read + 1 + i))
        for i, code in enumerate(codes)
    ]
    x = torch.stack(x)
    for block in method.decoder.blocks:
        rows = []
        q, k, v = block.qkv(block.norm_attention(x)).view(len(x), 3, block.heads, -1).unbind(1)
        for t in range(len(x)):
            scores = torch.einsum("hd,shd->hs", q[t], k[: t + 1]) / q.shape[-1] ** 0.5
            rows.append(torch.einsum("hs,shd->hd", scores.softmax(-1), v[: t + 1]).flatten())
        x = x + block.proj(torch.stack(rows))
        x = x + block.down(torch.nn.functional.gelu(block.up(block.norm_mlp(x))))
    return method.codes_out(method.decoder.norm(x))[-1].detach()


def reference(method: NextToken, jets: Jets, length: Tensor, nothing: Tensor) -> tuple[float, float, float]:
    """Errors of codes and summary, and accuracy, as the docstring of `next_token` writes them, in plain loops."""
    tokenizer = method.tokenizer
    assert isinstance(tokenizer, Tokenizer)
    loss = accuracy = summary = 0.0
    for jet in range(len(jets)):
        one = jets.select(torch.tensor([jet]))
        count = len(one.particles)
        order = sorted(range(count), key=lambda row: -float(one.column("pt")[row]))
        codes = [int(tokenizer.codes(one)[row]) for row in order]
        alone = count == 1 or float(nothing[jet]) < method.cfg.from_nothing
        read = 0 if alone else 1 + int(float(length[jet]) * (count - 1))
        kept = torch.zeros(count, dtype=torch.bool)
        kept[order[:read]] = True
        z = method.encoder(one.keep(kept)).z
        start = method.z_in(z)[0]
        summary += float(method.observables.error(z, one, method.encoder.features).detach())
        goals = [*codes[read:], method.stop]
        for i, goal in enumerate(goals):
            logits = logits_after(method, start, read, codes[read : read + i])
            loss -= float(logits.log_softmax(0)[goal]) / float(method.mean_length)
            accuracy += float(int(logits.argmax()) == goal) / len(goals)
    return loss / len(jets), summary / len(jets), accuracy / len(jets)


def test_the_loss_is_that_of_plain_loops_over_jets_and_codes(
    monkeypatch: pytest.MonkeyPatch, sample_jets: Jets
) -> None:
    jets = sample_jets.select(torch.arange(6))
    jets = jets.keep(jets.rank_by_pt() < torch.tensor([1, 2, 3, 9, 14, 14])[jets.jet_of_particle])
    method = build(jets, observables_weight=0.7)
    method.fit_statistics([jets])
    assert float(method.mean_length) == float(jets.lengths.float().mean())
    length = torch.tensor([0.5, 0.99, 0.0, 0.7, 0.0, 0.3]).double()
    nothing = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.1, 0.9]).double()
    fix_chance(monkeypatch, length, nothing)
    parts = method(jets, 0.0)
    codes, summary, accuracy = reference(method, jets, length, nothing)
    assert float(parts["code_loss"]) == pytest.approx(codes, rel=1e-4)
    assert float(parts["loss"].detach()) == pytest.approx(codes + 0.7 * summary, rel=1e-4)
    assert float(parts["accuracy"]) == pytest.approx(accuracy, abs=1e-5)


def test_a_particle_is_predicted_from_harder_ones_only(monkeypatch: pytest.MonkeyPatch, batch: Jets) -> None:
    method = build(batch)
    codes, offsets = torch.randint(0, 32, (7,)), torch.tensor([0, 3, 3, 7])
    z, read = torch.randn(3, 64), torch.tensor([0, 2, 5])
    before, places = method._predict(z, read, codes, offsets)
    assert places.tolist() == [0, 4, 5, 10]
    changed = codes.clone()
    changed[5] = (changed[5] + 1) % 32  # the third code of the last jet
    after = method._predict(z, read, changed, offsets)[0]
    same = [torch.allclose(a, b, atol=1e-6) for a, b in zip(before, after, strict=True)]
    assert same == [True] * 8 + [False] * 2


def test_codes_are_drawn_from_the_logits_that_the_loss_has(monkeypatch: pytest.MonkeyPatch, batch: Jets) -> None:
    method = build(batch).eval()
    method.codes_out.bias.data[method.stop] = 2.0  # about one in five codes is the stop
    logits: list[Tensor] = []
    codes: list[list[int]] = [[] for _ in range(12)]
    growing, choose = list(range(12)), random.choose

    def spied(rows: Tensor) -> Tensor:
        chosen = choose(rows)
        for number, code in zip(list(growing), chosen.tolist(), strict=True):
            codes[number].append(code)
            if code == method.stop:
                growing.remove(number)
        logits.append(rows)
        return chosen

    monkeypatch.setattr(random, "choose", spied)
    torch.manual_seed(0)
    method.generate(12)
    z = method.encoder(Jets(batch.particles[:0], torch.zeros(2, dtype=torch.int64), batch.columns)).z
    drawn = [0] * len(logits)  # rows of the logits used at each place
    for sequence in codes:
        known = torch.tensor(sequence[:-1], dtype=torch.int64)
        offsets = torch.tensor([0, len(known)])
        with torch.no_grad():
            expected = method._predict(z, torch.tensor([0]), known, offsets)[0]
        assert len(expected) == len(sequence)
        expected[0, method.stop] = -torch.inf
        for place, row in enumerate(expected):
            torch.testing.assert_close(logits[place][drawn[place]], row, rtol=1e-4, atol=1e-4)
            drawn[place] += 1
    assert len({len(sequence) for sequence in codes}) > 3


def test_a_batch_that_is_read_in_no_part_and_one_of_single_particles(batch: Jets) -> None:
    method = build(batch, from_nothing=1.0)
    for jets in (batch, made_jets([1, 1])):
        loss = method(jets, 0.0)["loss"]
        loss.backward()
        assert loss.isfinite()


@pytest.fixture(scope="module")
def overfitted(sample_jets: Jets) -> tuple[NextToken, Jets, float, float]:
    """A method trained on one batch of 8 short jets: method, jets, first and last loss."""
    jets = sample_jets.select(torch.arange(8))
    jets = jets.keep(jets.rank_by_pt() < torch.tensor([2, 3, 4, 5, 6, 7, 8, 8])[jets.jet_of_particle])
    method = build(jets, from_nothing=0.5, observables_weight=0.0)
    losses = [parts["loss"] for parts in learn_by_heart(method, jets, steps=200, lr=2e-3, seed=lambda step: step)]
    return method.eval(), jets, losses[0], losses[-1]


def half_read(method: NextToken, jets: Jets, monkeypatch: pytest.MonkeyPatch) -> float:
    fix_chance(monkeypatch, torch.full((len(jets),), 0.4).double(), torch.ones(len(jets)).double())
    return float(method(jets, 0.0)["loss"].detach())


@pytest.mark.slow
def test_one_batch_can_be_learned_by_heart_and_z_tells_which_jet_it_is(
    overfitted: tuple[NextToken, Jets, float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    method, jets, first, last = overfitted
    right = half_read(method, jets, monkeypatch)
    assert last < first / 3
    assert right < first / 10
    hook = method.z_in.register_forward_hook(lambda module, inputs, output: output.roll(1, 0))
    wrong = half_read(method, jets, monkeypatch)
    hook.remove()
    assert wrong > 3 * right


@pytest.mark.slow
def test_jets_made_from_nothing_are_those_that_were_learned(overfitted: tuple[NextToken, Jets, float, float]) -> None:
    method, jets, _, _ = overfitted
    tokenizer = method.tokenizer
    assert isinstance(tokenizer, Tokenizer)
    codes, rank = tokenizer.codes(jets), jets.rank_by_pt()
    known = set()
    for jet in range(len(jets)):
        mine = slice(int(jets.offsets[jet]), int(jets.offsets[jet + 1]))
        known.add(tuple(codes[mine][rank[mine].argsort()].tolist()))
    seen: list[tuple[int, ...]] = []
    decode = tokenizer.particles

    def remember(made: Tensor, offsets: Tensor) -> Jets:
        seen.extend(tuple(part.tolist()) for part in made.split((offsets[1:] - offsets[:-1]).tolist()))
        return decode(made, offsets)

    tokenizer.particles = remember  # type: ignore[method-assign]
    torch.manual_seed(0)
    made = method.generate(40)
    del tokenizer.particles
    assert (len(made), made.columns) == (40, COLUMNS)
    assert made.lengths.tolist() == [len(jet) for jet in seen]
    assert made.particles.isfinite().all()
    assert sum(jet in known for jet in seen) > 30
    assert len(set(seen)) > 4


def test_generated_jets_are_never_empty_nor_longer_than_allowed_and_chance_is_torchs(batch: Jets) -> None:
    method = build(batch, longest=5)
    method.codes_out.bias.data[method.stop] = 3.0

    def made() -> Jets:
        torch.manual_seed(3)
        return method.generate(50)

    jets = made()
    assert 1 in jets.lengths
    assert int(jets.lengths.min()) == 1
    assert int(jets.lengths.max()) <= 5
    assert torch.equal(made().particles, jets.particles)
    method.codes_out.bias.data[method.stop] = -100.0
    assert made().lengths.unique().tolist() == [5]
