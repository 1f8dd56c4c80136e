"""Everything that trains is made on the device of the jets: shown on a pretended one (`pretended_device.py`)."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from ssl_jets import methods
from ssl_jets.config import TrainSettings
from ssl_jets.diagnostics.monitor import Monitor
from ssl_jets.finetuning.adaptation import DannTerm, DistanceTerm
from ssl_jets.finetuning.adaptation_settings import DannSettings, ReweightSettings
from ssl_jets.finetuning.modes.base import BatchList
from ssl_jets.finetuning.objective import Objective
from ssl_jets.finetuning.source_weights import SourceWeights
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.model import embed_jets
from ssl_jets.nn.augment import AUGMENTATIONS, Views, make_view
from ssl_jets.nn.domain.distance import SCALES, coral, mmd, sinkhorn
from ssl_jets.nn.masking import MaskStrategy, hide
from ssl_jets.nn.tasks import TaskSettings
from ssl_jets.training.fabric import Bf16Arithmetic
from ssl_jets.training.placement import gather_moments
from ssl_jets.training.run_folder import TrainingRun
from ssl_jets.training.state import TrainingState
from support.pretended_device import DeviceError, There, fabric_there, pretended_cuda, pretended_device
from support.small_models import build_method, made_jets, tiny_encoder

LABELS = ("QCD", "Hbb", "Tbqq")


@pytest.fixture(scope="module")
def jets() -> Jets:
    """24 jets of three files, some without a label."""
    made = made_jets([3, 5, 9, 9, 2, 30, 12, 12] * 3)
    number = torch.arange(len(made))
    return replace(
        made,
        labels=number % 4 - 1,
        source=torch.stack([number // 8, number % 8], 1),
        jet={"jet_sdmass": 80 + number.float(), "jet_pt": 500 + number.float()},
    )


@pytest.fixture
def device() -> Iterator[torch.device]:
    with pretended_device() as device:
        yield device


class Quiet(TrainingRun):
    """A run that keeps nothing."""

    def log_message(self, text: str) -> None:
        """Do nothing."""

    def log_metrics(self, record: Any) -> None:
        """Not logged."""


def train(method: Method, jets: Jets) -> list[float]:
    """Losses of two steps on the pretended device, with every look of the monitor."""
    settings = TrainSettings(steps=2, batch_size=len(jets), precision="32-true")
    stream = BatchList([jets, jets])
    monitor = Monitor(jets, len(jets), len(LABELS))
    state = TrainingState(method, stream, Quiet(Path(os.devnull)), settings, fabric_there(), monitor, ("a", "b", "c"))
    losses = [state.take_step()["loss"] for _ in range(2)]
    state.validate(whole=True)
    state.validate(whole=False)
    return losses


@pytest.mark.parametrize("name", methods.names())
def test_a_loss_and_its_gradient_are_the_same_there(name: str, jets: Jets, device: torch.device) -> None:
    method = build_method(name, jets, blocks=1)
    found = []
    for moved, batch in ((method, jets), (copy.deepcopy(method).to(device), jets.to(device))):
        torch.manual_seed(0)
        loss = moved(batch, 0.0)["loss"]
        loss.backward()
        gradients = [float(weight.grad.abs().sum()) for weight in moved.parameters() if weight.grad is not None]
        found.append([float(loss.detach()), *gradients])
    assert found[1] == pytest.approx(found[0], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", methods.names())
def test_a_loss_in_bf16_is_the_same_on_cuda(name: str, jets: Jets) -> None:
    method = build_method(name, jets, blocks=1)
    torch.manual_seed(0)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        here = float(method(jets, 0.3)["loss"])
    with pretended_cuda() as device:
        wrapped = fabric_there(Bf16Arithmetic("cuda")).setup_module(method)
        torch.manual_seed(0)
        there = float(wrapped(jets.to(device), 0.3)["loss"])
    assert there == pytest.approx(here, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", methods.names())
def test_methods_train_embed_and_generate_there(name: str, jets: Jets, device: torch.device) -> None:
    method = build_method(name, jets)
    method.fit_statistics([jets])
    assert all(loss == loss for loss in train(method, jets))
    z = embed_jets(method.exported(), jets, device=device, precision="32-true")
    assert not isinstance(z, There)
    if method.can_generate:
        assert isinstance(method.generate(2).particles, There)
    for ability in ("reconstruct", "interpolate", "complete"):
        if hasattr(method, ability):
            assert all(isinstance(made.particles, There) for made in use(method, ability, jets.to(device)))


def use(method: Any, ability: str, jets: Jets) -> list[Jets]:
    """Jets that only some methods can make."""
    if ability == "reconstruct":
        return [method.reconstruct(jets)]
    if ability == "interpolate":
        one, other = (jets.select(torch.tensor([row], device=jets.offsets.device)) for row in (5, 6))
        return list(method.interpolate(one, other, 2))
    return list(method.complete(jets, hide(jets, "random", 0.5), 1))


TERMS = {
    "none": lambda dim: {},
    "dann": lambda dim: {"domain": DannTerm(DannSettings(), dim, {2})},
    "coral": lambda dim: {"domain": DistanceTerm(coral, 10.0, {2})},
    "mmd": lambda dim: {"domain": DistanceTerm(partial(mmd, scales=SCALES), 1.0, {2})},
    "sinkhorn": lambda dim: {"domain": DistanceTerm(partial(sinkhorn, regularization=0.5), 1.0, {2})},
}


@pytest.mark.slow
@pytest.mark.usefixtures("device")
@pytest.mark.parametrize(
    ("adapt", "regression"),
    [("none", "mean"), ("dann", "quantile"), ("coral", "gaussian"), ("mmd", "mean"), ("sinkhorn", "mean")],
)
def test_finetuning_trains_there(adapt: str, regression: str, jets: Jets) -> None:
    encoder = tiny_encoder(jets, pool="attention", pair_bias=True)
    cfg = TaskSettings(targets=("label", "jet_sdmass"), regression=regression, class_weights="balanced")
    objective = Objective(cfg, encoder, LABELS, TERMS[adapt](encoder.dim))
    objective.fit_statistics([jets])
    objective.source_weights = SourceWeights(ReweightSettings(), encoder)
    assert all(loss == loss for loss in train(objective, jets))


@pytest.mark.parametrize("strategy", get_args(MaskStrategy))
def test_masks_are_drawn_there(strategy: MaskStrategy, jets: Jets, device: torch.device) -> None:
    assert isinstance(hide(jets.to(device), strategy, 0.5), There)


@pytest.mark.parametrize("name", [augmentation.__name__ for augmentation in AUGMENTATIONS])
def test_views_are_made_there(name: str, jets: Jets, device: torch.device) -> None:
    none = dict.fromkeys(Views.model_fields, 0.0)
    assert isinstance(make_view(jets.to(device), Views(**(none | {name: 0.5}))).particles, There)


def test_jets_come_back_and_are_waited_for(jets: Jets, device: torch.device) -> None:
    back = jets.to(device).to("cpu")
    assert torch.equal(back.particles, jets.particles)


@pytest.mark.usefixtures("device")
def test_moments_are_gathered_on_the_cpu(device: torch.device) -> None:
    numbers = torch.arange(6.0).view(2, 3)
    moments = {"exp_avg": numbers.to(device), "step": torch.tensor(3.0)}
    state = {"state": {0: moments}, "param_groups": [{"lr": 0.1}]}
    gathered = gather_moments(state, keep=True)
    assert {value.device.type for value in gathered["state"][0].values()} == {"cpu"}
    assert torch.equal(gathered["state"][0]["exp_avg"], numbers)
    assert gather_moments(state, keep=False) == {"state": {}, "param_groups": [{"lr": 0.1}]}


def test_the_pretended_device_refuses_as_a_real_one_would(device: torch.device) -> None:
    there = torch.arange(4.0, device=device)
    assert (there * torch.tensor(2.0))[torch.tensor([1, 3])].tolist() == [2.0, 6.0]
    with pytest.raises(DeviceError, match="two devices"):
        there + torch.arange(4.0)
    with pytest.raises(DeviceError, match="two devices"):
        torch.arange(4.0)[there.long()]
    with pytest.raises(DeviceError, match="waits for"):
        there.to("cpu", non_blocking=True)
