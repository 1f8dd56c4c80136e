"""`finetune --folds`: every jet is scored once, by a model that was not trained on it or on its event."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uproot

from ssl_jets.api import plan_finetuning
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.read import read_jets
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.data.split import split_fold
from ssl_jets.errors import UsageError
from ssl_jets.evaluation.scores import evaluate_scores
from ssl_jets.finetuning import folds
from ssl_jets.finetuning.folds import finetune_folds
from ssl_jets.model_file import load_model
from ssl_jets.runtime.signals import Interrupted, watched
from ssl_jets.zfile import read_scores
from support.event_files import nano_branches, random_events, write_events
from support.finetune_settings import settings_of


def rows(parts: list) -> list[tuple[int, int]]:
    return [(part.file, row) for part in parts for row in range(part.start, part.stop)]


@pytest.mark.parametrize(("entries", "folds"), [(1000, 3), (137, 5), (7, 2)])
def test_folds_are_disjoint_and_cover_all_jets_with_a_gap_around_each(
    write_jetclass: Any, entries: int, folds: int
) -> None:
    files = open_files([Source(str(write_jetclass(entries=entries)))])
    splits = [split_fold(files, fold, folds) for fold in range(folds)]
    assert Counter(row for _, held in splits for row in rows(held)) == dict.fromkeys(
        [(0, row) for row in range(entries)], 1
    )
    for train, held in splits:
        mine = {row for _, row in rows(held)}
        assert not {row for _, row in rows(train)} & {row + step for row in mine for step in (-1, 0, 1)}
        assert len(mine) == pytest.approx(entries / folds, abs=20)
    with pytest.raises(UsageError, match="no such fold"):
        split_fold(files, folds, folds)


def test_all_jets_of_an_event_are_in_one_fold(tmp_path: Path) -> None:
    events = random_events(150)
    write_events(tmp_path / "events.root", nano_branches(events))
    (file,) = open_files([Source(str(tmp_path / "events.root"))])
    folds_of: dict[int, set[int]] = {}
    for fold in range(3):
        for _, jet in rows(split_fold([file], fold, 3)[1]):
            folds_of.setdefault(int(file.keys(np.array([jet]))[0][0]), set()).add(fold)
    assert file.events is not None
    assert max(np.diff(file.events.first)) > 1
    assert all(len(folds) == 1 for folds in folds_of.values())


def test_a_file_in_the_order_of_its_classes_has_all_classes_in_every_fold(write_jetclass: Any) -> None:
    files = open_files([Source(str(write_jetclass(entries=4000, cluster=1000)))])
    for fold in range(4):
        held = np.array([row for _, row in rows(split_fold(files, fold, 4)[1])])
        assert (held < 2000).sum() == pytest.approx(500, abs=60)


def test_out_of_fold_scores_are_those_of_the_model_that_has_not_seen_the_jet(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    files = class_files[:2]
    settings = settings_of(pretrained, files, "method.mode=probe", "data.folds=2", "train.steps=3")
    with pytest.raises(UsageError, match=r"data\.fold=0"):
        open_dataset(settings.data)
    lines: list[str] = []
    runs = finetune_folds(settings, tmp_path / "folds", log=lines.append)
    with uproot.open(tmp_path / "folds" / "scores.root") as file:
        table = file["jets"].arrays(library="np")
    assert len(table["fold"]) == sum(file.entries for file in files)
    assert table["source_entry"].tolist() == [row for file in files for row in range(file.entries)]
    models = [load_model(run) for run in runs]
    # Neither model was finetuned on the jets that it scores (the pretraining has seen them, without labels).
    for fold, model in enumerate(models):
        own = model.facts["training"] | {"pretrained": None}
        assert own["fold"] == [fold, 2]
    for fold in (0, 1):
        (jets,) = ordered(files[:1], [split_fold(files, fold, 2)[1][0]], Request())
        assert jets.source is not None
        expected = models[fold].predict(jets)
        at = jets.source[:, 1].numpy()
        assert (table["fold"][at] == fold).all()
        for index, name in enumerate(models[fold].labels):
            np.testing.assert_allclose(table[f"p_{name}"][at], expected[:, index], atol=2e-5)
        assert torch.equal(torch.from_numpy(table["label"][at]), jets.labels)
    accuracy = np.mean(
        np.stack([table[f"p_{name}"] for name in models[0].labels], axis=1).argmax(axis=1) == table["label"]
    )
    assert lines[-1].endswith(f"accuracy {accuracy:.4f}")
    scores = read_scores(tmp_path / "folds" / "scores.root")
    assert scores.metadata["scores"]["models"] == [model.sha256 for model in models]
    # A second time nothing is trained again.
    before = [(run / "model" / "model.safetensors").stat().st_mtime_ns for run in runs]
    written = (tmp_path / "folds" / "scores.root").stat().st_mtime_ns
    finetune_folds(settings, tmp_path / "folds", resume=True, log=lines.append)
    assert before == [(run / "model" / "model.safetensors").stat().st_mtime_ns for run in runs]
    assert written == (tmp_path / "folds" / "scores.root").stat().st_mtime_ns
    assert lines[-1] == f"finished before: {tmp_path / 'folds' / 'scores.root'}"
    (tmp_path / "folds" / "scores.root").unlink()
    finetune_folds(settings, tmp_path / "folds", resume=True, log=lines.append)
    again = read_scores(tmp_path / "folds" / "scores.root").columns
    assert all(np.array_equal(values, again[name]) for name, values in scores.columns.items())


def test_out_of_fold_predictions_of_columns_come_with_the_true_ones(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    files, out = class_files[:2], tmp_path / "folds" / "scores.root"
    targets = "method.targets=[jet_sdmass/jet_pt,aux_genpart_pid]"
    finetune_folds(settings_of(pretrained, files, "method.mode=probe", "data.folds=2", targets), out.parent)
    columns = read_scores(out).columns
    jets = read_jets([str(file.source) for file in files], keep=("jet_sdmass", "jet_pt", "aux_genpart_pid"))
    for name, values in jets.jet.items():
        assert np.array_equal(columns[name], values.numpy())
        assert columns[name].dtype == values.numpy().dtype
    measured = evaluate_scores(out, tmp_path / "evaluation", log=lambda line: None)
    assert [one.target for one in measured.regression] == ["jet_sdmass/jet_pt", "aux_genpart_pid"]


@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_signal_stops_the_folds_after_the_first_as_in_the_first(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_the_end: bool
) -> None:
    begun: list[str] = []

    def train(settings: Any, run: Path, **options: bool) -> None:
        begun.append(run.name)
        if len(begun) == 2 and not at_the_end:
            signal.raise_signal(signal.SIGTERM)
        with watched() as watch:
            watch.at_once = False  # as when a model is written
            if at_the_end:
                signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(folds, "finetune", train)
    settings = settings_of(pretrained, class_files[:2], "data.folds=3")
    with watched(pass_on=False), pytest.raises(Interrupted):  # as the command line does
        finetune_folds(settings, tmp_path / "folds")
    assert begun == (["fold-0"] if at_the_end else ["fold-0", "fold-1"])


def test_folds_have_one_mode_and_their_plan_is_of_the_first(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(pretrained, class_files[:2], "data.folds=3", "method.mode=auto")
    with pytest.raises(UsageError, match="in one mode"):
        finetune_folds(settings, tmp_path / "folds")
    asked: list[Any] = []
    monkeypatch.setattr("ssl_jets.finetuning.make_plan", lambda settings, log: asked.append(settings))
    plan_finetuning(pretrained, data=str(class_files[0].source), folds=3)
    assert (asked[0].data.folds, asked[0].data.fold) == (3, 0)


def test_more_folds_than_jets_are_refused_as_a_request(write_jetclass: Any) -> None:
    files = open_files([Source(str(write_jetclass(entries=50)))])
    with pytest.raises(UsageError, match=r"(?s)too few jets for the folds.*--folds.*50 jets, 30,000 folds"):
        split_fold(files, 20_000, 30_000)
