"""The examples score jets with an exported model, without PyTorch and without ssl-jets, and in C++."""

from __future__ import annotations

import csv
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssl_jets import api
from support.exported import Exported

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
FILE = ROOT / "data" / "HToBB.root"
JETS = 20


def run(*words: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="session")
def scored(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `scores.csv` and `jets.csv`, made in a process in which PyTorch and ssl-jets cannot be imported."""
    folder = tmp_path_factory.mktemp("scored")
    program = (
        "import runpy, sys; sys.modules['torch'] = sys.modules['ssl_jets'] = None; "
        f"sys.argv[0] = {str(EXAMPLES / 'score_onnx.py')!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    words = [
        exported.summary.path,
        FILE,
        folder / "scores.csv",
        "--jets",
        str(JETS),
        "--particles",
        folder / "jets.csv",
    ]
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_python_example_needs_no_torch_and_gives_the_scores_of_the_model(exported: Exported, scored: Path) -> None:
    header, *rows = csv.reader((scored / "scores.csv").open())
    model, jets = exported.model, api.read_jets(FILE, each=JETS)
    z = model.embed(jets, device="cpu", precision="32-true")
    dim = z.shape[1]
    assert header == [f"z_{index}" for index in range(dim)] + [f"p_{name}" for name in model.labels] + [
        "jet_sdmass", "jet_tau2/jet_tau1",
    ]  # fmt: skip
    values = np.array(rows, dtype=float)
    np.testing.assert_allclose(values[:, :dim], z, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(values[:, dim : dim + len(model.labels)], model.probabilities(z), atol=1e-6)
    np.testing.assert_allclose(values[:, dim + len(model.labels) :], model.regressed(z), rtol=1e-5)


def test_the_python_example_names_a_missing_file_or_tree(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, script = exported.summary.path, str(EXAMPLES / "score_onnx.py")
    for words, text in (
        ([tmp_path / "no.onnx", FILE, tmp_path / "s.csv"], "there is no file"),
        ([model, tmp_path / "no.root", tmp_path / "s.csv"], "no.root"),
        ([model, FILE, tmp_path / "s.csv", "--tree", "events"], "no tree events, only tree"),
    ):
        monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(script, run_name="__main__")
        printed = capsys.readouterr()
        assert (stop.value.code, printed.out) == (2, "")
        assert text in printed.err
    assert list(tmp_path.iterdir()) == []


def test_the_cpp_example_gives_the_scores_of_the_python_example(exported: Exported, scored: Path) -> None:
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("no cmake or C++ compiler")
    build = scored / "build"
    configured = run("cmake", "-S", EXAMPLES / "cpp", "-B", build)
    if configured.returncode != 0 and "ONNXRUNTIME_" in configured.stderr:
        pytest.skip("no headers of onnxruntime: ONNXRUNTIME_ROOT=FOLDER names them")
    assert configured.returncode == 0, configured.stderr
    built = run("cmake", "--build", build)
    assert built.returncode == 0, built.stdout + built.stderr

    done = run(build / "score_onnx", exported.summary.path, scored / "jets.csv")
    assert done.returncode == 0, done.stderr
    found = np.array([line.split(",") for line in done.stdout.splitlines()], dtype=float)
    expected = np.array(list(csv.reader((scored / "scores.csv").open()))[1:], dtype=float)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    assert found.shape[0] == JETS

    (scored / "wrong.csv").write_text("jet,pt\n0,5\n")
    wrong = run(build / "score_onnx", exported.summary.path, scored / "wrong.csv")
    assert wrong.returncode == 1
    assert "columns are not jet,pt,deta" in wrong.stderr


def test_the_kinds_of_the_example_are_those_of_the_package(exported: Exported, scored: Path) -> None:
    header, *rows = csv.reader((scored / "jets.csv").open())
    jets = api.read_jets(FILE, each=JETS)
    values = torch.tensor([[float(cell) for cell in row[1:]] for row in rows])
    assert header[1:] == list(jets.columns)
    torch.testing.assert_close(values, jets.particles)
