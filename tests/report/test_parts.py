"""What must be on the page of a run and of several: every panel, and what lies in the folders of the runs."""

from __future__ import annotations

import json
from csv import DictReader
from pathlib import Path

import pytest

from ssl_jets.api.evaluation import log_reports
from ssl_jets.report import write_comparison_report, write_run_report
from support.report_folders import write_comparison, write_domain, write_labels, write_run

OF_RUN = {"training", "collapse"}


def figures(folder: Path) -> set[str]:
    return {file.stem for file in (folder / "figures").glob("*.png")}


@pytest.mark.usefixtures("drawn")
def test_a_run_shows_the_protocols_in_its_folder(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    write_domain(run / "domain")
    write_labels(run / "labels")
    page = write_run_report(run).read_text()
    protocols = {"domain-domain_accuracy", "domain-domain_gap", "labels-label_curves"}
    assert figures(run) == OF_RUN | protocols
    assert "0.6125 ± 0.0100" in page
    assert "0.7321 ± 0.0100" in page
    csv = (run / "figures" / "labels-label_curves.csv").read_text()
    assert csv.splitlines()[0] == "curve,share,labels,accuracy,accuracy_std,auc,auc_std"
    assert "mae full,0.7321,732,0.7321,0.01,0.9,0.01" in csv
    contents = page.partition("<nav")[2].partition("</nav>")[0]
    for title in ("Label curves", "Simulation and data", "Training"):
        assert f">{title}</a>" in contents, title
    assert contents.count("Provenance") == 1  # what a protocol has of its own stands under its title


@pytest.mark.usefixtures("drawn")
def test_a_comparison_shows_every_panel_and_the_files_of_each_run(tmp_path: Path) -> None:
    runs = {name: write_run(tmp_path / name) for name in ("a", "b")}
    write_domain(runs["a"] / "domain", target=0.6125)
    write_domain(runs["b"] / "shift", target=0.7125)
    write_labels(runs["b"] / "labels")
    folder = write_comparison(tmp_path / "comparison", list(runs))
    page = write_comparison_report(folder, runs).read_text()
    of_models = {"probes", "roc", "confusion", "training", "collapse"}
    protocols = {f"{run}_{figure}" for run in ("a-domain-domain", "b-shift-domain") for figure in ("accuracy", "gap")}
    assert figures(folder) == {f"compared_{name}" for name in of_models} | protocols | {"b-labels-label_curves"}
    for words in ("Simulation and data, a", "Simulation and data: shift, b", "Label curves, b", "0.6125", "0.7125"):
        assert words in page, words
    for name in runs:  # settings, data and hash of each
        assert f"Training of {name}" in page
    assert page.count("a.root 100, b.root 200") == page.count("cd" * 32) == 2


def test_the_overlaid_training_has_a_line_for_each_run_and_rings_for_collapses(tmp_path: Path) -> None:
    runs = {name: write_run(tmp_path / name) for name in ("a", "b")}
    lines = (runs["a"] / "metrics.jsonl").read_text().splitlines()
    look = next(line for line in lines if '"validation"' in line)
    collapsed = json.dumps(json.loads(look) | {"step": 60, "collapse": ["constant"], "rankme": 1.25})
    early = json.dumps(json.loads(look) | {"step": 3, "kind": "check", "rankme": 7.125})
    (runs["a"] / "metrics.jsonl").write_text("\n".join([early, *lines[:-1], collapsed]) + "\n")
    folder = write_comparison(tmp_path / "comparison", list(runs))
    write_comparison_report(folder, runs)
    with (folder / "figures" / "compared_collapse.csv").open() as file:
        looks = list(DictReader(file))
    assert {look["model"] for look in looks} == {"a", "b"}
    assert "1.25" in {look["rankme"] for look in looks if look["collapse"]}
    assert ("a", "3", "7.125") in {(look["model"], look["step"], look["rankme"]) for look in looks}  # the early look


def test_a_run_that_has_the_name_of_its_method_has_a_title_of_one_word(tmp_path: Path) -> None:
    assert "<h1>mae</h1>" in write_run_report(write_run(tmp_path / "mae")).read_text()
    assert "<h1>other: mae</h1>" in write_run_report(write_run(tmp_path / "other")).read_text()


def test_the_report_of_a_run_is_written_again_after_results_in_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run")
    log_reports(write_domain(run / "domain") / "report.html")
    assert "0.6125" in (run / "report.html").read_text()
    log_reports(tmp_path / "elsewhere" / "report.html")
    assert capsys.readouterr().err.count("report of the run") == 1
