"""Particle columns of a finetuning on files with other columns than those of the pretraining."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ssl_jets.config import ModelSettings
from ssl_jets.data.files import JetFile
from ssl_jets.data.loading.stream import ordered
from ssl_jets.finetuning import finetune
from ssl_jets.finetuning.setup import build_objective, describe_columns, open_labelled
from ssl_jets.jets import COLUMNS, Jets
from ssl_jets.model_file import Model, load_model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.features import FEATURES, Features
from support.finetune_settings import settings_of
from support.small_models import without_columns

KINEMATICS = ("pt", "deta", "dphi", "energy")
NEW = ("charge", "kind", "d0", "d0err", "dz", "dzerr")
KNOWN = torch.tensor([set(feature.needs) <= set(KINEMATICS) for feature in FEATURES])


@pytest.fixture(scope="module")
def kinematic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was pretrained on kinematics alone."""
    torch.manual_seed(0)
    encoder = Encoder(ModelSettings(size="tiny", blocks=1))
    encoder.features.mean.copy_(torch.arange(len(FEATURES)) * KNOWN)
    encoder.features.std.copy_(1 + torch.arange(len(FEATURES)) * KNOWN)
    folder = tmp_path_factory.mktemp("kinematic")
    facts = {"method": "mae", "training": {"columns": list(KINEMATICS), "steps": 1, "jets": 1, "seconds": 1.0}}
    save_model(Model(encoder, facts=facts), folder)
    return folder


@pytest.mark.parametrize("mode", ["probe", "head", "last-blocks", "lora", "distil"])
def test_an_encoder_whose_inputs_are_not_trained_reads_the_columns_of_its_pretraining(
    kinematic: Path, class_files: list[JetFile], mode: str
) -> None:
    assert set(NEW) < set(class_files[0].columns)
    settings = settings_of(kinematic, class_files[:2], f"method.mode={mode}")
    assert open_labelled(settings)[1].columns == KINEMATICS


def test_a_probe_records_these_columns_and_names_the_unused_ones(
    kinematic: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    settings = settings_of(kinematic, class_files[:2], "method.mode=probe", "method.labels=40", "train.steps=1")
    run = finetune(settings, tmp_path / "run")
    assert load_model(run).columns == KINEMATICS
    assert f"the encoder was trained without columns that the files have; they are not used: {', '.join(NEW)}" in (
        (run / "log.txt").read_text()
    )


@pytest.mark.parametrize("labels", ["40", "null"])
@pytest.mark.parametrize("mode", ["full", "scratch"])
def test_new_columns_of_a_trained_embedding_have_the_statistics_of_the_training_jets(
    kinematic: Path, class_files: list[JetFile], tmp_path: Path, mode: str, labels: str
) -> None:
    more = (f"method.mode={mode}", f"method.labels={labels}", "train.steps=1", "data.validation_fraction=0.1")
    settings = settings_of(kinematic, class_files[:2], *more)
    run = finetune(settings, tmp_path / "run")
    data, request, subset = open_labelled(settings)
    expected = Features()
    expected.fit_statistics([subset] if subset is not None else ordered(data.files, data.train, request))
    before, after = load_model(kinematic).encoder.features, load_model(run).encoder.features
    for name in ("mean", "std"):
        old, new, fitted = (getattr(features, name) for features in (before, after, expected))
        torch.testing.assert_close(new[~KNOWN], fitted[~KNOWN], rtol=1e-5, atol=1e-5)
        assert torch.equal(new[KNOWN], old[KNOWN])
    assert set(load_model(run).columns) == set(COLUMNS)
    assert (
        f"columns that the model was not trained with, and learns now: {', '.join(NEW)}\n"
        in (run / "log.txt").read_text()
    )


def test_columns_that_the_files_lack_are_named(kinematic: Path, class_files: list[JetFile], tmp_path: Path) -> None:
    model = load_model(kinematic)
    training = model.facts["training"] | {"columns": [*COLUMNS[:3], "gone"]}
    save_model(Model(model.encoder, facts={"method": "mae", "training": training}), tmp_path / "model")
    for mode in ("full", "probe", "scratch"):
        more = (f"method.mode={mode}", "method.labels=40", "train.steps=1")
        log = finetune(settings_of(tmp_path / "model", class_files[:2], *more), tmp_path / mode) / "log.txt"
        assert ("reads them as missing: gone" in log.read_text()) == (mode != "scratch")


def test_a_teacher_reads_the_columns_of_its_training_whatever_its_student_reads(
    kinematic: Path, class_files: list[JetFile], batch: Jets, tmp_path: Path
) -> None:
    # A student of all columns, as with `model.inputs` of its own.
    settings = settings_of(kinematic, class_files[:2], "method.mode=distil", "model.inputs=[columns]", "train.steps=1")
    assert set(open_labelled(settings)[1].columns or ()) == set(COLUMNS)
    objective = build_objective(settings, load_model(kinematic), class_files[0].label_names)
    objective.eval()
    term, z = objective.terms["teacher"], torch.randn(len(batch), objective.encoder.dim)
    assert torch.equal(term(objective, z, batch, 0.5), term(objective, z, without_columns(batch, *NEW), 0.5))
    assert not torch.equal(objective.encoder(batch).z, objective.encoder(without_columns(batch, *NEW)).z)
    run = finetune(settings, tmp_path / "run")
    assert set(load_model(run).columns) == set(COLUMNS)
    assert float(load_model(run).encoder.features.std[~KNOWN].sub(1).abs().min()) > 0


def test_columns_of_the_teacher_that_a_student_does_not_read_are_named(
    kinematic: Path, class_files: list[JetFile]
) -> None:
    settings = settings_of(kinematic, class_files[:2], "method.mode=distil", "model.inputs=[pt,deta,dphi]")
    data, request, _ = open_labelled(settings)
    assert request.columns == KINEMATICS[:3]
    (line,) = describe_columns(settings, load_model(kinematic), data, request.columns)
    assert line == "the teacher reads as missing the inputs that its student does not read: energy"
