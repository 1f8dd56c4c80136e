"""Generated jets against real ones: equal ones are at the floor, shifted ones are found, others are refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_jets import cli
from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.read import read_jets
from ssl_jets.data.write import write_jets
from ssl_jets.errors import DataError, SslJetsError, UsageError
from ssl_jets.evaluation.generated.compare import evaluate_generated
from ssl_jets.evaluation.generated.result import GeneratedEvaluation, Histogram
from ssl_jets.evaluation.generated.samples import Samples, binned
from ssl_jets.evaluation.metrics.two_sample import WeightedSample
from ssl_jets.evaluation.probes.observables import observables
from ssl_jets.evaluation.result_base import plain
from ssl_jets.evaluation.tables import generated_table
from ssl_jets.jets import KINDS, Jets, concatenate
from ssl_jets.report import write_result_report, write_run_report
from ssl_jets.report.sections.generated import histograms
from support.measured import check_intervals

SCALE = 1.15


@pytest.fixture(scope="module")
def folder(sample_files: list[JetFile], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real jets, other real jets of the same mixture, and those with every momentum 15 % larger."""
    folder = tmp_path_factory.mktemp("generated")
    of_each = [
        concatenate(list(ordered(sample_files, [EntryRange(index, start, start + 30) for index in range(10)])))
        for start in (0, 30, 60)
    ]
    write_jets(folder / "real.root", of_each[:2])
    write_jets(folder / "same.root", of_each[2:])
    write_jets(folder / "shifted.root", [scaled(of_each[2])])
    return folder


def scaled(jets: Jets) -> Jets:
    factor = torch.ones(len(jets.columns))
    factor[[jets.columns.index(name) for name in ("pt", "energy")]] = SCALE
    return replace(jets, particles=jets.particles * factor)


def compare(folder: Path, name: str, out: Path) -> GeneratedEvaluation:
    return evaluate_generated([str(folder / name)], [str(folder / "real.root")], out, log=lambda _: None)


@pytest.fixture(scope="module")
def same(folder: Path) -> GeneratedEvaluation:
    return compare(folder, "same.root", folder / "same")


@pytest.fixture(scope="module")
def shifted(folder: Path) -> GeneratedEvaluation:
    return compare(folder, "shifted.root", folder / "shifted")


def test_real_jets_are_as_far_from_real_jets_as_the_floor(same: GeneratedEvaluation) -> None:
    assert same.jets == 300
    for entry in same.distances:
        error = entry.generated.high - entry.generated.value + entry.real.high - entry.real.value
        assert abs(entry.generated.value - entry.real.value) < 3 * error, entry
    assert check_intervals([same.distances, same.two_sample_test.auc, same.two_sample_floor.auc]) > 20
    assert same.two_sample_test.auc.low95 < 0.5 < same.two_sample_test.auc.high95
    assert same.two_sample_floor.auc.low95 < 0.5 < same.two_sample_floor.auc.high95


def test_a_shift_of_all_momenta_is_found(folder: Path, shifted: GeneratedEvaluation, sample_jets: Jets) -> None:
    found = {entry.observable: entry for entry in shifted.distances}
    expected = (SCALE - 1) * observables(sample_jets)["pt"].mean()
    assert found["pt"].generated.value == pytest.approx(expected, rel=0.2)
    for name in ("pt", "mass"):
        assert found[name].generated.low95 > found[name].real.high95, name
    # What does not change with the scale is at its floor.
    for name in ("particles", "tau21", "particle deta"):
        assert found[name].generated.low95 < found[name].real.high95, name
    assert shifted.two_sample_test.auc.low95 > 0.55
    assert shifted.two_sample_floor.auc.low95 < 0.5 < shifted.two_sample_floor.auc.high95


def test_every_observable_is_there_for_jets_particles_and_kinds(same: GeneratedEvaluation) -> None:
    names = [entry.observable for entry in same.distances]
    assert names[:5] == ["mass", "pt", "particles", "tau21", "tau32"]
    assert names[5:10] == [
        f"particles ({kind})" for kind in ("charged hadron", "neutral hadron", "photon", "electron", "muon")
    ]
    assert {"particle pt", "particle deta", "particle dphi", "particle dphi (muon)"} <= set(names)
    for histogram in same.histograms:
        outside = histogram.real_all - histogram.real.sum()
        assert outside <= max(2, 0.01 * histogram.real_all), histogram.observable  # of few values, the first and last
        assert histogram.generated.sum() > 0.97 * histogram.generated_all, histogram.observable


@pytest.mark.usefixtures("drawn")
@pytest.mark.filterwarnings("error:constrained_layout")
def test_the_returned_result_is_written_and_fills_a_report(folder: Path, shifted: GeneratedEvaluation) -> None:
    written = json.loads((folder / "shifted" / "generated.json").read_text())
    assert written["distances"] == plain(shifted.distances)
    assert GeneratedEvaluation.read(folder / "shifted").metrics() == shifted.metrics() == written
    assert written["two_sample_test"]["auc"] == plain(shifted.two_sample_test.auc)
    assert str(folder) not in json.dumps(written)
    page = write_result_report(folder / "shifted", GeneratedEvaluation).read_text()
    pictures = [path.stem for path in sorted((folder / "shifted" / "figures").glob("*.png"))]
    assert pictures == ["generated_jets", "generated_kinds", "generated_particles"]
    assert page.count("<figure>") == 3
    for word in ("mass [GeV]", "particle pt (photon) [GeV]", "0.5 means", "real, other real", "shifted.root"):
        assert word in page, word
    rows = list(csv.DictReader((folder / "shifted" / "figures" / "generated_jets.csv").read_text().splitlines()))
    curves = json.loads((folder / "shifted" / "generated-curves.json").read_text())
    mass = next(histogram for histogram in curves["histograms"] if histogram["observable"] == "mass")
    edges = np.array(mass["edges"])
    of_mass = [row for row in rows if row["observable"] == "mass"]
    figure = histograms({"mass": next(one for one in shifted.histograms if one.observable == "mass")}, ["mass"])
    areas = [patch.get_data().values for patch in figure.axes[0].patches]
    points = figure.axes[0].get_lines()[0].get_ydata()
    for series, drawn in (("generated", points), ("real", areas[0])):
        fraction = np.array(mass[series]) / mass[f"{series}_all"]
        assert drawn == pytest.approx(fraction / np.diff(edges), rel=5e-3)  # edges have five digits
        error = np.array(mass[f"{series}_error"]) / mass[f"{series}_all"]
        columns = {series: mass[series], f"{series}_fraction": fraction, "bin_low": edges[:-1], "bin_high": edges[1:]}
        columns[f"{series}_error"] = error
        for name, values in columns.items():
            assert [float(row[name]) for row in of_mass] == pytest.approx(list(values), rel=1e-4), name
    bars = np.array([bar[:, 1] for bar in figure.axes[0].collections[0].get_segments()])
    error = np.array(mass["generated_error"]) / mass["generated_all"] / np.diff(edges)
    assert np.diff(bars)[:, 0] == pytest.approx(2 * error, rel=5e-3)
    table = generated_table(shifted)
    assert "mass [GeV]" in table
    assert f"{shifted.two_sample_test.auc.value:.4f}" in table


def test_the_report_of_a_run_shows_the_comparisons_inside_its_folder(
    folder: Path, shifted: GeneratedEvaluation, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("method: {name: mae}\n")
    shifted.model_copy(update={"folder": tmp_path / "ours"}).write()
    assert "Generated jets: ours" in write_run_report(tmp_path).read_text()


def test_observables_are_computed_from_the_columns_that_both_sides_have(folder: Path, tmp_path: Path) -> None:
    """Kinds give particles masses: with kinds on one side alone the masses of jets would differ by them."""
    for name in ("same", "real"):
        jets = read_jets([str(folder / f"{name}.root")])
        write_jets(tmp_path / f"{name}.root", [replace(jets.without(["kind", "charge"]), labels=None)])
    names = [(folder / "same.root", tmp_path / "real.root"), (tmp_path / "same.root", tmp_path / "real.root"),
             (tmp_path / "same.root", folder / "real.root")]  # fmt: skip
    results = [
        evaluate_generated([str(one)], [str(other)], tmp_path / str(number), log=lambda _: None)
        for number, (one, other) in enumerate(names)
    ]
    expected = [(one.generated.value, one.real.value) for one in results[1].distances]
    for result in results:  # momenta are rounded once more in the files that are written again
        for one, values in zip(result.distances, expected, strict=True):
            assert (one.generated.value, one.real.value) == pytest.approx(values, rel=1e-4), one.observable
        assert result.two_sample_test.auc.value == pytest.approx(results[1].two_sample_test.auc.value, abs=0.01)


def test_a_kind_that_the_generated_jets_alone_have_is_counted(sample_jets: Jets) -> None:
    muons = sample_jets.column("kind") == KINDS.index("muon")
    samples = Samples.of(sample_jets, sample_jets.keep(~muons), len(sample_jets) // 2, seed=0)
    found = {entry.observable: entry for entry in samples.distances(seed=0)}
    number = float(samples.generated.observed["muon"].mean())
    assert number > 0
    assert found["particles (muon)"].generated.value == pytest.approx(number)
    assert found["particles (muon)"].real.value == 0
    assert "particle pt (muon)" not in found  # there is no spectrum to compare with
    assert "particle pt (muon)" not in {histogram.observable for histogram in samples.histograms()}


@pytest.mark.parametrize("correlated", [False, True])
def test_errors_of_a_histogram_are_the_spread_of_repeated_samples(correlated: bool) -> None:
    """Particles near one point of each jet, or all independent; a tenth of the values are outside of the bins."""
    rng, edges = np.random.default_rng(5), np.linspace(0, 0.9, 10)
    repeated = []
    for _ in range(300):
        jet = np.repeat(np.arange(200), rng.integers(1, 20, 200))
        point = rng.random(200)[jet] if correlated else rng.random(len(jet))
        sample = WeightedSample((point + 0.1 * rng.random(len(jet))) % 1, jet, 200)
        one = binned("x", "particles", "1", generated=sample, real=sample, edges=edges)
        assert (one.generated == np.histogram(sample.values, edges)[0]).all()
        assert (one.real_error == one.generated_error).all()
        repeated.append((one.generated / one.generated_all, one.generated_error / one.generated_all))
    fractions, errors = np.array(repeated).transpose(1, 0, 2)  # [sample, bin]
    assert errors.mean() == pytest.approx(fractions.std(axis=0).mean(), rel=0.05)
    poisson = np.sqrt(fractions.mean() / 2000)
    assert (errors.mean() > 2 * poisson) == correlated


def test_errors_of_one_entry_a_jet_are_binomial() -> None:
    sample = WeightedSample.of_jets(np.array([0.0, 0.5, 0.5, 1.0, 3.0, np.nan]))
    one = binned("x", "jets", "1", generated=sample, real=sample, edges=np.array([0, 0.4, 1]))
    assert (one.generated.tolist(), one.generated_all) == ([1, 3], 5)
    assert one.generated_error == pytest.approx(np.sqrt([5 * 0.2 * 0.8, 5 * 0.6 * 0.4]))


def test_a_panel_has_its_unit_the_fraction_outside_and_an_axis_of_the_drawn_densities() -> None:
    edges, counts = np.geomspace(1, 1000, 4), np.array([600, 300, 3])
    errors = np.array([20, 15, 2.9999])  # of the last bin, down to almost 0
    one = Histogram("particle pt", "particles", "GeV", edges, counts, counts, errors, errors, 1000, 903)
    upper, lower = histograms({"particle pt": one}, ["particle pt"]).axes
    assert upper.get_title(loc="right") == "10 % of generated outside"
    assert (upper.get_ylabel(), lower.get_xlabel()) == ("density [1/GeV]", r"particle $p_\mathrm{T}$ [GeV]")
    assert upper.get_ylim()[0] == pytest.approx(0.5 * 3 / 1000 / 900)
    inside = replace(one, observable="tau21", unit="1", generated_all=905)
    upper = histograms({"tau21": inside}, ["tau21"]).axes[0]
    assert (upper.get_title(loc="right"), upper.get_ylabel(), upper.get_ylim()[0]) == ("", "density", 0)


@pytest.mark.parametrize("particles", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_jets_of_few_particles_have_no_histogram_of_ratios_that_they_lack(
    folder: Path, tmp_path: Path, particles: int
) -> None:
    for name in ("same", "real"):
        jets = read_jets([str(folder / f"{name}.root")])
        write_jets(tmp_path / f"{name}.root", [replace(jets.keep(jets.rank_by_pt() < particles), labels=None)])
    result = compare(tmp_path, "same.root", tmp_path / "out")
    names = {histogram.observable for histogram in result.histograms}
    assert ("tau21" in names, "tau32" in names) == (particles == 2, False)
    assert "not defined" in generated_table(result)
    assert "score" in names
    assert write_result_report(tmp_path / "out", GeneratedEvaluation).is_file()


@pytest.mark.usefixtures("same")
def test_incomparable_jets_are_refused(folder: Path, sample_files: list[JetFile], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--force"):
        compare(folder, "shifted.root", folder / "same")
    with pytest.raises(UsageError, match="as generated and as real"):
        compare(folder, "real.root", tmp_path / "out")
    write_jets(tmp_path / "few.root", ordered(sample_files, [EntryRange(0, 500, 520)]))
    with pytest.raises(DataError, match=r"too few(.|\n)*20 generated"):
        evaluate_generated(
            [str(tmp_path / "few.root")], [str(folder / "real.root")], tmp_path / "out", log=lambda _: None
        )
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_table_and_takes_one_thing_to_measure(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: object) -> int:
        monkeypatch.setattr("sys.argv", ["ssl-jets", "evaluate", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0)

    monkeypatch.setattr("ssl_jets.report.write_result_report", lambda out, kind: out / "report.html")
    jets = ["--generated", folder / "same.root"]
    assert run(*jets, "--data", folder / "real.root", "--out", tmp_path / "out") == 0
    printed = capsys.readouterr()
    assert "Wasserstein-1 of" in printed.out
    assert "report: " in printed.err
    assert (tmp_path / "out" / "generated.json").is_file()
    assert run(*jets, "--data", folder / "real.root", "--out", tmp_path / "out", "--seed", -1, "--force") == 2
    assert "evaluate.seed" in capsys.readouterr().err
    assert run(*jets, "--model", "runs/mae") == 2
    assert "--model, --z, --generated" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Root may write to every folder of a test, so the system is made to say no."""
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(SslJetsError, match="cannot be written") as caught:
        evaluate_generated([str(tmp_path / "no.root")], [str(tmp_path / "none.root")], tmp_path / "new" / "folder")
    assert caught.value.where == tmp_path
