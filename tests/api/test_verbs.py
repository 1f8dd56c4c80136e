"""The Python interface: the arguments and defaults of the commands, imported on first use."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import ssl_jets
from ssl_jets import api
from ssl_jets.api.arguments import names_of
from ssl_jets.cli.app import app
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets

NAMES_IN_PYTHON = {"set_": "settings"}
ONLY_ON_THE_COMMAND_LINE = {
    "finetune": {"plan", "json_"},  # `plan_finetuning`; a plan has `as_json`
    "evaluate": {"model", "json_"},  # `runs`; a result has `metrics`
}


def parameters_of(command: str) -> dict[str, Any]:
    """Return the default of each option of a command, by the name of the argument in Python."""
    params = get_command(app).commands[command].params  # type: ignore[attr-defined]
    return {
        NAMES_IN_PYTHON.get(param.name, param.name): None
        if param.required
        else getattr(param.default, "value", param.default)
        for param in params
        if param.name not in ONLY_ON_THE_COMMAND_LINE.get(command, set()) | {"help"}
    }


@pytest.mark.parametrize(
    "command", ["pretrain", "embed", "predict", "merge", "finetune", "evaluate", "export", "generate", "share"]
)
def test_a_verb_has_the_arguments_and_defaults_of_its_command(command: str) -> None:
    arguments = inspect.signature(getattr(ssl_jets, command)).parameters
    options = parameters_of(command)
    assert set(arguments) == set(options)
    for name, argument in arguments.items():
        default = None if argument.default in ((), inspect.Parameter.empty) else argument.default
        assert default == options[name], name


def test_the_plan_has_the_arguments_of_finetune_but_for_its_output() -> None:
    plan, finetune = (set(inspect.signature(verb).parameters) for verb in (api.plan_finetuning, api.finetune))
    assert finetune - plan == {"out", "resume", "force"}
    assert plan <= finetune


def test_the_public_names_are_listed_and_imported_on_first_use() -> None:
    assert set(ssl_jets.__all__) <= set(dir(ssl_jets))
    for name in ssl_jets.__all__:
        assert getattr(ssl_jets, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'train'"):
        _ = ssl_jets.train  # type: ignore[attr-defined]
    program = "import ssl_jets, sys; dir(ssl_jets); print([name for name in sys.modules if 'ssl_jets.' in name])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_can_be_caught_before_anything_is_imported() -> None:
    program = "import ssl_jets; print(ssl_jets.errors.SslJetsError.__name__, [n for n in dir(ssl_jets) if n[0] == '_'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "SslJetsError ['__doc__', '__version__']"


def test_one_name_is_as_good_as_several_and_settings_have_dotted_keys(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        "ssl_jets.pretraining.pretrain", lambda settings, folder, **options: asked.append((settings, folder)) or folder
    )
    monkeypatch.setattr("ssl_jets.report.write_run_report", lambda folder: folder)
    for data in ("a.root", ["a.root"], Path("a.root")):
        run = ssl_jets.pretrain(
            "mae", data=data, out=tmp_path / "run", steps=3, settings={"train.lr": 5e-4, "model": {"size": "tiny"}}
        )
        settings, folder = asked.pop()
        assert run == folder == tmp_path / "run"
        assert (settings.data.sources, settings.train.steps, settings.train.lr) == (("a.root",), 3, 5e-4)
        assert settings.model.size == "tiny"


@pytest.mark.parametrize(
    "call",
    [
        lambda jets: ssl_jets.pretrain("mae", data=jets),
        lambda jets: ssl_jets.embed("run", data=jets, out="z.npz"),
        lambda jets: ssl_jets.embed("run", data=[jets], out="z.npz"),
        lambda model: ssl_jets.embed(model, data="a.root", out="z.npz"),
        lambda model: ssl_jets.predict(model, data="a.root", out="z.npz"),
        lambda model: ssl_jets.finetune(model, data="a.root"),
        lambda model: ssl_jets.evaluate(model, data="a.root"),
        lambda model: ssl_jets.export(model, out="model.onnx"),
        lambda z: ssl_jets.evaluate(z=z),
        lambda model: ssl_jets.load_model(model),
    ],
)
@pytest.mark.parametrize("memory", [Jets.of([[[9.0, 0.1, 0.2]]], ("pt", "deta", "dphi")), object()])
def test_an_object_in_memory_is_no_name_of_a_file_or_model(
    call: Callable[[Any], Any], memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is given by its name") as caught:
        call(memory)
    assert caught.value.found == type(memory).__name__
    assert "model.embed(jets)" in str(caught.value)


def test_names_come_from_any_iterable(tmp_path: Path) -> None:
    (tmp_path / "a.root").touch()
    assert names_of(tmp_path.glob("*.root")) == (str(tmp_path / "a.root"),)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ssl_jets.pretrain("mea"), ["allowed: mae"]),
        (lambda: ssl_jets.pretrain("mae", settings={"train.lrr": 1}), ["train.lrr", "train.lr"]),
        (lambda: ssl_jets.pretrain("mae", settings={"train.lr": 1, "train": {"lr": 2}}), ["given twice", "train.lr"]),
        (lambda: ssl_jets.pretrain("mae", settings={"train..lr": 1}), ["dotted key"]),
        (lambda: ssl_jets.evaluate("run", protocol="label"), ["--protocol", "allowed: labels"]),
        (lambda: ssl_jets.embed("run", out="z.npz", level="jets"), ["--level", "allowed: jet"]),
        (lambda: ssl_jets.evaluate("run", z="z.npz"), ["one of them"]),
    ],
)
def test_a_wrong_argument_is_a_usage_error(
    call: Any, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as error:
        call()
    assert all(word in str(error.value) for word in words), error.value
    assert not list(tmp_path.iterdir())


def test_a_misspelt_run_to_resume_is_named_with_the_run_beside_it(tmp_path: Path) -> None:
    for run in ("mae", "simclr"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "config.yaml").write_text("method: {name: mae}\n")
    with pytest.raises(UsageError, match="no run to continue") as raised:
        ssl_jets.pretrain(out=tmp_path / "mea", resume=True)
    assert "beside it is mae" in raised.value.message
    with pytest.raises(UsageError, match="begins a new one"):
        ssl_jets.pretrain(out=tmp_path / "none" / "mea", resume=True)
    assert not (tmp_path / "mea").exists()
