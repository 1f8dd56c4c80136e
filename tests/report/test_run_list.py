"""`runs`: every run of a folder is one line, whatever its state."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ssl_jets.cli.app import app
from ssl_jets.errors import UsageError
from ssl_jets.report.run_list import list_runs


def write_run(folder: Path, *, steps: int, losses: dict[int, float], finished: bool = True, **training: object) -> Path:
    """Write the files of a run that the list reads, in the layout of a training."""
    folder.mkdir(parents=True)
    config = {
        "data": {"sources": ["a/QCD.root", "b/Tbl.root", "c/W.root"], "proportions": {}},
        "model": {"size": "tiny"},
        "method": {"name": "mae"},
        "train": {"steps": steps},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = [{"step": step, "kind": "train", "loss": 9.0} for step in range(1, steps // (1 if finished else 2) + 1)]
    for step, loss in losses.items():
        lines.append({"step": step, "kind": "validation", "loss": loss, "probe_accuracy": loss / 10, "rankme": 5.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        (folder / "model").mkdir()
        facts = {"weights_sha256": "ab" * 32, "training": {"steps": steps, **training}}
        (folder / "model" / "config.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_run(tmp_path / "one", steps=4, losses={2: 3.0, 4: 2.0})
    write_run(tmp_path / "deep" / "best", steps=4, losses={2: 1.0, 4: 2.5}, best_step=2)
    write_run(tmp_path / "stopped", steps=8, losses={}, finished=False)
    write_run(tmp_path / "one" / "labels" / "inner", steps=4, losses={})  # of a protocol of the run `one`
    (write_run(tmp_path / "yaml", steps=4, losses={}) / "config.yaml").write_text("a: [")
    (write_run(tmp_path / "tree", steps=4, losses={}) / "config.yaml").write_text("method: 3")
    (write_run(tmp_path / "lost", steps=4, losses={}) / "config.yaml").unlink()
    (tmp_path / "other").mkdir()
    return tmp_path


def test_finished_unfinished_and_broken_runs_are_listed_and_none_inside_of_a_run(runs: Path) -> None:
    found = {str(Path(one.run).relative_to(runs)): one for one in list_runs(runs)}
    states = {name: one.state for name, one in found.items()}
    assert states == {
        "one": "finished", "deep/best": "finished", "stopped": "unfinished",
        "yaml": "broken", "tree": "broken", "lost": "broken",
    }  # fmt: skip
    assert "not valid YAML" in found["yaml"].error
    assert "no config.yaml" in found["lost"].error
    assert (found["stopped"].steps, found["stopped"].of_steps, found["stopped"].loss) == (4, 8, None)


def test_the_measures_are_those_of_the_model(runs: Path) -> None:
    found = {Path(one.run).name: one for one in list_runs(runs)}
    assert (found["one"].loss, found["one"].probe) == (2.0, 0.2)  # of the last step
    assert (found["best"].loss, found["best"].probe) == (1.0, 0.1)  # of the best step, which the model has
    assert found["one"].data == "QCD.root, Tbl.root and 1 more"


@pytest.mark.parametrize(
    ("sort", "conditions", "expected"),
    [
        ("loss", ["state=finished"], ["best", "one"]),
        ("-loss", ["state!=broken"], ["one", "best", "stopped"]),
        ("run", ["loss<1.5"], ["best"]),
        ("run", ["method=m*", "steps>=4", "sha256=abab*"], ["best", "one"]),
        ("-steps", ["method=dino"], []),
    ],
)
def test_runs_are_sorted_and_chosen(runs: Path, sort: str, conditions: list[str], expected: list[str]) -> None:
    assert [Path(one.run).name for one in list_runs(runs, sort=sort, conditions=conditions)] == expected


@pytest.mark.parametrize(
    ("sort", "condition", "message"),
    [
        ("lost", "steps>1", "no such attribute.*lost.*loss"),
        ("run", "probes>0.5", "no such attribute.*probes.*probe"),
        ("run", "probe", "no condition"),
        ("run", "probe>high", "is a number"),
        ("run", "method>mae", "has no order"),
    ],
)
def test_a_wrong_choice_is_one_message(runs: Path, sort: str, condition: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){message}"):
        list_runs(runs, sort=sort, conditions=[condition])


def test_the_command_prints_a_plain_table_or_json(runs: Path) -> None:
    plain = CliRunner().invoke(app, ["runs", str(runs), "--sort", "-loss", "--filter", "state!=broken"])
    assert plain.exit_code == 0
    lines = plain.stdout.splitlines()
    assert lines[0].split() == ["run", "method", "size", "data", "steps", "loss", "probe", "RankMe", "sha256", "state"]
    assert [line.split()[0] for line in lines[-3:]] == ["one", "deep/best", "stopped"]
    assert "4 of 8" in lines[-1]
    printed = CliRunner().invoke(app, ["runs", str(runs), "--json"])
    assert {one["state"] for one in json.loads(printed.stdout)} == {"finished", "unfinished", "broken"}
    assert CliRunner().invoke(app, ["runs", str(runs / "other")]).stdout == ""
