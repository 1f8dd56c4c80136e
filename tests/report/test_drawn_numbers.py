"""Figures, their CSVs, and cells of tables show the measured numbers."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from test_report import Page, read

from ssl_jets.evaluation.comparison import Similarity
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.metrics.classification import ClassificationMetrics, classification_metrics
from ssl_jets.evaluation.metrics.regression import regression_metrics
from ssl_jets.evaluation.probes.results import RobustnessCurve
from ssl_jets.evaluation.result import Evaluation
from ssl_jets.report import page, write_evaluation_report
from ssl_jets.report.figures import evaluation as evaluation_figures
from ssl_jets.report.figures import physics as physics_figures
from ssl_jets.report.figures import training as training_figures
from ssl_jets.report.figures.style import axis_label, in_figure, in_text
from ssl_jets.report.numbers import csv_of, significance_points
from ssl_jets.report.sections.comparison import cka
from support.report_folders import NAMES, write_evaluation

Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def rows_of(text: str) -> Rows:
    """The lines of a CSV, with numbers as such; an empty cell is None."""

    def cell(value: str) -> str | float | None:
        try:
            return float(value)
        except ValueError:
            return value or None

    return [{name: cell(value) for name, value in row.items()} for row in csv.DictReader(text.splitlines())]


def line_of(axes: Axes, label: str) -> Line2D:
    (line,) = (line for line in axes.get_lines() if line.get_label() == label)
    return line


def bars_of(axes: Axes) -> list[Any]:
    """Ends of all bars of a panel, `[low, high]` of x and of y, in the order they were drawn."""
    marks = [mark for mark in axes.collections if isinstance(mark, LineCollection)]
    return [segment.T for mark in marks for segment in mark.get_segments()]


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
    bars = [axes for axes in figure.axes if axes.get_label() == "<colorbar>"]
    assert len(matrices) == len(bars) == number
    for axes, bar in zip(matrices, bars, strict=True):
        matrix, beside = axes.get_window_extent(), bar.get_window_extent()
        assert (beside.y0, beside.y1) == pytest.approx((matrix.y0, matrix.y1))
        assert beside.x0 > matrix.x1
    plt.close(figure)


@pytest.mark.parametrize("names", [tuple("abc"), tuple(f"a class of a long name {n}" for n in range(10))])
def test_no_letter_of_a_matrix_is_cut_off(names: tuple[str, ...]) -> None:
    labels = np.arange(30) % len(names)
    probabilities = np.full((30, len(names)), 1 / len(names))
    figure = evaluation_figures.confusion(classification_metrics(probabilities, labels, names, resamples=2))
    assert figure is not None
    figure.draw_without_rendering()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert 0 <= drawn.x0 < drawn.x1 <= width
    assert 0 <= drawn.y0 < drawn.y1 <= height
    plt.close(figure)


def test_every_reader_of_a_quantity_is_in_the_legend(shown: SimpleNamespace) -> None:
    figure = physics_figures.physics(shown.evaluation.physics)
    assert figure is not None
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names == ["boosted trees, z", "ridge, z", "ridge, random weights"]  # from above, as in a row
    plt.close(figure)


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


def test_a_probe_is_drawn_with_the_guess_of_the_largest_class(shown: SimpleNamespace) -> None:
    task = replace(shown.evaluation.task, largest_class=0.9)
    figure = evaluation_figures.probes(shown.evaluation.model_copy(update={"task": task}))
    assert figure is not None
    panel = figure.axes[0]
    levels = [line.get_xdata() for line in panel.get_lines() if line.get_linestyle() == ":"]
    of_probes = shown.metrics["probes"][0]["largest_class"]
    assert np.asarray(levels[0]).tolist() == near([0.9] * 2 + [of_probes] * 8)
    assert [text.get_text() for text in panel.texts] == ["largest class"]
    plt.close(figure)


def test_a_page_does_not_call_jets_unseen_that_were_seen(shown: SimpleNamespace, tmp_path: Path) -> None:
    assert "On 400 jets that the model has not seen in training." in shown.page.text
    leaked = read(write_evaluation_report(write_evaluation(tmp_path / "e", leaked=400))).text
    assert "not seen" not in leaked
    assert "On 400 jets of which the model has seen some or all in training." in leaked


def test_every_point_of_a_curve_has_its_interval(shown: SimpleNamespace) -> None:
    figure = evaluation_figures.roc(shown.evaluation.task)
    assert figure is not None
    bands = [mark for mark in figure.axes[0].collections if isinstance(mark, PolyCollection)]
    for curve, band in zip(shown.curves["roc"], bands, strict=True):
        rows = [row for row in shown.drawn["roc"] if row["signal"] == curve["signal"]]
        line = line_of(figure.axes[0], in_figure(curve["signal"]))
        assert column(rows, "signal_efficiency") == near(curve["signal_efficiency"])
        assert list(line.get_xdata()) == near(curve["signal_efficiency"])
        assert column(rows, "rejection") == near(1 / np.array(curve["background_efficiency"]))
        assert list(line.get_ydata()) == near(1 / np.array(curve["background_efficiency"]))
        assert column(rows, "signal_efficiency_low") == near(curve["low"])
        assert column(rows, "signal_efficiency_high") == near(curve["high"])
        edges = {round(float(x), 4) for x in band.get_paths()[0].vertices[:, 0]}
        assert {round(x, 4) for end in ("low", "high") for x in curve[end]} <= edges | {0.0}


def significance(labels: np.ndarray[Any, Any], weights: np.ndarray[Any, Any] | None = None) -> SimpleNamespace:
    """Metrics of jets of QCD (label 0) and S, with their figure, and the rows of its CSV."""
    rng = np.random.default_rng(0)
    score = 1 / (1 + np.exp(-rng.normal(2 * labels, 1)))
    both = np.column_stack([1 - score, score])
    task = classification_metrics(both, labels, ("QCD", "S"), weights=weights, resamples=20)
    rows = rows_of(csv_of(significance_points(task)))
    return SimpleNamespace(task=task, figure=physics_figures.sic(task), rows=rows)


def test_the_significance_is_that_of_the_table(shown: SimpleNamespace) -> None:
    found = significance(np.repeat([0, 1], (1100, 300)))
    assert found.figure.axes[0].get_yscale() == "linear"
    for curve, best in zip(found.task.roc, found.task.significance, strict=True):
        rows = [row for row in found.rows if row["signal"] == curve.signal]
        drawn = curve.background_efficiency >= curve.sic_from
        root = curve.background_efficiency**0.5
        for name, values in (("improvement", curve.signal_efficiency), ("low", curve.low), ("high", curve.high)):
            assert column(rows, name) == near((values / root)[drawn])
        assert max(column(rows, "improvement")) == near(best.improvement.value)
        line = line_of(found.figure.axes[0], curve.signal)
        assert column(rows, "improvement") == near(line.get_ydata())
        assert column(rows, "signal_efficiency") == near(line.get_xdata())
    for best in shown.metrics["task"]["significance"]:
        shown_cells = cells_after(shown.page, in_text(best["signal"]), "50 %")
        limit = "≥ " * best["improvement"]["limit"]  # at the tightest cut
        assert shown_cells[3].startswith(f"{limit}{page.significant(best['improvement']['value'])} ")


def test_with_weights_the_curve_begins_where_the_table_does() -> None:
    labels = np.repeat([0, 1], (1100, 400))
    weights = np.where(np.random.default_rng(1).random(1500) < 0.1, 20.0, 1.0)
    found = significance(labels, weights)
    assert 25 / 1100 < 2 * 25 / 1100 < found.task.roc[0].sic_from
    assert max(column(found.rows, "improvement")) == near(found.task.significance[0].improvement.value)


def test_few_background_jets_carry_no_curve_of_the_significance(shown: SimpleNamespace) -> None:
    few, enough = (significance(np.repeat([0, 1], (jets, 300))) for jets in (999, 1000))
    assert few.figure is None
    assert enough.figure is not None
    jets = shown.metrics["task"]["rejections"][0]["background_jets"]
    assert "sic" not in shown.drawn
    assert f"is not drawn: of q/g (QCD) there are {jets} jets, and a curve needs 1,000." in shown.page.text


def test_a_panel_of_many_curves_has_no_bands_and_few_have_no_bars() -> None:
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
        expected = [(point.rejection.low, point.rejection.high) for point in found.rejections] if classes == 5 else []
        assert [tuple(bar[1]) for bar in bars_of(figure.axes[0])] == [near(ends) for ends in expected]


def test_points_of_many_lines_stand_side_by_side_with_their_true_values() -> None:
    accuracy = [Estimate(0.5, 0.4, 0.6, 0.3, 0.7)] * 2
    curve = RobustnessCurve("lost", "share", 0.0, (0.0, 0.5), accuracy, accuracy, 0.1)
    figure = physics_figures.robustness({name: [curve] for name in "abcd"})
    assert figure is not None
    lines = [line_of(figure.axes[0], name) for name in "abcd"]
    true = figure.axes[0].transData.transform((0.0, 0.5))[0]
    points = [(line.get_transform().transform((0.0, 0.5))[0] - true) * 72 / figure.dpi for line in lines]
    assert points == pytest.approx([-6, -2, 2, 6])  # of any number of lines within 6 points
    bottom, top = figure.axes[0].get_ylim()
    assert bottom < 0.4 < 0.6 < top
    assert all(list(line.get_xdata()) == [0.0, 0.5] for line in lines)
    assert [tuple(bar[1]) for bar in bars_of(figure.axes[0])] == [(0.4, 0.6)] * 8


def test_the_csv_of_the_confusion_has_every_cell_and_rows_add_up_to_100_per_cent(shown: SimpleNamespace) -> None:
    counts = np.array(shown.curves["confusion"])
    rows = shown.drawn["confusion"]
    assert [(row["true"], row["classified_as"]) for row in rows] == [(true, name) for true in NAMES for name in NAMES]
    assert column(rows, "jets") == near(counts.ravel())
    assert column(rows, "percent") == near((100 * counts / counts.sum(axis=1, keepdims=True)).ravel())


def test_a_class_of_small_weight_adds_up_to_100_per_cent_too() -> None:
    figure = evaluation_figures.confusion(with_confusion([[0.02, 0.08, 0], [3, 1, 0], [0, 0, 0]]))
    assert figure is not None
    (image,) = figure.axes[0].get_images()
    assert np.asarray(image.get_array()).ravel().tolist() == near([20, 80, 0, 75, 25, 0, 0, 0, 0])


def test_bars_of_the_reliability_are_binomial(shown: SimpleNamespace) -> None:
    figure = evaluation_figures.reliability(shown.evaluation.task)
    ends = bars_of(figure.axes[0])
    for key, label in (("reliability", "before temperature scaling"), ("calibrated", "after temperature scaling")):
        bins = shown.curves[key]
        rows = [row for row in shown.drawn["reliability"] if row["temperature_scaling"] == label.split()[0]]
        for name in ("jets", "accuracy", "confidence"):
            assert column(rows, name) == near(bins[name])
        jets, accuracy, confidence = (np.array(bins[name], float) for name in ("jets", "accuracy", "confidence"))
        enough = jets >= evaluation_figures.BIN_JETS
        jets, accuracy, confidence = (values[enough] for values in (jets, accuracy, confidence))
        right = accuracy * jets + 1
        error = np.sqrt(right * (jets + 2 - right) / (jets + 2) ** 3)
        line = line_of(figure.axes[0], label)
        assert (list(line.get_xdata()), list(line.get_ydata())) == (near(confidence), near(accuracy))
        own, ends = ends[: len(jets)], ends[len(jets) :]
        assert [list(bar[1]) for bar in own] == [near(pair) for pair in zip(accuracy - error, accuracy + error)]
    assert ends == []


def test_readers_have_their_names_and_both_intervals(shown: SimpleNamespace) -> None:
    readers = evaluation_figures.reader_rows(shown.evaluation)
    figure = evaluation_figures.probes(shown.evaluation)
    assert figure is not None
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [reader.name for reader in readers]
    for panel, key in zip(figure.axes, ("accuracy", "auc")):
        estimates = [getattr(reader, key) for reader in readers]
        ends = [pair for one in estimates for pair in ((one.low95, one.high95), (one.low, one.high))]
        assert [list(bar[0]) for bar in bars_of(panel)] == [near(pair) for pair in ends]
        for name in ("low", "high", "low95", "high95"):
            assert column(shown.drawn["probes"], f"{key}_{name}") == near([getattr(one, name) for one in estimates])
        assert column(shown.drawn["probes"], key) == near([one.value for one in estimates])
    assert column(shown.drawn["probes"], "reader") == [reader.reader for reader in readers]


def test_physics_quantities_are_drawn_and_printed_with_their_intervals(shown: SimpleNamespace) -> None:
    figure = physics_figures.physics(shown.evaluation.physics)
    assert figure is not None
    ends = [list(bar[0]) for bar in bars_of(figure.axes[0])]
    for row, found, drawn in zip(shown.drawn["physics"], shown.metrics["physics"], ends, strict=True):
        explained = found["explained"]
        assert [row[name] for name in ("quantity", "reader", "of")] == [found[n] for n in ("quantity", "reader", "of")]
        assert row["explained"] == near(explained["value"])
        assert [row["explained_low95"], row["explained_high95"]] == near([explained["low95"], explained["high95"]])
        assert drawn == near([explained["low95"], explained["high95"]])
        cells = cells_after(shown.page, found["quantity"], f"{found['reader']}, {found['of']}")
        assert cells[0] == f"{explained['value']:.3f}"
        assert cells[1] == f"{explained['low']:.3f} to {explained['high']:.3f}"
        assert cells[2] == f"{explained['low95']:.3f} to {explained['high95']:.3f}"


def test_bias_and_resolution_are_drawn_and_printed_each_as_itself(shown: SimpleNamespace) -> None:
    ((found,), (curves,)) = shown.metrics["regression"], shown.curves["regression"]
    assert abs(found["bias"]["value"]) > 1.5 * found["resolution"]["value"]  # nobody could take one for the other
    cells = cells_after(shown.page, "mass", f"{found['jets']}")
    for cell, key in zip(cells, ("bias", "resolution")):
        value, low, high = (page.significant(found[key][which]) for which in ("value", "low", "high"))
        assert cell == f"{value} ({low} to {high})"
    assert cells[2:4] == [page.significant(found["spread"]), f"{found['explained']['value']:.3f}"]
    figure = physics_figures.regression(shown.evaluation.regression)
    assert figure is not None
    panel, response = figure.axes[1], curves["responses"][0]
    assert (panel.get_xlabel(), panel.get_ylabel()) == (axis_label("jet_pt"), "regressed - true [GeV]")
    rows = [row for row in shown.drawn["regression"] if row["against"] == "jet_pt"]
    ends = bars_of(panel)
    for key in ("bias", "resolution"):
        line, bins = line_of(panel, key), len(response["centre"])
        assert column(rows, key) == near(column(response[key], "value"))
        assert list(line.get_ydata()) == near(column(response[key], "value"))
        assert column(rows, "centre") == near(response["centre"])
        assert list(line.get_xdata()) == near(response["centre"])
        for end in ("low", "high"):
            assert column(rows, f"{key}_{end}") == near(column(response[key], end))
        upright, level, ends = ends[:bins], ends[bins : 2 * bins], ends[2 * bins :]
        assert [list(bar[1]) for bar in upright] == [near([one["low"], one["high"]]) for one in response[key]]
        assert [list(bar[0]) for bar in level] == [near(pair) for pair in pairwise(response["edges"])]
    assert found["spread"] in [near(line.get_ydata()[0]) for line in panel.get_lines() if line.get_linestyle() == ":"]
    assert sum(row["jets"] for row in shown.drawn["regression"] if row["jets"] is not None) == found["jets"]


def test_changed_jets_have_their_intervals_and_the_guess_of_the_largest_class(shown: SimpleNamespace) -> None:
    figure = physics_figures.robustness({"": shown.evaluation.robustness})
    assert figure is not None
    for curve, panel in zip(shown.metrics["robustness"], figure.axes):
        rows = [row for row in shown.drawn["robustness"] if row["change"] == curve["name"]]
        assert column(rows, "strength") == curve["strengths"]
        for name, key in (("accuracy", "value"), ("accuracy_low", "low"), ("accuracy_high", "high")):
            assert column(rows, name) == near(column(curve["accuracy"], key))
        line, guess = panel.get_lines()
        assert list(line.get_ydata()) == near(column(rows, "accuracy"))
        assert list(line.get_xdata()) == curve["strengths"]
        assert guess.get_ydata()[0] == near(curve["largest_class"])


def test_a_map_says_which_point_is_of_which_class(shown: SimpleNamespace) -> None:
    rows = shown.drawn["z_map"]
    assert column(rows, "class") == [NAMES[label] for label in shown.curves["map"]["labels"]]
    assert column(rows, "first") == near(shown.curves["map"]["x"])


def test_a_metric_that_is_no_part_of_the_loss_has_a_panel_of_its_own() -> None:
    values = {"loss_class": 1.0, "kind_loss": 2.0, "accuracy": 0.5, "sigma_class": 0.7, "lr": 1e-3}
    figure = training_figures.training([{"step": step, "kind": "train", "loss": 3.0, **values} for step in (1, 2)])
    assert figure is not None
    panels = {axes.get_ylabel(): {str(line.get_label()) for line in axes.get_lines()} for axes in figure.axes}
    assert panels["part of the loss (training)"] == {"loss class", "kind loss"}
    assert panels["also logged (training)"] == {"accuracy", "sigma class"}


def test_no_point_lies_on_the_frame_of_an_axis_that_begins_at_0() -> None:
    lines = [{"kind": "check", "step": step, "z_variation": 0.95 + 0.001 * step} for step in range(10)]
    of_runs = training_figures.overlaid({"run": lines}, training_figures.COLLAPSE, {"run": "red"})
    for figure in (training_figures.collapse(lines), of_runs):
        assert figure is not None
        low, high = figure.axes[0].get_ylim()
        assert low == 0
        assert high > 0.959 + 0.02


def test_a_quantity_with_one_number_has_no_panel() -> None:
    lines = [{"step": step, "kind": "train", "loss": 3.0, "lr": 1e-3} for step in (1, 2)]
    figure = training_figures.training([*lines, {"step": 2, "kind": "validation", "loss": 3.0, "rankme": 4.0}])
    assert figure is not None
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "learning rate"]
    assert training_figures.training(lines[:1]) is None


def test_numbers_of_results_are_rows_with_their_intervals_and_undefined_ones_are_empty() -> None:
    pair = Similarity("a", "b", Estimate(0.5, None, 0.6, 0.3, 0.7))
    assert csv_of([pair, {"first": "c", "cka": float("nan"), "more": [1, 2]}]).splitlines() == [
        "first,second,cka,cka_low,cka_high,cka_low95,cka_high95",
        "a,b,0.5,,0.6,0.3,0.7",
        "c,,,,,,",
    ]
