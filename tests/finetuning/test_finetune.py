"""The modes of finetuning: what each changes, what it remembers, and which jets it holds out."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssl_jets.config import parse_set
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.files import JetFile
from ssl_jets.data.loading.in_memory import MemoryStream
from ssl_jets.errors import DataError, UsageError
from ssl_jets.finetuning import finetune, resolve_finetune
from ssl_jets.finetuning.finetune import with_steps
from ssl_jets.finetuning.setup import count_targets, open_labelled
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model, load_model, save_model
from ssl_jets.nn.encoder import random_like
from ssl_jets.pretraining import resolve_pretrain
from ssl_jets.runtime.signals import Interrupted
from support.finetune_settings import QUICK, settings_of, sources
from support.interrupting import raise_at
from support.overridden import overridden


def weights(model: Model) -> dict[str, Tensor]:
    return model.encoder.state_dict()


def same_weights(a: Model, b: Model) -> bool:
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


@pytest.mark.parametrize("key", ["labelled", "unlabelled_ratio"])
def test_settings_of_streams_of_pretraining_are_refused(pretrained: Path, class_files: list[JetFile], key: str) -> None:
    with pytest.raises(UsageError, match="belongs to pretraining") as caught:
        settings_of(pretrained, class_files[:2], f"data.{key}=0.5")
    assert caught.value.where == f"data.{key}"


def test_a_penalty_on_whole_weights_is_refused_with_sharded_ones(pretrained: Path, class_files: list[JetFile]) -> None:
    with pytest.raises(UsageError, match="whole weights") as caught:
        settings_of(pretrained, class_files, "method.l2_sp=0.1", "train.strategy=fsdp")
    assert caught.value.hint == "train.strategy=ddp"


@pytest.mark.parametrize(("labels", "jets"), [("null", 3 * 16), ("10", 3 * 10)])
def test_a_probe_leaves_the_encoder_and_adds_a_head(
    pretrained: Path, class_files: list[JetFile], batch: Jets, tmp_path: Path, labels: str, jets: int
) -> None:
    settings = settings_of(pretrained, class_files[:2], "method.mode=probe", f"method.labels={labels}")
    before, after = load_model(pretrained), load_model(finetune(settings, tmp_path / "r"))
    assert same_weights(before, after)
    assert before.head is None
    assert after.head is not None
    assert after.labels == class_files[0].label_names
    assert after.training["jets"] == jets
    logits = after.head(after.encoder(batch).z)
    assert logits.shape == (len(batch), 10)
    assert logits.isfinite().all()


def test_a_probe_learns_to_tell_two_classes_apart(
    pretrained: Path, sample_files: list[JetFile], tmp_path: Path
) -> None:
    more = ("method.mode=probe", "method.labels=400", "train.steps=100", "train.batch_size=64", "train.lr=0.01")
    out = finetune(settings_of(pretrained, sample_files[:2], *more), tmp_path / "r")
    losses = [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 100
    assert losses[-1] < 0.69 < losses[0]


def test_full_changes_the_encoder_but_not_its_statistics(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    settings = settings_of(pretrained, class_files[:2], "method.mode=full", "method.labels=40")
    before, after = load_model(pretrained), load_model(finetune(settings, tmp_path / "r"))
    changed = {name for name, value in weights(after).items() if not torch.equal(value, weights(before)[name])}
    assert {name for name in weights(before) if name.startswith("transformer")} <= changed
    assert not any(name.startswith("features") for name in changed)
    for name, value in weights(after).items():
        assert (value - weights(before)[name]).abs().max() < 0.05  # it starts from what was pretrained


def test_scratch_starts_from_other_weights_of_the_same_network(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    more = ("method.mode=scratch", "method.labels=40", "train.lr=1e-12", "train.seed=5")
    before = load_model(pretrained)
    after = load_model(finetune(settings_of(pretrained, class_files[:2], *more), tmp_path / "r"))
    start = random_like(before.encoder, 5).state_dict()
    for name, value in weights(after).items():
        torch.testing.assert_close(value, start[name], atol=1e-6, rtol=0)
    assert not torch.allclose(after.encoder.extra_tokens, before.encoder.extra_tokens, atol=1e-3)
    assert after.encoder.cfg == before.encoder.cfg
    assert after.method == "scratch"


def test_the_model_remembers_the_files_of_both_trainings(
    pretrained: Path, sample_files: list[JetFile], tmp_path: Path
) -> None:
    settings = settings_of(pretrained, sample_files[1:3], "method.mode=probe", "method.labels=40")
    facts = load_model(finetune(settings, tmp_path / "r")).facts
    assert facts["method"] == "mae"
    training = facts["training"]
    assert training["files"] == sorted(list(file.identity) for file in sample_files[:3])
    assert (training["mode"], training["labelled_jets"], training["jets_per_epoch"]) == ("probe", 40, 40)
    assert training["pretrained"]["sha256"] == load_model(pretrained).sha256
    assert training["pretrained"]["files"] == sorted(list(file.identity) for file in sample_files[:2])


def test_scratch_has_seen_only_its_own_files(pretrained: Path, class_files: list[JetFile], tmp_path: Path) -> None:
    more = ("method.mode=scratch", "method.labels=40", "train.steps=1")
    training = load_model(finetune(settings_of(pretrained, class_files[1:3], *more), tmp_path / "r")).facts["training"]
    assert training["files"] == sorted(list(file.identity) for file in class_files[1:3])


def test_by_default_the_jets_held_out_are_those_of_the_pretraining(
    pretrained: Path, sample_files: list[JetFile]
) -> None:
    ours = open_dataset(settings_of(pretrained, sample_files[:2]).data)
    layer = parse_set(["data.validation_fraction=0.2", "data.split_seed=7"])
    theirs = open_dataset(resolve_pretrain("mae", sources(sample_files[:2]), layer).data)
    assert (ours.train, ours.held_out) == (theirs.train, theirs.held_out)
    other = open_dataset(settings_of(pretrained, sample_files[:2], "data.split_seed=8").data)
    assert other.held_out != theirs.held_out


def test_the_encoder_is_that_of_the_pretrained_model(pretrained: Path, sample_files: list[JetFile]) -> None:
    assert settings_of(pretrained, sample_files[:2]).model.size == "tiny"
    with pytest.raises(UsageError, match="encoder is taken from the pretrained model"):
        settings_of(pretrained, sample_files[:2], "model.size=small")


def test_epochs_become_steps_of_all_processes_and_at_least_some(pretrained: Path, class_files: list[JetFile]) -> None:
    more = ("train.steps=null", "train.epochs=2", "method.min_steps=3", "train.accumulate=2")
    data = open_dataset(settings_of(pretrained, class_files[:2]).data)

    def steps(mode: str, jets: int, world: int = 1) -> int | None:
        fabric: Any = SimpleNamespace(world_size=world)
        settings = settings_of(pretrained, class_files[:2], *more, f"method.mode={mode}")
        return with_steps(settings, data, jets, fabric).train.steps

    assert [steps("head", jets) for jets in (16, 96, 97)] == [3, 6, 7]  # 2 x 96 jets in 2 batches of 16 a step
    assert steps("head", 96, world=2) == 3
    # Every process trains the heads of a probe on all jets, a batch a step.
    assert steps("probe", 96) == steps("probe", 96, world=2) == 12


def test_on_another_number_of_processes_a_finetuning_takes_the_epochs_that_are_left(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("train.steps=null", "train.epochs=2", "method.min_steps=1", "method.labels=96", "method.mode=head")
    settings, out = settings_of(pretrained, class_files[:2], *more), tmp_path / "r"
    with monkeypatch.context() as patch:
        raise_at(patch, 3, signal.SIGTERM, MemoryStream)
        with pytest.raises(Interrupted):
            finetune(settings, out)
    file = out / "checkpoints" / "last.ckpt"
    state = torch.load(file, weights_only=True)
    assert (state["step"], state["schedule"]["last"]) == (3, 12)
    # As if two processes had taken 3 of 6 steps: half of the jets are left, which are 6 steps of one process.
    of_two = {"steps": 6, "done": 0.0, "since": 0, "last": 6}
    torch.save({**state, "streams": state["streams"] * 2, "schedule": of_two}, file)
    assert load_model(finetune(settings, out, resume=True)).facts["training"]["steps"] == 3 + 6


def test_a_probe_that_is_resumed_logs_each_step_once(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    settings = settings_of(pretrained, class_files[:2], "method.mode=probe", "method.labels=40")
    out = finetune(settings, tmp_path / "r")
    first = load_model(out).sha256
    finetune(settings, out, resume=True)
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]
    assert load_model(out).sha256 == first


def test_resuming_from_another_model_is_refused(pretrained: Path, class_files: list[JetFile], tmp_path: Path) -> None:
    more = ("method.mode=probe", "method.labels=40")
    out = finetune(settings_of(pretrained, class_files[:2], *more), tmp_path / "r")
    settings = resolve_finetune(out / "model", stored=out / "config.yaml")
    with pytest.raises(UsageError, match="other settings") as caught:
        finetune(settings, out, resume=True)
    assert caught.value.found == "method.model"


def test_resuming_from_another_model_at_the_same_place_is_refused(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "model"
    shutil.copytree(pretrained / "model", place)
    settings = settings_of(place, class_files[:2], "method.labels=40", "method.l2_sp=1")
    with monkeypatch.context() as patch:
        raise_at(patch, 2, signal.SIGTERM, MemoryStream)
        with pytest.raises(Interrupted):
            finetune(settings, tmp_path / "r")
    shutil.rmtree(place)
    model = load_model(pretrained)
    model.encoder = random_like(model.encoder, 1)
    save_model(model, place)
    with pytest.raises(UsageError, match="not the one that the run began with"):
        finetune(settings, tmp_path / "r", resume=True)


def test_too_many_labels_leave_nothing_behind(pretrained: Path, class_files: list[JetFile], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be taken"):
        finetune(settings_of(pretrained, class_files[:2], "method.labels=1e6"), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_jets_without_labels_are_refused(pretrained: Path, write_jetclass: Any, tmp_path: Path) -> None:
    path = write_jetclass("unlabelled.root", label=None)
    settings = resolve_finetune(pretrained, {"data": {"sources": [str(path)]}}, parse_set(QUICK))
    with pytest.raises(DataError, match="needs labels"):
        finetune(settings, tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(("kind", "mode"), [("quantile", "probe"), ("gaussian", "full")])
def test_jet_columns_are_learned_from_files_without_labels(
    pretrained: Path, write_jetclass: Any, tmp_path: Path, kind: str, mode: str
) -> None:
    path = write_jetclass("none.root", 60, label=None)
    more = [f"method.mode={mode}", f"method.regression={kind}", "method.targets=[jet_pt,jet_sdmass/jet_pt]"]
    layers = {"data": {"sources": [str(path)]}}, overridden(QUICK, *more, "method.labels=0.5")
    model = load_model(finetune(resolve_finetune(pretrained, *layers), tmp_path / "r"))
    assert model.head is None
    assert model.regressor is not None
    assert (model.regressor.kind, model.regressor.levels) == (kind, (0.16, 0.5, 0.84))
    with torch.inference_mode():
        bands = model.regressor.bands(torch.zeros(1, 64))
    assert bands.shape == (1, 2, 3)
    assert 1 < float(bands[0, 0, 1]) < 2000  # GeV
    with pytest.raises(UsageError, match=r"try: +model\.regressed\(z\)"):
        model.probabilities(torch.zeros(1, 64).numpy())


def test_several_tasks_are_probed_at_once(pretrained: Path, class_files: list[JetFile], tmp_path: Path) -> None:
    more = ("method.mode=probe", "method.targets=[label,jet_sdmass]", "method.labels=60", "method.pool=mean")
    model = load_model(finetune(settings_of(pretrained, class_files[:2], *more), tmp_path / "r"))
    assert model.encoder.cfg.pool == "mean"
    assert model.head is not None
    assert model.regressor is not None
    assert float(model.regressor.targets.std[0]) != 1.0


def test_labels_are_taken_of_jets_with_a_target(pretrained: Path, write_jetclass: Any) -> None:
    def without_every_third_mass(branches: dict[str, Any]) -> None:
        branches["jet_sdmass"] = np.where(np.arange(60) % 3, branches["jet_sdmass"], np.nan)

    paths = [
        write_jetclass("QCD.root", 60, edit=without_every_third_mass),
        write_jetclass("none.root", 60, label=None, edit=without_every_third_mass),
    ]
    more = overridden(QUICK, "method.targets=[jet_sdmass]", "method.labels=50", "data.validation_fraction=0.1")
    settings = resolve_finetune(pretrained, {"data": {"sources": [str(path) for path in paths]}}, more)
    data, request, subset = open_labelled(settings)
    assert subset is not None
    assert len(subset) == 50
    assert bool(subset.jet["jet_sdmass"].isfinite().all())
    counts = count_targets(settings, data, request, subset)
    assert counts.used == 50
    # In proportion: as many of the unlabelled jets as of the class.
    assert subset.labels is not None
    assert int((subset.labels < 0).sum()) == pytest.approx(25, abs=2)
