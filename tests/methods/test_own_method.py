"""A method in a folder of the user, named by `SSL_JETS_METHODS`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_jets import methods
from ssl_jets.data.read import read_jets
from ssl_jets.methods import VARIABLE
from ssl_jets.methods._describe import describe_method
from ssl_jets.model_file import load_model
from ssl_jets.pretraining import pretrain, resolve_pretrain

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


def test_a_variable_adds_folders_behind_the_methods_of_the_package(tmp_path: Path) -> None:
    for name in ("mean_pt", "mae"):
        (tmp_path / f"{name}.py").write_text(OWN)
    code = "from ssl_jets import methods; print('mean_pt' in methods.names(), methods.__path__[1:])"
    environment = os.environ | {VARIABLE: tmp_path.name}
    command, options = [sys.executable, "-c", code], {"capture_output": True, "text": True, "check": True}
    done = subprocess.run(command, cwd=tmp_path.parent, env=environment, **options)  # type: ignore[call-overload]
    assert done.stdout.strip() == f"True {[str(tmp_path)]}"


def test_a_method_of_a_folder_is_described_and_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_jetclass: Callable[..., Path]
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mean_pt.py").write_text(OWN)
    with monkeypatch.context() as patch:
        patch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path / "own")])
        assert "method.scale = 2.0" in describe_method("mean_pt")
        file = write_jetclass()
        data = {"data": {"sources": [str(file)]}, "model": {"size": "tiny", "blocks": 1}}
        length = {"steps": 2, "batch_size": 8, "validation_jets": 5}
        settings = resolve_pretrain("mean_pt", data, {"train": length, "method": {"scale": 3}})
        run = pretrain(settings, tmp_path / "r")
    # z needs the encoder alone, so a machine without the file embeds with the model.
    monkeypatch.delitem(sys.modules, "ssl_jets.methods.mean_pt")
    assert load_model(run).embed(read_jets([str(file)], each=3)).shape == (3, 64)


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
