"""Targets of particles in finetuning, from the files of salt to scores of each track and metrics of its origin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from ssl_jets.cli.app import app
from ssl_jets.config import RunSettings
from ssl_jets.embedding.embed import embed
from ssl_jets.embedding.predictions import predict
from ssl_jets.errors import DataError, SslJetsError, UsageError
from ssl_jets.evaluation.result import Evaluation
from ssl_jets.evaluation.scores import evaluate_scores
from ssl_jets.evaluation.settings import EvaluateSettings
from ssl_jets.evaluation.single_model import evaluate_model
from ssl_jets.evaluation.tables import summary_table
from ssl_jets.finetuning import FinetuneSettings, finetune, resolve_finetune
from ssl_jets.finetuning.memory_plan import all_candidates
from ssl_jets.finetuning.particles import particle_targets
from ssl_jets.finetuning.setup import build_objective, open_labelled
from ssl_jets.model_file import load_model
from ssl_jets.nn.particles.heads import ParticleTarget
from ssl_jets.pretraining import pretrain, resolve_pretrain
from ssl_jets.report.sections.particles import of_particles
from ssl_jets.zfile import read_scores, read_z
from support.finetune_settings import QUICK
from support.overridden import overridden
from support.track_files import ORIGINS, PILEUP, PLACES, PRIMARY, track_arrays, write_tracks

JETS = 240
FAST = {"physics_jets": 0, "robust_jets": 0, "deep_sets": False, "fit_jets": 50}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with origins, the same with shuffled ones, and a model pretrained on the first."""
    folder = tmp_path_factory.mktemp("tracks")
    write_tracks(folder / "jets.h5", JETS)
    write_tracks(folder / "shuffled.h5", JETS, shuffled=True)
    layer = overridden(QUICK, "model.size=tiny", "model.blocks=2", "data.validation_fraction=0.2")
    pretrain(resolve_pretrain("mae", {"data": {"sources": [str(folder / "jets.h5")]}}, layer), folder / "mae")
    return folder


def settings_of(folder: Path, file: str = "jets.h5", *more: str) -> RunSettings[FinetuneSettings]:
    layer = overridden([*QUICK, "method.particle_targets=[origin, vertex]"], *more)
    return resolve_finetune(folder / "mae", {"data": {"sources": [str(folder / file)]}}, layer)


LEARN = ("train.steps=50", "train.batch_size=32", "train.lr=0.004", "train.validation_jets=60")


@pytest.fixture(scope="module")
def tuned(folder: Path) -> Path:
    return finetune(settings_of(folder, "jets.h5", *LEARN), folder / "tuned")


def last_validation(run: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "validation"][-1]


def test_origins_are_learned_beside_the_flavour_and_shuffled_ones_are_not(folder: Path, tuned: Path) -> None:
    metrics = last_validation(tuned)
    assert metrics["accuracy_origin"] > 0.8
    assert metrics["auc_origin"] > 0.85
    assert metrics["accuracy"] > 0.5
    model = load_model(tuned)
    assert model.head is not None
    assert model.particles is not None
    assert model.particles.targets == (ParticleTarget("origin", ORIGINS), ParticleTarget("vertex", groups=True))
    assert metrics["auc_vertex"] > 0.7
    assert not any("truth" in name for name in model.columns)
    card = (tuned / "model" / "README.md").read_text()
    assert f"Predictions of particles: origin ({', '.join(ORIGINS)}), vertex (groups)." in card
    log = (tuned / "log.txt").read_text()
    assert "target origin: pileup" in log
    assert "no particle of these jets is of class fake, fromBC, fromC, fromTau, otherSecondary" in log
    shuffled = finetune(settings_of(folder, "shuffled.h5", *LEARN), folder / "tuned-on-shuffled")
    assert last_validation(shuffled)["accuracy_origin"] < metrics["accuracy_origin"] - 0.2
    assert last_validation(shuffled)["auc_origin"] < 0.65


@pytest.mark.parametrize("suffix", [".root", ".parquet", ".h5", ".npz"])
def test_each_particle_has_its_scores_in_every_format(folder: Path, tuned: Path, suffix: str) -> None:
    out = folder / f"scores{suffix}"
    predict([tuned], [str(folder / "jets.h5")], out, level="particle", precision="32-true", log=lambda _: None)
    scores, arrays = read_scores(out), track_arrays(JETS)
    valid = arrays["valid"]
    np.testing.assert_array_equal(scores.columns["true_origin"], arrays["origin"][valid])
    np.testing.assert_array_equal(scores.columns["source_entry"], np.nonzero(valid)[0])
    np.testing.assert_array_equal(scores.columns["particle"], np.nonzero(valid)[1])
    p = np.stack([scores.columns[f"p_origin_{name}"] for name in ORIGINS], axis=1)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    assert (p.argmax(1) == arrays["origin"][valid]).mean() > 0.8
    assert scores.metadata["level"] == "particle"
    assert scores.metadata["scores"]["particle_targets"] == {"origin": list(ORIGINS), "vertex": []}
    np.testing.assert_array_equal(scores.columns["true_vertex"], arrays["vertex"][valid])
    joined = scores.columns["pred_vertex"]
    assert joined.dtype == np.int64
    assert (joined[arrays["vertex"][valid] == 0] >= 0).mean() > (joined[arrays["vertex"][valid] < 0] >= 0).mean()


def test_scores_have_the_rows_of_the_tokens(folder: Path, tuned: Path) -> None:
    embed(tuned, [str(folder / "jets.h5")], folder / "tokens.npz", level="particle", precision="32-true")
    predict([tuned], [str(folder / "jets.h5")], folder / "rows.npz", level="particle", precision="32-true")
    tokens, scores = read_z(folder / "tokens.npz", "particle"), read_scores(folder / "rows.npz")
    for name in ("source_file", "source_entry", "source_jet", "particle", "label"):
        np.testing.assert_array_equal(tokens.columns[name], scores.columns[name])


def test_a_long_jet_and_tracks_in_another_order_have_the_same_scores(folder: Path, tuned: Path) -> None:
    """Valid places in reversed order: each track keeps its label and its scores."""
    arrays = track_arrays(JETS)
    reversed_origin = arrays["origin"][:, ::-1]
    assert not np.array_equal(reversed_origin, arrays["origin"])
    with h5py.File(folder / "jets.h5") as file, h5py.File(folder / "reversed.h5", "w") as other:
        other["jets"] = file["jets"][:]
        tracks = file["tracks"][:]
        # One jet of 40 copies of all its places, beyond 256 tracks.
        other["tracks"] = np.concatenate([tracks[:, ::-1]] * 20, axis=1)
    options: dict[str, Any] = {"level": "particle", "precision": "32-true", "log": lambda _: None}
    predict([tuned], [str(folder / "reversed.h5")], folder / "long.npz", batch_size=16, **options)
    scores = read_scores(folder / "long.npz").columns
    valid = arrays["valid"]
    expected = np.concatenate([arrays["origin"][jet, ::-1][valid[jet, ::-1]] for jet in range(JETS) for _ in range(20)])
    np.testing.assert_array_equal(scores["true_origin"], expected)
    p = np.stack([scores[f"p_origin_{name}"] for name in ORIGINS], axis=1)
    assert np.bincount(scores["source_entry"]).max() > 256
    for jet in (0, 100):  # copies of one track have one prediction
        own = p[scores["source_entry"] == jet].reshape(20, -1, len(ORIGINS))
        np.testing.assert_allclose(own, own[:1].repeat(20, axis=0), atol=1e-4)


def test_an_evaluation_measures_the_origins_and_the_report_shows_them(folder: Path, tuned: Path) -> None:
    settings = EvaluateSettings.model_validate({"evaluate": FAST})
    log: list[str] = []
    result = evaluate_model(tuned, [str(folder / "jets.h5")], folder / "out", settings=settings, log=log.append)
    (origin,) = result.particle_classes
    assert origin.target == "origin"
    assert origin.accuracy.value == pytest.approx(last_validation(tuned)["accuracy_origin"], abs=0.08)
    assert origin.accuracy.low is not None
    assert origin.largest_class < origin.accuracy.value
    assert (origin.particles["fake"], origin.class_auc["fake"].value) == (0, None)
    assert origin.confusion.sum() == sum(origin.particles.values())
    (vertex,) = result.particle_groups
    assert vertex.auc.value is not None
    assert vertex.auc.value > 0.7
    again = Evaluation.read(folder / "out")
    assert again.particle_groups[0].purity == vertex.purity
    assert again.particle_classes[0].accuracy == origin.accuracy
    assert "classes of particles" in summary_table(again)
    assert "groups of particles" in summary_table(again)
    page = "\n".join(of_particles(again.particle_classes, again.particle_numbers, again.particle_groups))
    assert "Predictions of particles" in page
    assert "AUC of pairs" in page
    assert f"{sum(origin.particles.values()):,} particles of {origin.jets:,} jets have a label" in page


SCHEMA = """
extends: ftag_pt
particle_labels:
  pileup: {formula: tracks.ftagTruthOriginLabel == 0, classes: [primary, pileup]}
  size: {formula: abs(tracks.d0), unit: mm}
"""


@pytest.mark.parametrize("mode", ["head", "last-blocks", "full"])
def test_targets_of_particles_alone_with_classes_and_numbers_in_each_mode(
    folder: Path, tmp_path: Path, mode: str
) -> None:
    schema = tmp_path / "mine.yaml"
    schema.write_text(SCHEMA, encoding="utf-8")
    more = (
        f"data.format={schema}",
        "method.targets=[]",
        "method.particle_targets=[pileup, size]",
        f"method.mode={mode}",
    )
    run = finetune(settings_of(folder, "jets.h5", *more, "method.regression=quantile"), tmp_path / "run")
    assert {"accuracy_pileup", "auc_pileup", "bias_size", "resolution_size"} <= set(last_validation(run))
    model = load_model(run)
    assert (model.head, model.regressor) == (None, None)
    assert model.particles is not None
    assert [target.unit for target in model.particles.targets] == ["1", "mm"]
    out = tmp_path / "scores.npz"
    data = EvaluateSettings.model_validate({"data": {"format": str(schema)}}).data
    predict([run], [str(folder / "jets.h5")], out, level="particle", data=data, log=lambda _: None)
    columns = read_scores(out).columns
    arrays = track_arrays(JETS)
    size = np.abs(arrays["d0"])[arrays["valid"]]
    np.testing.assert_allclose(columns["true_size"], size, rtol=1e-5)
    assert (columns["pred_size_q16"] <= columns["pred_size_q84"]).all()
    with pytest.raises(SslJetsError, match=r"(?s)no head that predicts.*--level particle"):
        predict([run], [str(folder / "jets.h5")], tmp_path / "of-jets.npz", log=lambda _: None)


def test_missing_labels_are_masked_and_counted(folder: Path) -> None:
    origin = track_arrays(JETS)["origin"]
    origin[:, ::2] = 9  # of no class
    write_tracks(folder / "some.h5", JETS, origin=origin)
    run = finetune(settings_of(folder, "some.h5"), folder / "some")
    valid = track_arrays(JETS)["valid"]
    assert "have a value that belongs to no class" in (run / "log.txt").read_text()
    predict([run], [str(folder / "some.h5")], folder / "some.npz", level="particle", log=lambda _: None)
    true = read_scores(folder / "some.npz").columns["true_origin"]
    np.testing.assert_array_equal(true, np.where(origin > 7, -1, origin)[valid])


@pytest.mark.parametrize(
    ("file", "more", "message"),
    [
        ("jets.h5", ("method.particle_targets=[orign]",), r"(?s)no schema declares this label.*orign.*origin"),
        ("none.h5", (), r"(?s)no training file has the branches.*ftagTruthOriginLabel"),
        ("jets.h5", ("method.mode=probe",), r"(?s)need the tokens of each step.*--mode head"),
        ("jets.h5", ("method.probe_first=true",), r"(?s)need the tokens of each step.*probe_first"),
        ("jets.h5", ("method.targets=[]", "method.particle_targets=[]"), "there is a target"),
        ("jets.h5", ("method.particle_targets=[origin, origin]",), "each target is named once"),
        ("jets.h5", ("method.targets=[origin]",), "a target of jets and of particles at once"),
        ("jets.h5", ("method.targets=[]", "data.folds=3"), "out-of-fold scores are of jets"),
    ],
)
def test_a_target_that_cannot_be_learned_is_one_message(
    folder: Path, tmp_path: Path, file: str, more: tuple[str, ...], message: str
) -> None:
    write_tracks(folder / "none.h5", 40, names=None)
    with pytest.raises(UsageError, match=message):
        finetune(settings_of(folder, file, *more), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [(9, r"(?s)no particle has a label of the target origin.*belongs to no class"), (2, "are of one class")],
)
def test_a_target_that_all_jets_lack_or_that_has_one_class_is_refused(
    folder: Path, tmp_path: Path, value: int, message: str
) -> None:
    write_tracks(tmp_path / "jets.h5", JETS, origin=np.full((JETS, PLACES), value))
    layer = overridden([*QUICK, "method.particle_targets=[origin]"])
    settings = resolve_finetune(folder / "mae", {"data": {"sources": [str(tmp_path / "jets.h5")]}}, layer)
    with pytest.raises(DataError, match=message):
        finetune(settings, tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def test_predictions_of_particles_refuse_options_and_models_of_jets(folder: Path, tuned: Path, tmp_path: Path) -> None:
    data, out = [str(folder / "jets.h5")], tmp_path / "scores.npz"
    for options in ({"with_z": True}, {"scores": ["D = b"]}, {"temperatures": lambda: [1.0]}):
        with pytest.raises(UsageError, match="one of predictions of jets"):
            predict([tuned], data, out, level="particle", **options)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="one model predicts particles"):
        predict([tuned, tuned], data, out, level="particle")
    with pytest.raises(SslJetsError, match="no head that predicts particles"):
        predict([folder / "mae"], data, out, level="particle")
    assert not out.exists()


def test_without_targets_of_particles_nothing_changes(folder: Path) -> None:
    plain = settings_of(folder, "jets.h5", "method.particle_targets=[]")
    data, request, _ = open_labelled(plain)
    assert request.particle_labels == ()
    objective = build_objective(plain, load_model(folder / "mae"), data.label_names)
    assert objective.particles is None
    assert list(objective.weights.forms) == ["label"]


def test_a_resumed_run_ends_with_the_same_weights(folder: Path) -> None:
    more = ("train.steps=4", "train.checkpoint_minutes=0", "method.particle_class_weights=balanced")
    whole = finetune(settings_of(folder, "jets.h5", *more), folder / "whole")
    again = finetune(settings_of(folder, "jets.h5", *more, "train.steps=4"), folder / "again")
    for file in (again / "model").iterdir():
        file.unlink()
    (again / "model").rmdir()
    for file in sorted((again / "checkpoints").iterdir())[1:]:
        file.unlink()
    resumed = finetune(settings_of(folder, "jets.h5", *more), again, resume=True)
    assert load_model(resumed).sha256 == load_model(whole).sha256


def test_the_command_line_goes_from_inspect_to_scores_of_tracks(folder: Path, tuned: Path, tmp_path: Path) -> None:
    jets = str(folder / "jets.h5")
    result = CliRunner().invoke(app, ["inspect", jets])
    assert "particle labels:  origin, vertex" in result.stdout
    out = tmp_path / "tracks.parquet"
    command = ["predict", "--model", str(tuned), "--data", jets, "--out", str(out), "--level", "particle"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert result.stdout.strip().endswith(str(out))
    assert {PILEUP, PRIMARY} <= set(read_scores(out).columns["true_origin"].tolist())


def test_a_scores_file_of_particles_is_refused_by_evaluate_with_a_hint(folder: Path, tuned: Path) -> None:
    out = folder / "of-particles.npz"
    predict([tuned], [str(folder / "jets.h5")], out, level="particle", log=lambda _: None)
    with pytest.raises(UsageError, match=r"(?s)scores file of particles.*evaluate --model RUN"):
        evaluate_scores(out, folder / "refused")


def test_a_part_of_the_labels_another_domain_and_hidden_inputs_go_together(folder: Path) -> None:
    more = ("method.labels=0.5", "method.adapt=coral", f"data.unlabelled=[{folder / 'shuffled.h5'}]")
    run = finetune(settings_of(folder, "jets.h5", *more, "train.hide_features=1.0"), folder / "adapted")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "train"]
    assert all(np.isfinite([step["loss_origin"], step["loss_vertex"], step["loss_domain"]]).all() for step in steps)
    assert last_validation(run)["accuracy_origin"] > 0


def test_a_plan_measures_the_modes_with_these_heads(folder: Path) -> None:
    data, _, _ = open_labelled(settings_of(folder))
    (origin, vertex) = particle_targets(settings_of(folder), data)
    again = ParticleTarget(**json.loads(json.dumps(origin._asdict())))
    assert (again.name, tuple(again.classes)) == ("origin", origin.classes)
    assert vertex.groups
    modes = {candidate.mode for candidate in all_candidates(settings_of(folder))}
    assert "head" in modes
    assert "probe" not in modes
