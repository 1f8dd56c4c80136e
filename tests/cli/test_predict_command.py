"""The commands predict and merge: paths on stdout, talk on stderr, errors with exit codes; a fitted temperature."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ssl_jets.api.temperatures import temperatures_of
from ssl_jets.config import ModelSettings
from ssl_jets.data.read import read_jets
from ssl_jets.data.sources import sample_sources
from ssl_jets.embedding.options import OutSettings
from ssl_jets.embedding.predictions import predict
from ssl_jets.errors import UsageError
from ssl_jets.model_file import Model, load_model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead
from ssl_jets.zfile import read_scores
from support.commands import Done
from support.jetclass_files import jetclass_branches, write_tree
from support.ranks import on_ranks

SOURCES = [source.path for source in sample_sources()[:3]]
CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")


@pytest.fixture(scope="module")
def taggers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Run folders of two taggers with some skill; the second has the logits of the first times 3."""
    torch.manual_seed(0)
    encoder = Encoder(ModelSettings(size="tiny", blocks=1))
    jets = read_jets(SOURCES, each=300)
    z = Model(encoder).embed(jets, device="cpu")
    assert jets.labels is not None
    fitted = LogisticRegression(C=0.1, max_iter=300).fit(z, jets.labels.numpy())
    runs = []
    for factor in (1.0, 3.0):
        head = ClassHead(encoder.dim, len(CLASSES))
        layer = head.layers[0]
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.fill_(-20.0 * factor)  # classes without jets
            for row, label in enumerate(fitted.classes_):
                layer.weight[label] = torch.from_numpy(factor * fitted.coef_[row])
                layer.bias[label] = float(factor * fitted.intercept_[row])
        run = tmp_path_factory.mktemp(f"tagger{factor:g}")
        save_model(Model(encoder, head, CLASSES, {"method": "mae"}), run / "model")
        (run / "config.yaml").write_text(json.dumps({"data": {"sources": SOURCES}}))
        runs.append(run)
    return runs[0], runs[1]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three files of 250 jets."""
    folder = tmp_path_factory.mktemp("jets")
    branches = {label: jetclass_branches(250, label=label, seed=seed) for seed, label in enumerate(CLASSES[:3])}
    return [write_tree(folder / f"{label}.root", {"tree": some}, cluster=250) for label, some in branches.items()]


def test_predict_and_merge_print_their_file(
    ssl_jets: Callable[..., Done], taggers: tuple[Path, Path], files: list[Path], tmp_path: Path
) -> None:
    words = ["predict", "--model", taggers[0], "--data", *files, "--score", "D = Hbb / (Hbb + QCD)"]
    one = ssl_jets(*words, "--out", "s.root")
    assert (one.code, one.out) == (0, "s.root\n")
    assert "750 jets in" in one.err
    for number in (1, 2):
        done = ssl_jets(*words, "--part", f"{number}/2", "--out", f"{number}.parquet", "--resume")
        assert (done.code, done.out) == (0, f"{number}.parquet\n"), done.err
    merged = ssl_jets("merge", "2.parquet", "1.parquet", "--out", "m.root")
    assert (merged.code, merged.out) == (0, "m.root\n")
    assert "750 rows of 2 parts" in merged.err
    first, second = read_scores(tmp_path / "s.root"), read_scores(tmp_path / "m.root")
    assert first.metadata == second.metadata
    assert all(np.array_equal(values, second.columns[name]) for name, values in first.columns.items())
    per_file = ssl_jets(*words, "--per-file", "--out", "each/{name}.npz")
    assert per_file.out.split() == [f"each/{file.stem}.npz" for file in files]


def test_errors_have_exit_codes_and_leave_no_file(
    ssl_jets: Callable[..., Done], taggers: tuple[Path, Path], files: list[Path], tmp_path: Path
) -> None:
    words = ["predict", "--model", taggers[0], "--data", files[0]]
    for code, more, text in (
        (2, ["--out", "s.txt"], "suffix"),
        (2, ["--out", "s.root", "--score", "D = Hxx / QCD"], "allowed: "),
        (2, ["--out", "s.root", "--part", "0/3"], "--array=1-10"),
        (2, ["--out", "s.root", "--temperature", "-1"], "--temperature"),
        (2, ["--out", "s.root", "--where", "jet_pt >"], "data.where=jet_pt >"),
        (2, ["--out", "s.root", "--where", "part_px > 0"], "float[]"),
        (2, ["--out", "s.root", "--keep", "part_px"], "float[]"),
        (1, ["--out", "none/s.root"], "mkdir -p"),
    ):
        done = ssl_jets(*words, *more)
        assert (done.code, done.out) == (code, ""), done.err
        assert text in done.err, done.err
    save_model(Model(load_model(taggers[0]).encoder, facts={"method": "mae"}), tmp_path / "encoder" / "model")
    headless = ssl_jets("predict", "--model", "encoder", "--data", files[0], "--out", "s.root")
    assert (headless.code, headless.out) == (2, "")
    assert "no head that predicts" in headless.err
    shutil.rmtree(tmp_path / "encoder")
    missing = ssl_jets("merge", files[0], "--out", "m.root")
    assert (missing.code, missing.out) == (1, "")
    assert list(tmp_path.iterdir()) == []


def test_the_fitted_temperature_undoes_a_factor_of_the_logits(taggers: tuple[Path, Path], tmp_path: Path) -> None:
    plain, sharp = temperatures_of("fit", taggers)
    assert 0.5 < plain < 2
    assert sharp == pytest.approx(3 * plain, rel=0.01)
    assert temperatures_of("1.5", taggers) == [1.5, 1.5]
    assert temperatures_of(None, taggers) == [1.0, 1.0]
    for wrong in ("0", "nan", "inf", "warm"):
        with pytest.raises(UsageError, match="--temperature"):
            temperatures_of(wrong, taggers)
    shutil.copytree(taggers[0] / "model", tmp_path / "alone" / "model")
    with pytest.raises(UsageError, match="does not name the files"):
        temperatures_of("fit", [tmp_path / "alone"])


def predict_until_killed(out: Path, model: Path, files: list[Path]) -> None:
    """Predict in parts of 128 jets, and end this process at the end of the third."""

    def kill(done: int, total: int) -> None:
        if done >= 375:
            os.kill(os.getpid(), signal.SIGKILL)

    settings = OutSettings(resume_jets=128)
    predict([model], list(map(str, files)), out, resume=True, batch_size=128, out_settings=settings, report=kill)


def test_a_killed_run_is_resumed_to_the_file_of_an_undisturbed_one(
    ssl_jets: Callable[..., Done], taggers: tuple[Path, Path], files: list[Path], tmp_path: Path
) -> None:
    (process,) = on_ranks(predict_until_killed, tmp_path / "s.parquet", taggers[0], files, world=1)
    assert process.code == -signal.SIGKILL, process.error
    assert [path.name for path in tmp_path.iterdir()] == [".s.parquet.parts"]
    words = ["predict", "--model", taggers[0], "--data", *files, "--batch-size", "128"]
    resumed = ssl_jets(*words, "--out", "s.parquet", "--resume", "--set", "out.resume_jets=128")
    assert resumed.code == 0, resumed.err
    assert "resumed: 2 of 6 parts were finished before" in resumed.err
    assert ssl_jets(*words, "--out", "one.parquet").code == 0
    assert (tmp_path / "s.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.parquet", "s.parquet"]
