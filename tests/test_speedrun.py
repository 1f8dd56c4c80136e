"""The leaderboard: its table, its rule for records, and a dry run of the script."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "speedrun.py"
SAMPLE = SCRIPT.parents[1] / "data"


@pytest.fixture
def speedrun(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return runpy.run_path(str(SCRIPT), run_name="imported")


def rows_of(*probes: float) -> list[dict[str, Any]]:
    return [{"linear": [probe, 0.0, 1.0], "few_labels": 0.5, "r50": 20.0, "steps": 100} for probe in probes]


def test_a_case_is_a_record_if_it_wins_on_the_same_seeds_beyond_twice_the_error(
    speedrun: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "records.md"

    def add(case: str, *probes: float) -> bool:
        records = speedrun["Records"](path)
        cells, wins = speedrun["entry"](case, "a change | with a bar", rows_of(*probes), records.best)
        records.add(cells, record=wins)
        return bool(wins)

    assert not add("one seed", 0.50)
    assert add("first", 0.60, 0.70, 0.80)  # seeds differ more than cases: only pairs can decide
    assert not add("lucky mean", 0.60, 0.70, 0.86)
    assert add("second", 0.61, 0.71, 0.82)
    assert not add("worse than the second", 0.609, 0.709, 0.819)
    assert not add("two seeds", 0.70, 0.80)
    tables = speedrun["Records"](path).tables
    assert [row[1] for row in tables["Records"]] == ["`first`", "`second`"]
    assert [row[1] for row in tables["Tried"]] == [
        "`one seed`",
        "`lucky mean`",
        "`worse than the second`",
        "`two seeds`",
    ]
    assert speedrun["Records"](path).best == [0.61, 0.71, 0.82]
    assert tables["Records"][1][-1] == "+0.0133 +- 0.0033"


def run(speedrun: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """Call the script with these words, as a dry run."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--data", str(SAMPLE), *words, "--dry-run"])
    speedrun["main"]()


@pytest.mark.slow
def test_a_dry_run_trains_reads_and_writes_its_line(
    speedrun: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = tmp_path / "records.md"
    case = "mae method.mask_ratio=0.5 train.validation_jets=20"
    words = ("--work", str(tmp_path), "--case", case, "--seeds", "1", "--records", str(records))
    run(speedrun, monkeypatch, *words)
    (line,) = [line for line in records.read_text().splitlines() if line.startswith("| 2")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == f"`{case}`"
    assert all(0 < float(cells[number]) <= 1 for number in (3, 5))
    assert float(cells[6]) >= 1
    assert cells[-1] == "first, 1 of 3 seeds"
    assert capsys.readouterr().out.startswith("tried | ")


def test_only_runs_of_the_whole_budget_enter_the_shared_table(
    speedrun: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(speedrun, monkeypatch, "--work", str(tmp_path), "--case", "mae")
    assert stopped.value.code == 2
    assert "--records" in capsys.readouterr().err
