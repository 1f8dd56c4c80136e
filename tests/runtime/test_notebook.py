"""In a notebook: progress in place, nothing in red, results of one line, errors that name keywords."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ssl_jets.errors import UsageError
from ssl_jets.evaluation.metrics.bootstrap import Estimate
from ssl_jets.evaluation.metrics.classification import classification_metrics
from ssl_jets.jets import Jets
from ssl_jets.runtime.console import Bar, to_stderr
from ssl_jets.zfile.reader import ZFile


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that a notebook shows in place."""
    shown: list[str] = []

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        return SimpleNamespace(update=lambda data, raw: shown.append(data["text/plain"]))

    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", shell)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))  # type: ignore[arg-type]
    return shown


def test_a_notebook_has_a_bar_in_place_and_nothing_on_stderr(
    kernel: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with Bar("pretrain mae", 40, "steps") as bar:
        bar.to(10, "loss 2.1")
        bar.to(40, "loss 1.9")
    to_stderr("model: runs/mae/model")
    assert kernel[-1] == f"pretrain mae  {'█' * 24} 40 of 40 steps  loss 1.9"
    assert capsys.readouterr() == ("model: runs/mae/model\n", "")


def test_elsewhere_messages_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    to_stderr("model: runs/mae/model")
    assert capsys.readouterr() == ("", "model: runs/mae/model\n")


def test_results_take_one_line(sample_jets: Jets) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    task = classification_metrics(rng.dirichlet((1, 1, 1), 300), labels, ("QCD", "W", "Z"), resamples=10)
    table = ZFile(np.zeros((1000, 64), np.float32), {"label": np.zeros(1000)}, {"files": ["a.root"] * 500})
    for result in (task, table, sample_jets):
        assert len(repr(result)) < 1000
        assert "\n" not in repr(result)
    assert f"accuracy={task.accuracy.value:.4g}" in repr(task)
    assert repr(table) == "ZFile(z=<float32 [1000, 64]>, columns=<1: label>, metadata=<1: files>)"
    assert repr(Estimate(1.0, 0.5, 1.5, 0.0, 2.0)).startswith("Estimate(value=1.0")


def test_an_error_names_the_keyword_in_python_and_the_option_on_the_command_line() -> None:
    error = UsageError("the run exists", where=Path("r"), hint="--resume to go on, --force to replace it")
    assert "--resume (resume=True) to go on, --force (force=True) to replace it" in str(error)
    assert "=True" not in error.message
    setting = UsageError("no", hint="--set train.lr=0.1")
    assert '--set train.lr=0.1 (settings={"train.lr": 0.1})' in str(setting)
    for value, in_python in (("skip", '"skip"'), ("true", "True"), ("[Hbb,W]", '["Hbb", "W"]'), ("[]", "[]")):
        hint = f"--set data.some={value}, or another"
        assert str(UsageError("no", hint=hint)).endswith(f'(settings={{"data.some": {in_python}}}), or another')
    assert re.fullmatch(r"no\n  try:     --set train.lr=0.1", setting.message)
