"""A command imports few modules: they are counted, and slow ones that it can do without are not among them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_jets.model_file import Model, save_model
from ssl_jets.runtime.launcher import environment_alone
from support.jetclass_files import jetclass_branches, write_tree
from support.small_models import made_jets, tiny_encoder

PROGRAM = """
import json, os, sys

imported = {}

def command(*words):
    from ssl_jets.cli import main

    sys.argv = ["ssl-jets", *words]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, words
    imported[" ".join(words[:2])] = sorted(sys.modules)

def refused(words, verb, *arguments, **options):
    import ssl_jets.api
    from ssl_jets.errors import UsageError

    try:
        getattr(ssl_jets.api, verb)(*arguments, **options)
    except UsageError as error:
        assert words in str(error), error
    else:
        raise AssertionError(verb)

command("methods")
command("methods", "mae")
process = os.fork()
if process:
    assert os.waitpid(process, 0)[1] == 0
    command("inspect", "jets.root")
    command("embed", "--model", "run", "--out", "z.npz", "--data", "jets.root")
else:
    command("--help")
    refused("the run exists", "pretrain", "mae", out="run")
    refused("the run exists", "finetune", "none", out="run")
    for verb in ("embed", "predict", "export"):
        refused("the output exists", verb, "none", out="model.onnx")
    refused("the output exists", "generate", "none", jets=1, out="model.onnx")
    refused("the output exists", "evaluate", "none", out="evaluation")
    imported["existing outputs"] = sorted(sys.modules)
    refused("not a formula", "embed", "none", out="new.root", where="jet_pt >")
    refused("not a formula", "pretrain", "mae", settings={"data.where": "jet_pt >"})
    imported["selections"] = sorted(sys.modules)
with open("commands.json" if process else "refusals.json", "w") as file:
    json.dump(imported, file)
"""
UNUSED = {"torch._dynamo", "torch._inductor", "sympy", "lightning_fabric", "sklearn", "scipy", "pandas", "matplotlib"}


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The modules imported at the end of each command, also by the commands before it, and of refusals of functions.

    `--help` and the refusals run in a fork of the process of the other commands.
    """
    folder = tmp_path_factory.mktemp("startup")
    write_tree(folder / "jets.root", {"tree": jetclass_branches(10, label="QCD", seed=0)}, cluster=20)
    model = Model(tiny_encoder(made_jets([20, 30])), facts={"method": "mae", "training": {}})
    save_model(model, folder / "run" / "model")
    (folder / "run" / "config.yaml").write_text("{}")
    (folder / "model.onnx").write_text("")
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "metrics.json").write_text("{}")
    command, environment = [sys.executable, "-c", PROGRAM], os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "z.npz").is_file()
    found = [json.loads((folder / f"{name}.json").read_text()) for name in ("commands", "refusals")]
    return {name: set(names) for part in found for name, names in part.items()}


@pytest.mark.parametrize(("words", "most"), [("methods", 400), ("methods mae", 400), ("--help", 550)])
def test_answers_from_the_sources_import_no_torch(modules: dict[str, set[str]], words: str, most: int) -> None:
    assert not modules[words] & (UNUSED | {"torch", "numpy", "awkward", "uproot"})
    assert len(modules[words]) <= most


def test_an_existing_output_and_a_selection_that_is_no_formula_are_refused_before_libraries_are_imported(
    modules: dict[str, set[str]],
) -> None:
    libraries = {"uproot", "h5py", "pyarrow", "sklearn", "matplotlib"}
    assert not modules["existing outputs"] & (libraries | {"torch"})
    assert not modules["selections"] & libraries


def test_inspect_imports_arrays_and_no_compiler(modules: dict[str, set[str]]) -> None:
    assert not modules["inspect jets.root"] & (UNUSED | {"h5py", "ssl_jets.nn.encoder"})
    assert len(modules["inspect jets.root"]) <= 1950


def test_embed_imports_no_compiler(modules: dict[str, set[str]]) -> None:
    assert not modules["embed --model"] & UNUSED
    assert len(modules["embed --model"]) <= 2100


INTERRUPTED = """
import signal, sys

class AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == "MODULE":
            signal.raise_signal(signal.NUMBER)

sys.meta_path.insert(0, AtImport())
sys.argv = ["ssl-jets", "inspect", "gone.root"]
from ssl_jets.cli import main
main()
"""


@pytest.mark.parametrize(("module", "number"), [("typer", "SIGINT"), ("pydantic", "SIGINT"), ("typer", "SIGTERM")])
def test_a_signal_during_imports_is_one_line(module: str, number: str) -> None:
    program = INTERRUPTED.replace("MODULE", module).replace("NUMBER", number)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 128 + getattr(signal, number)
    assert done.stderr == f"stopped by {number}\n"


@pytest.mark.parametrize("name", ["random", "numpy", "token", "signal"])
def test_files_of_the_working_folder_hide_no_modules(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit('hidden')")
    alone = [sys.executable, "-c", f"import {name}, ssl_jets; print('alone')"]
    for words, environment, printed in (
        ([sys.executable, "-m", "ssl_jets", "methods"], None, "mae "),
        (alone, environment_alone(), "alone"),
    ):
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert printed in done.stdout
