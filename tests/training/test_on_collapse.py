"""Collapses are found within the first checks, healthy trainings are not flagged, and what is asked for is done."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ssl_jets.config import MethodSettings, TrainSettings
from ssl_jets.data.loading.in_memory import MemoryStream
from ssl_jets.diagnostics.collapse import ADVICE, Verdict
from ssl_jets.diagnostics.monitor import Diagnosis, Monitor, swapped_z
from ssl_jets.errors import SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.methods.mae import MaskedAutoencoder
from ssl_jets.methods.simclr import SimCLR
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.loop import fit
from ssl_jets.training.run_folder import TrainingRun
from support.collapsing import Alike, DeafDecoder, Shrinking, Taught
from support.small_models import CLASSES, tiny_encoder


def few_particles(jets: Jets) -> Jets:
    """The jets with their 10 hardest particles: quick to train on."""
    return jets.keep(jets.rank_by_pt() < 10)


def train(
    method: Method, jets: Jets, folder: Path, monitor: Any, *, resume: bool = False, **changes: Any
) -> TrainingRun:
    settings = TrainSettings(**({"steps": 80, "batch_size": 32, "precision": "32-true", "log_every": 1} | changes))
    run = TrainingRun(folder)
    if not resume:
        run.create(settings)
    stream = MemoryStream(jets, batch_size=settings.batch_size, seed=0)
    fit(method, stream, run, settings, fabric=make_fabric(settings), monitor=monitor, resume=resume)
    return run


def lines(run: TrainingRun, *kinds: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [line for line in found if line["kind"] in kinds]


def shrinking(jets: Jets) -> Shrinking:
    return Shrinking(MethodSettings(), tiny_encoder(jets, blocks=1))


def mae(jets: Jets) -> MaskedAutoencoder:
    return MaskedAutoencoder(MaskedAutoencoder.Config(), tiny_encoder(jets, blocks=1))


@pytest.fixture(scope="module")
def jets(sample_jets: Jets) -> Jets:
    return few_particles(sample_jets.select(torch.arange(300)))


@pytest.fixture(scope="module")
def held_out(sample_jets: Jets) -> Jets:
    return few_particles(sample_jets.select(torch.arange(300, 400)))


def test_a_method_that_collapses_is_stopped_within_the_first_checks(
    jets: Jets, held_out: Jets, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor = Monitor(held_out, 64, len(CLASSES))
    with pytest.raises(SslJetsError, match="the representation has collapsed") as caught:
        train(shrinking(jets), jets, tmp_path, monitor, validate_every=160, steps=160, on_collapse="stop")
    run = TrainingRun(tmp_path)
    looks = lines(run, "check", "validation")
    assert [line["step"] for line in looks] == [0, 20, 40, 80][: len(looks)]
    assert [line["collapse"] for line in looks[-2:]] == [["constant"], ["constant"]]
    assert caught.value.exit_code == 1
    assert "all jets have nearly the same z" in str(caught.value.found)
    assert f"step {looks[-1]['step']}" in str(caught.value.where)
    logged = capsys.readouterr().err
    assert f"warning: step {looks[-2]['step']}: all jets have nearly the same z" in logged
    assert f"try: {ADVICE['constant']}" in logged
    state = torch.load(run.checkpoint, weights_only=False)
    assert state["step"] == looks[-1]["step"]


def test_a_healthy_mae_is_not_flagged(jets: Jets, held_out: Jets, tmp_path: Path) -> None:
    monitor = Monitor(held_out, 64, len(CLASSES))
    run = train(mae(jets), jets, tmp_path, monitor, steps=40, validate_every=40, lr=5e-4, on_collapse="stop")
    looks = lines(run, "check", "validation")
    assert [line["step"] for line in looks] == [0, 10, 20, 40]
    assert not any("collapse" in line for line in looks)
    assert all(line["z_variation"] > 0.01 for line in looks)


def test_projections_that_become_alike_are_reported_whatever_z_does(jets: Jets, held_out: Jets, tmp_path: Path) -> None:
    found: dict[type[SimCLR], list[dict[str, Any]]] = {}
    for method in (SimCLR, Alike):
        monitor = Monitor(held_out, 64, len(CLASSES))
        settings = method.Config(projector_layers=1, observables_weight=0)
        made = method(settings, tiny_encoder(jets, blocks=1))
        run = train(made, jets, tmp_path / method.__name__, monitor, validate_every=80, lr=5e-3, steps=20)
        found[method] = lines(run, "check", "validation")
    assert not any("collapse" in line for line in found[SimCLR])
    assert ["collapse" in line for line in found[Alike]] == [False, True, True]
    assert found[Alike][-1]["collapse"] == ["constant-projection"]
    assert found[Alike][-1]["z_variation"] == pytest.approx(found[Alike][0]["z_variation"], rel=1e-4)


def test_a_decoder_that_ignores_z_is_reported_but_in_the_first_steps(jets: Jets, held_out: Jets) -> None:
    method = DeafDecoder(DeafDecoder.Config(), tiny_encoder(jets, blocks=1))
    monitor = Monitor(held_out, 64, len(CLASSES))
    validation = monitor.validate(method, 0.1)
    assert [verdict.name for verdict in validation.verdicts] == ["uninformative"]
    assert validation.metrics["z_swap_rise"] == pytest.approx(0, abs=1e-6)
    assert monitor.validate(method, 0.1, early=True).verdicts == []


@pytest.mark.slow
def test_a_loss_that_reads_z_rises_when_jets_swap_it(jets: Jets) -> None:
    method, monitor = mae(jets), Monitor(jets.select(torch.arange(32)), 32, 0)
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    for _ in range(120):
        torch.manual_seed(0)  # the mask of the look: few jets are learned by heart
        optimizer.zero_grad()
        method(monitor.jets, 0.0)["loss"].backward()
        optimizer.step()
    validation = monitor.validate(method, 0.5)
    assert validation.metrics["z_swap_rise"] > 0.1 * validation.metrics["loss"]
    assert validation.verdicts == []


def test_swapped_z_gives_every_jet_the_z_of_another_and_puts_all_back(batch: Jets) -> None:
    method = mae(batch).eval()
    plain = method.encoder(batch)
    with swapped_z(method):
        first, second = method.encoder(batch), method.encoder(batch)
    assert not torch.isclose(first.z, plain.z).all(1).any()
    torch.testing.assert_close(first.z.sort(0).values, plain.z.sort(0).values)
    assert not torch.equal(first.z, second.z)
    assert torch.equal(first.tokens, plain.tokens)
    with pytest.raises(ZeroDivisionError), swapped_z(method):
        raise ZeroDivisionError
    assert torch.equal(method.encoder(batch).z, plain.z)


@pytest.mark.parametrize(("momentum", "expected"), [(0.9, []), (1.0, ["teacher"])])
def test_a_teacher_that_stands_still_is_reported_until_it_may(
    jets: Jets, held_out: Jets, momentum: float, expected: list[str]
) -> None:
    method, monitor = Taught(tiny_encoder(jets, blocks=1), momentum), Monitor(held_out, 64, 0)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        method(jets, 0.0)["loss"].backward()
        optimizer.step()
        method.after_step(0.1)

    first = monitor.check(method, 0.0)
    assert first.metrics["teacher_distance"] == 0
    assert first.verdicts == []
    step()
    found = monitor.check(method, 0.1)
    assert [verdict.name for verdict in found.verdicts] == expected
    assert 0 < found.metrics["teacher_distance"] < 2
    assert monitor.check(method, 0.95).verdicts == []


def test_a_look_goes_on_from_its_state(jets: Jets, held_out: Jets) -> None:
    method = Taught(tiny_encoder(jets, blocks=1), 1.0)
    first, second = (Monitor(held_out, 64, 0) for _ in range(2))
    first.check(method, 0.1)
    second.load_state_dict(first.state_dict())
    assert [verdict.name for verdict in second.check(method, 0.1).verdicts] == ["teacher"]


def test_held_out_batches_are_mixtures_of_the_classes(sample_jets: Jets) -> None:
    assert sample_jets.labels is not None
    by_class = sample_jets.select(sample_jets.labels.argsort(stable=True))
    monitor = Monitor(by_class, 50, len(CLASSES))
    assert monitor.jets.labels is not None
    for part in monitor.jets.labels.split(50):
        assert len(part.unique()) >= 8


class Scripted:
    """A monitor that finds a collapse at the given times it is asked, and counts the looks."""

    def __init__(self, *collapsed: int) -> None:
        self.collapsed, self.asked = collapsed, 0

    def validate(self, method: nn.Module, progress: float, *, early: bool = False) -> Diagnosis:
        self.asked += 1
        return Diagnosis({"loss": 1.0}, [Verdict("constant", "scripted")] if self.asked in self.collapsed else [])

    check = validate

    def state_dict(self) -> dict[str, float]:
        return {}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        pass


SHORT: dict[str, Any] = {"steps": 12, "validate_every": 2, "lr": 1e-3, "warmup": 0.0, "final_lr": 1.0, "batch_size": 8}


def test_a_warning_changes_nothing(jets: Jets, tmp_path: Path) -> None:
    weights = []
    for name, monitor in (("a", Scripted()), ("b", Scripted(1, 2, 3, 4, 5, 6))):
        method = mae(jets)
        run = train(method, jets, tmp_path / name, monitor, **SHORT)
        weights.append(method.state_dict())
    assert [line["collapse"] for line in lines(run, "validation")] == [["constant"]] * 6
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_one_bad_look_is_not_acted_on(jets: Jets, tmp_path: Path) -> None:
    run = train(mae(jets), jets, tmp_path, Scripted(1, 3, 5), on_collapse="stop", **SHORT)
    assert lines(run, "train")[-1]["step"] == 12


def test_a_stopped_run_that_is_resumed_stops_at_its_next_bad_look(jets: Jets, tmp_path: Path) -> None:
    for resume, step in ((False, 4), (True, 6)):
        with pytest.raises(SslJetsError) as caught:
            train(mae(jets), jets, tmp_path, Scripted(1, 2), resume=resume, on_collapse="stop", **SHORT)
        assert f"step {step} " in str(caught.value.where)
    assert Counter(line["step"] for line in lines(TrainingRun(tmp_path), "validation")) == {2: 1, 4: 1, 6: 1}


def test_a_run_that_its_last_look_has_stopped_has_no_model_after_a_resume(jets: Jets, tmp_path: Path) -> None:
    for resume in (False, True):
        with pytest.raises(SslJetsError, match="the representation has collapsed"):
            train(mae(jets), jets, tmp_path, Scripted(5, 6), resume=resume, on_collapse="stop", **SHORT)
    train(mae(jets), jets, tmp_path, Scripted(), resume=True, on_collapse="warn", **SHORT)
