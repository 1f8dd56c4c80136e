"""predict: a row of scores for every jet, equal to the model's own predictions, of one model and of several."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ssl_jets.config import DataSettings, ModelSettings
from ssl_jets.data.files import EntryRange, open_files, whole
from ssl_jets.data.read import read_jets
from ssl_jets.data.request import NOT_SELECTED
from ssl_jets.data.seen import Seen
from ssl_jets.data.sources import resolve_sources, sample_sources
from ssl_jets.embedding.embed import embed
from ssl_jets.embedding.inputs import PartOf
from ssl_jets.embedding.options import OutSettings
from ssl_jets.embedding.predictions import predict
from ssl_jets.embedding.writing import _require_some
from ssl_jets.errors import DataError, SslJetsError, UsageError
from ssl_jets.model_file import Model, load_model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.regression import Regressor
from ssl_jets.runtime import threads
from ssl_jets.runtime.signals import Interrupted
from ssl_jets.zfile import merge_parts, read_metadata, read_scores, read_z
from ssl_jets.zfile import metadata as written_metadata
from support.jetclass_files import jetclass_branches, write_tree

CLASSES = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
SIZES = (50, 0, 40)
FORMATS = (".root", ".parquet", ".h5", ".npz")


def save(
    folder: Path,
    seed: int,
    *,
    head: bool = True,
    kind: str | None = None,
    labels: Sequence[str] = CLASSES,
    training: dict[str, Any] | None = None,
) -> Path:
    torch.manual_seed(seed)
    encoder = Encoder(ModelSettings(size="tiny", blocks=1))
    regressor = None if kind is None else Regressor(encoder.dim, ["jet_sdmass", "jet_tau2/jet_tau1"], kind=kind)  # type: ignore[arg-type]
    classifier = ClassHead(encoder.dim, len(labels)) if head else None
    facts = {"method": "mae", "training": training or {}}
    model = Model(encoder, classifier, tuple(labels) if head else (), facts, regressor=regressor)
    save_model(model, folder / "model")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        "tagger": save(folder / "tagger", 0),
        "other": save(folder / "other", 1, labels=CLASSES[::-1]),
        "third": save(folder / "third", 2),
        "quantile": save(folder / "quantile", 3, kind="quantile"),
        "gaussian": save(folder / "gaussian", 4, kind="gaussian", head=False),
        "encoder": save(folder / "encoder", 5, head=False),
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Files of 50, 0 and 40 jets."""
    folder = tmp_path_factory.mktemp("jets")
    labels = ("Hbb", "QCD", "Tbqq")
    files = []
    for number, (entries, label) in enumerate(zip(SIZES, labels)):
        branches = jetclass_branches(entries, label=label, seed=number)
        files.append(str(write_tree(folder / f"{label}_{number}.root", {"tree": branches}, cluster=20)))
    return files


def run(names: Sequence[Path], sources: Sequence[str], out: Path, **options: Any) -> dict[str, Any]:
    """Predict in batches of 16, in float32, which is the default; return the columns."""
    predict(names, sources, out, **{"batch_size": 16, **options})
    return read_scores(out).columns


@pytest.mark.parametrize("suffix", FORMATS)
def test_probabilities_are_those_of_the_model_in_input_order(
    tmp_path: Path, runs: dict[str, Path], sources: list[str], suffix: str
) -> None:
    columns = run([runs["tagger"]], sources, tmp_path / f"s{suffix}", keep=["jet_pt"])
    expected = load_model(runs["tagger"]).predict(read_jets(sources), precision="32-true")
    found = np.stack([columns[f"p_{name}"] for name in CLASSES], axis=1)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-6)
    assert np.std(found, axis=0).min() > 1e-5  # another jet has another score, so the order is checked
    assert list(columns["source_file"]) == [file for file, size in enumerate(SIZES) for _ in range(size)]
    assert list(columns["source_entry"]) == [entry for size in SIZES for entry in range(size)]
    assert list(columns)[-1] == "jet_pt" or suffix in (".h5", ".npz")
    metadata = read_metadata(tmp_path / f"s{suffix}")
    assert metadata["format"] == "ssl-jets scores"
    assert metadata["scores"]["classes"] == list(CLASSES)
    assert metadata["model_sha256"] == load_model(runs["tagger"]).sha256
    assert metadata["files"] == sources


def test_discriminants_are_their_formulas_of_classes_columns_and_each_other(
    tmp_path: Path, runs: dict[str, Path], sources: list[str]
) -> None:
    scores = [
        "D_Hbb = Hbb / (Hbb + 0.3 * Hcc + QCD)",
        "llr = log(Hbb / QCD)",
        "cut = where(jet_pt > 750, D_Hbb, 0)",
        "same = p_Hbb == Hbb",
    ]
    columns = run([runs["tagger"]], sources, tmp_path / "s.npz", scores=scores, keep=["jet_sdmass"])
    p = load_model(runs["tagger"]).predict(read_jets(sources), precision="32-true")
    qcd, hbb, hcc = p[:, 0], p[:, 1], p[:, 2]
    expected = hbb / (hbb + 0.3 * hcc + qcd)
    assert np.allclose(columns["D_Hbb"], expected, rtol=1e-5)
    assert np.allclose(columns["llr"], np.log(hbb / qcd), atol=1e-5)
    pt = read_jets(sources, keep=("jet_pt",)).jet["jet_pt"].numpy()
    assert 0 < (pt > 750).sum() < len(pt)
    assert np.allclose(columns["cut"], np.where(pt > 750, expected, 0), rtol=1e-5)
    assert (columns["same"] == 1).all()
    assert "jet_pt" not in columns  # read for a formula, not kept
    formulas = read_metadata(tmp_path / "s.npz")["scores"]["discriminants"]
    assert formulas["llr"] == "log(Hbb / QCD)"


def test_an_ensemble_is_the_mean_with_its_spread_in_the_classes_of_the_first(
    tmp_path: Path, runs: dict[str, Path], sources: list[str]
) -> None:
    names = [runs["tagger"], runs["other"], runs["third"]]
    columns = run(names, sources, tmp_path / "s.npz", scores=["D = Hbb / (Hbb + QCD)"])
    jets = read_jets(sources)
    models = [load_model(name) for name in names]
    each = np.stack([model.probabilities(model.embed(jets, precision="32-true"), CLASSES) for model in models])
    for number, name in enumerate(CLASSES):
        assert np.allclose(columns[f"p_{name}"], each[:, :, number].mean(0), atol=1e-6)
        assert np.allclose(columns[f"p_{name}_spread"], each[:, :, number].std(0, ddof=1), atol=1e-6)
    hbb, qcd = each[:, :, 1], each[:, :, 0]
    assert np.allclose(columns["D"], hbb.mean(0) / (hbb.mean(0) + qcd.mean(0)), rtol=1e-5)
    assert np.allclose(columns["D_spread"], (hbb / (hbb + qcd)).std(0, ddof=1), atol=1e-6)
    assert read_metadata(tmp_path / "s.npz")["scores"]["models"] == [model.sha256 for model in models]


def test_regressions_trained_on_labelled_and_unlabelled_files_are_an_ensemble(
    tmp_path: Path, sources: list[str]
) -> None:
    names = [save(tmp_path / str(seed), seed, kind="mean", head=False) for seed in (0, 1)]
    labelled = replace(load_model(names[0]), labels=CLASSES)  # of its files: it has no head
    save_model(labelled, names[0] / "model")
    columns = run(names, sources, tmp_path / "s.npz")
    z = [load_model(name).embed(read_jets(sources), precision="32-true") for name in names]
    each = [load_model(name).regressed(one)[:, 0] for name, one in zip(names, z)]
    assert np.allclose(columns["pred_jet_sdmass"], np.mean(each, axis=0), atol=1e-4)


@pytest.mark.parametrize("name", ["quantile", "gaussian"])
def test_regressed_columns_come_with_quantiles(
    tmp_path: Path, runs: dict[str, Path], sources: list[str], name: str
) -> None:
    columns = run([runs[name]], sources, tmp_path / "s.root")
    model = load_model(runs[name])
    z = model.embed(read_jets(sources), precision="32-true")
    bands = model.regressed_quantiles(z)
    for number, column in enumerate(("pred_jet_sdmass", "pred_jet_tau2_over_jet_tau1")):
        assert np.allclose(columns[column], model.regressed(z)[:, number], atol=1e-4)
        for level, suffix in enumerate(("q16", "q50", "q84")):
            assert np.allclose(columns[f"{column}_{suffix}"], bands[:, number, level], atol=1e-4)
        assert (columns[f"{column}_q16"] < columns[f"{column}_q84"]).all()
    assert ("p_QCD" in columns) == (name == "quantile")


def test_z_with_scores_is_the_z_of_embed_and_a_temperature_flattens(
    tmp_path: Path, runs: dict[str, Path], sources: list[str]
) -> None:
    columns = run([runs["tagger"]], sources, tmp_path / "s.parquet", with_z=True, temperatures=lambda: [2.0])
    embed(runs["tagger"], sources, tmp_path / "z.parquet", precision="32-true", batch_size=16)
    z = read_z(tmp_path / "z.parquet").z
    assert np.array_equal(read_z(tmp_path / "s.parquet").z, z)
    p = load_model(runs["tagger"]).probabilities(z)
    scaled = np.sqrt(p) / np.sqrt(p).sum(1, keepdims=True)
    assert np.allclose(columns["p_Hbb"], scaled[:, 1], atol=1e-6)
    assert read_metadata(tmp_path / "s.parquet")["scores"]["temperatures"] == [2.0]


def test_a_bad_jet_has_a_row_of_nan(tmp_path: Path, runs: dict[str, Path]) -> None:
    branches = jetclass_branches(30, label="QCD", seed=0)
    particles = [name for name in branches if name.startswith("part_")]
    for name in particles:
        rows = branches[name].tolist()
        rows[7] = []
        branches[name] = type(branches[name])(rows)
    path = str(write_tree(tmp_path / "QCD.root", {"tree": branches}, cluster=10))
    score = ["D = Hbb / (Hbb + QCD)"]
    columns = run([runs["tagger"]], [path], tmp_path / "s.npz", scores=score, data=DataSettings(bad_jets="skip"))
    for name in ("p_QCD", "D"):
        assert np.flatnonzero(np.isnan(columns[name])).tolist() == [7]
    assert columns["label"][7] == -1


def test_an_rntuple_holds_the_same_numbers(tmp_path: Path, runs: dict[str, Path], sources: list[str]) -> None:
    plain = run([runs["tagger"]], sources, tmp_path / "tree.root", with_z=True)
    rntuple = run([runs["tagger"]], sources, tmp_path / "r.root", with_z=True, out_settings=OutSettings(rntuple=True))
    assert plain.keys() == rntuple.keys()
    assert all(np.array_equal(plain[name], rntuple[name]) for name in plain)
    assert np.array_equal(read_z(tmp_path / "tree.root").z, read_z(tmp_path / "r.root").z)
    with pytest.raises(UsageError, match="written to a ROOT file"):
        run([runs["tagger"]], sources, tmp_path / "r.npz", out_settings=OutSettings(rntuple=True))


@pytest.mark.parametrize(
    ("models", "options", "words"),
    [
        (["encoder"], {}, ["no head that predicts", "ssl-jets finetune"]),
        (["tagger", "quantile"], {}, ["predict the same"]),
        (["tagger", "tagger"], {}, ["named twice"]),
        (["tagger", "third"], {"with_z": True}, ["--with-z"]),
        (["tagger"], {"scores": ["D = Hbbb / QCD"]}, ["no such class or column", "Hbbb", "allowed: Hbb"]),
        (["gaussian"], {"scores": ["D = Hbb / QCD"]}, ["no such class or column", "Hbb"]),
        (["tagger"], {"scores": ["D = Hbb +"]}, ["no valid formula", "D = Hbb +"]),
        (["tagger"], {"scores": ["Hbb / QCD"]}, ["NAME = FORMULA"]),
        (["tagger"], {"scores": ["D = sum(Hbb)"]}, ["no particles to add over"]),
        (["tagger"], {"scores": ["p_QCD = Hbb"]}, ["has a column of that name"]),
        (["tagger"], {"scores": ["D = Hbb", "D = QCD"]}, ["has a column of that name"]),
        (["tagger"], {"scores": ["label = Hbb"]}, ["has a column of that name"]),
        (["tagger"], {"scores": ["jet_pt = Hbb"], "keep": ["jet_pt"]}, ["column of that name"]),
    ],
)
def test_errors_name_the_cause_and_leave_nothing(
    tmp_path: Path, runs: dict[str, Path], sources: list[str], models: list[str], options: Any, words: list[str]
) -> None:
    with pytest.raises(SslJetsError) as error:
        run([runs[name] for name in models], sources[:1], tmp_path / "s.root", **options)
    assert all(word in str(error.value) for word in words), error.value
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_refused_before_the_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "s.root").write_text("precious")
    with pytest.raises(UsageError, match="--force"):
        predict([tmp_path / "no model"], ["no file"], tmp_path / "s.root")


def test_batches_of_an_ensemble_are_encoded_at_the_same_time(
    tmp_path: Path, runs: dict[str, Path], sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [runs["tagger"], runs["third"]]
    expected = run(names, sources, tmp_path / "one.npz")
    both, seconds = threading.Barrier(2), 20.0
    forward = Encoder.forward

    def wait_for_another(self: Encoder, *arguments: Any, **options: Any) -> Any:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(seconds)
        return forward(self, *arguments, **options)

    monkeypatch.setattr(threads, "allowed_threads", lambda: 2)
    monkeypatch.setattr(Encoder, "forward", wait_for_another)
    files = sources[:1]  # 50 jets: 4 batches for each model
    found = run(names, files, tmp_path / "two.npz")
    assert not both.broken
    assert all(np.array_equal(values, expected[name][:50]) for name, values in found.items())


# Parts, merge, resume


@pytest.mark.parametrize("parts", [3, 5])
def test_merged_parts_are_the_file_of_one_run(
    tmp_path: Path, runs: dict[str, Path], sources: list[str], parts: int
) -> None:
    """3 parts are whole files, the second without jets; 5 parts are runs of entries."""
    options: dict[str, Any] = {"keep": ["jet_pt"], "scores": ["D = Hbb / QCD"], "with_z": True}
    names = [tmp_path / f"part{number}.parquet" for number in range(1, parts + 1)]
    for number, path in enumerate(names, 1):
        run([runs["tagger"]], sources, path, part=PartOf(number, parts), **options)
    for suffix in FORMATS if parts == 3 else (".npz",):
        run([runs["tagger"]], sources, tmp_path / f"out{suffix}", **options)
        one = (tmp_path / f"out{suffix}").read_bytes()
        merge_parts(names[::-1], tmp_path / f"out{suffix}", force=True)
        merged, expected = read_scores(tmp_path / f"out{suffix}"), tmp_path / f"expected{suffix}"
        expected.write_bytes(one)
        single = read_scores(expected)
        for name, values in single.columns.items():
            assert np.array_equal(merged.columns[name], values), name
            assert merged.columns[name].dtype == values.dtype
        assert np.array_equal(merged.z, single.z)
        assert merged.metadata == single.metadata
        assert (tmp_path / f"out{suffix}").read_bytes() == one or suffix == ".root"  # it stores dates


def test_source_file_is_unique_over_parts_and_files_are_named(
    tmp_path: Path, runs: dict[str, Path], sources: list[str]
) -> None:
    first = run([runs["tagger"]], sources, tmp_path / "1.npz", part=PartOf(1, 2))
    second = run([runs["tagger"]], sources, tmp_path / "2.npz", part=PartOf(2, 2))
    assert set(first["source_file"]) == {0}
    assert set(second["source_file"]) == {2}
    metadata = read_metadata(tmp_path / "2.npz")
    part = metadata["part"]
    assert (part["number"], part["of"], part["first_file"], part["inputs"]) == (2, 2, 1, 3)
    assert metadata["files"] == sources[1:]


def test_a_file_for_each_input_and_their_merge(tmp_path: Path, runs: dict[str, Path], sources: list[str]) -> None:
    expected = run([runs["tagger"]], sources, tmp_path / "one.npz")
    options: dict[str, Any] = {"per_file": True, "precision": "32-true", "batch_size": 16}
    done = predict([runs["tagger"]], sources, tmp_path / "new" / "{name}.root", **options)
    assert [path.name for path in done.paths] == [f"{Path(source).stem}.root" for source in sources]
    assert [len(read_scores(path)) for path in done.paths] == list(SIZES)
    merge_parts(done.paths, tmp_path / "merged.npz")
    assert (tmp_path / "merged.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()
    assert len(expected["label"]) == sum(SIZES)
    with pytest.raises(UsageError, match=r"\{name\}"):
        predict([runs["tagger"]], sources, tmp_path / "s.root", **options)


@pytest.mark.parametrize(("parts", "resume"), [(2, False), (4, True), (0, False)])
def test_an_unopened_file_has_no_number_in_the_merged_file(
    tmp_path: Path, sources: list[str], parts: int, resume: bool
) -> None:
    """The second of four parts has no other file; 0 parts are a file for each input. Trained on are two files."""
    files = open_files(resolve_sources([sources[0], sources[2]]))
    seen = Seen.of_parts(files, whole(files), [EntryRange(1, 10, 20)])
    tagger = save(tmp_path / "tagger", 0, training=seen.facts())
    broken, logged = tmp_path / "broken.root", list[str]()
    broken.write_bytes(b"root" + bytes(100))
    names = [sources[0], str(broken), sources[1], sources[2]]
    options: dict[str, Any] = {
        "data": DataSettings(bad_files="skip", where="jet_pt > 700"),
        "log": logged.append,
        "keep": ["aux_genpart_pid"],
        "scores": ["D = log(jet_pt)"],
    }
    run([tagger], names, tmp_path / "one.npz", **options)
    written = [tmp_path / f"{number}.npz" for number in range(1, parts + 1)]
    for number, path in enumerate(written, 1):
        run([tagger], names, path, part=PartOf(number, parts), resume=resume, **options)
    if not parts:
        out = tmp_path / "of-{name}.npz"
        written = list(predict([tagger], names, out, per_file=True, batch_size=16, **options).paths)
        assert [path.stem for path in written] == [f"of-{Path(name).stem}" for name in names]
        assert [len(read_scores(path)) > 0 for path in written] == [True, False, False, True]
        trained = [read_metadata(path)["trained"] for path in written]
        assert trained == [[[0, 0, 50]], [], [], [[3, 0, 10], [3, 20, 40]]]
    assert (f"WARNING: no jet of part 2 of {parts or 4} can be used" in logged) == (parts != 2)
    merge_parts(written, tmp_path / "merged.npz")
    assert (tmp_path / "merged.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()
    metadata = read_metadata(tmp_path / "merged.npz")
    assert metadata["trained"] == [[0, 0, 50], [2, 0, 10], [2, 20, 40]]
    assert 0 < metadata["left_out"]["not selected by where"] < 90


def test_parts_without_labels_and_with_other_types_merge_to_one_run(tmp_path: Path, runs: dict[str, Path]) -> None:
    names = []
    for number, (label, dtype) in enumerate((("Hbb", np.int32), (None, np.float32), ("QCD", np.int64))):
        branches = jetclass_branches(20, label=label, seed=number)
        branches["tracks"] = np.arange(20).astype(dtype)
        names.append(str(write_tree(tmp_path / f"jets{number}.root", {"tree": branches}, cluster=20)))
    expected = run([runs["tagger"]], names, tmp_path / "one.npz", keep=["tracks"])
    parts = [tmp_path / f"{number}.npz" for number in (1, 2, 3)]
    for number, part in enumerate(parts, 1):
        run([runs["tagger"]], names, part, keep=["tracks"], part=PartOf(number, 3))
    merge_parts(parts, tmp_path / "merged.npz")
    assert "label" not in read_scores(parts[1]).columns
    assert expected["label"].tolist() == [1] * 20 + [-1] * 20 + [0] * 20
    assert expected["tracks"].dtype == np.float64
    assert (tmp_path / "merged.npz").read_bytes() == (tmp_path / "one.npz").read_bytes()


def test_merge_refuses_parts_that_do_not_belong_together(
    tmp_path: Path, runs: dict[str, Path], sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def part(
        name: str, number: int, of: int = 2, model: str = "tagger", files: list[str] = sources, **more: Any
    ) -> Path:
        run([runs[model]], files, tmp_path / name, part=PartOf(number, of), **more)
        return tmp_path / name

    first, second = part("1.npz", 1), part("2.npz", 2)
    run([runs["tagger"]], sources, tmp_path / "whole.npz")
    out = tmp_path / "out.npz"
    wrong = {
        "the model": part("model.npz", 2, model="third"),
        "the list of inputs": part("files.npz", 2, files=sources[:1]),
        "the number of parts": part("of.npz", 2, of=3),
        "the scores": part("scores.npz", 2, scores=["D = Hbb"]),
        "the kept columns": part("kept.npz", 2, keep=["jet_pt"]),
        "two files are the same part[\\s\\S]*part 1 of 2": part("again.npz", 1),
        "not a part": tmp_path / "whole.npz",
    }
    with monkeypatch.context() as before:
        before.setattr("ssl_jets.zfile.metadata.__version__", "0.0.9")
        wrong["the version of ssl-jets"] = part("version.npz", 2)
    with pytest.raises(UsageError, match=r"(?s)exists.*the version of ssl-jets.*--force"):
        part("version.npz", 2, resume=True)
    for words, other in wrong.items():
        with pytest.raises(SslJetsError, match=words):
            merge_parts([first, other], out)
    with pytest.raises(UsageError, match=r"(?s)missing.*2.*--partial"):
        merge_parts([first], out)
    with pytest.raises(UsageError, match="named twice"):
        merge_parts([first, first], out)
    assert not out.exists()
    assert merge_parts([second], out, partial=True).missing == (1,)
    assert read_metadata(out)["missing_parts"] == [1]
    with pytest.raises(UsageError, match="exists"):
        merge_parts([first, second], out)


@pytest.mark.parametrize(
    ("sizes", "words"), [((64, 10, 10), "no part has the rows"), ((16, 10, 10), "rows of the same")]
)
def test_parts_that_are_cut_at_other_batches_are_not_merged(
    tmp_path: Path, runs: dict[str, Path], sources: list[str], sizes: tuple[int, ...], words: str
) -> None:
    """A crashed part is often repeated with a smaller batch."""
    parts = [tmp_path / f"{number}.npz" for number in (1, 2, 3)]
    for number, (part, size) in enumerate(zip(parts, sizes), 1):
        run([runs["tagger"]], sources[:1], part, part=PartOf(number, 3), batch_size=size)
    with pytest.raises(DataError, match=f"(?s){words}.*one --batch-size"):
        merge_parts(parts, tmp_path / "out.npz")
    assert merge_parts(parts[2:], tmp_path / "out.npz", partial=True).missing == (1, 2)


def test_parts_of_inputs_that_some_could_not_open_are_not_merged(
    tmp_path: Path, runs: dict[str, Path], sources: list[str]
) -> None:
    """Four parts of files of 50, 40 and 150 jets: the first has the file of 50, or without the last file nothing."""
    last, options = tmp_path / "last.root", {"data": DataSettings(bad_files="skip"), "batch_size": 64}
    names = [sources[0], sources[2], str(last)]
    parts = [tmp_path / f"{number}.npz" for number in (1, 2, 3, 4)]
    last.write_bytes(b"root" + bytes(100))
    run([runs["tagger"]], names, parts[0], part=PartOf(1, 4), **options)
    last.unlink()
    write_tree(last, {"tree": jetclass_branches(150, label="Hbb", seed=9)}, cluster=50)
    for number, part in enumerate(parts[1:], 2):
        run([runs["tagger"]], names, part, part=PartOf(number, 4), **options)
    with pytest.raises(UsageError, match=r"(?s)opened for some parts.*last\.root"):
        merge_parts(parts, tmp_path / "out.npz")
    run([runs["tagger"]], names, parts[0], part=PartOf(1, 4), force=True, **options)
    assert merge_parts(parts, tmp_path / "out.npz").rows == 240


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0"])
def test_a_part_is_one_of_n(text: str) -> None:
    with pytest.raises(UsageError, match="I/N"):
        PartOf.parse(text)


def stop_after(entries: int) -> Any:
    """Return a report of the progress that sends SIGTERM once as many entries are done."""
    return lambda done, total: os.kill(os.getpid(), signal.SIGTERM) if done >= entries else None


@pytest.mark.parametrize(("level", "suffix"), [("scores", ".root"), ("scores", ".npz"), ("particle", ".parquet")])
def test_a_resumed_file_is_that_of_an_undisturbed_run(
    tmp_path: Path, runs: dict[str, Path], sources: list[str], suffix: str, level: str
) -> None:
    out, said = tmp_path / f"out{suffix}", list[str]()
    options: dict[str, Any] = {"keep": ["jet_pt"], "precision": "32-true", "batch_size": 16, "log": said.append}

    def write(**more: Any) -> None:
        if level == "particle":
            embed(runs["tagger"], sources, out, level="particle", **options | more)
        else:
            predict([runs["tagger"]], sources, out, scores=["D = Hbb / QCD"], with_z=True, **options | more)

    def rows() -> tuple[Any, Any]:
        file = read_z(out, "particle") if level == "particle" else read_z(out)
        return file, out.read_bytes()

    write()
    undisturbed, content = rows()
    out.unlink()
    resumable: dict[str, Any] = {"resume": True, "out_settings": OutSettings(resume_jets=32)}
    for entries in (20, 60):
        with pytest.raises(Interrupted):
            write(report=stop_after(entries), **resumable)
        assert not out.exists()
    (kept,) = tmp_path.iterdir()
    assert len(list(kept.glob("*.parquet"))) == 2  # up to 32 jets each, in batches of 16
    write(**resumable)
    resumed, again = rows()
    assert any("2 of 4 parts were finished before" in line for line in said), said
    assert list(tmp_path.iterdir()) == [out]
    assert np.array_equal(resumed.z, undisturbed.z)
    assert all(np.array_equal(resumed.columns[name], values) for name, values in undisturbed.columns.items())
    assert resumed.metadata == undisturbed.metadata
    assert again == content or suffix == ".root"
    kept.mkdir()  # as of a run that was killed once its output was complete
    (kept / "00000.parquet").write_bytes(b"")
    write(**resumable)  # is finished: nothing is done
    assert out.read_bytes() == again
    assert list(tmp_path.iterdir()) == [out]
    assert any("finished before" in line for line in said)


def test_finished_parts_of_another_run_are_refused(
    tmp_path: Path, runs: dict[str, Path], sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "s.npz"
    resumable: dict[str, Any] = {
        "resume": True,
        "out_settings": OutSettings(resume_jets=48),
        "log": lambda message: None,
    }
    with pytest.raises(Interrupted):
        run([runs["tagger"]], sources, out, report=stop_after(60), **resumable)
    for other in ({"keep": ["jet_pt"]}, {"batch_size": 8}, {"scores": ["D = Hbb"]}, {"precision": "bf16-mixed"}):
        with pytest.raises(UsageError, match="another run"):
            run([runs["tagger"]], sources, out, **resumable | other)
    with monkeypatch.context() as patch:  # its rows may differ
        patch.setattr(written_metadata, "__version__", "0.0.1")
        with pytest.raises(UsageError, match=r"(?s)another run.*differs in package_version"):
            run([runs["tagger"]], sources, out, **resumable)
    with pytest.raises(UsageError, match=r"(?s)another run.*model_sha256"):
        run([runs["third"]], sources, out, **resumable)
    changed = tmp_path / "changed.yaml"
    changed.write_text("extends: jetclass\nname: jetclass\n")
    with pytest.raises(UsageError, match=r"(?s)another run.*schemas"):
        run([runs["tagger"]], sources, out, **resumable | {"data": DataSettings(format=str(changed))})
    expected = run([runs["third"]], sources, out, force=True, **resumable)
    assert np.array_equal(expected["p_QCD"], run([runs["third"]], sources, tmp_path / "t.npz")["p_QCD"])
    with pytest.raises(UsageError, match="exists"):
        run([runs["tagger"]], sources, out, **resumable)
    with pytest.raises(UsageError, match="exists"):  # finished, by another schema
        run([runs["third"]], sources, out, **resumable | {"data": DataSettings(format=str(changed))})
    changed.unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.npz", "t.npz"]


@pytest.mark.parametrize(("suffix", "part"), [*((suffix, None) for suffix in FORMATS), (".npz", PartOf(1, 2))], ids=str)
def test_a_finished_file_without_z_is_not_one_with_z(
    tmp_path: Path, runs: dict[str, Path], sources: list[str], suffix: str, part: PartOf | None
) -> None:
    out = tmp_path / f"s{suffix}"
    options: dict[str, Any] = {"resume": True, "part": part, "log": lambda message: None}
    for first, second in (False, True), (True, False):
        run([runs["tagger"]], sources[:1], out, with_z=first, force=not first, **options)
        with pytest.raises(UsageError, match=r"other options or files[\s\S]*found: +--with-z\n"):
            run([runs["tagger"]], sources[:1], out, with_z=second, **options)
        run([runs["tagger"]], sources[:1], out, with_z=first, **options)
        out.unlink()


def test_files_of_the_sample_have_the_classes_used_here() -> None:
    assert set(open_files(resolve_sources([sample_sources()[0].path]))[0].label_names) == set(CLASSES)


def test_a_part_without_entries_is_no_warning() -> None:
    logged = list[str]()
    for left_out in ({}, {"broken.root": "the file cannot be read"}):
        inputs: Any = SimpleNamespace(ranges=[], part=PartOf(1, 2), left_out=left_out)
        _require_some(inputs, Counter(), logged.append)
    for reason in ("no particles", NOT_SELECTED):
        inputs = SimpleNamespace(ranges=[EntryRange(0, 0, 5)], part=PartOf(2, 2), left_out={})
        _require_some(inputs, Counter({reason: 5}), logged.append)
    assert logged == [
        "note: part 1 of 2 has no entries; the other parts have all",
        "WARNING: no jet of part 1 of 2 can be used",
        "WARNING: no jet of part 2 of 2 can be used",
        "WARNING: no jet of part 2 of 2 is selected",
    ]
