"""Label curves: every point is a training, made once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ssl_jets.config import DataSettings, ModelSettings
from ssl_jets.data.files import EntryRange, open_files
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.sources import sample_sources
from ssl_jets.evaluation.result_base import plain
from ssl_jets.evaluation.settings import EvaluateSettings, LabelSettings
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.protocols import labels
from ssl_jets.protocols.cache import ResultCache
from ssl_jets.protocols.labels import LabelCurve, _points, label_curves
from ssl_jets.protocols.labels_result import (
    BASELINES,
    DEEP_SETS,
    LINEAR_OBSERVABLES,
    TREES_OBSERVABLES,
    LabelCurves,
    LabelPoint,
    LabelTraining,
    UsedLabelSettings,
    mean_and_interval,
)
from ssl_jets.protocols.tables import labels_table
from ssl_jets.report import write_result_report
from ssl_jets.report.sections.labels import label_curves as curves_figure
from support.measured import check_intervals


def curves_of(gaps: list[float]) -> LabelCurves:
    """Return label curves of one share, of a model that is better than observables by `gaps`, one for each seed."""
    points = [
        LabelPoint.of(name, 0.1, [LabelTraining(accuracy=0.6 + sign * gap, auc=0.8, labels=90) for gap in gaps])
        for name, sign in (("mae full", 1), (TREES_OBSERVABLES, 0))
    ]
    facts: dict[str, Any] = {"models": {}, "files": [], "data": {}, "classes": (), "test_jets": 10_000}
    settings = UsedLabelSettings(seeds=len(gaps))
    curves = [point.curve for point in points]
    return LabelCurves(**facts, settings=settings, curves=curves, points=points, folder=Path())


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_equal_curves_of_few_seeds_are_told_apart_in_one_of_twenty_experiments(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    intervals = [mean_and_interval(rng.normal(0, 0.01, seeds)) for _ in range(1000)]
    assert np.mean([low < 0 < high for _, low, high in intervals]) == pytest.approx(0.95, abs=0.02)


def test_a_difference_of_three_seeds_has_its_interval() -> None:
    (sentence,) = curves_of([0.01, 0.02, 0.03]).against_observables()
    assert sentence == (
        "With 90 labels mae full cannot be distinguished from boosted trees on observables: accuracy 0.620 against "
        "0.600, difference +0.020 (95 %: -0.010 to +0.050, over 3 seeds and the choice of test jets)."
    )
    assert "is above" in curves_of([0.019, 0.02, 0.021]).against_observables()[0]
    assert "is below" in curves_of([-0.019, -0.02, -0.021]).against_observables()[0]


def test_a_difference_of_equal_seeds_has_the_error_of_the_test_jets() -> None:
    """Accuracies of 0.62 and 0.6 on 10,000 jets: at most 78 % are classified correctly by one of the two."""
    (sentence,) = curves_of([0.02, 0.02, 0.02]).against_observables()
    error = 1.96 * ((0.38 + 0.4 - 0.02**2) / 10_000) ** 0.5
    assert f"(95 %: {0.02 - error:+.3f} to {0.02 + error:+.3f}, over 3 seeds" in sentence
    few = curves_of([0.02, 0.02, 0.02]).model_copy(update={"effective_test_jets": 100.0})
    assert "cannot be distinguished" in few.against_observables()[0]


def test_baselines_are_fitted_again_on_other_inputs_and_networks_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two more commands in the same folder: with a further model that reads tracks, and with other observables."""
    curves = [LabelCurve("mae probe", "probe", Path("mae"), "ab"), LabelCurve(TREES_OBSERVABLES, "trees", None, "")]
    measured: list[str] = []

    class Trainings(SimpleNamespace):
        def measure(self, curve: LabelCurve, share: float, seed: int) -> LabelTraining:
            measured.append(curve.name)
            return LabelTraining(accuracy=0.5, auc=0.5, labels=10)

    tracks = ("pt", "deta", "d0")
    for columns, number in ((("pt", "deta"), 63), (tracks, 63), (tracks, 93)):
        monkeypatch.setattr(labels, "INPUTS", number)
        cache = ResultCache(tmp_path, {}, 4, lambda line: None)
        trainings: Any = Trainings(evaluation=SimpleNamespace(columns=columns))
        _points(curves, LabelSettings(shares=(0.1,), seeds=2), trainings, cache)
    assert measured == 2 * ["mae probe"] + 6 * [TREES_OBSERVABLES]


def test_the_axis_of_labels_has_a_tick_at_each_number() -> None:
    few = curves_of([0.01, 0.02])
    more = [point.model_copy(update={"labels": 900}) for point in few.points]
    result = few.model_copy(update={"points": [*few.points, *more]})
    figure = curves_figure(result)
    assert figure is not None
    for axes in figure.axes:
        assert [text.get_text() for text in axes.get_xticklabels(which="both")] == ["90", "900"]


@pytest.mark.slow
@pytest.mark.usefixtures("drawn")
def test_a_curve_has_a_point_for_each_mode_and_share_and_is_not_made_twice(tmp_path: Path) -> None:
    sources = [str(source) for source in sample_sources() if "ZJets" in str(source) or "TTBarLep" in str(source)]
    files = open_files([source for source in sample_sources() if str(source) in sources], ("QCD", "Tbl"))
    torch.manual_seed(0)
    encoder = Encoder(ModelSettings(size="tiny", registers=1))
    encoder.features.fit_statistics(ordered(files, [EntryRange(0, 0, 100)], Request()))
    save_model(
        Model(encoder, None, (), {"method": "mae", "training": {"files": [], "held_out": []}}),
        tmp_path / "run" / "model",
    )
    settings = EvaluateSettings(
        data=DataSettings(labels=("QCD", "Tbl")),
        labels=LabelSettings(shares=(0.02, 0.5), seeds=2, modes=("probe",), steps=20, batch_size=16, test_jets=100),
    )
    logged: list[str] = []
    found = label_curves([tmp_path / "run"], sources, tmp_path / "out", settings=settings, log=logged.append)
    points = {(point.curve, point.share): point for point in found.points}
    curves = ("run probe", *BASELINES)
    assert set(points) == {(name, share) for name in curves for share in (0.02, 0.5)}
    assert all(len(point.seeds) == 2 for point in points.values())
    assert points["run probe", 0.02].labels == points["boosted trees", 0.02].labels == 36
    assert {training.steps for point in found.points for training in point.seeds} == {20, None}
    assert points["boosted trees", 0.5].accuracy > 0.75
    assert points["boosted trees", 0.5].accuracy > points["boosted trees", 0.02].accuracy
    of_particles = (LINEAR_OBSERVABLES, TREES_OBSERVABLES, DEEP_SETS)
    assert all(points[name, 0.5].accuracy > 0.75 for name in of_particles)
    assert all(points[name, 0.02].labels == 36 for name in of_particles)
    assert check_intervals(plain(found)) == 24
    again: list[str] = []
    second = label_curves([tmp_path / "run"], sources, tmp_path / "out", settings=settings, log=again.append)
    assert second.points == found.points
    assert not [line for line in again if " of 24: " in line]
    assert len([line for line in logged if " of 24: " in line]) == 24
    assert not [note for note in found.notes if " of 24: " in note]  # progress is no note
    assert LabelCurves.read(tmp_path / "out") == second
    assert f"With {points['run probe', 0.5].labels:,} labels run probe " in labels_table(found)
    assert (0.45 < found.largest_class < 0.6, found.leaked) == (True, 0)
    assert "label_curves.pdf" in write_result_report(tmp_path / "out", LabelCurves).read_text()
