"""Masked autoregression against its formula, jet by jet and particle by particle; jets drawn in rounds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.methods.mar import MaskedAutoregression
from ssl_jets.nn import masking, random
from ssl_jets.nn.features import TARGETS
from support.hidden_particles import decoded_of_jet, learn_by_heart, shuffled_rows
from support.small_models import made_jets, tiny_encoder, without_columns


def build(jets: Jets, **settings: float) -> MaskedAutoregression:
    method = MaskedAutoregression(MaskedAutoregression.Config(**settings), tiny_encoder(jets))
    method.fit_statistics([jets])
    return method


def condition_of(method: MaskedAutoregression, visible: Jets, hidden_pts: list[float]) -> Tensor:
    """The condition of the hidden particles of one jet, of which nothing is used but the order of their pts."""
    return decoded_of_jet(method, method.decoder, *method.encoder(visible), hidden_pts)


def head_of(method: MaskedAutoregression, x: Tensor, t: float, condition: Tensor) -> tuple[Tensor, Tensor]:
    """Velocity and logits of one particle, `x` and `condition` being vectors."""
    net, s2 = method.head, t**2 + (1 - t) ** 2
    h, context = net.data_in(x / math.sqrt(s2)), net.time(torch.tensor([t]))[0] + net.condition_in(condition)
    for norm, first, gelu, second in net.blocks:
        h = h + second(gelu(first(norm(h + context))))
    return (2 * t - 1) / s2 * x + net.velocity_out(h) / math.sqrt(s2), net.kinds_out(h).log_softmax(0)


@pytest.mark.parametrize("settings", [{}, {"kind_weight": 0.3, "mask_tokens": 4}], ids=str)
def test_the_loss_equals_plain_loops_over_jets_particles_and_times(
    monkeypatch: pytest.MonkeyPatch, sample_jets: Jets, settings: dict[str, float]
) -> None:
    jets = sample_jets.select(torch.arange(6))
    jets = jets.keep(jets.rank_by_pt() < torch.tensor([1, 2, 3, 8, 12, 20])[jets.jet_of_particle])
    method = build(jets, times=2, **settings)
    torch.manual_seed(5)
    hidden = masking.hide_most(jets, 0.5)
    hidden[jets.jet_of_particle == 2] = True  # nothing is visible
    monkeypatch.setattr(masking, "hide_most", lambda _jets, _least: hidden)
    count = int(hidden.sum())
    t, noise = torch.rand(2, count), torch.randn(2, count, TARGETS)
    draws = [iter(t.double()), iter(noise)]
    monkeypatch.setattr(random, "uniform", lambda _jets: next(draws[0]))
    monkeypatch.setattr(random, "normal", lambda _jets, _width: next(draws[1]))
    row = 0
    flow = kind = 0.0
    with torch.no_grad():
        for jet in range(len(jets)):
            one, mask = jets.select(torch.tensor([jet])), hidden[int(jets.offsets[jet]) : int(jets.offsets[jet + 1])]
            masked = one.keep(mask)
            condition = condition_of(method, one.keep(~mask), masked.column("pt").tolist())
            truth = method.encoder.features(masked)[0][:, :TARGETS]
            for number in range(len(masked.particles)):
                code = 3 * int(masked.column("kind")[number]) + int(masked.column("charge")[number]) + 1
                for time, n in zip(t[:, row].tolist(), noise[:, row], strict=True):
                    x = (1 - time) * n + time * truth[number]
                    velocity, logits = head_of(method, x, time, condition[number])
                    share = len(jets) * len(masked.particles) * 2
                    flow += float((velocity - truth[number] + n).square().mean()) / share
                    kind -= float(logits[code]) / share
                row += 1
    parts = method(jets, 0.0)
    assert float(parts["flow_loss"]) == pytest.approx(flow, rel=1e-4)
    assert float(parts["kind_loss"]) == pytest.approx(kind, rel=1e-4)
    assert float(parts["loss"].detach()) == pytest.approx(flow + method.cfg.kind_weight * kind, rel=1e-4)


def test_most_particles_are_hidden_sometimes_all_and_never_none() -> None:
    jets = made_jets([20] * 500 + [1] * 20)
    torch.manual_seed(0)
    share = jets.mean(masking.hide_most(jets, 0.7).double())
    assert float(share[:500].min()) >= 0.7
    assert 0.03 < float((share[:500] == 1).double().mean()) < 0.4
    assert float(share[500:].min()) == 1
    # The mean of a normal number with mean 1 and std 0.25, cut to [0.7, 1], plus half a particle of rounding up.
    cut = (1 - 0.25 * (2 / math.pi) ** 0.5 * (1 - math.exp(-0.72)) / math.erf(1.2 / 2**0.5)) + 0.5 / 20
    assert float(share[:500].mean()) == pytest.approx(cut, abs=0.01)


def test_a_drawn_particle_has_its_rank_among_the_hidden_ones_of_its_jet(monkeypatch: pytest.MonkeyPatch) -> None:
    jets, ranks = made_jets([3, 5]), list[list[int]]()
    method = build(jets, rounds=1, steps=1)
    decode = method._decode
    monkeypatch.setattr(method, "_decode", lambda *inputs: ranks.append(inputs[2].tolist()) or decode(*inputs))
    method.complete(jets, torch.tensor([False, True, True, True, False, True, True, True]), 1)
    assert ranks == [[0, 1, 0, 1, 2, 3]]


@pytest.fixture(scope="module")
def overfitted() -> tuple[MaskedAutoregression, Jets, float, float]:
    """A method that has learned four jets by heart: method, jets, mean loss of the first and the last steps."""
    jets = made_jets([4, 9, 6, 12])
    torch.manual_seed(0)
    method = build(jets, least_hidden=0.3)
    many = jets.select(torch.arange(4).repeat(8))
    losses = [parts["loss"] for parts in learn_by_heart(method, many, steps=300, lr=3e-3)]
    return method.eval(), jets, sum(losses[:5]) / 5, sum(losses[-5:]) / 5


@pytest.mark.slow
def test_one_batch_can_be_learned_by_heart(overfitted: tuple[MaskedAutoregression, Jets, float, float]) -> None:
    *_, first, last = overfitted
    assert last < first / 4


@pytest.mark.slow
@pytest.mark.parametrize("which", ["z", "tokens"])
def test_predictions_depend_on_z_and_the_tokens_of_the_same_jet(
    overfitted: tuple[MaskedAutoregression, Jets, float, float], which: str
) -> None:
    method, jets, _, _ = overfitted
    many = jets.select(torch.arange(4).repeat(8))

    def loss() -> float:
        torch.manual_seed(0)
        return float(method(many, 0.0)["loss"].detach())

    right = loss()
    with shuffled_rows(method.z_in if which == "z" else method.tokens_in):
        assert loss() > 1.1 * right


@pytest.mark.slow
def test_jets_learned_by_heart_are_completed(overfitted: tuple[MaskedAutoregression, Jets, float, float]) -> None:
    method, jets = overfitted[:2]
    hidden = jets.rank_by_pt() % 2 == 1
    torch.manual_seed(0)
    again = method.complete(jets, hidden, 1)[0]
    assert torch.equal(again.particles[~hidden], jets.particles[~hidden])
    order = [torch.argsort(one.jet_of_particle * 1000 + one.rank_by_pt()) for one in (again, jets)]
    drawn, truth = (one.column("pt")[index].log() for one, index in zip((again, jets), order, strict=True))
    assert float((drawn - truth).abs().mean()) < 0.4 * float((truth - truth.mean()).abs().mean())


def test_new_jets_are_physical_and_a_seed_gives_the_same_ones(batch: Jets) -> None:
    method = build(batch, rounds=4, steps=2).eval()
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(method.generate(30))
    assert len(made[0]) == 30
    assert made[0].columns == COLUMNS
    assert made[0].particles.isfinite().all()
    assert (made[0].column("pt") > 0).all()
    assert (made[0].column("energy") >= made[0].column("pt")).all()
    assert torch.equal(made[0].particles, made[1].particles)
    assert not torch.equal(made[0].lengths, made[2].lengths)


def test_the_number_of_particles_has_the_distribution_of_the_training(sample_jets: Jets) -> None:
    method = build(sample_jets, rounds=1, steps=1, most_particles=40).eval()
    clamped = sample_jets.lengths.clamp(max=40)
    assert torch.equal(method.multiplicity, torch.bincount(clamped - 1, minlength=40).float())
    torch.manual_seed(0)
    drawn = method.generate(500).lengths.double()
    assert float(drawn.mean()) == pytest.approx(
        float(clamped.double().mean()), abs=4 * float(clamped.double().std()) / 22
    )
    assert int(drawn.max()) == 40


def test_every_particle_is_drawn_once_more_of_them_in_later_rounds(sample_jets: Jets) -> None:
    method = build(sample_jets, rounds=6, steps=1).eval()
    chosen: list[Tensor] = []
    draw = method._draw

    def spied(jets: Jets, hidden: Tensor, now: Tensor) -> Tensor:
        assert bool(hidden[now].all())
        chosen.append(now)
        return draw(jets, hidden, now)

    method._draw = spied  # type: ignore[method-assign]
    made = method.generate(40)
    assert torch.equal(torch.stack(chosen).sum(0), torch.ones(len(made.particles), dtype=torch.int64))
    long = (made.lengths >= 30)[made.jet_of_particle]
    shares = torch.stack(chosen)[:, long].double().mean(1).tolist()
    expected = [math.cos(math.pi / 2 * k / 6) - math.cos(math.pi / 2 * (k + 1) / 6) for k in range(6)]
    assert shares == pytest.approx(expected, abs=0.03)


def test_jets_without_some_columns_are_completed(batch: Jets) -> None:
    bare = without_columns(batch, "d0", "energy", "dz")
    method = build(bare, rounds=2, steps=1).eval()
    hidden = bare.rank_by_pt() > 2
    made, other = method.complete(bare, hidden, 2)
    assert torch.equal(made.column("pt") == other.column("pt"), ~hidden)
    assert made.columns == bare.columns
    for name in bare.columns:
        assert torch.equal(made.column(name)[~hidden], bare.column(name)[~hidden]), name
    assert (made.column("pt")[hidden] != bare.column("pt")[hidden]).all()


def test_while_drawing_the_encoder_sees_the_columns_of_the_training(batch: Jets) -> None:
    bare = without_columns(batch, "d0", "d0err", "dz", "dzerr")
    method = build(bare, rounds=2, steps=1).eval()
    seen: list[tuple[str, ...]] = []
    method.encoder.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].columns))
    assert method.generate(3).columns == bare.columns
    assert method.complete(batch, batch.rank_by_pt() > 2, 1)[0].columns == bare.columns
    assert seen == [bare.columns] * 4


def test_half_of_the_batches_have_the_columns_that_are_drawn_alone(batch: Jets) -> None:
    tracks = without_columns(batch, "kind")  # charges and impact parameters without kinds are not drawn
    method, seen = build(tracks, rounds=1, steps=1), list[tuple[str, ...]]()
    method.encoder.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].columns))
    drawn = method.eval().generate(3).columns
    assert drawn == seen.pop() == ("pt", "deta", "dphi", "energy")
    torch.manual_seed(0)
    few = tracks.select(torch.arange(2))
    for _ in range(40):
        method(few, 0.0)
    assert {*seen} == {tracks.columns, drawn}
    assert 10 <= seen.count(drawn) <= 30


def test_a_column_that_the_jets_lack_is_missing_and_not_zero_while_drawing(batch: Jets) -> None:
    method, bare = build(batch, rounds=1, steps=1).eval(), without_columns(batch, "energy", "kind", "charge")
    hidden = bare.rank_by_pt() > 2
    outputs: list[Tensor] = []
    method.encoder.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.z))
    assert method.complete(bare, hidden, 1)[0].columns == bare.columns
    assert torch.equal(outputs[0], method.encoder(bare.keep(~hidden)).z)
