"""Of many classes figures show the best and the worst, tables and files all; memory grows with neither."""

import csv
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_jets.diagnostics.representation import representation_statistics
from ssl_jets.evaluation.metrics.bootstrap import BLOCK, Bootstrap
from ssl_jets.evaluation.metrics.classification import accuracy_and_auc_rows, classification_metrics
from ssl_jets.evaluation.probes.classes import tree_iterations
from ssl_jets.evaluation.result import Evaluation, InputFile, ZMap
from ssl_jets.report import write_evaluation_report
from ssl_jets.report.many_classes import shown_classes

CLASSES = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head of 64 classes, recognized the better the larger their number."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("many")
    labels = np.arange(20 * CLASSES) % CLASSES
    logits = rng.normal(size=(len(labels), CLASSES)) + (labels / 8)[:, None] * np.eye(CLASSES)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names, z = tuple(f"class{number:02d}" for number in range(CLASSES)), rng.normal(size=(len(labels), 4))
    Evaluation(
        folder=folder,
        model={"sha256": "", "method": "supervised", "dim": 4},
        files=[InputFile("jets.root", 1, len(labels), False, True)],
        classes=names,
        jets={"fit": 300, "test": len(labels)},
        left_out={},
        settings={"seed": 0, "robust_jets": 0},
        task=classification_metrics(probabilities, labels, names, resamples=4),
        probes=[],
        spread={"z": representation_statistics(torch.from_numpy(z))},
        map=ZMap.of(z, labels),
    ).write()
    return folder


def test_figures_show_twenty_classes_and_files_all(folder: Path) -> None:
    page = write_evaluation_report(folder).read_text()
    curves = json.loads((folder / "curves.json").read_text())
    assert np.shape(curves["confusion"]) == (CLASSES, CLASSES)
    with (folder / "figures" / "confusion.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert [(cell["true"], cell["classified_as"]) for cell in cells] == list(product(curves["classes"], repeat=2))
    assert [float(cell["jets"]) for cell in cells] == np.ravel(curves["confusion"]).tolist()
    with (folder / "figures" / "roc.csv").open() as file:
        assert {row["signal"] for row in csv.DictReader(file)} == set(curves["classes"]) - {"class00"}
    shown = shown_classes(Evaluation.read(folder).task)
    assert len(shown) == 20
    assert {"class00", "class63"} <= set(shown)  # the worst and the best
    assert "class32" not in shown
    assert "Of 64 classes, the figures of classification show the 20" in page
    assert page.count("class32") > 1  # in the tables


def test_pairs_computed_at_one_time_are_bounded() -> None:
    bootstrap = Bootstrap(300, 200)
    for classes in (10, 188, 400):
        blocks = list(bootstrap.blocks(classes**2))
        assert sum(map(len, blocks)) == 201
        assert max(map(len, blocks)) * max(classes**2, 300) <= max(BLOCK, classes**2)


def test_the_size_of_a_block_changes_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 12, 200)
    probabilities = rng.dirichlet(np.ones(12), 200)
    whole = accuracy_and_auc_rows(probabilities, labels, Bootstrap(200, 20))
    monkeypatch.setattr("ssl_jets.evaluation.metrics.bootstrap.BLOCK", 600)
    for one, other in zip(whole, accuracy_and_auc_rows(probabilities, labels, Bootstrap(200, 20)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_trees_of_up_to_twenty_classes_are_as_they_were_and_of_more_they_are_bounded() -> None:
    assert {tree_iterations(classes) for classes in (2, 10, 20)} == {100}
    assert tree_iterations(188) == tree_iterations(400) == 10
