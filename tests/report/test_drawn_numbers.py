"""What is drawn and printed is what was measured: CSVs of figures and cells of tables against the metrics."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from test_report import Page, read

from ssl_jets.evaluation.comparison import Similarity
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.metrics.classification import ClassificationMetrics, classification_metrics
from ssl_jets.evaluation.metrics.regression import regression_metrics
from ssl_jets.evaluation.probes.results import RobustnessCurve
from ssl_jets.evaluation.result import Evaluation, plain
from ssl_jets.report import page, write_evaluation_report
from ssl_jets.report.figures import evaluation as evaluation_figures
from ssl_jets.report.figures import physics as physics_figures
from ssl_jets.report.figures import training as training_figures
from ssl_jets.report.figures.style import in_text
from ssl_jets.report.numbers import HEAD, csv_of
from ssl_jets.report.sections.comparison import cka
from support.paths import ROOT
from support.report_folders import NAMES, write_evaluation

Rows = list[dict[str, Any]]


def rows_of(text: str) -> Rows:
    """The lines of a CSV, with numbers as such."""

    def cell(value: str) -> str | float:
        try:
            return float(value)
        except ValueError:
            return value

    found = [{name: cell(value) for name, value in row.items()} for row in csv.DictReader(text.splitlines())]
    assert all(row["series"] for row in found)
    return found


def column(rows: Rows, name: str) -> list[Any]:
    return [row[name] for row in rows]


def near(values: Any) -> Any:
    """Curves have five digits."""
    return pytest.approx(np.asarray(values, float).tolist(), rel=3e-4)


@pytest.fixture(scope="module")
def shown(run: Path, run_report: Path) -> SimpleNamespace:
    """Metrics and curves of the evaluation of the run, its page, and the CSV of each figure."""
    metrics, curves = (json.loads((run / "evaluation" / f"{name}.json").read_text()) for name in ("metrics", "curves"))
    files = (run / "figures").glob("evaluation-*.csv")
    drawn = {file.stem.removeprefix("evaluation-"): rows_of(file.read_text()) for file in files}
    evaluation = Evaluation.read(run / "evaluation")
    return SimpleNamespace(evaluation=evaluation, metrics=metrics, curves=curves, page=read(run_report), drawn=drawn)


def cells_after(found: Page, *cells: str) -> list[str]:
    """What follows these cells of a table."""
    places = range(len(found.cells))
    place = next(place for place in places if found.cells[place : place + len(cells)] == list(cells))
    return found.cells[place + len(cells) :]


def test_every_point_of_a_curve_has_its_interval(shown: SimpleNamespace) -> None:
    for curve in shown.curves["roc"]:
        rows = [row for row in shown.drawn["roc"] if row["series"] == curve["signal"]]
        assert {row["interval"] for row in rows} == {"x: 68 %"}
        assert column(rows, "x") == near(curve["signal_efficiency"])
        assert column(rows, "y") == near(1 / np.array(curve["background_efficiency"]))
        assert column(rows, "low") == near(curve["low"])
        assert column(rows, "high") == near(curve["high"])


def significance(labels: np.ndarray[Any, Any], weights: np.ndarray[Any, Any] | None = None) -> SimpleNamespace:
    """Metrics of jets of QCD (label 0) and S, with the rows of the CSV of their figure; None where there is none."""
    rng = np.random.default_rng(0)
    score = 1 / (1 + np.exp(-rng.normal(2 * labels, 1)))
    both = np.column_stack([1 - score, score])
    found = classification_metrics(both, labels, ("QCD", "S"), weights=weights, resamples=20)
    curves = {"roc": plain(found.roc, digits=5)}
    figure = physics_figures.sic(found)
    rows = None if figure is None else rows_of(csv_of(figure))
    scale = None if figure is None else figure.axes[0].get_yscale()
    plt.close("all")
    return SimpleNamespace(task=found, curves=curves, rows=rows, scale=scale)


def test_the_significance_is_that_of_the_table(shown: SimpleNamespace) -> None:
    found = significance(np.repeat([0, 1], (1100, 300)))
    assert found.scale == "linear"
    for curve, best in zip(found.curves["roc"], plain(found.task.significance), strict=True):
        rows = [row for row in found.rows if row["series"] == curve["signal"]]
        eps_b, eps_s, low, high = (
            np.array(curve[key]) for key in ("background_efficiency", "signal_efficiency", "low", "high")
        )
        drawn = eps_b >= curve["sic_from"]
        for name, values in (("y", eps_s), ("low", low), ("high", high)):
            assert column(rows, name) == near((values / eps_b**0.5)[drawn])
        assert max(column(rows, "y")) == near(best["improvement"]["value"])
    for best in shown.metrics["task"]["significance"]:
        shown_cells = cells_after(shown.page, in_text(best["signal"]), "50 %")
        assert shown_cells[3].split()[0] == page.significant(best["improvement"]["value"])


def test_with_weights_the_curve_begins_where_the_table_does() -> None:
    labels = np.repeat([0, 1], (1100, 400))
    weights = np.where(np.random.default_rng(1).random(1500) < 0.1, 20.0, 1.0)
    found = significance(labels, weights)
    assert 25 / 1100 < 2 * 25 / 1100 < found.curves["roc"][0]["sic_from"]
    best = found.task.significance[0].improvement.value
    assert max(column([row for row in found.rows if row["series"] == "S"], "y")) == near(best)


def test_few_background_jets_carry_no_curve_of_the_significance(shown: SimpleNamespace) -> None:
    few, enough = (significance(np.repeat([0, 1], (jets, 300))) for jets in (999, 1000))
    assert few.rows is None
    assert enough.rows is not None
    jets = shown.metrics["task"]["rejections"][0]["background_jets"]
    assert "sic" not in shown.drawn
    assert f"is not drawn: of q/g (QCD) there are {jets} jets, and a curve needs 1,000." in shown.page.text


def test_a_panel_of_many_curves_has_no_bands_and_the_csv_has_their_intervals() -> None:
    rng = np.random.default_rng(0)
    for classes in (4, 5):  # three and four curves
        labels = rng.integers(0, classes, 600)
        powers = np.exp(rng.normal(0.5 * np.eye(classes)[labels], 1))
        names = ["QCD", *(f"S{index}" for index in range(1, classes))]
        found = classification_metrics(powers / powers.sum(1, keepdims=True), labels, names, resamples=20)
        figure = evaluation_figures.roc(found)
        assert figure is not None
        bands = [mark for mark in figure.axes[0].collections if isinstance(mark, PolyCollection)]
        assert len(bands) == (3 if classes == 4 else 0)
        rows = rows_of(csv_of(figure))
        assert {row["interval"] for row in rows if row["series"] in names} == {"x: 68 %"}
        points = [row for row in rows if row["series"].endswith("working point")]
        assert {row["interval"] for row in points} == {"" if classes == 4 else "y: 68 %"}
        plt.close(figure)


def test_points_of_many_lines_stand_side_by_side_and_the_csv_has_their_true_places() -> None:
    accuracy = [Estimate(0.5, 0.4, 0.6, 0.3, 0.7)] * 2
    curve = RobustnessCurve("lost", "share", 0.0, (0.0, 0.5), accuracy, accuracy, 0.1)
    figure = physics_figures.robustness({name: [curve] for name in "abcd"})
    assert figure is not None
    lines = [line for line in figure.axes[0].get_lines() if line.get_label() in list("abcd")]
    left = [line.get_transform().transform((0.0, 0.5))[0] for line in lines]
    assert all(after > before for before, after in pairwise(left))
    assert {row["x"] for row in rows_of(csv_of(figure)) if row["series"] in list("abcd")} == {0.0, 0.5}
    plt.close(figure)


def with_confusion(counts: list[list[float]]) -> ClassificationMetrics:
    """Metrics of three classes with this confusion matrix."""
    labels = np.arange(30) % 3
    metrics = classification_metrics(np.full((30, 3), 1 / 3), labels, ("a", "b", "c"), resamples=2)
    return replace(metrics, confusion=np.array(counts, dtype=float))


def drawn_matrices(number: int, of_similarity: bool) -> Figure | None:
    """Draw the confusion matrices of some models, or the similarity of their z."""
    if not of_similarity:
        return evaluation_figures.confusions({name: with_confusion(np.eye(3).tolist()) for name in "ABC"[:number]})
    return cka([Similarity(*pair, Estimate(0.5, 0.4, 0.6, 0.3, 0.7)) for pair in ("AB", "AC", "BC")])


@pytest.mark.parametrize(("number", "of_similarity"), [(3, False), (1, True)])
def test_a_colour_bar_is_as_high_as_its_matrix(number: int, of_similarity: bool) -> None:
    figure = drawn_matrices(number, of_similarity)
    assert figure is not None
    figure.draw_without_rendering()
    matrices = [axes for axes in figure.axes if axes.get_images()]
    assert len(matrices) == number
    for axes in matrices:
        (bar,) = axes.child_axes
        matrix, beside = axes.get_window_extent(), bar.get_window_extent()
        assert (beside.y0, beside.y1) == pytest.approx((matrix.y0, matrix.y1))
        assert beside.x0 > matrix.x1
    plt.close(figure)


def test_a_row_of_the_confusion_matrix_adds_up_to_all_jets_of_a_class(shown: SimpleNamespace) -> None:
    counts = np.array(shown.curves["confusion"])
    share = 100 * counts / counts.sum(axis=1, keepdims=True)
    expected = [(predicted, true, share[i, j]) for i, true in enumerate(NAMES) for j, predicted in enumerate(NAMES)]
    found = shown.drawn["confusion"]
    assert [(row["x"], row["y"]) for row in found] == [(x, y) for x, y, _ in expected]
    assert column(found, "value") == near([value for _, _, value in expected])


def test_a_class_of_small_weight_adds_up_to_100_per_cent_too() -> None:
    figure = evaluation_figures.confusion(with_confusion([[0.02, 0.08, 0], [3, 1, 0], [0, 0, 0]]))
    assert figure is not None
    assert column(rows_of(csv_of(figure)), "value") == near([20, 80, 0, 75, 25, 0, 0, 0, 0])
    plt.close(figure)


def test_bars_of_the_reliability_are_binomial(shown: SimpleNamespace) -> None:
    for key, series in (("reliability", "as the model says"), ("calibrated", "after temperature scaling")):
        points = shown.curves[key]
        jets, accuracy, confidence = (np.array(points[name], float) for name in ("jets", "accuracy", "confidence"))
        few = jets < evaluation_figures.BIN_JETS
        jets, accuracy, confidence = (values[~few] for values in (jets, accuracy, confidence))
        right = accuracy * jets + 1
        error = np.sqrt(right * (jets + 2 - right) / (jets + 2) ** 3)
        rows = [row for row in shown.drawn["reliability"] if row["series"] == series]
        assert column(rows, "x") == near(confidence)
        assert column(rows, "y") == near(accuracy)
        assert column(rows, "low") == near(accuracy - error)
        assert column(rows, "high") == near(accuracy + error)


def test_readers_have_their_names_and_both_intervals(shown: SimpleNamespace) -> None:
    readers = evaluation_figures.reader_rows(shown.evaluation)
    for panel, key in (("1: accuracy", "accuracy"), ("2: macro AUC (one-vs-one)", "auc")):
        rows = [row for row in shown.drawn["probes"] if row["panel"] == panel]
        expected = []
        for reader in readers:
            found = getattr(reader, key)
            expected += [(reader.name, "x: 95 %", found.value, found.low95, found.high95)]
            expected += [(reader.name, "x: 68 %", found.value, found.low, found.high)]
        assert [(row["y"], row["interval"]) for row in rows] == [found[:2] for found in expected]
        for index, name in enumerate(("x", "low", "high"), start=2):
            assert column(rows, name) == near([found[index] for found in expected])


def test_physics_quantities_are_drawn_and_printed_with_their_intervals(shown: SimpleNamespace) -> None:
    rows = shown.drawn["physics"]
    for row, found in zip(rows, shown.metrics["physics"], strict=True):
        explained = found["explained"]
        of = found["of"].removeprefix("z of ")
        assert (row["series"], row["interval"]) == (f"{found['reader']}, {of}", "x: 95 %")
        assert row["y"] == found["quantity"]
        assert [row[name] for name in ("x", "low", "high")] == near(
            [explained[n] for n in ("value", "low95", "high95")]
        )
        cells = cells_after(shown.page, found["quantity"], f"{found['reader']}, {found['of']}")
        assert cells[0] == f"{explained['value']:.3f}"
        assert cells[1] == f"{explained['low']:.3f} to {explained['high']:.3f}"
        assert cells[2] == f"{explained['low95']:.3f} to {explained['high95']:.3f}"


def test_every_reader_of_a_quantity_is_in_the_legend(shown: SimpleNamespace) -> None:
    figure = physics_figures.physics(shown.evaluation.physics)
    assert figure is not None
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names == ["boosted trees, z", "ridge, z", "ridge, random weights"]  # from above, as in a row
    plt.close(figure)


def test_bias_and_resolution_are_drawn_and_printed_each_as_itself(shown: SimpleNamespace) -> None:
    ((found,), (curves,)) = shown.metrics["regression"], shown.curves["regression"]
    assert abs(found["bias"]["value"]) > 1.5 * found["resolution"]["value"]  # nobody could take one for the other
    cells = cells_after(shown.page, "mass", f"{found['jets']}")
    for cell, key in zip(cells, ("bias", "resolution")):
        value, low, high = (page.significant(found[key][which]) for which in ("value", "low", "high"))
        assert cell == f"{value} ({low} to {high})"
    assert cells[2:4] == [page.significant(found["spread"]), f"{found['explained']['value']:.3f}"]
    response = curves["responses"][0]
    for key in ("bias", "resolution"):
        for axis in ("x: bin", "y: 68 %"):
            rows = [row for row in shown.drawn["regression"] if (row["series"], row["interval"]) == (key, axis)]
            ends = [response["edges"][:-1], response["edges"][1:]]
            if axis == "y: 68 %":
                ends = [column(response[key], which) for which in ("low", "high")]
            assert set(column(rows, "panel")) == {"2: mass, against jet_pt"}
            assert column(rows, "x") == near(response["centre"])
            assert column(rows, "y") == near(column(response[key], "value"))
            assert [column(rows, which) for which in ("low", "high")] == [near(end) for end in ends]
    (spread,) = (row for row in shown.drawn["regression"] if row["series"] == "spread")
    assert (spread["x"], spread["y"]) == ("", near(found["spread"]))
    assert sum(column([row for row in shown.drawn["regression"] if row["series"] == "jets"], "value")) == found["jets"]


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_predictions_beyond_all_true_values_are_drawn_at_the_edge(offset: float) -> None:
    true = np.random.default_rng(0).normal(100, 10, 60)
    found = regression_metrics(true + offset, true, "mass", {}, resamples=10)
    assert np.sum(found.density.counts) == 60
    empty = replace(found, density=replace(found.density, counts=np.zeros((60, 60))))
    for entry in (found, empty):
        figure = physics_figures.regression([entry])
        assert figure is not None
        figure.draw_without_rendering()
        plt.close(figure)


def test_changed_jets_have_their_intervals_and_the_guess_of_the_largest_class(shown: SimpleNamespace) -> None:
    for curve in shown.metrics["robustness"]:
        rows = [row for row in shown.drawn["robustness"] if curve["name"] in row["panel"]]
        points = [row for row in rows if row["series"] == "accuracy"]
        places = ["with", "without"] if curve["unit"] == "removed" else curve["strengths"]
        assert column(points, "x") == places
        for name, key in (("y", "value"), ("low", "low"), ("high", "high")):
            assert column(points, name) == near(column(curve["accuracy"], key))
        (guess,) = (row for row in rows if row["series"] == "largest class")
        assert guess["y"] == near(curve["largest_class"])


def test_a_probe_stands_beside_the_guess_of_the_largest_class(shown: SimpleNamespace) -> None:
    task = replace(shown.evaluation.task, largest_class=0.9)
    figure = evaluation_figures.probes(shown.evaluation.model_copy(update={"task": task}))
    assert figure is not None
    panel = figure.axes[0]
    levels = [line.get_xdata() for line in panel.get_lines() if line.get_linestyle() == ":"]
    of_probes = shown.metrics["probes"][0]["largest_class"]
    assert np.asarray(levels[0]).tolist() == near([0.9] * 2 + [of_probes] * 8)
    assert [text.get_text() for text in panel.texts] == ["largest class"]
    plt.close(figure)


def test_a_map_says_which_point_is_of_which_class(shown: SimpleNamespace) -> None:
    assert set(column(shown.drawn["z_map"], "series")) == set(NAMES)
    assert len(shown.drawn["z_map"]) == len(shown.curves["map"]["x"])


def test_what_is_no_part_of_the_loss_has_a_panel_of_its_own() -> None:
    values = {"loss_class": 1.0, "kind_loss": 2.0, "accuracy": 0.5, "sigma_class": 0.7, "lr": 1e-3}
    figure = training_figures.training([{"step": step, "kind": "train", "loss": 3.0, **values} for step in (1, 2)])
    assert figure is not None
    panels: dict[str, set[str]] = {}
    for row in rows_of(csv_of(figure)):
        panels.setdefault(row["panel"].partition(": ")[2], set()).add(row["series"])
    assert panels["part of the loss (training)"] == {"loss class", "kind loss"}
    assert panels["also logged (training)"] == {"accuracy", "sigma class"}
    plt.close(figure)


def test_a_quantity_with_one_number_has_no_panel() -> None:
    lines = [{"step": step, "kind": "train", "loss": 3.0, "lr": 1e-3} for step in (1, 2)]
    figure = training_figures.training([*lines, {"step": 2, "kind": "validation", "loss": 3.0, "rankme": 4.0}])
    assert figure is not None
    assert len(figure.axes) == 2
    assert {"lr", "training"} <= set(column(rows_of(csv_of(figure)), "series"))
    assert "rankme" not in column(rows_of(csv_of(figure)), "series")
    plt.close(figure)
    assert training_figures.training(lines[:1]) is None


def test_a_page_does_not_call_jets_unseen_that_were_seen(shown: SimpleNamespace, tmp_path: Path) -> None:
    assert "On 400 jets that the model has not seen in training." in shown.page.text
    leaked = read(write_evaluation_report(write_evaluation(tmp_path / "e", leaked=400))).text
    assert "not seen" not in leaked
    assert "On 400 jets of which the model has seen some or all in training." in leaked


def test_a_csv_has_the_columns_that_are_documented() -> None:
    text = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
    assert ", ".join(f"`{name}`" for name in HEAD) in text
