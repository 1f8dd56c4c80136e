"""Encoder and transformer: a function of each jet's set of particles, and of nothing else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from ssl_jets.config import ModelSettings, resolve
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets
from ssl_jets.nn.attention import pair_bias
from ssl_jets.nn.attention.attend import AttentionLayout
from ssl_jets.nn.attention.pair_bias import PairBias
from ssl_jets.nn.encoder import Encoder, parameter_count, random_like
from ssl_jets.nn.features import FEATURES
from ssl_jets.nn.transformer import Transformer
from support.pretended_device import PretendCuda
from support.small_models import made_jets, shuffle_particles, tiny_encoder, without_columns

CLOSE = {"atol": 2e-5, "rtol": 2e-5}
KINDS_OF_ENCODER = ({}, {"registers": 0}, {"pair_bias": True})


def loud(encoder: Encoder) -> Encoder:
    """Larger weights, so that what a particle does to the others is far above rounding."""
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if parameter.dim() == 2 and not name.startswith("missing"):
                parameter.mul_(3)
    return encoder.eval()


@pytest.fixture(params=KINDS_OF_ENCODER, ids=str)
def encoder(request: pytest.FixtureRequest, batch: Jets) -> Encoder:
    return loud(tiny_encoder(batch, **request.param))


@torch.no_grad()
def test_the_order_of_the_particles_permutes_the_tokens_and_leaves_z(encoder: Encoder, batch: Jets) -> None:
    z, tokens = encoder(batch)
    shuffled, index = shuffle_particles(batch)
    assert not torch.equal(shuffled.particles, batch.particles)
    z_shuffled, tokens_shuffled = encoder(shuffled)
    torch.testing.assert_close(z_shuffled, z, **CLOSE)
    torch.testing.assert_close(tokens_shuffled, tokens[index], **CLOSE)
    assert z.std(0).mean() > 100 * CLOSE["atol"]


@torch.no_grad()
def test_a_jet_does_not_depend_on_the_others_in_the_batch(encoder: Encoder, batch: Jets) -> None:
    z, tokens = encoder(batch)
    for jet in (0, 17, 63):
        alone = encoder(batch.select(torch.tensor([jet])))
        torch.testing.assert_close(alone.z[0], z[jet], **CLOSE)
        torch.testing.assert_close(alone.tokens, tokens[batch.offsets[jet] : batch.offsets[jet + 1]], **CLOSE)


@torch.no_grad()
def test_jets_of_any_lengths_come_out_in_the_order_they_went_in(encoder: Encoder) -> None:
    lengths = [7, 1, 128, 2, 7, 3, 128, 1]
    jets = made_jets(lengths)
    z, tokens = encoder(jets)
    assert z.shape == (len(lengths), encoder.dim)
    assert tokens.shape == (sum(lengths), encoder.dim)
    backwards = torch.arange(len(lengths)).flip(0)
    z_backwards, tokens_backwards = encoder(jets.select(backwards))
    torch.testing.assert_close(z_backwards, z[backwards], **CLOSE)
    torch.testing.assert_close(
        torch.cat(list(tokens_backwards.split([lengths[i] for i in backwards]))[::-1]), tokens, **CLOSE
    )


@torch.no_grad()
def test_z_depends_on_every_particle(encoder: Encoder) -> None:
    jets = made_jets([6])
    z = encoder(jets).z
    for particle in range(6):
        kept = torch.arange(6) != particle
        assert (encoder(jets.keep(kept)).z - z).abs().max() > 1e-3


@torch.no_grad()
def test_a_jet_whose_particles_are_all_hidden_has_a_finite_z(encoder: Encoder) -> None:
    jets = made_jets([3, 5, 4])
    z, tokens = encoder(jets.keep(jets.jet_of_particle != 1))
    assert z.shape[0] == 3
    assert len(tokens) == 7
    assert z.isfinite().all()
    torch.testing.assert_close(z[[0, 2]], encoder(jets).z[[0, 2]], **CLOSE)


@torch.no_grad()
def test_registers_take_part_and_are_not_in_the_output(batch: Jets) -> None:
    encoder = loud(tiny_encoder(batch, registers=3))
    z, tokens = encoder(batch)
    assert (len(z), len(tokens)) == (len(batch), len(batch.particles))
    encoder.extra_tokens[1:] += torch.randn(3, encoder.dim)
    assert (encoder(batch).z - z).abs().max() > 1e-3
    assert tiny_encoder(batch, registers=0).extra_tokens.shape[0] == 1


@torch.no_grad()
def test_z_is_the_class_token_after_the_last_norm(batch: Jets) -> None:
    encoder = tiny_encoder(batch).eval()
    z = encoder(batch).z
    torch.testing.assert_close(z.mean(1), torch.zeros(len(z)), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(1, correction=0), torch.ones(len(z)), atol=1e-2, rtol=0)


@torch.no_grad()
def test_a_missing_column_uses_its_own_learned_vector(batch: Jets) -> None:
    encoder = loud(tiny_encoder(batch))
    lacking = without_columns(batch, "d0", "d0err")
    whole, part = encoder(batch).z, encoder(lacking).z
    assert part.isfinite().all()
    vector = torch.linspace(-1, 1, encoder.dim)
    encoder.missing[[index for index, feature in enumerate(FEATURES) if "d0" in feature.needs]] += vector
    assert torch.equal(encoder(batch).z, whole)
    assert (encoder(lacking).z - part).abs().max() > 1e-3
    moved = encoder(lacking).z
    encoder.missing[[index for index, feature in enumerate(FEATURES) if "dz" in feature.needs]] += vector
    assert torch.equal(encoder(lacking).z, moved)


@torch.no_grad()
def test_bfloat16_gives_about_the_z_of_float32(batch: Jets) -> None:
    encoder = tiny_encoder(batch).eval()
    exact = encoder(batch).z
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(batch).z.float()
    cosine = nn.functional.cosine_similarity(exact, rough, dim=1)
    assert cosine.min() > 0.99


@pytest.mark.parametrize(
    ("size", "width", "blocks", "millions"),
    [
        ("tiny", 64, 4, 0.21),
        ("small", 128, 8, 1.63),
        ("base", 256, 8, 6.47),
        ("large", 512, 12, 38.4),
        ("giant", 1024, 32, 405.4),
    ],
)
def test_parameter_counts_of_the_sizes(size: str, width: int, blocks: int, millions: float) -> None:
    with torch.device("meta"):
        encoder = Encoder(ModelSettings.model_validate({"size": size}))
    embed = encoder.features.width * 2 * width + 2 * width + 2 * width * width + width
    tokens = (len(FEATURES) + 1 + 8) * width
    block = 12 * width * width + 13 * width
    assert parameter_count(encoder) == embed + tokens + blocks * block + 2 * width
    assert parameter_count(encoder) / 1e6 == pytest.approx(millions, rel=0.02)
    assert encoder.cfg.shape == (width, blocks, width // 32)
    assert (width, blocks) == (encoder.dim, len(encoder.transformer.blocks))


@pytest.mark.parametrize(
    ("settings", "shape", "title"),
    [
        ({"width": 96}, (96, 4, 3), "tiny with width 96"),
        ({"width": 16, "blocks": 1}, (16, 1, 1), "tiny with width 16, blocks 1"),
        ({"heads": 16}, (64, 4, 16), "tiny with heads 16"),
    ],
)
def test_width_blocks_and_heads_replace_those_of_the_size(
    batch: Jets, settings: dict[str, int], shape: tuple[int, int, int], title: str
) -> None:
    encoder = tiny_encoder(batch, **settings)
    transformer = encoder.transformer
    assert (encoder.width, len(transformer.blocks), transformer.blocks[0].heads) == shape == encoder.cfg.shape
    assert encoder.cfg.title() == title
    assert encoder(batch).z.shape == (len(batch), shape[0])


@pytest.mark.parametrize("tree", [{"width": 100}, {"heads": 3}])
def test_a_width_that_is_not_divisible_by_the_heads_is_one_message(tree: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="do not go together") as caught:
        resolve(ModelSettings, tree, under="model")
    assert caught.value.where == "model"
    assert caught.value.found.endswith("is not divisible by 3 heads; set model.heads")


def test_frozen_parameters_are_not_counted() -> None:
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert parameter_count(layer) == 6


def test_random_like_has_other_weights_and_the_same_statistics(batch: Jets) -> None:
    encoder = tiny_encoder(batch, pair_bias=True, registers=2)
    before = torch.get_rng_state()
    fresh, again, other = random_like(encoder, 3), random_like(encoder, 3), random_like(encoder, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert fresh.cfg == encoder.cfg
    assert not fresh.training
    assert torch.equal(fresh.features.mean, encoder.features.mean)
    assert torch.equal(fresh.features.std, encoder.features.std)
    for name, weight in fresh.named_parameters():
        if weight.dim() == 2 and name not in ("missing", "pair_bias.mlp.4.weight"):  # zero at first
            assert not torch.equal(weight, encoder.get_parameter(name)), name
            assert torch.equal(weight, again.get_parameter(name)), name
            assert not torch.equal(weight, other.get_parameter(name)), name


def test_trunk_keeps_the_order_of_jets_and_of_their_extra_tokens() -> None:
    torch.manual_seed(0)
    transformer = Transformer(16, 2, 2).eval()
    lengths = [3, 1, 0, 5, 1]
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    particles, extra = torch.randn(sum(lengths), 16), torch.randn(len(lengths), 2, 16)
    with torch.no_grad():
        extras, tokens = transformer(particles, offsets, extra)
        for jet, (start, stop) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist())):
            alone = transformer(particles[start:stop], torch.tensor([0, stop - start]), extra[jet : jet + 1])
            torch.testing.assert_close(extras[jet : jet + 1], alone[0], **CLOSE)
            torch.testing.assert_close(tokens[start:stop], alone[1], **CLOSE)


def test_pair_features_are_those_of_massless_particles() -> None:
    jets, extra, heads = made_jets([4, 4, 1, 6]), 3, 4
    bias = PairBias(heads)
    bias.mlp = nn.Identity()  # type: ignore[assignment]
    layout = AttentionLayout.of(jets.offsets + extra * torch.arange(5))
    runs = bias(jets, layout, extra)
    assert [tuple(run.shape) for run in runs] == [(2, 4, 7, 7), (1, 4, 4, 4), (1, 4, 9, 9)]
    per_jet = [jet for run in runs for jet in run]
    for jet, scores in enumerate(per_jet):
        rows = range(int(jets.offsets[jet]), int(jets.offsets[jet + 1]))
        pt, deta, dphi = (jets.column(name).double().tolist() for name in ("pt", "deta", "dphi"))
        assert not scores[:, :extra].any()
        assert not scores[:, :, :extra].any()
        for a, i in enumerate(rows):
            for b, j in enumerate(rows):
                if i == j:
                    continue
                distance = math.hypot(deta[i] - deta[j], dphi[i] - dphi[j])
                mass2 = 2 * pt[i] * pt[j] * (math.cosh(deta[i] - deta[j]) - math.cos(dphi[i] - dphi[j]))
                expected = [
                    math.log(distance),
                    math.log(min(pt[i], pt[j]) * distance),
                    math.log(min(pt[i], pt[j]) / (pt[i] + pt[j])),
                    math.log(mass2),
                ]
                torch.testing.assert_close(scores[:, extra + a, extra + b].tolist(), expected, atol=2e-4, rtol=2e-4)


def test_the_distance_of_a_pair_is_the_shorter_way_around() -> None:
    """As in weaver (arXiv:2202.03772), whose dphi is in [-pi, pi): 0.1 between 3.0916 and -3.0916, not 6.18."""
    angle = math.pi - 0.05
    jets, bias = Jets.of([[[3.0, 0.0, angle], [1.0, 0.0, -angle]]], ("pt", "deta", "dphi")), PairBias(4)
    bias.mlp = nn.Identity()  # type: ignore[assignment]
    (scores,) = bias(jets, AttentionLayout.of(jets.offsets), 0)
    mass2 = 2 * 3.0 * (1 - math.cos(0.1))
    expected = [math.log(0.1), math.log(0.1), math.log(1 / 4), math.log(mass2)]
    torch.testing.assert_close(scores[0, :, 0, 1].tolist(), expected, atol=1e-4, rtol=1e-4)


def test_collinear_particles_have_a_finite_pair_bias() -> None:
    jets = made_jets([5])
    jets.particles[:, [jets.columns.index("deta"), jets.columns.index("dphi")]] = 0.1
    (run,) = PairBias(2)(jets, AttentionLayout.of(jets.offsets), 0)
    assert run.isfinite().all()


def test_a_trained_encoder_that_gets_a_pair_bias_keeps_its_z(batch: Jets) -> None:
    before = tiny_encoder(batch).eval()
    after = Encoder(ModelSettings(size="tiny", pair_bias=True)).eval()
    assert set(after.load_state_dict(before.state_dict(), strict=False).missing_keys) == {
        f"pair_bias.{name}" for name in PairBias(4).state_dict()
    }
    torch.testing.assert_close(after(batch).z, before(batch).z, rtol=0, atol=0)


@pytest.mark.parametrize("z_only", [False, True])
def test_z_and_gradients_with_a_pair_bias_are_the_same_on_a_gpu(batch: Jets, z_only: bool) -> None:
    encoder = tiny_encoder(batch, pair_bias=True, registers=2)
    there = replace(batch, particles=batch.particles.as_subclass(PretendCuda))
    results = []
    for jets in (batch, there):
        encoder.zero_grad()
        z, tokens = encoder(jets, z_only=z_only)
        (z.square().mv(torch.arange(64) / 64).mean() + tokens[:, :32].square().mean()).backward()
        results.append([z, tokens, *(weight.grad for weight in encoder.parameters() if weight.grad is not None)])
    assert len(results[0]) == len(results[1])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(theirs.as_subclass(torch.Tensor), ours, atol=1e-4, rtol=1e-4)


def test_the_pair_bias_is_symmetric_and_the_one_of_a_padded_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    jets, bias = made_jets([4, 4, 1, 6]), PairBias(3)
    nn.init.normal_(bias.mlp[-1].weight)
    kinematics = torch.stack([jets.column("pt").log(), jets.column("deta"), jets.column("dphi")], dim=1)
    monkeypatch.setattr(pair_bias, "SLICE", 7)  # several slices, which end within a jet
    runs = bias(jets, AttentionLayout.of(jets.offsets + 2 * torch.arange(5)), 2)
    for scores, particles in zip([jet for run in runs for jet in run], kinematics.split([4, 4, 1, 6]), strict=True):
        assert torch.equal(scores, scores.transpose(1, 2))
        torch.testing.assert_close(scores, bias.padded(particles.unsqueeze(0), 2)[0], **CLOSE)
        assert len(particles) == 1 or scores[:, 2:, 2:].std() > 0.01


def test_elements_of_collections_have_no_pair_bias() -> None:
    jets, bias = made_jets([4, 4]), PairBias(3)
    nn.init.normal_(bias.mlp[-1].weight)
    particles = jets.keep(jets.place < 2)
    (of_particles,) = bias(particles, AttentionLayout.of(particles.offsets), 0)
    jets.particles[jets.place >= 2, jets.columns.index("pt")] = 0  # two particles and two elements in each jet
    (scores,) = bias(jets, AttentionLayout.of(jets.offsets), 0)
    torch.testing.assert_close(scores[:, :, :2, :2], of_particles)
    assert scores[:, :, :2, :2].std() > 0.01
    assert not scores[:, :, 2:].any()
    assert not scores[:, :, :, 2:].any()
    scores.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in bias.parameters())


def test_the_pair_bias_changes_z_and_learns(batch: Jets) -> None:
    encoder = tiny_encoder(batch, pair_bias=True)
    assert encoder.pair_bias is not None
    encoder(batch).z.square().mul(torch.arange(64)).sum().backward()
    for name, parameter in encoder.pair_bias.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.any() or name == "mlp.4.bias", name
