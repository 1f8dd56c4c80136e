"""Next-embedding prediction against its formula, jet by jet; causality; the embeddings that must not become equal."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_jets.diagnostics.collapse import verdicts_on_embedding
from ssl_jets.jets import Jets
from ssl_jets.methods.nepa import NextEmbedding
from ssl_jets.nn import random
from support.hidden_particles import learn_by_heart, shuffled_rows
from support.small_models import made_jets, shuffle_particles, tiny_encoder


def build(jets: Jets, **settings: int) -> NextEmbedding:
    torch.manual_seed(0)
    return NextEmbedding(NextEmbedding.Config(**settings), tiny_encoder(jets, blocks=2))


def causal_output(method: NextEmbedding, x: Tensor) -> Tensor:
    """Output of the causal transformer at the last of a few rows, from a plain computation of attention."""
    for block in method.predictor.blocks:
        rows = []
        q, k, v = block.qkv(block.norm_attention(x)).view(len(x), 3, block.heads, -1).unbind(1)
        for t in range(len(x)):
            scores = torch.einsum("hd,shd->hs", q[t], k[: t + 1]) / q.shape[-1] ** 0.5
            rows.append(torch.einsum("hs,shd->hd", scores.softmax(-1), v[: t + 1]).flatten())
        x = x + block.proj(torch.stack(rows))
        x = x + block.down(torch.nn.functional.gelu(block.up(block.norm_mlp(x))))
    return method.predictor.norm(x)[-1]


def reference(method: NextEmbedding, jets: Jets, share: Tensor) -> float:
    """Loss as the docstring of `nepa` defines it: each prediction from the sequence so far and nothing else."""
    total, longest = 0.0, method.cfg.longest
    for jet in range(len(jets)):
        one = jets.select(torch.tensor([jet]))
        count = len(one.particles)
        if count == 1:
            continue
        order = sorted(range(count), key=lambda row: -float(one.column("pt")[row]))
        embeddings = [method.encoder.embedded(one)[row] for row in order]
        m = 1 + int(float(share[jet]) * (count - 1))
        kept = torch.zeros(count, dtype=torch.bool)
        kept[order[:m]] = True
        z = method.encoder(one.keep(kept)).z[0]
        rows = [method.z_in(z) + method.positions(torch.tensor(min(m, longest)))]
        for i in range(m, count):
            predicted = method.embeddings_out(causal_output(method, torch.stack(rows)))
            cosine = torch.dot(predicted, embeddings[i]) / predicted.norm() / embeddings[i].norm()
            total -= float(cosine) / (count - m)
            position = torch.tensor(min(i + 1, longest))
            rows.append(method.embeddings_in(embeddings[i]) + method.positions(position))
    return total / len(jets)


@pytest.mark.parametrize("settings", [{}, {"longest": 4}], ids=str)
def test_the_loss_equals_plain_loops_over_jets_and_particles(
    monkeypatch: pytest.MonkeyPatch, sample_jets: Jets, settings: dict[str, int]
) -> None:
    jets = sample_jets.select(torch.arange(6))
    jets = jets.keep(jets.rank_by_pt() < torch.tensor([1, 2, 3, 8, 12, 15])[jets.jet_of_particle])
    jets = shuffle_particles(jets)[0]
    method = build(jets, **settings)
    share = torch.tensor([0.5, 0.1, 0.9, 0.2, 0.5, 0.99], dtype=torch.float64)
    monkeypatch.setattr(random, "uniform_per_jet", lambda _jets: share)
    with torch.no_grad():
        expected = reference(method, jets, share)
    assert float(method(jets, 0.0)["loss"].detach()) == pytest.approx(expected, rel=1e-4)


def test_softer_particles_than_the_predicted_one_do_not_matter(monkeypatch: pytest.MonkeyPatch, batch: Jets) -> None:
    method = build(batch)
    monkeypatch.setattr(random, "uniform_per_jet", lambda jets: torch.full((len(jets),), 0.3, dtype=torch.float64))
    outputs: list[Tensor] = []
    method.embeddings_out.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    rank, half = batch.rank_by_pt(), (batch.lengths * 2 // 3)[batch.jet_of_particle]
    read = (batch.lengths - 1).double().mul(0.3).long().add(1)[batch.jet_of_particle]
    for soft in (rank < 0, rank >= half, rank == 0):
        particles = batch.particles.clone()
        particles[soft, 1:4] += 0.1
        method(Jets(particles, batch.offsets, batch.columns), 0.0)
    rest = rank >= read
    row = batch.keep(rest)
    index = row.offsets[:-1][row.jet_of_particle] + row.rank_by_pt()
    hard = torch.empty(len(index), dtype=torch.bool)
    hard[index] = rank[rest] <= half[rest]  # predictions up to the first changed particle
    assert 0 < int(hard.sum()) < len(hard)
    assert torch.equal(outputs[0][hard], outputs[1][hard])
    assert not torch.equal(outputs[0][~hard], outputs[1][~hard])
    assert not torch.allclose(outputs[0][hard], outputs[2][hard], atol=1e-4)  # the hardest particle reaches them by z


def trained(jets: Jets, steps: int) -> tuple[NextEmbedding, list[float]]:
    method = build(jets)
    four_divisions = learn_by_heart(method, jets, steps=steps, lr=2e-3, seed=lambda step: step % 4)
    return method.eval(), [parts["loss"] for parts in four_divisions]


def test_targets_are_cut_from_the_gradient_and_without_the_cut_embeddings_become_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jets = made_jets([4, 9, 6, 12, 15, 1] * 3)
    healthy = trained(jets, 25)[0].validation_metrics([jets])["embedding_variation"]
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "detach", lambda self: self)
        method = trained(jets, 25)[0]
    collapsing = method.validation_metrics([jets])["embedding_variation"]
    assert not verdicts_on_embedding(healthy)
    assert [verdict.name for verdict in verdicts_on_embedding(collapsing)] == ["constant-embedding"]


@pytest.fixture(scope="module")
def overfitted() -> tuple[NextEmbedding, Jets, list[float]]:
    """A method trained on one batch of 32 jets."""
    jets = made_jets([4, 9, 6, 12] * 8)
    method, losses = trained(jets, 200)
    return method, jets, losses


@pytest.mark.slow
def test_one_batch_can_be_learned_by_heart(overfitted: tuple[NextEmbedding, Jets, list[float]]) -> None:
    method, jets, losses = overfitted
    assert losses[-1] < -0.85
    assert not verdicts_on_embedding(method.validation_metrics([jets])["embedding_variation"])


@pytest.mark.slow
@pytest.mark.parametrize("which", ["z", "embeddings"])
def test_predictions_depend_on_z_and_the_embeddings_of_the_same_jet(
    overfitted: tuple[NextEmbedding, Jets, list[float]], which: str
) -> None:
    method, jets, _ = overfitted

    def loss() -> float:
        torch.manual_seed(0)
        return float(method(jets, 0.0)["loss"].detach())

    right = loss()
    with shuffled_rows(method.z_in if which == "z" else method.embeddings_in):
        assert loss() > right + 0.1
