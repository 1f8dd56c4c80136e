"""A command imports few modules: they are counted, and slow ones that it can do without are not among them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_jets.data.sources import sample_sources
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model, save_model
from support.small_models import tiny_encoder

PROGRAM = """
import json, sys
from ssl_jets.cli import main
sys.argv[0] = "ssl-jets"
try:
    main()
finally:
    with open({out!r}, "w") as file:
        json.dump(sorted(sys.modules), file)
"""
UNUSED = {"torch._dynamo", "torch._inductor", "sympy", "lightning_fabric", "sklearn", "scipy", "pandas", "matplotlib"}


def modules_of(folder: Path, *words: str) -> set[str]:
    """The modules that a command has imported at its end."""
    out = folder / "modules.json"
    command = [sys.executable, "-c", PROGRAM.format(out=str(out)), *words]
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, check=True)
    return set(json.loads(out.read_text()))


@pytest.mark.parametrize(("words", "most"), [(["methods"], 400), (["methods", "mae"], 400), (["--help"], 550)])
def test_answers_from_the_sources_import_no_torch(tmp_path: Path, words: list[str], most: int) -> None:
    modules = modules_of(tmp_path, *words)
    assert not modules & (UNUSED | {"torch", "numpy", "awkward", "uproot"})
    assert len(modules) <= most


def test_inspect_imports_arrays_and_no_compiler(tmp_path: Path) -> None:
    modules = modules_of(tmp_path, "inspect", str(sample_sources()[0].path))
    assert not modules & (UNUSED | {"h5py", "ssl_jets.nn.encoder"})
    assert len(modules) <= 1950


def test_embed_imports_no_compiler(tmp_path: Path, batch: Jets) -> None:
    save_model(Model(tiny_encoder(batch), facts={"method": "mae", "training": {}}), tmp_path / "run" / "model")
    words = ["--model", str(tmp_path / "run"), "--out", str(tmp_path / "z.npz"), "--data"]
    modules = modules_of(tmp_path, "embed", *words, str(sample_sources()[0].path))
    assert (tmp_path / "z.npz").is_file()
    assert not modules & UNUSED
    assert len(modules) <= 2100


def test_an_existing_output_and_a_selection_that_is_no_formula_are_refused_before_libraries_are_imported(
    tmp_path: Path,
) -> None:
    """In one process: each command imports what it needs before its refusal."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("{}")
    (tmp_path / "model.onnx").write_text("")
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "metrics.json").write_text("{}")
    program = """
import sys
import ssl_jets.api as api
from ssl_jets.errors import UsageError

def refused(words, verb, *arguments, **options):
    try:
        verb(*arguments, **options)
    except UsageError as error:
        assert words in str(error), error
    else:
        raise AssertionError(verb)

refused("the run exists", api.pretrain, "mae", out="run")
refused("the run exists", api.finetune, "none", out="run")
for verb in (api.embed, api.predict, api.export):
    refused("the output exists", verb, "none", out="model.onnx")
refused("the output exists", api.generate, "none", jets=1, out="model.onnx")
refused("the output exists", api.evaluate, "none", out="evaluation")
print([name for name in ("torch", "uproot", "h5py", "pyarrow", "sklearn", "matplotlib") if name in sys.modules])
refused("not a formula", api.embed, "none", out="new.root", where="jet_pt >")
refused("not a formula", api.pretrain, "mae", settings={"data.where": "jet_pt >"})
print([name for name in ("uproot", "h5py", "pyarrow", "sklearn", "matplotlib") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "[]"]
