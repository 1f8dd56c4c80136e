"""data.bad_files=skip: every command goes on without what cannot be read, and says and writes what that was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssl_jets.config import DataSettings, ModelSettings, parse_set
from ssl_jets.data.inspection import files_as_objects, inspect_files
from ssl_jets.embedding.embed import embed
from ssl_jets.errors import DataError
from ssl_jets.evaluation.generated.compare import evaluate_generated
from ssl_jets.evaluation.settings import EvaluateSettings
from ssl_jets.evaluation.single_model import evaluate_model
from ssl_jets.finetuning import finetune, resolve_finetune
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.zfile import read_z
from support.faulty_files import spoil_basket, truncate
from support.finetune_settings import QUICK
from support.jetclass_files import jetclass_branches, write_tree

Write = Callable[..., Path]
SKIP = DataSettings(bad_files="skip")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run") / "model"
    facts = {"method": "mae", "training": {"files": [], "held_out": []}}
    save_model(Model(Encoder(ModelSettings(size="tiny", blocks=1)), facts=facts), folder)
    return folder.parent


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A good file, one that cannot be opened, one whose particles cannot all be read, another good one."""
    folder, named = tmp_path_factory.mktemp("jets"), []
    for number, label in enumerate(("QCD", "QCD", "QCD", "Tbl")):
        branches = jetclass_branches(50, label=label, seed=number) | {"event": np.arange(50) + 2**60}
        named.append(write_tree(folder / f"{label}_{number}.root", {"tree": branches}))
    truncate(named[1])
    for branch in ("part_charge", "event"):
        spoil_basket(named[2], branch, 1)
    return [str(path) for path in named]


def test_embed_keeps_a_row_for_every_jet_of_a_file_that_it_can_open(
    model: Path, paths: list[str], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"data\.bad_files=skip"):
        embed(model, paths, tmp_path / "z.h5")
    assert not (tmp_path / "z.h5").exists()
    logged: list[str] = []
    options: Any = {"keep": ["jet_pt", "event"], "precision": "32-true", "log": logged.append}
    done = embed(model, paths, tmp_path / "z.h5", data=SKIP, **options)
    good = embed(model, [paths[0], paths[3]], tmp_path / "good.h5", **options)
    found, expected = read_z(done.path), read_z(good.path)
    lost = np.isnan(found.z).any(axis=1)
    assert done.jets == len(found) == 150
    assert 0 < lost.sum() == done.skipped <= 50
    # The file that cannot be opened has no rows, and no index.
    assert found.metadata["files"] == [paths[0], paths[2], paths[3]]
    assert set(found.columns["source_file"][lost]) == {1}
    assert found.metadata["files_left_out"] == done.files_left_out == {paths[1]: "the ROOT file is truncated"}
    assert sum(found.metadata["left_out"].values()) == done.skipped
    assert all(paths[2] in reason for reason in found.metadata["left_out"])
    assert any(paths[1] in line for line in logged)
    assert (found.columns["label"][lost] == -1).all()
    for name in ("z", "label", "jet_pt", "event"):
        values = found.z if name == "z" else found.columns[name]
        wanted = expected.z if name == "z" else expected.columns[name]
        assert np.array_equal(values[found.columns["source_file"] != 1], wanted), name
    # What cannot be read is not made up, and is not zero.
    assert (found.columns["event"][lost] == -1).all()
    assert np.isnan(found.columns["jet_pt"][lost]).all()


@pytest.mark.parametrize("suffix", [".root", ".parquet", ".npz"])
def test_every_kind_of_z_file_says_what_was_left_out(
    model: Path, paths: list[str], tmp_path: Path, suffix: str
) -> None:
    done = embed(model, paths[1:], tmp_path / f"z{suffix}", data=SKIP, log=lambda _: None)
    metadata = read_z(done.path).metadata
    assert metadata["left_out"] == done.reasons != {}
    assert list(metadata["files_left_out"]) == [paths[1]]


def test_evaluate_measures_the_rest(model: Path, write_jetclass: Write, tmp_path: Path) -> None:
    files = [write_jetclass(f"jets_{name}.root", seed=seed, label=None) for seed, name in enumerate("abc")]
    truncate(files[1])
    spoil_basket(files[2], "part_charge", 1)
    names, logged = [str(path) for path in files], list[str]()
    settings = EvaluateSettings(data=SKIP)
    found = evaluate_model(model, names, tmp_path / "out", settings=settings, log=logged.append)
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["files_left_out"] == {names[1]: "the ROOT file is truncated"}
    assert written["left_out"] == found.left_out
    assert found.jets["test"] == 50
    assert sum(found.left_out.values()) == 50  # once, though missing from all jets and from those to fit probes on
    assert any("file left out" in line for line in written["notes"])
    assert any("jets left out" in line for line in logged)


@pytest.mark.slow
def test_generated_and_real_files_alike(paths: list[str], write_jetclass: Write, tmp_path: Path) -> None:
    real = [str(write_jetclass(f"real_{number}.root", seed=10 + number)) for number in range(2)]
    cut = write_jetclass("real_9.root")
    truncate(cut)
    found = evaluate_generated(paths, [*real, str(cut)], tmp_path / "out", data=SKIP, log=lambda _: None)
    assert set(found.metrics()["files_left_out"]) == {paths[1], str(cut)}
    assert sum(found.left_out.values()) > 0


@pytest.mark.parametrize(("mode", "labels"), [("probe", "null"), ("full", "60")])
def test_finetune_logs_it_however_it_reads(
    model: Path, paths: list[str], tmp_path: Path, mode: str, labels: str
) -> None:
    more = [*QUICK, "data.bad_files=skip", f"method.mode={mode}", f"method.labels={labels}"]
    settings = resolve_finetune(model, {"data": {"sources": paths}}, parse_set(more))
    out = finetune(settings, tmp_path / "run")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    left_out = [line for line in lines if line["kind"] == "left_out"]
    assert any(line.get("files") == {paths[1]: "the ROOT file is truncated"} for line in left_out)
    assert any(paths[2] in reason for line in left_out for reason in line.get("jets", ()))


def test_inspect_lists_what_it_could_not_open(paths: list[str]) -> None:
    with pytest.raises(DataError, match="truncated"):
        inspect_files(paths, {})
    left_out: dict[str, str] = {}
    looked = inspect_files(paths, left_out, SKIP)
    assert [one.file.source.path for one in looked] == [paths[0], paths[2], paths[3]]
    assert looked[1].seen.jets + sum(looked[1].seen.left_out.values()) == 50
    assert looked[1].seen.left_out
    assert files_as_objects(looked, left_out)[-1] == {"file": paths[1], "left_out": left_out[paths[1]]}
