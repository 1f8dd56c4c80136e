"""A method in a folder of the user, named by `SSL_JETS_METHODS`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_jets import methods
from ssl_jets.methods import VARIABLE

OWN = '''"""Mean pt of a jet from z.

    L = mean of (w z - ln mean pt)^2; for the test alone, as arXiv:0000.00000.
"""

from torch import nn

from ssl_jets.methods._method import Method, MethodSettings


class PtMethod(Method):
    class Config(MethodSettings):
        scale: float = 2.0
        """Factor of the loss."""

    cfg: Config

    def __init__(self, cfg, encoder, labels=()):
        super().__init__(cfg, encoder, labels)
        self.out = nn.Linear(encoder.dim, 1)

    def loss(self, jets, progress):
        """Compute the squared error."""
        target = jets.mean(jets.column("pt").unsqueeze(1)).log()
        return {"loss": self.cfg.scale * (self.out(self.encoder(jets).z) - target).square().mean()}
'''


def run(folder: str | Path, code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {VARIABLE: str(folder)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


CLI = "import sys; from ssl_jets.cli import main; sys.argv[1:] = {words}; main()"


def test_a_method_of_a_folder_is_described_and_trained(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mean_pt.py").write_text(OWN)
    (tmp_path / "own" / "mae.py").write_text("raise AssertionError('a method of the package hides it')")
    described = run("own", CLI.format(words=["methods", "mean_pt"]), tmp_path)
    assert "method.scale = 2.0" in described.stdout, described.stderr
    sets = ["train.steps=2", "train.batch_size=8", "train.validation_jets=20", "model.blocks=1", "method.scale=3"]
    words = ["pretrain", "--method", "mean_pt", "--size", "tiny", "--out", "r", *(f"--set={one}" for one in sets)]
    trained = run("own", CLI.format(words=words), tmp_path)
    assert trained.stdout.split() == ["r"], trained.stderr
    # z needs the encoder alone, so a machine without the file embeds with the model.
    embed = "import ssl_jets; m = ssl_jets.load_model('r'); print(m.embed(ssl_jets.read_jets(each=1)).shape[1])"
    elsewhere = run("", embed, tmp_path)
    assert elsewhere.stdout.split() == ["64"], elsewhere.stderr


@pytest.mark.parametrize(
    ("source", "found"), [("x = 1", "none"), (OWN + "\n\nclass Other(PtMethod): pass", "PtMethod")]
)
def test_a_file_without_one_method_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, found: str
) -> None:
    (tmp_path / "odd_file.py").write_text(source)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "ssl_jets.methods.odd_file", raising=False)
    with pytest.raises(methods.SslJetsError, match="one class derived from Method") as caught:
        methods.find("odd_file")
    assert found in str(caught.value.found)
