"""Further collections of jets in encoder and methods: read, hidden with the particles, moved with the jet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from ssl_jets import methods
from ssl_jets.config import CollectionSettings, FeatureSettings, ModelSettings
from ssl_jets.finetuning.objective import Objective
from ssl_jets.finetuning.settings import FinetuneSettings
from ssl_jets.jets import Jets, concatenate
from ssl_jets.methods._method import Method
from ssl_jets.nn import augment
from ssl_jets.nn.augment import Views, make_view
from ssl_jets.nn.encoder import Encoder, random_like
from ssl_jets.nn.masking import hide_inputs, visible
from support.small_models import CLASSES, made_jets, shuffle_particles

VERTEX = {
    "pt": FeatureSettings(unit="GeV", transform="log"),
    "deta": FeatureSettings(),
    "dphi": FeatureSettings(unit="rad"),
    "ntracks": FeatureSettings(categories=(2, 3)),
}
LEPTON = {"pt": FeatureSettings(unit="GeV", transform="log")}
COLLECTIONS = {
    "SV": CollectionSettings(features=VERTEX, most=16),
    "train": CollectionSettings(features=LEPTON, most=2),  # a name that no module could have
}
MODEL = ModelSettings(size="tiny", blocks=1, inputs=("columns", "SV", "train"), collections=COLLECTIONS)
SEES = {"supervised", "semi_supervised", "mae", "jepa", "bottleneck_mae", "diffusion_mae", "masked_tokens"}
LENGTHS = [5, 9, 12, 3, 20, 7, 1, 30]

every_method = pytest.mark.parametrize("name", methods.names())


def elements(lengths: list[int], names: tuple[str, ...], seed: int) -> Jets:
    generator = torch.Generator().manual_seed(seed)
    count = sum(lengths)
    values = {
        "pt": torch.rand(count, generator=generator) * 30 + 1,
        "deta": torch.randn(count, generator=generator) * 0.2,
        "dphi": torch.randn(count, generator=generator) * 0.2,
        "ntracks": torch.randint(0, 3, (count,), generator=generator).float(),
    }
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return Jets(torch.stack([values[name] for name in names], dim=1), offsets, names)


@pytest.fixture
def jets() -> Jets:
    """Jets with 0 to 4 vertices, some numbers of which are missing, and leptons."""
    vertices = elements([2, 0, 4, 1, 3, 0, 2, 1], tuple(VERTEX), 1)
    vertices.particles[3, 0] = torch.nan
    leptons = elements([0, 1, 0, 0, 2, 0, 0, 1], tuple(LEPTON), 2)
    return replace(made_jets(LENGTHS), collections={"SV": vertices, "train": leptons})


def encoder_of(jets: Jets, model: ModelSettings = MODEL, seed: int = 1) -> Encoder:
    torch.manual_seed(seed)
    encoder = Encoder(model)
    encoder.fit_statistics([jets])
    return encoder


def build(name: str, jets: Jets, model: ModelSettings = MODEL, seed: int = 1) -> Method:
    cls = methods.find(name)
    parts: dict[str, Any] = {part: build(part, jets, model, seed + 10) for part in cls.requires if part != "teacher"}
    for part in parts.values():
        part.encoder.reads_collections = False  # as loaded from a model
    if "teacher" in cls.requires:
        parts["teacher"] = encoder_of(jets, model, seed + 10)
        parts["teacher"].reads_collections = False
    method = cls(cls.Config(name=name), encoder_of(jets, model, seed), CLASSES, **parts)
    method.fit_statistics([jets])
    return method


def loss_of(method: Method, jets: Jets) -> torch.Tensor:
    torch.manual_seed(3)
    return method(jets, 0.5)["loss"]


def shuffled(part: Jets, seed: int) -> Jets:
    return shuffle_particles(part, seed)[0]


@every_method
def test_a_method_reads_collections_or_never_learns_from_them(name: str, jets: Jets) -> None:
    method = build(name, jets)
    assert method.sees_collections == (name in SEES)
    loss = loss_of(method, jets)
    assert loss.isfinite()
    vertices = jets.collections["SV"]
    other = replace(vertices, particles=vertices.particles.roll(1, 0))
    changed = replace(jets, collections={**jets.collections, "SV": other})
    assert torch.equal(loss_of(method, changed), loss) == (name not in SEES)
    exported = method.exported().collections
    assert exported is not None
    if name in SEES and method.exported() is method.encoder:
        loss_of(method, concatenate([jets] * 6)).backward()  # some of the few elements are hidden
        trained = [*exported.embed.parameters(), exported.missing["of_SV"]]
        assert all(weight.grad is not None and bool(weight.grad.any()) for weight in trained)


@every_method
def test_a_batch_without_collections_has_a_loss_too(name: str, jets: Jets) -> None:
    method = build(name, jets)
    loss = loss_of(method, jets.without(["SV", "train"]))
    loss.backward()
    assert loss.isfinite()


def test_tokens_are_of_the_particles_in_their_order_and_z_of_all(jets: Jets) -> None:
    encoder = encoder_of(jets).eval()
    z, tokens = encoder(jets)
    assert tokens.shape == (sum(LENGTHS), 64)
    torch.testing.assert_close(encoder(jets, z_only=True).z, z, atol=1e-5, rtol=1e-5)
    for row in range(len(jets)):
        alone = jets.select(torch.tensor([row]))
        torch.testing.assert_close(encoder(alone).z[0], z[row], atol=1e-5, rtol=1e-5)
        own = tokens[jets.offsets[row] : jets.offsets[row + 1]]
        torch.testing.assert_close(encoder(alone).tokens, own, atol=1e-5, rtol=1e-5)
    twice = concatenate([jets, jets.select(torch.tensor([4, 1]))])
    torch.testing.assert_close(encoder(twice).z[[8, 9]], z[[4, 1]], atol=1e-5, rtol=1e-5)


def test_z_is_blind_to_the_order_of_elements_and_sees_each_of_them(jets: Jets) -> None:
    encoder = encoder_of(jets).eval()
    z = encoder(jets).z
    mixed = {name: shuffled(part, 7) for name, part in jets.collections.items()}
    torch.testing.assert_close(encoder(replace(jets, collections=mixed)).z, z, atol=1e-5, rtol=1e-5)
    vertices = jets.collections["SV"]
    for number in range(len(vertices.particles)):
        particles = vertices.particles.clone()
        particles[number, 3] = (particles[number, 3] + 1) % 3
        other = replace(jets, collections={**jets.collections, "SV": replace(vertices, particles=particles)})
        moved = (encoder(other).z - z).abs().amax(1) > 1e-4
        assert moved.nonzero()[:, 0].tolist() == [int(vertices.jet_of_particle[number])]


def test_a_missing_collection_is_not_an_empty_one(jets: Jets) -> None:
    encoder = encoder_of(jets).eval()
    missing = encoder(jets.without(["SV"])).z
    vertices = jets.collections["SV"]
    none = replace(jets, collections={**jets.collections, "SV": vertices.keep(torch.zeros(13, dtype=torch.bool))})
    empty = encoder(none).z
    assert bool(((missing - empty).abs().amax(1) > 1e-4).all())
    marks = Jets(torch.full((8, 4), torch.nan), torch.arange(9), tuple(VERTEX))
    marked = replace(jets, collections={**jets.collections, "SV": marks})  # as read from a file without it
    torch.testing.assert_close(encoder(marked).z, missing)
    encoder.reads_collections = False
    assert torch.equal(encoder(jets).z, encoder(jets.without(["SV", "train"])).z)


def test_an_encoder_without_collections_is_the_same_to_the_last_bit(jets: Jets) -> None:
    plain = ModelSettings(size="tiny", blocks=1)
    encoder = encoder_of(jets, plain).eval()
    assert encoder.collections is None
    assert torch.equal(encoder(jets).z, encoder(jets.without(["SV", "train"])).z)
    assert not [name for name in encoder.state_dict() if "collections" in name]
    with_them = encoder_of(jets).state_dict()
    assert all(torch.equal(value, with_them[name]) for name, value in encoder.state_dict().items())


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_pools_average_the_particles_which_have_seen_the_elements(jets: Jets, pool: str) -> None:
    encoder = encoder_of(jets, MODEL.model_copy(update={"pool": pool})).eval()
    z = encoder(jets).z
    assert not torch.allclose(encoder(jets.without(["SV"])).z, z, atol=1e-4)
    if pool == "mean":
        torch.testing.assert_close(z, jets.mean(encoder(jets).tokens))


def test_statistics_are_of_the_elements_that_are_there(jets: Jets) -> None:
    encoder = encoder_of(jets)
    assert encoder.collections is not None
    described = {one["name"]: one for one in encoder.collections.describe()}
    log = jets.collections["SV"].column("pt").log()
    log = log[log.isfinite()]
    assert len(log) == 12
    assert described["SV.pt"]["mean"] == pytest.approx(float(log.mean()), rel=1e-5)
    assert described["SV.pt"]["std"] == pytest.approx(float(log.std(correction=0)), rel=1e-5)
    encoder.reads_collections = False
    fresh = random_like(encoder, 5)
    assert fresh.collections is not None
    assert not fresh.reads_collections  # a baseline reads no more than the encoder
    assert fresh.collections.describe() == encoder.collections.describe()


def test_elements_are_hidden_with_the_share_of_particles_and_the_mark_of_a_missing_collection_stays(jets: Jets) -> None:
    many = concatenate([jets] * 200)
    hidden = many.jet_of_particle % 8 == 2  # all particles of each third jet
    torch.manual_seed(0)
    half = hidden | (torch.rand(len(hidden)) < 0.5) & (many.jet_of_particle % 8 == 4)
    seen = visible(many, half)
    assert seen.particles.equal(many.particles[~half])
    lengths = seen.collections["SV"].lengths.view(200, 8)
    assert lengths[:, 2].tolist() == [0] * 200
    assert lengths[:, [0, 1, 3, 5, 6, 7]].equal(many.collections["SV"].lengths.view(200, 8)[:, [0, 1, 3, 5, 6, 7]])
    assert float(lengths[:, 4].float().mean()) == pytest.approx(1.5, abs=0.2)
    marks = Jets(torch.full((1600, 4), torch.nan), torch.arange(1601), tuple(VERTEX))
    marked = visible(replace(many, collections={"SV": marks}), torch.ones_like(hidden))
    assert marked.collections["SV"].lengths.tolist() == [1] * 1600


def test_hidden_elements_cost_no_random_numbers_without_collections(jets: Jets) -> None:
    plain = jets.without(["SV", "train"])
    torch.manual_seed(0)
    visible(plain, torch.zeros(len(plain.particles), dtype=torch.bool))
    hide_inputs(plain, 0.5)
    after = torch.rand(())
    torch.manual_seed(0)
    torch.rand((4,), dtype=torch.float64)
    torch.manual_seed(0)
    for _ in range(4):
        torch.rand((), dtype=torch.float64)
    assert torch.equal(torch.rand(()), after)


def test_each_collection_is_a_group_of_hidden_inputs(jets: Jets) -> None:
    torch.manual_seed(0)
    seen = [tuple(hide_inputs(jets, 0.5).collections) for _ in range(100)]
    assert set(seen) == {(), ("SV",), ("train",), ("SV", "train")}
    assert tuple(hide_inputs(jets, 0.0).collections) == ("SV", "train")


@pytest.mark.parametrize("name", ["rotate", "reflect", "boost", "shift"])
def test_elements_move_with_their_jet(name: str, jets: Jets) -> None:
    """A vertex in the place of a particle, with its pt, is there after the move as well."""
    first = jets.offsets[:-1]
    columns = [jets.columns.index(column) for column in ("pt", "deta", "dphi")]
    twin = Jets(jets.particles[first][:, columns], torch.arange(9), ("pt", "deta", "dphi"))
    leptons = jets.collections["train"]
    moved = getattr(augment, name)(replace(jets, collections={"SV": twin, "train": leptons}), 0.7)
    torch.testing.assert_close(moved.collections["SV"].particles, moved.particles[first][:, columns])
    assert not moved.particles.equal(jets.particles)
    assert moved.collections["train"] is leptons  # without a direction


def test_other_augmentations_leave_elements_as_they_are(jets: Jets) -> None:
    still = Views(
        rotate=0, reflect=0, smear=0.3, drop=0.5, thin=0.3, split=0.5, resolution=0.2, beam=1, crop_region=0.2
    )
    view = make_view(jets, still)
    assert len(view.particles) != len(jets.particles)
    for name, part in jets.collections.items():
        assert view.collections[name].particles.nan_to_num(-9).equal(part.particles.nan_to_num(-9))
        assert view.collections[name].offsets.equal(part.offsets)


def test_finetuning_learns_from_the_collections_that_its_encoder_reads(jets: Jets) -> None:
    objective = Objective(FinetuneSettings(mode="full"), encoder_of(jets), CLASSES)
    loss = loss_of(objective, jets)
    loss.backward()
    for name, part in jets.collections.items():
        other = replace(part, particles=part.particles.roll(1, 0))
        changed = replace(jets, collections={**jets.collections, name: other})
        assert not torch.equal(loss_of(objective, changed), loss), name
    assert objective.encoder.collections is not None
    weights = [*objective.encoder.collections.embed.parameters(), objective.encoder.collections.missing["of_SV"]]
    assert all(weight.grad is not None and bool(weight.grad.any()) for weight in weights)


def test_finetuning_trains_on_the_z_that_the_model_then_has(jets: Jets) -> None:
    objective = Objective(FinetuneSettings(mode="head"), encoder_of(jets), CLASSES)
    seen: list[torch.Tensor] = []
    objective.tasks.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    loss_of(objective, jets)
    torch.testing.assert_close(seen[0], objective.exported()(jets, z_only=True).z.detach())
