"""A message names what was found, and a next command that helps."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from ssl_jets.config import ModelSettings
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.encoder import Encoder
from support.commands import Done

Run = Callable[..., Done]


@pytest.mark.parametrize("words", ["evaluate --z - --out ev", "merge - --out m.root", "embed --out -"])
def test_a_z_file_is_no_stream(ssl_jets: Run, words: str) -> None:
    done = ssl_jets(*words.split())
    assert done.code == 2
    assert "a z file is no stream" in done.err
    assert "-.root" not in done.err


@pytest.mark.parametrize(
    ("plot", "hint"),
    [("x.docx", "--plot x.png"), ("x", "--plot x.png"), ("old.png", "another --plot"), (".", None)],
)
def test_a_figure_of_columns_is_a_new_png(
    ssl_jets: Run, tmp_path: Path, write_jetclass: Any, plot: str, hint: str | None
) -> None:
    (tmp_path / "old.png").write_text("mine")
    done = ssl_jets("inspect", write_jetclass(entries=8), "--plot", plot)
    assert done.code == 2
    assert hint is None or hint in done.err
    assert "--out" not in done.err
    assert [path.name for path in tmp_path.glob("*") if path.suffix in (".png", ".docx")] == ["old.png"]
    assert (tmp_path / "old.png").read_text() == "mine"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs, one of which has not finished."""
    (tmp_path / "runs" / "begun" / "checkpoints").mkdir(parents=True)
    encoder = Encoder(ModelSettings(size="tiny", blocks=1))
    save_model(Model(encoder, facts={"method": "mae"}), tmp_path / "runs" / "mae" / "model")
    (tmp_path / "runs" / "mae" / "checkpoints").mkdir()
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("model", "allowed"),
    [
        ("runs", "allowed: runs/mae\n"),
        ("runs/mea", "allowed: runs/mae\n"),
        ("runs/mae/checkpoints", "allowed: runs/mae\n"),
        ("runs/mae/model/model.safetensors", "allowed: runs/mae/model, runs/mae\n"),
        ("mae", "allowed: runs/mae, "),
        ("smal-ssl", "allowed: small-ssl, small-sup, "),
        ("runs/begun", "found:   a run that has not finished\n  try:     the command that began this run"),
    ],
)
def test_a_path_without_a_model_names_the_models_near_it(ssl_jets: Run, runs: Path, model: str, allowed: str) -> None:
    assert runs.is_dir()
    done = ssl_jets("embed", "--model", model, "--out", "z.root")
    assert done.code == 1
    assert f"where:   {model}\n" in done.err
    assert allowed in done.err


def test_jets_in_the_place_of_a_run_are_no_run(ssl_jets: Run, runs: Path, write_jetclass: Any) -> None:
    file = write_jetclass(entries=8)
    done = ssl_jets("evaluate", runs / "mae", file)
    assert done.code == 1
    assert f"there is no trained model here\n  where:   {file}\n" in done.err
    assert "--data names jets" in done.err


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("embed runs/mae --out z.root", "embed takes names only after an option", "--model runs/mae\n"),
        ("finetune runs/mae", "finetune takes names only after an option", "--model runs/mae\n"),
        ("pretrain mae", "pretrain takes names only after an option", "--method mae\n"),
        ("predict jets --out s.root", "predict takes names only after an option", "--data jets\n"),
        ("predict gone", "predict takes names only after an option", "ssl-jets predict --help"),
        ("evaluate runs/mae --steps 9", "evaluate has no such option", "--steps is one of pretrain, finetune\n"),
        ("embed --method mae", "embed has no such option", "--method is one of pretrain\n"),
        ("embed --bad-jets skip", "this setting has no option of its own", "--set data.bad_jets=skip\n"),
        ("finetune --devices 2", "no option of its own", "--set train.devices=2\n"),
        ("export --where jet_pt>5", "no option of its own", "--set 'data.where=jet_pt>5'\n"),
        (
            "pretrain --keep jet_pt",
            "pretrain has no such option",
            "of embed, predict, and not the setting train.keep\n",
        ),
        (
            "pretrain --labels 0.1",
            "has no such option",
            "simulate, and not the setting data.labels\n",
        ),
        ("pretrain --method simclr --temperature 1", "has no such option", "not the setting method.temperature\n"),
        ("embed --jets 100", "embed has no such option", "of generate, simulate, and not the setting data.jets\n"),
        ("evaluate --split-seed 3", "no option of its own", "--set data.split_seed=3\n"),
        ("embed --buffer 9", "No such option", "--buffer"),  # a setting of trainings
        ("embed --precision 32-true", "no option of its own", "--set train.precision=32-true\n"),
    ],
)
def test_a_word_or_option_of_another_place_has_its_place_in_the_message(
    ssl_jets: Run, runs: Path, words: str, message: str, hint: str
) -> None:
    (runs.parent / "jets").mkdir()
    done = ssl_jets(*words.split())
    assert done.code == 2
    assert message in done.err
    assert hint in done.err


def test_an_output_without_a_folder_is_refused_before_the_work_with_a_command_that_can_be_pasted(
    ssl_jets: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "new ü folder"
    for words in ("export --model tiny-ssl", "generate --model gone --jets 9", "embed --model gone", "merge gone.root"):
        done = ssl_jets(*words.split(), "--out", folder / ("m.onnx" if "export" in words else "z.root"))
        assert done.code == 1
        assert done.err.splitlines()[-1] == f"  try:     mkdir -p '{folder}'", words
        assert "writing the graph" not in done.err


def test_an_output_in_a_folder_that_cannot_be_written_is_refused_before_the_work(
    ssl_jets: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path and access(path, mode))  # as a user
    for words in ("export --model tiny-ssl --out m.onnx", "embed --model gone --out z.root"):
        done = ssl_jets(*words.split())
        assert done.code == 1
        assert "the output cannot be written\n" in done.err
        assert "found:   no write access\n" in done.err
        assert "writing the graph" not in done.err


def test_a_misspelt_class_is_answered_with_the_classes_of_the_file(ssl_jets: Run, write_jetclass: Any) -> None:
    file = write_jetclass(entries=8)
    words = ["finetune", "--model", "tiny-ssl", "--data", file, "--out", "run"]
    done = ssl_jets(*words, "--set", "data.labels=[QCD,Hbbb]")
    assert "some label branches are there, but not Hbbb" in done.err
    assert "allowed: Hbb, " in done.err


def test_jets_that_are_not_selected_are_not_called_bad(ssl_jets: Run, write_jetclass: Any) -> None:
    file = write_jetclass(entries=8)
    done = ssl_jets("inspect", file, "--where", "jet_pt > 1e5")
    assert "looked at:        0 jets, all of them; selected by where: 0 of 8" in done.out
    assert "cannot be used" not in done.out
    for words in (["embed", "--model", "tiny-ssl"], ["predict", "--model", "tiny-sup"]):
        done = ssl_jets(*words, "--data", file, "--where", "jet_pt > 1e5", "--out", "z.root")
        assert done.code == 1
        assert "there is no jet that is selected" in done.err
        assert "8: not selected by where" in done.err


def test_a_selection_tells_that_its_rows_are_no_friend_of_the_input(ssl_jets: Run, write_jetclass: Any) -> None:
    file = write_jetclass(entries=8)
    half = f"jet_pt > {np.median(uproot.open(file)['tree/jet_pt'].array())}"
    done = ssl_jets("embed", "--model", "tiny-ssl", "--data", file, "--out", "z.root", "--where", half)
    assert "4 of 8 jets" in done.err
    assert "join them by source_file, source_entry and source_jet, not as a ROOT friend" in done.err


def test_a_bundled_model_is_named_once(ssl_jets: Run, write_jetclass: Any) -> None:
    words = ["predict", "--model", "tiny-sup", "--data", write_jetclass(entries=8), "--out", "s.root"]
    for more in ([], ["--temperature", "fit", "--force"]):
        assert ssl_jets(*words, *more).err.count("model: tiny-sup, which comes with ssl-jets") == 1
