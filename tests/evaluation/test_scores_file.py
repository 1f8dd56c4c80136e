"""A scores file is evaluated as the model that wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ssl_jets
from ssl_jets.config import DataSettings, ModelSettings
from ssl_jets.data.files import open_files
from ssl_jets.data.sources import resolve_sources
from ssl_jets.embedding.inputs import PartOf
from ssl_jets.embedding.predictions import predict
from ssl_jets.errors import DataError, UsageError
from ssl_jets.evaluation.result import Evaluation
from ssl_jets.evaluation.scores import evaluate_scores
from ssl_jets.evaluation.settings import EvaluateSettings, MeasureSettings
from ssl_jets.evaluation.single_model import evaluate_model
from ssl_jets.evaluation.tables import summary_table
from ssl_jets.evaluation.zfile import weights_of_rows
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.regression import Regressor
from ssl_jets.zfile import ZFile
from support.few_trees import few_trees
from support.jetclass_files import CLASSES, jetclass_branches, write_tree

FAST = EvaluateSettings(
    evaluate=MeasureSettings(test_jets=400, fit_jets=200, physics_jets=0, robust_jets=0, deep_sets=False)
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    encoder = Encoder(ModelSettings(size="tiny", blocks=1))
    regressor = Regressor(encoder.dim, ["jet_sdmass"])
    folder = tmp_path_factory.mktemp("tagger")
    head = ClassHead(encoder.dim, len(CLASSES))
    save_model(Model(encoder, head, CLASSES[::-1], {"method": "mae"}, regressor=regressor), folder / "model")
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files of 400 jets of three classes."""
    folder, files = tmp_path_factory.mktemp("jets"), []
    for seed, label in enumerate(("Hbb", "Hcc", "QCD")):
        branches = jetclass_branches(400, label=label, seed=seed)
        branches["jet_eta"] = np.random.default_rng(seed).normal(0, 1, 400).astype(np.float32)
        files.append(str(write_tree(folder / f"{label}.root", {"tree": branches}, cluster=400)))
    return files


def numbers(task: Any) -> list[float]:
    """Return some numbers of a classification."""
    return [
        task.accuracy.value,
        task.auc.value,
        task.log_loss.value,
        *(found.rejection.value for found in task.rejections),
    ]


def test_probabilities_give_the_metrics_of_the_head(
    tmp_path: Path, model: Path, sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_jets.model.resolve_precision", lambda *_: "32-true")  # of `evaluate`, too
    keep = ["jet_sdmass", "jet_pt", "jet_eta"]
    predict([model], sources, tmp_path / "s.root", keep=keep, precision="32-true", log=lambda message: None)
    every = EvaluateSettings(evaluate=FAST.evaluate.model_copy(update={"test_jets": 50_000}))
    of_file = evaluate_scores(tmp_path / "s.root", tmp_path / "file", settings=every)
    with few_trees():
        of_model = evaluate_model(model, sources, tmp_path / "model", settings=every, device="cpu")
    assert of_file.task is not None
    assert of_file.classes == of_model.classes
    assert of_file.jets["task"] == of_model.jets["task"]
    assert numbers(of_file.task) == pytest.approx(numbers(of_model.task), rel=1e-4)
    (from_file,), (from_model,) = of_file.regression, of_model.regression
    assert from_file.bias.value == pytest.approx(from_model.bias.value, rel=1e-4)
    assert len(from_file.responses) == 2
    assert Evaluation.read(tmp_path / "file").task is not None


def test_the_verb_reads_scores_files_and_their_parts_and_reports(
    tmp_path: Path, model: Path, sources: list[str]
) -> None:
    settings = {"evaluate.test_jets": 400}
    for number in (1, 2):
        out = tmp_path / f"{number}.parquet"
        predict([model], sources, out, part=PartOf(number, 2), log=lambda message: None)
    predict([model], sources, tmp_path / "one.npz", log=lambda message: None)
    parts = ssl_jets.evaluate(z=[tmp_path / "1.parquet", tmp_path / "2.parquet"], out=tmp_path / "p", settings=settings)
    one = ssl_jets.evaluate(z=tmp_path / "one.npz", out=tmp_path / "o", settings=settings)
    assert numbers(parts.task) == numbers(one.task)  # type: ignore[union-attr]
    text = (tmp_path / "o" / "report.html").read_text(encoding="utf-8")
    assert "Classification by the model" in text
    assert "The space of z" not in text
    assert "head" in summary_table(one)  # type: ignore[arg-type]


def test_jets_that_were_trained_on_are_no_test_jets(tmp_path: Path, model: Path, sources: list[str]) -> None:
    from ssl_jets.model_file import load_model

    file = open_files(resolve_sources(sources[:1]))[0]
    trained = load_model(model)
    trained.facts["training"] = {"files": [list(file.identity)], "held_out": [[*file.identity, 100, 300]]}
    save_model(trained, tmp_path / "run" / "model")
    predict([tmp_path / "run"], sources[:2], tmp_path / "s.npz", log=lambda message: None)
    result = evaluate_scores(tmp_path / "s.npz", tmp_path / "e", settings=EvaluateSettings())
    assert result.jets["test"] == 200 + 400
    assert result.leaked == 0
    predict(
        [tmp_path / "run"],
        sources[:1],
        tmp_path / "seen.npz",
        part=PartOf(1, 11),
        batch_size=16,
        log=lambda message: None,
    )
    with pytest.raises(DataError, match="trained on all jets"):
        evaluate_scores(tmp_path / "seen.npz", tmp_path / "f", settings=EvaluateSettings())


def test_scores_of_some_classes_are_measured_on_the_jets_of_these_classes(tmp_path: Path, sources: list[str]) -> None:
    torch.manual_seed(0)
    encoder = Encoder(ModelSettings(size="tiny", blocks=1))
    names = ("QCD", "Hbb")  # in another order than in the files
    save_model(Model(encoder, ClassHead(encoder.dim, 2), names, {"method": "mae"}), tmp_path / "two" / "model")
    for name, files in ("all", sources), ("own", [sources[0], sources[2]]):
        predict([tmp_path / "two"], files, tmp_path / f"{name}.npz", log=lambda message: None)
    settings = EvaluateSettings()
    found = evaluate_scores(tmp_path / "all.npz", tmp_path / "a", settings=settings)
    own = evaluate_scores(tmp_path / "own.npz", tmp_path / "o", settings=settings)
    assert found.classes == names
    assert found.jets["task"] == own.jets["task"] == 800
    assert numbers(found.task)[:3] == pytest.approx(numbers(own.task)[:3], rel=1e-6)
    assert found.left_out == {"its class is none of the model": 400}
    assert "400 jets of classes that the model does not know are left out: Hcc" in found.notes
    torch.manual_seed(0)
    save_model(Model(encoder, ClassHead(encoder.dim, 2), ("a", "b"), {"method": "mae"}), tmp_path / "ab" / "model")
    predict([tmp_path / "ab"], sources, tmp_path / "ab.npz", log=lambda message: None)
    with pytest.raises(DataError, match="no class of the scores has a label") as caught:
        evaluate_scores(tmp_path / "ab.npz", tmp_path / "n", settings=settings)
    assert "predict --set data.labels" in str(caught.value.hint)


def test_a_jet_that_was_skipped_is_left_out_once(tmp_path: Path, model: Path, sources: list[str]) -> None:
    branches = jetclass_branches(70, label="QCD", seed=9)
    branches["label_QCD"][:5] = 0
    broken = write_tree(tmp_path / "data.root", {"tree": branches}, cluster=70)
    data = DataSettings(bad_jets="skip", where="jet_pt > 0")
    predict([model], [*sources, str(broken)], tmp_path / "s.npz", data=data, log=lambda message: None)
    found = evaluate_scores(tmp_path / "s.npz", tmp_path / "e", settings=EvaluateSettings())
    assert found.jets["task"] == 1265
    assert found.left_out == {"it belongs to no class, or to several": 5}
    assert "5 jets are left out: no finite prediction" in found.notes


def test_jets_without_a_label_are_counted(tmp_path: Path, model: Path, sources: list[str]) -> None:
    nameless = write_tree(tmp_path / "data.root", {"tree": jetclass_branches(70, label=None, seed=9)}, cluster=70)
    predict([model], [*sources, str(nameless)], tmp_path / "s.npz", log=lambda message: None)
    found = evaluate_scores(tmp_path / "s.npz", tmp_path / "e", settings=EvaluateSettings())
    assert found.jets["task"] == 1200
    assert found.left_out == {"no label": 70}
    assert "70 jets are left out: no label" in found.notes


def test_scores_of_one_class_have_no_metrics_of_the_head(tmp_path: Path, model: Path, sources: list[str]) -> None:
    """Nor has a true column with fewer jets than a bin of the response."""
    predict([model], sources[:1], tmp_path / "s.npz", keep=["jet_sdmass"], log=lambda message: None)
    found = evaluate_scores(tmp_path / "s.npz", tmp_path / "e", settings=EvaluateSettings())
    assert (found.task, found.classes, len(found.regression)) == (None, (), 1)
    assert "the jets to test on are of one class, Hbb, so nothing of classes is measured" in found.notes
    few = EvaluateSettings(evaluate=MeasureSettings(test_jets=19))
    lines: list[str] = []
    with pytest.raises(DataError, match="nothing to compare") as caught:
        evaluate_scores(tmp_path / "s.npz", tmp_path / "few", settings=few, log=lines.append)
    assert "19 jets to test on have jet_sdmass, fewer than 20, so the regression of it is not measured" in lines
    wanted = "jets of two classes with labels, or 20 jets with the true value of a regressed target"
    assert caught.value.hint == wanted
    predict([model], sources[:1], tmp_path / "no.npz", log=lambda message: None)
    with pytest.raises(DataError) as caught:
        evaluate_scores(tmp_path / "no.npz", tmp_path / "none", settings=EvaluateSettings())
    assert caught.value.hint == f"{wanted} (predict --keep jet_sdmass)"


def test_a_negative_weight_of_a_z_file_is_named_with_its_row() -> None:
    file = ZFile(np.zeros((3, 2), np.float32), {"w": np.array([1.0, -2.0, np.nan])})
    with pytest.raises(DataError, match="not negative") as caught:
        weights_of_rows(file, "w")
    assert (caught.value.where, caught.value.found) == ("column w, row 1", "-2; 2 of 3 rows")
    assert "`jets: {weight: {formula: abs(w)}}` in a schema, and --keep weight" in str(caught.value.hint)


def test_resuming_over_an_output_of_other_options_names_them(tmp_path: Path, model: Path, sources: list[str]) -> None:
    out = tmp_path / "s.npz"

    def resumed(files: list[str], **options: Any) -> None:
        predict([model], files, out, resume=True, log=lambda message: None, **options)

    resumed(sources[:1])
    resumed(sources[:1])
    for found, files, options in (
        ("--score", sources[:1], {"scores": ["D = Hbb / (Hbb + QCD)"]}),
        ("--temperature", sources[:1], {"temperatures": lambda: [2.0]}),
        ("--data, contents of the files", sources[1:2], {}),
        ("--keep", sources[:1], {"keep": ["jet_pt"]}),
    ):
        with pytest.raises(UsageError, match="of other options or files") as caught:
            resumed(files, **options)
        assert caught.value.found == found
