"""A method in a folder of the user, named by `SSL_JETS_METHODS`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_jets import methods
from ssl_jets.config import parse_set
from ssl_jets.data.read import read_jets
from ssl_jets.generation import generate
from ssl_jets.methods import VARIABLE
from ssl_jets.methods._describe import describe_method, list_methods
from ssl_jets.model_file import load_model
from ssl_jets.pretraining import pretrain, resolve_pretrain

OWN = '''"""Mean pt of a jet from z.

    L = mean of (w z - ln mean pt)^2; for the test alone, as arXiv:0000.00000.
"""

from torch import nn

from ssl_jets.jets import Jets
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

GENERATES = """
    can_generate = True

    def generate(self, jets):
        return Jets.of([[[9.0, 0.0, 0.0]]] * jets, columns=("pt", "deta", "dphi"))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "mean_pt.py").write_text(OWN)
    (folder / "mae.py").write_text("raise AssertionError('a method of the package hides it')")
    return folder


def test_a_method_of_a_folder_is_described(folder: Path) -> None:
    code = "import sys; from ssl_jets.cli import main; sys.argv[1:] = ['methods', 'mean_pt']; main()"
    command, environment = [sys.executable, "-c", code], os.environ | {VARIABLE: folder.name}
    found = subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True, check=False)
    assert "method.scale = 2.0" in found.stdout, found.stderr


def test_a_method_of_a_folder_is_trained_and_its_model_embeds_without_the_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_jetclass: Callable[..., Path]
) -> None:
    sources = [str(write_jetclass())]
    sets = ["train.steps=2", "train.batch_size=8", "model.size=tiny", "model.blocks=1", "method.scale=3"]
    with monkeypatch.context() as patch:
        patch.setattr(methods, "__path__", [*methods.__path__, str(folder)])
        settings = resolve_pretrain("mean_pt", {"data": {"sources": sources}}, parse_set(sets))
        run = pretrain(settings, tmp_path / "run")
        del sys.modules["ssl_jets.methods.mean_pt"]
    assert "mean_pt" not in methods.names()
    model = load_model(run)
    assert model.method == "mean_pt"
    assert model.embed(read_jets(sources)).shape == (50, 64)


def test_a_method_of_a_folder_generates_and_without_the_file_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_jetclass: Callable[..., Path]
) -> None:
    (tmp_path / "makes_jets.py").write_text(OWN + GENERATES)
    sets = ["train.steps=1", "train.batch_size=8", "model.size=tiny", "model.blocks=1"]
    with monkeypatch.context() as patch:
        patch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
        settings = resolve_pretrain("makes_jets", {"data": {"sources": [str(write_jetclass())]}}, parse_set(sets))
        run = pretrain(settings, tmp_path / "run")
        assert generate(run, 3, tmp_path / "made.root").jets == 3
        del sys.modules["ssl_jets.methods.makes_jets"]
    with pytest.raises(methods.SslJetsError, match=r"not on this machine(.|\n)*folder with makes_jets\.py"):
        generate(run, 3, tmp_path / "again.root")


BROKEN = {
    "unclosed": ("class A(", "SyntaxError(.|\n)*never closed"),
    "needs_more": ("import not_there", "ModuleNotFoundError: No module named 'not_there'"),
    "no_config": (OWN.replace("class Config(", "class Other(").replace("    cfg: Config\n", ""), "has a class Config"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_message_and_stops_no_other_method(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, message = BROKEN[name]
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    with pytest.raises(methods.SslJetsError, match=message):
        methods.find(name)
    with pytest.raises(methods.SslJetsError, match="cannot be described"):
        describe_method(name)
    titles = dict(line.split(maxsplit=1) for line in list_methods().splitlines())
    assert titles[name].startswith(("cannot be read: '(' was never closed", "no docstring", "Mean pt of a jet"))
    assert titles["mae"].startswith("Masked")
    assert "next_particle" in methods.with_property("can_generate")


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
