"""Python snippets of the Python page and of the tutorials, run one after the other with smaller arguments."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from ssl_jets.data.sources import sample_sources
from support.event_files import nano_branches, random_events, write_events
from support.paths import ROOT

QUICK = {"train.validation_jets": 20, "data.buffer": 200, "train.precision": "32-true"}
QUICK_EVALUATION = {"evaluate.physics_jets": 0, "evaluate.robust_jets": 0, "evaluate.test_jets": 200}
TINY = f"steps=2, batch_size=8, size='tiny', settings={QUICK}"
TRAINED_ON_EVENTS = {**QUICK, "data.validation_fraction": 0.4, "data.bad_jets": "skip"}
PAGES = {
    "docs/python.md": {
        "steps=2000": TINY,
        "labels=0.01": f"labels=0.1, steps=2, batch_size=8, settings={QUICK}",
        'out="out"': f'out="out", settings={QUICK_EVALUATION}',
        "jets=1000": "jets=8",
        "each=1000": "each=20",
    },
    "docs/tutorials/first-z.md": {
        'size="tiny", steps=200, batch_size=64': TINY,
        "evaluate(run)": f"evaluate(run, settings={QUICK_EVALUATION})",
    },
    "docs/tutorials/pfnano-tagger.md": {
        "steps=20000": f"steps=2, batch_size=4, size='tiny', settings={TRAINED_ON_EVENTS}",
        "steps=5000": f"steps=2, batch_size=4, settings={TRAINED_ON_EVENTS}",
    },
    "docs/tutorials/anomalies.md": {
        'size="tiny", steps=400, batch_size=64': TINY,
        '"anomaly.seeds": 3': '"anomaly.seeds": 2, "evaluate.test_jets": 2000',
    },
}
"""Arguments on each page, and the smaller ones that the test runs with."""


def program_of(page: str) -> str:
    """Return the snippets of a page with smaller arguments; of the Python page, of "From files to a tagger"."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if page == "docs/python.md":
        text = text.split("\n## From files to a tagger\n")[1].split("\n## ")[0]
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))
    for argument, smaller in PAGES[page].items():
        assert argument in program
        program = program.replace(argument, smaller)
    return program


def run_page(page: str) -> dict[str, Any]:
    """Run the snippets of a page and return the names they define."""
    names: dict[str, Any] = {}
    exec(compile(program_of(page), page, "exec"), names)
    return names


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("jets", "nano"):
        (tmp_path / folder).mkdir()
    for source in sample_sources()[:2]:
        shutil.copy(source.path, tmp_path / "jets")
    write_events(tmp_path / "nano" / "events.root", nano_branches(random_events(40)))


@pytest.mark.slow
def test_snippets_of_the_python_page_run(tmp_path: Path) -> None:
    names = run_page("docs/python.md")
    assert names["run"] == Path("runs/mae")
    assert names["tagger"] == Path("runs/tagger")
    assert (tmp_path / "out" / "report.html").is_file()
    assert names["table"].jets == 2000
    assert len(names["jets"]) == len(names["label"]) == len(names["mass"]) == len(names["p"]) == 40
    assert names["p"].shape == (40, len(names["model"].labels))
    assert names["z"].shape == (1, names["model"].encoder.dim)
    assert len(names["generated"]) == 8


@pytest.mark.slow
def test_tutorial_first_z_runs() -> None:
    names = run_page("docs/tutorials/first-z.md")
    assert names["z"].shape == (10_000, 64)
    assert 0 < names["score"] < 1
    assert len(names["result"].probes) > 3


@pytest.mark.slow
def test_tutorial_tagger_on_pfnano_runs(tmp_path: Path) -> None:
    names = run_page("docs/tutorials/pfnano-tagger.md")
    assert names["probabilities"].shape == (len(names["jets"]), len(names["model"].labels))
    assert names["table"].jets == len(names["jets"])
    assert (tmp_path / "z.root").is_file()


@pytest.mark.slow
def test_tutorial_anomalies_runs(tmp_path: Path) -> None:
    names = run_page("docs/tutorials/anomalies.md")
    assert len(names["scan"].cwola) >= 4
    assert (tmp_path / "runs" / "search" / "anomaly").is_dir()
