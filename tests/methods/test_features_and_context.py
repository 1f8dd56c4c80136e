"""Features and context of a schema in every method: read, hidden, predicted, and no way to the pt of the jet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from ssl_jets import methods
from ssl_jets.config import FeatureSettings, ModelSettings
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.encoder import Encoder, random_like
from ssl_jets.nn.masking import hide_inputs
from support.small_models import CLASSES, made_jets, without_columns

FEATURES = {
    "chi2": FeatureSettings(transform="log", target=True),
    "depth": FeatureSettings(unit="mm", transform="signed_log"),
    "hits": FeatureSettings(categories=(0, 1, 4), target=True),
}
CONTEXT = {"jet_pt": FeatureSettings(unit="GeV", transform="log"), "origin": FeatureSettings(categories=("pp", "ee"))}
MODEL = ModelSettings(
    size="tiny", blocks=1, inputs=("columns", *FEATURES, *CONTEXT), features=FEATURES, context=CONTEXT
)
SEES = {"supervised", "semi_supervised"}
PREDICTS = {"mae", "tokenizer", "diffusion_ae", "diffusion_mae", "semi_supervised"}
"""Methods whose decoder predicts targets; `semi_supervised` has `mae` inside."""

every_method = pytest.mark.parametrize("name", methods.names())


@pytest.fixture
def jets() -> Jets:
    """Jets with features, of which some values are missing, and their true pt as context."""
    plain = made_jets([5, 9, 12, 3, 20, 7, 1, 30])
    generator = torch.Generator().manual_seed(1)
    count = len(plain.particles)
    chi2 = torch.rand(count, generator=generator) * 3
    depth = torch.where(chi2 < 1, torch.nan, torch.randn(count, generator=generator))
    hits = torch.randint(0, 4, (count,), generator=generator).float()
    columns = torch.stack([chi2, depth, hits], dim=1)
    context = {"jet_pt": plain.sum(plain.column("pt")), "origin": torch.tensor([0.0, 1, 2, torch.nan, 0, 1, 0, 1])}
    return replace(
        plain,
        particles=torch.cat([plain.particles, columns], dim=1),
        columns=(*plain.columns, *FEATURES),
        context=context,
    )


def build(name: str, jets: Jets, model: ModelSettings = MODEL, seed: int = 1) -> Method:
    cls = methods.find(name)
    parts: dict[str, Any] = {part: build(part, jets, model, seed + 10) for part in cls.requires if part != "teacher"}
    if "teacher" in cls.requires:
        parts["teacher"] = build("mae", jets, model, seed + 10).encoder
    torch.manual_seed(seed)
    encoder = Encoder(model)
    encoder.fit_statistics([jets])
    method = cls(cls.Config(name=name), encoder, CLASSES, **parts)
    method.fit_statistics([jets])
    for module in method.modules():  # as after some training: the map of the context starts at zero
        if isinstance(module, Encoder) and module.context is not None:
            torch.nn.init.normal_(module.context.embed.weight)
    return method


def loss_of(method: Method, jets: Jets) -> torch.Tensor:
    torch.manual_seed(2)  # `mar` hides features in half of the batches, but not in this one
    return method(jets, 0.5)["loss"]


@every_method
def test_a_method_without_labels_never_learns_the_pt_of_the_jet_from_its_context(name: str, jets: Jets) -> None:
    method = build(name, jets)
    with_pt, without = loss_of(method, jets), loss_of(method, jets.without(["jet_pt", "origin"]))
    assert method.sees_context == (name in SEES)
    assert torch.equal(with_pt, without) == (name not in SEES)


@every_method
def test_the_loss_depends_on_features_and_trains_their_weights(name: str, jets: Jets) -> None:
    method = build(name, jets)
    loss = loss_of(method, jets)
    assert loss.isfinite()
    loss.backward()
    exported = method.exported()
    assert exported.features.declared is not None
    weights = [*exported.features.declared.tables.parameters(), exported.missing]
    if exported is method.encoder:
        assert all(weight.grad is not None and bool(weight.grad.any()) for weight in weights)
    other = jets.particles.clone()
    other[:, jets.columns.index("chi2")] = 1.0
    assert not torch.equal(loss_of(method, replace(jets, particles=other)), loss)


@every_method
def test_targets_are_predicted_where_the_decoder_can(name: str, jets: Jets) -> None:
    parts = build(name, jets)(jets, 0.5)
    assert ("target_loss" in parts) == (name in PREDICTS)
    plain = MODEL.model_copy(
        update={"features": {key: one.model_copy(update={"target": False}) for key, one in FEATURES.items()}}
    )
    assert "target_loss" not in build(name, jets, plain)(jets, 0.5)


@every_method
def test_a_batch_without_features_has_a_loss_too(name: str, jets: Jets) -> None:
    method = build(name, jets)
    loss = loss_of(method, jets.without([*FEATURES, *CONTEXT]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in method.parameters())


def test_targets_of_a_decoder_are_standardized_values_and_categories(jets: Jets) -> None:
    method = build("mae", jets)
    values, codes = method.encoder.features.declared_targets(jets)
    log = jets.column("chi2").log()
    expected = (log - log.mean()) / log.std(correction=0)
    torch.testing.assert_close(values[:, 0], expected, atol=1e-5, rtol=1e-5)
    assert codes[:, 0].tolist() == jets.column("hits").long().tolist()
    head = method.targets_out
    decoded = torch.randn(len(jets.particles), 64)
    output = head.out(decoded)
    entropy = torch.nn.functional.cross_entropy(output[:, 1:], codes[:, 0], reduction="none")
    error = ((output[:, 0] - expected).abs() + entropy) / 2
    torch.testing.assert_close(head.error(decoded, jets, method.encoder.features), error, atol=1e-5, rtol=1e-5)
    missing = jets.particles.clone()
    missing[:, jets.columns.index("hits")] = torch.nan
    alone = head.error(decoded, replace(jets, particles=missing), method.encoder.features)
    torch.testing.assert_close(alone, (output[:, 0] - expected).abs(), atol=1e-5, rtol=1e-5)


def test_z_depends_on_context_only_if_the_encoder_reads_it(jets: Jets) -> None:
    encoder = build("supervised", jets).encoder.eval()
    z, hidden = encoder(jets).z, encoder(jets.without(["jet_pt"])).z
    assert not torch.allclose(z, hidden, atol=1e-4)
    assert not torch.allclose(encoder(jets.without(["origin"])).z, z, atol=1e-4)
    assert torch.equal(encoder(jets.without(["origin"])).z[3], encoder(jets).z[3])  # its origin is missing anyway
    encoder.reads_context = False
    assert torch.equal(encoder(jets).z, encoder(jets.without(list(CONTEXT))).z)


def test_an_encoder_without_context_reads_none(jets: Jets) -> None:
    encoder = build("supervised", jets, ModelSettings(size="tiny")).encoder.eval()
    assert torch.equal(encoder(jets).z, encoder(jets.without([*FEATURES, *CONTEXT])).z)


def test_a_random_encoder_has_the_statistics_but_not_the_learned_vectors(jets: Jets) -> None:
    encoder = build("supervised", jets).encoder
    fresh = random_like(encoder, seed=5)
    assert encoder.features.declared is not None
    assert fresh.features.declared is not None
    assert torch.equal(fresh.features.declared.std, encoder.features.declared.std)
    assert not torch.equal(fresh.features.declared.tables[0].weight, encoder.features.declared.tables[0].weight)


def test_groups_of_inputs_are_hidden_with_their_probability(jets: Jets) -> None:
    assert hide_inputs(jets, 0.0).columns == jets.columns
    assert hide_inputs(jets, 1.0).columns == ("pt", "deta", "dphi", "energy")
    assert not hide_inputs(jets, 1.0).context
    torch.manual_seed(0)
    seen = [hide_inputs(jets, 0.25) for _ in range(400)]
    for column in ("d0", "kind", "chi2"):
        share = sum(column not in one.columns for one in seen) / 400
        assert share == pytest.approx(0.25, abs=0.07)
    assert sum(not one.context for one in seen) / 400 == pytest.approx(0.25, abs=0.07)
    assert {("d0" in one.columns, "chi2" in one.columns) for one in seen} == {(a, b) for a in (0, 1) for b in (0, 1)}
    assert all(("d0" in one.columns) == ("dzerr" in one.columns) for one in seen)
    plain = without_columns(jets, *FEATURES)
    assert hide_inputs(plain, 1.0).columns == ("pt", "deta", "dphi", "energy")


FROZEN = {"masked_tokens": "tokenizer", "next_token": "tokenizer", "salt": "teacher"}


@pytest.mark.parametrize("name", [name for name in methods.names() if methods.find(name).requires])
def test_targets_of_a_frozen_network_are_of_jets_with_all_inputs(name: str, jets: Jets) -> None:
    """A tokenizer that never missed a column gives other codes to jets without it."""
    method = build(name, jets)
    frozen = getattr(method, FROZEN[name])
    frozen = getattr(frozen, "encoder", frozen)
    columns: dict[Any, tuple[str, ...]] = {}
    for encoder in (frozen, method.encoder):
        encoder.register_forward_hook(lambda module, inputs, _: columns.update({module: inputs[0].columns}))
    assert method(jets, 0.5, 1.0)["loss"].isfinite()
    assert columns == {frozen: jets.columns, method.encoder: ("pt", "deta", "dphi", "energy")}
    method(jets.without(["d0"]), 0.5)  # a batch of which nothing is hidden is its own
    assert columns[frozen] == columns[method.encoder] == jets.without(["d0"]).columns
