"""Labelled and unlabelled jets in one loss: its parts, who sees what, and the method inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_jets.config import TrainSettings
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.loading.counting import Wanted
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets
from ssl_jets.methods.mae import MaskedAutoencoder
from ssl_jets.methods.semi_supervised import SemiSupervised
from ssl_jets.nn.observables import JetObservables
from ssl_jets.pretraining import build_method, resolve_pretrain
from ssl_jets.training.optimizer import make_optimizer, set_rates
from ssl_jets.training.run_setup import TrainingInputs, labelled_subset
from support.content_masks import chance_by_content
from support.small_models import CLASSES, tiny_encoder


def build(jets: Jets, **settings: Any) -> SemiSupervised:
    encoder = tiny_encoder(jets)
    torch.manual_seed(1)
    return SemiSupervised(SemiSupervised.Config(**settings), encoder, CLASSES)


def with_labels(jets: Jets, count: int) -> Jets:
    labels = torch.as_tensor(jets.labels).clone()
    labels[count:] = -1
    return replace(jets, labels=labels)


@pytest.mark.parametrize("progress", [0.0, 0.25])
def test_the_loss_is_that_of_the_labels_and_half_that_of_the_method_at_s_1(batch: Jets, progress: float) -> None:
    jets = with_labels(batch, 10)
    settings = {"mask_ratio": 0.3}
    method = build(jets, unlabelled_settings=settings, unlabelled_weight=(2.0, 0.0))
    mae = MaskedAutoencoder(MaskedAutoencoder.Config(**settings), method.encoder)
    mae.load_state_dict(method.method.state_dict())
    with chance_by_content():
        torch.manual_seed(0)
        loss = method(jets, progress)["loss"]
        torch.manual_seed(0)
        own = mae(jets, progress)["loss"]
    z = method.encoder(jets.select(torch.arange(10))).z
    log_p = method.tasks.head(z).log_softmax(1)  # type: ignore[misc]
    cross_entropy = -sum(log_p[jet, int(jets.labels[jet])] for jet in range(10)) / 10  # type: ignore[index]
    torch.testing.assert_close(loss, cross_entropy + (2 - 2 * progress) * own / 2)


def test_the_accuracy_is_of_the_classes_also_beside_a_method_with_an_accuracy_of_its_own(batch: Jets) -> None:
    method = build(batch, unlabelled="simclr")
    with torch.no_grad():
        parts = method(batch, 0.0)
        predicted = method.tasks.head(method.encoder(batch).z).argmax(1)  # type: ignore[misc]
    assert float(parts["accuracy"]) == pytest.approx(float((predicted == batch.labels).float().mean()))
    assert float(parts["unlabelled_accuracy"]) != float(parts["accuracy"])


def test_unlabelled_jets_teach_the_encoder_and_not_the_head(batch: Jets) -> None:
    method = build(batch)
    method(with_labels(batch, 0), 0.0)["loss"].backward()
    assert method.tasks.head is not None
    assert not any(parameter.grad.any() for parameter in method.tasks.head.parameters())  # type: ignore[union-attr]
    assert method.encoder.extra_tokens.grad.any()  # type: ignore[union-attr]
    assert method.weights.log_sigma is not None
    label, unlabelled = method.weights.log_sigma.grad.tolist()  # type: ignore[union-attr]
    assert label == 0.0
    assert unlabelled != 0.0


@pytest.mark.slow
def test_one_batch_is_learned_with_all_that_is_in_it(batch: Jets) -> None:
    jets = with_labels(batch.select(torch.arange(24)), 8)
    jets = jets.keep(jets.rank_by_pt() < 12)
    method = build(jets)
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    seen = []
    for step in range(120):
        torch.manual_seed(0)
        parts = method(jets, step / 120)
        optimizer.zero_grad()
        parts["loss"].backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        method.after_step((step + 1) / 120)
        seen.append({name: float(value.detach()) for name, value in parts.items()})
    assert seen[-1]["accuracy"] == 1.0
    assert seen[-1]["loss_label"] < 0.1 * seen[0]["loss_label"]
    assert seen[-1]["loss_unlabelled"] < 0.6 * seen[0]["loss_unlabelled"]
    assert seen[-1]["sigma_label"] == pytest.approx(method.cfg.smallest_sigma)  # a label known by heart weighs no more


def test_the_steps_of_the_method_inside_are_taken(batch: Jets, monkeypatch: pytest.MonkeyPatch) -> None:
    method, seen = build(batch), []
    monkeypatch.setattr(method.method, "after_step", seen.append)
    method.after_step(0.25)
    assert seen == [0.25]


def test_the_learning_rates_of_the_method_inside_are_those_of_its_parameters(
    batch: Jets, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = build(batch)
    factors = {"encoder.embed": 0.5, "decoder": 0.0}
    monkeypatch.setattr(method.method, "lr_multipliers", lambda progress: factors)
    optimizer = make_optimizer(method, TrainSettings(lr=2.0))
    set_rates(optimizer, 2.0, method.lr_multipliers(0.0))
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in method.named_parameters():
        part = name.removeprefix("method.")
        assert rates[parameter] == next((2 * value for key, value in factors.items() if part.startswith(key)), 2), name


@pytest.mark.parametrize("apart", [False, True])
def test_the_method_inside_has_the_statistics_of_labelled_and_unlabelled_jets(
    write_jetclass: Callable[..., Path], tmp_path: Path, apart: bool
) -> None:
    """Ten labels of 50 jets of a file, without a second file and with one whose jets are harder."""

    def harder(branches: dict[str, Any]) -> None:
        for name in ("part_px", "part_py", "part_energy"):
            branches[name] = branches[name] * 3

    few = write_jetclass("few.root", 50)
    data: dict[str, Any] = {"sources": [str(few)], "unlabelled_ratio": 1, "labelled": 10, "validation_fraction": 0.1}
    if apart:
        data["unlabelled"] = [str(write_jetclass("others.root", 50, edit=harder))]
    method: dict[str, Any] = {"unlabelled": "bottleneck_mae", "targets": ["jet_sdmass"]}
    train = {"steps": 1, "batch_size": 8, "validation_jets": 4}
    layers = {"data": data, "method": method, "train": train, "model": {"size": "tiny", "z_tokens": 2, "z_width": 8}}
    settings = resolve_pretrain("semi_supervised", layers)
    files = open_dataset(settings.data)
    request = Request.of(settings.data, ("jet_sdmass",), weighted=True)
    subset = labelled_subset(files, request, Wanted(classes=True), settings.data.labelled, seed=0)
    assert subset is not None
    no_run: Any = None
    found = build_method(TrainingInputs(settings, files, request, subset, no_run, no_run, begins=True)).method
    assert isinstance(found, SemiSupervised)
    fitted, features = found.method.get_submodule("observables"), found.encoder.features
    alone, of_all = JetObservables(8), JetObservables(8)
    alone.fit_statistics([subset], features)
    of_all.fit_statistics([subset, *ordered(files.files, files.unlabelled, request)], features)
    torch.testing.assert_close(fitted.std, of_all.std, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(alone.std, of_all.std, rtol=0.02)
    # The targets are standardized by the labelled jets alone.
    assert found.tasks.regressor is not None
    values = subset.jet["jet_sdmass"].double()
    torch.testing.assert_close(
        found.tasks.regressor.targets.centre[0].double(), values.quantile(0.5), rtol=1e-4, atol=0
    )


def test_the_settings_of_the_method_inside_are_its_own() -> None:
    layer = {"method": {"unlabelled": "mae", "unlabelled_settings": {"mask_ratio": 0.6}, "targets": ["label", "m"]}}
    settings = resolve_pretrain("semi_supervised", layer)
    inside = settings.method.unlabelled_settings  # type: ignore[attr-defined]
    assert isinstance(inside, MaskedAutoencoder.Config)
    assert (inside.mask_ratio, inside.mask_tokens) == (0.6, 64)
    stored = settings.model_dump(mode="json")
    assert stored["method"]["unlabelled_settings"]["mask_ratio"] == 0.6
    assert resolve_pretrain("semi_supervised", stored) == settings


@pytest.mark.parametrize(
    ("method", "where"),
    [
        ({"unlabelled_settings": {"mask_ratoi": 0.6}}, "method.unlabelled_settings.mask_ratoi"),
        ({"unlabelled_settings": {"mask_ratio": 6}}, "method.unlabelled_settings.mask_ratio"),
        ({"unlabelled": "maee"}, "--method"),
        ({"unlabelled": "supervised"}, "method.unlabelled"),
        ({"targets": ["label", "label"]}, "method.targets"),
        ({"targets": ["a/b/c"]}, "method.targets"),
    ],
)
def test_wrong_settings_are_refused_by_their_full_name(method: dict[str, Any], where: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_pretrain("semi_supervised", {"method": method})
    assert caught.value.where == where


def test_the_nearest_setting_of_the_method_inside_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        resolve_pretrain("semi_supervised", {"method": {"unlabelled_settings": {"mask_ratoi": 0.6}}})
    assert caught.value.hint == "--set method.unlabelled_settings.mask_ratio=..."


def test_a_loss_that_can_be_negative_gets_no_uncertainty(batch: Jets) -> None:
    jets = with_labels(batch, 10)
    method = build(jets, unlabelled="nepa", unlabelled_weight=(3.0, 3.0))
    parts = method(jets, 0.0)
    assert "sigma_label" in parts
    assert "sigma_unlabelled" not in parts
    torch.testing.assert_close(parts["loss"].detach(), parts["loss_label"] + 3 * parts["loss_unlabelled"])
    assert "sigma_unlabelled" in build(jets, unlabelled="mae")(jets, 0.0)
