"""A message names what was found, and a next command that helps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

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
    assert "join them by source_file and source_entry, not as a ROOT friend" in done.err


def test_a_bundled_model_is_named_once(ssl_jets: Run, write_jetclass: Any) -> None:
    words = ["predict", "--model", "tiny-sup", "--data", write_jetclass(entries=8), "--out", "s.root"]
    for more in ([], ["--temperature", "fit", "--force"]):
        assert ssl_jets(*words, *more).err.count("model: tiny-sup, which comes with ssl-jets") == 1
