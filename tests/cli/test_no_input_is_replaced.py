"""`--force` replaces outputs, never an input of the same command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl_jets.errors import UsageError
from ssl_jets.runtime.overwriting import check_apart
from ssl_jets.sharing.location import bundled_models
from support.commands import Done

Run = Callable[..., Done]


@pytest.fixture
def inputs(tmp_path: Path, write_jetclass: Any) -> Path:
    """A folder with jets by two names, a model folder, and two parts of a z file."""
    jets = shutil.copy(write_jetclass(entries=8), tmp_path / "jets.root")
    (tmp_path / "link.root").symlink_to(jets)
    for run in ("run", "folds/fold-1"):
        shutil.copytree(bundled_models()["tiny-sup"], tmp_path / run / "model")
        (tmp_path / run / "config.yaml").write_text("")
    top = write_jetclass("Tbqq.root", entries=8, label="Tbqq", seed=1)
    shutil.copy(top, tmp_path / "top.root")
    shutil.copy(top, tmp_path / "folds" / "scores.root")
    shutil.copy(write_jetclass("Tbl.root", entries=8, label="Tbl", seed=2), tmp_path / "run" / "mine.root")
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


REFUSED = {
    "embed": "embed --model run --data jets.root --out jets.root",
    "embed: another spelling": "embed --model run --data jets.root --out folds/../jets.root",
    "embed: data by a link": "embed --model run --data link.root --out jets.root",
    "embed: output by a link": "embed --model run --data jets.root --out link.root",
    "embed: resumed": "embed --model run --data jets.root --out jets.root --resume",
    "embed: a part": "embed --model run --data jets.root run/mine.root --out jets.root --part 2/2",
    "embed: per file": "embed --model run --data jets.root run/mine.root --out {name}.root --per-file",
    "predict": "predict --model run --data jets.root --out jets.root",
    "convert": "convert part run/model/model.safetensors --out run/model",
    "finetune: the model": "finetune --model run --data jets.root top.root STEP --out run",
    "finetune: the data": "finetune --model folds/fold-1 --data jets.root run/mine.root STEP --out run",
    "finetune: unlabelled data": "finetune --model folds/fold-1 --data jets.root top.root --domain run/mine.root "
    "--adapt coral STEP --out run",
    "finetune: scores of folds": "finetune --model run --data jets.root folds/scores.root --folds 2 STEP --out folds",
    "pretrain: the data": "pretrain --method mae TINY --data run/mine.root --out run",
    "pretrain: files to validate on": "pretrain --method mae TINY --data jets.root --val run/mine.root --out run",
    "pretrain: the model": "pretrain --method mae --model run --steps 1 --data jets.root --out run",
    "pretrain: the teacher": "pretrain --method salt --set method.teacher=run --steps 1 --data jets.root --out run",
}


@pytest.mark.parametrize("words", REFUSED.values(), ids=REFUSED)
def test_an_output_that_is_an_input_or_contains_one_is_refused(ssl_jets: Run, inputs: Path, words: str) -> None:
    before = contents(inputs)
    words = words.replace("STEP", "--mode head --steps 1").replace("TINY", "--size tiny --steps 1")
    done = ssl_jets(*words.split(), "--force")
    assert done.code == 2, done.err
    assert "the output is an input" in done.err or "the output contains an input" in done.err
    assert contents(inputs) == before


def test_a_part_or_an_index_is_not_replaced_by_what_is_made_of_it(ssl_jets: Run, inputs: Path) -> None:
    for number in (1, 2):
        ssl_jets("embed", "--model", "run", "--data", "jets.root", "--part", f"{number}/2", "--out", f"p{number}.root")
    ssl_jets("merge", "p1.root", "p2.root", "--out", "metrics.json")
    before = contents(inputs)
    for words in ("merge p1.root p2.root --out p1.root", "evaluate --z metrics.json --out ."):
        done = ssl_jets(*words.split(), "--force")
        assert (done.code, "the output is an input" in done.err) == (2, True)
    assert contents(inputs) == before


def test_other_outputs_in_the_folder_of_an_input_are_free(tmp_path: Path) -> None:
    file, folder = tmp_path / "a.root", tmp_path / "run"
    file.touch()
    folder.mkdir()
    (folder / "b.root").hardlink_to(file)
    check_apart([tmp_path / "z.root", folder], [file, "root://host//a.root", tmp_path / "gone.root"])
    for outputs in ([file], [folder]):
        with pytest.raises(UsageError):
            check_apart(outputs, [folder / "b.root"])
