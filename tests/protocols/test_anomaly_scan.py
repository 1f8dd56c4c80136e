"""The search for anomalies refuses what it cannot search for before it works."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from ssl_jets.data.files import JetFile
from ssl_jets.errors import UsageError
from ssl_jets.evaluation.result_base import plain
from ssl_jets.evaluation.settings import AnomalySettings, EvaluateSettings, MeasureSettings
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.protocols.anomaly import _Searched, anomaly_scan
from ssl_jets.protocols.anomaly_result import AnomalyScan, SearchedFiles
from ssl_jets.report import write_result_report
from ssl_jets.report.sections.anomaly import cwola as cwola_figure
from support.measured import check_intervals
from support.small_models import tiny_encoder


def test_an_unknown_signal_is_refused_before_any_jet_is_encoded(
    sample_files: list[JetFile], batch: Jets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"method": "mae", "training": {"files": [], "held_out": []}}
    save_model(Model(tiny_encoder(batch), None, (), facts), tmp_path / "run" / "model")
    settings = EvaluateSettings(
        anomaly=AnomalySettings(signals=("label_Hbb",)), evaluate=MeasureSettings(fit_jets=200, test_jets=200)
    )
    monkeypatch.setattr(Encoder, "forward", lambda *_, **__: pytest.fail("z was computed"))
    sources = [str(file.source) for file in sample_files[:2]]
    with pytest.raises(UsageError, match="no such class"):
        anomaly_scan([tmp_path / "run"], sources, tmp_path / "out", settings=settings, log=lambda text: None)


def test_another_z_of_the_same_name_and_size_is_measured_anew(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label, found, sizes = np.arange(1200) % 2, [], set()
    settings = EvaluateSettings(
        anomaly=AnomalySettings(counts=(40,), seeds=2), evaluate=MeasureSettings(fit_jets=600, test_jets=600)
    )
    for signal in (0.0, 6.0):
        z = rng.normal(size=(1200, 4)).astype(np.float32) + signal * label[:, None].astype(np.float32)
        np.savez(tmp_path / "z.npz", z=z, label=label)
        sizes.add((tmp_path / "z.npz").stat().st_size)
        result = anomaly_scan([], [], tmp_path / "out", settings=settings, z=tmp_path / "z.npz", log=lambda text: None)
        assert check_intervals(plain(result)) == 24
        assert AnomalyScan.read(tmp_path / "out") == result
        found.append(json.dumps(plain(result)))
    assert result.notes
    assert not [note for note in result.notes if note[0].isdigit() and ": " in note]  # progress is no note
    assert len(sizes) == 1
    assert found[0] != found[1]
    page = write_result_report(tmp_path / "out", AnomalyScan).read_text()
    assert f"<td>{result.distances[0].auc.value:.3f}</td>" in page
    assert "All numbers of the search" not in page  # the table replaces a figure of one number of jets
    logged: list[str] = []
    (tmp_path / "z.npz").rename(tmp_path / "renamed.npz")
    anomaly_scan([], [], tmp_path / "out", settings=settings, z=tmp_path / "renamed.npz", log=logged.append)
    made = [line for line in logged if " of " in line and ": " in line and line[0].isdigit()]
    assert not made
    other = settings.model_copy(update={"anomaly": AnomalySettings(counts=(40,), seeds=3, neighbours=3)})
    anomaly_scan([], [], tmp_path / "out", settings=other, z=tmp_path / "renamed.npz", log=logged.append)
    assert (
        len([line for line in logged if line.startswith(("1 of 3: distance", "2 of 3: cwola", "3 of 3: cwola"))]) == 3
    )


def test_the_floor_is_the_same_search_without_signal_jets(tmp_path: Path) -> None:
    """A random direction of z that separates a class well separates it by chance: no improvement of 1."""
    rng = np.random.default_rng(0)
    label = np.arange(3000) % 2
    z = rng.normal(size=(3000, 4)) + 2.0 * label[:, None]
    np.savez(tmp_path / "z.npz", z=z.astype(np.float32), label=label)
    settings = EvaluateSettings(
        anomaly=AnomalySettings(counts=(300, 10), seeds=8), evaluate=MeasureSettings(fit_jets=1500, test_jets=1500)
    )
    result = anomaly_scan([], [], tmp_path / "out", settings=settings, z=tmp_path / "z.npz", log=lambda text: None)
    assert [scan.reader for scan in result.cwola] == ["linear", "boosted trees"]
    scan, _ = result.cwola
    assert [point.signal_jets for point in scan.points] == [0, 10, 300]
    assert scan.floor is scan.points[0]
    assert scan.floor.significance == 0
    assert scan.floor.improvement > 1.1
    assert scan.floor.improvement + 2 * scan.floor.improvement_std < scan.searches[-1].improvement
    figure = cwola_figure(result)
    assert figure is not None
    floor = next(line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white")
    assert floor.get_ydata() == pytest.approx([scan.floor.improvement])
    assert "All numbers of the search" in write_result_report(tmp_path / "out", AnomalyScan).read_text()
    assert ",0,0," in (tmp_path / "out" / "figures" / "cwola.csv").read_text()


def test_models_in_another_order_are_searched_anew_since_random_weights_are_of_the_first() -> None:
    models = {"small": "ab", "large": "cd"}
    orders = (models, dict(reversed(models.items())))
    made_from = [SearchedFiles(models=order, files=[], data={}, evaluate={}) for order in orders]
    first, second = (_Searched(files, {}, ()).cache_key() for files in made_from)
    assert first != second


@pytest.mark.parametrize("counts", [(-5,), (10, -1)])
def test_a_negative_number_of_signal_jets_is_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="counts"):
        AnomalySettings(counts=counts)


def test_z_is_searched_beside_random_weights_jet_columns_and_observables(
    sample_files: list[JetFile], batch: Jets, tmp_path: Path
) -> None:
    facts = {"method": "mae", "training": {"files": [], "held_out": []}}
    save_model(Model(tiny_encoder(batch), None, (), facts), tmp_path / "run" / "model")
    sources = [str(file.source) for file in sample_files if "HToBB" in file.name or "ZJetsToNuNu" in file.name]
    settings = EvaluateSettings(
        anomaly=AnomalySettings(signals=("Hbb",), counts=(60,), seeds=2),
        evaluate=MeasureSettings(fit_jets=260, test_jets=200),
    )
    result = anomaly_scan([tmp_path / "run"], sources, tmp_path / "out", settings=settings, log=lambda text: None)
    inputs = {"z", "z of random weights", "jet columns", "observables"}
    assert {scan.of for scan in result.cwola} == {scores.of for scores in result.distances} == inputs
    assert {(scan.of, scan.reader) for scan in result.cwola} == set(product(inputs, ("linear", "boosted trees")))
    found = {(scan.of, scan.reader): scan for scan in result.cwola}
    trees = found["observables", "boosted trees"]
    assert trees.searches[0].auc is not None
    assert trees.searches[0].auc > 0.7  # impact parameters tell b quarks
    assert trees.supervised.auc.value > trees.searches[0].auc
    assert "observables" in write_result_report(tmp_path / "out", AnomalyScan).read_text()


def test_another_seed_hides_other_jets(tmp_path: Path) -> None:
    """Searches of several seeds are independent draws: four of seed 0 are two of seed 0, and two of seed 1."""
    rng = np.random.default_rng(0)
    label = np.arange(1200) % 2
    np.savez(tmp_path / "z.npz", z=(rng.normal(size=(1200, 4)) + label[:, None]).astype(np.float32), label=label)

    def draws(seed: int, number: int) -> list[float | None]:
        settings = EvaluateSettings(
            anomaly=AnomalySettings(counts=(20,), seeds=number), evaluate=MeasureSettings(seed=seed)
        )
        out = tmp_path / f"{seed}-{number}"
        result = anomaly_scan([], [], out, settings=settings, z=tmp_path / "z.npz", log=lambda text: None)
        return [draw.auc for draw in result.cwola[0].searches[0].draws]

    assert draws(0, 4) == draws(0, 2) + draws(1, 2)
    assert len(set(draws(0, 4))) == 4
