"""The snippets of the README's section "From Python" run one after the other, on a part of the sample."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from ssl_jets.data.sources import sample_sources
from support.paths import ROOT

QUICK = {"train.validation_jets": 20, "data.buffer": 200, "train.precision": "32-true"}
QUICK_EVALUATION = {"evaluate.physics_jets": 0, "evaluate.robust_jets": 0, "evaluate.test_jets": 200}
SMALLER = {
    "steps=2000": f"steps=2, batch_size=8, size='tiny', settings={QUICK}",
    "labels=0.01": f"labels=0.1, steps=2, batch_size=8, settings={QUICK}",
    'out="out"': f'out="out", settings={QUICK_EVALUATION}',
    "jets=1000": "jets=8",
    "each=1000": "each=20",
}
"""Arguments of the README, and the ones that the test runs them with."""


def snippets() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("\n## From Python\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL))


@pytest.mark.slow
def test_the_snippets_run_as_they_stand_but_for_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jets").mkdir()
    for source in sample_sources()[:2]:
        shutil.copy(source.path, tmp_path / "jets")
    program = snippets()
    for argument, smaller in SMALLER.items():
        assert argument in program
        program = program.replace(argument, smaller)
    names: dict[str, Any] = {}
    exec(compile(program, "README.md", "exec"), names)
    assert names["run"] == Path("runs/mae")
    assert names["tagger"] == Path("runs/tagger")
    assert (tmp_path / "out" / "report.html").is_file()
    assert names["table"].jets == 2000
    assert len(names["jets"]) == len(names["label"]) == len(names["mass"]) == len(names["p"]) == 40
    assert names["p"].shape == (40, len(names["model"].labels))
    assert names["z"].shape == (1, names["model"].encoder.dim)
    assert len(names["generated"]) == 8
