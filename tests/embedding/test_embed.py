"""embed: a row for every jet, in input order, whatever the format, the batches and the number of processes."""

from __future__ import annotations

import os
import signal
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import pytest
import torch
import uproot

from ssl_jets.config import DataSettings
from ssl_jets.data.files import EntryRange, open_files, whole
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.sources import resolve_sources, sample_sources
from ssl_jets.data.split import share
from ssl_jets.embedding import writing
from ssl_jets.embedding.embed import embed
from ssl_jets.embedding.encoding import batches_of, embed_parts
from ssl_jets.errors import DataError, SslJetsError, UsageError
from ssl_jets.jets import Jets
from ssl_jets.model_file import load_model
from ssl_jets.runtime.precision import autocast, native_precision, resolve_precision
from ssl_jets.runtime.signals import Interrupted
from ssl_jets.zfile import read_z
from support.ranks import all_ranks, on_ranks
from support.root_types import branch_types

DIM = 64


def write_jets(path: Path, name: str, entries: slice, changes: Mapping[str, Mapping[int, Any]] | None = None) -> str:
    """Jets of the bundled sample, some of their branches changed at some entries, and two branches more."""
    sample = Path(sample_sources()[0].path).with_name(name)
    with uproot.open(sample) as file:
        arrays = file["tree"].arrays(entry_start=entries.start, entry_stop=entries.stop, library="ak", how=dict)
    del arrays["npart"]
    for branch, values in (changes or {}).items():
        rows = arrays[branch].tolist()
        for entry, value in values.items():
            rows[entry] = value
        arrays[branch] = ak.values_astype(ak.Array(rows), np.float32)
    count = len(arrays["jet_pt"])
    arrays["event"] = ak.Array(2**60 + np.arange(count))
    arrays["triggered"] = ak.Array(np.arange(count) % 3 == 0)
    with uproot.recreate(path) as file:
        tree = file.mktree("tree", branch_types(arrays), counter_name=lambda counted: "npart")
        for start in range(0, count, 40):
            tree.extend({branch: array[start : start + 40] for branch, array in arrays.items()})
    return str(path)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three files of 90, 70 and 50 jets."""
    folder = tmp_path_factory.mktemp("jets")
    cuts = {"HToBB.root": slice(0, 90), "TTBar.root": slice(5, 75), "ZJetsToNuNu.root": slice(0, 50)}
    return [write_jets(folder / name, name, entries) for name, entries in cuts.items()]


@pytest.fixture(scope="module")
def z_of_single_jets(model: Path, sources: list[str]) -> npt.NDArray[Any]:
    """z of each jet of `sources`, encoded alone."""
    encoder, files = load_model(model).encoder, open_files(resolve_sources(sources))
    with torch.no_grad():
        z = [
            encoder(chunk.select(torch.tensor([index]))).z
            for chunk in ordered(files, whole(files))
            for index in range(len(chunk))
        ]
    return torch.cat(z).numpy()


def directly(sources: list[str], branch: str) -> npt.NDArray[Any]:
    """A branch of all files, one after another."""
    return np.concatenate([uproot.open(source)["tree"][branch].array(library="np") for source in sources])


def key(columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.stack([columns["source_file"], columns["source_entry"], columns["source_jet"]], axis=1)


def expected_key(sizes: list[int]) -> npt.NDArray[Any]:
    return np.array([[file, entry, 0] for file, size in enumerate(sizes) for entry in range(size)])


@pytest.mark.parametrize("suffix", [".root", ".parquet", ".h5", ".npz"])
def test_rows_are_the_jets_of_the_input_in_order(
    tmp_path: Path, model: Path, sources: list[str], z_of_single_jets: npt.NDArray[Any], suffix: str
) -> None:
    keep = ("jet_pt", "event", "triggered")
    done = embed(model, sources, tmp_path / f"z{suffix}", keep=keep, precision="32-true", batch_size=32)
    assert (done.jets, done.skipped, done.path) == (210, 0, tmp_path / f"z{suffix}")
    file = read_z(done.path)
    assert np.array_equal(key(file.columns), expected_key([90, 70, 50]))
    assert np.array_equal(file.columns["label"], np.repeat([1, 8, 0], [90, 70, 50]))  # Hbb, Tbqq, QCD
    for name in keep:
        assert np.array_equal(file.columns[name], directly(sources, name)), name
    assert file.columns["event"].dtype == np.int64
    assert np.allclose(file.z, z_of_single_jets, atol=1e-5)
    assert np.std(file.z, axis=0).mean() > 1e-3  # z differs between jets, so the order is tested


def test_metadata_names_the_model_and_the_inputs(tmp_path: Path, model: Path, sources: list[str]) -> None:
    embed(model, sources[:2], tmp_path / "z.root", keep=["jet_pt"])
    metadata = read_z(tmp_path / "z.root").metadata
    assert metadata["model_sha256"] == load_model(model).sha256 != ""
    assert metadata["files"] == sources[:2]
    assert metadata["label_names"][1] == "Hbb"
    assert (metadata["method"], metadata["dim"], metadata["level"], metadata["kept"]) == ("mae", DIM, "jet", ["jet_pt"])


def test_z_does_not_depend_on_the_batch_size(
    tmp_path: Path, model: Path, sources: list[str], z_of_single_jets: npt.NDArray[Any]
) -> None:
    for size in (1, 17, 512):
        embed(model, sources[:1], tmp_path / f"{size}.npz", batch_size=size, precision="32-true")
        assert np.allclose(read_z(tmp_path / f"{size}.npz").z, z_of_single_jets[:90], atol=1e-5)


def test_batches_do_not_depend_on_how_the_reading_is_cut(sources: list[str]) -> None:
    files = open_files(resolve_sources(sources))
    seen = []
    for chunk in (13, 40, 1000):
        batches = list(batches_of(files, ordered(files, whole(files), chunk=chunk), 32))
        seen.append([batch.source.tolist() for batch in batches if batch.source is not None])
        assert [len(batch) for batch in batches] == [32, 32, 26, 32, 32, 6, 32, 18]
    assert all(order == seen[0] for order in seen)


def test_bfloat16_is_near_float32(tmp_path: Path, model: Path, sources: list[str]) -> None:
    for precision in ("32-true", "bf16-mixed"):
        embed(model, sources[:1], tmp_path / f"{precision}.npz", precision=precision)
    exact, rounded = (read_z(tmp_path / f"{precision}.npz").z for precision in ("32-true", "bf16-mixed"))
    assert not np.array_equal(exact, rounded)
    assert np.abs(exact - rounded).max() < 0.1


def test_tokens_are_one_row_per_particle_in_input_order(tmp_path: Path, model: Path, sources: list[str]) -> None:
    out = tmp_path / "tokens.parquet"
    embed(model, sources[:2], out, level="particle", keep=["jet_pt"], precision="32-true", batch_size=32)
    file = read_z(out, level="particle")
    lengths = directly(sources[:2], "npart")
    assert np.array_equal(key(file.columns), np.repeat(expected_key([90, 70]), lengths, axis=0))
    assert np.array_equal(file.columns["particle"], np.concatenate([np.arange(length) for length in lengths]))
    assert np.array_equal(file.columns["jet_pt"], np.repeat(directly(sources[:2], "jet_pt"), lengths))
    (jets,) = ordered(open_files(resolve_sources(sources[1:2])), [EntryRange(0, 0, 70)])
    with torch.no_grad():
        tokens = load_model(model).encoder(jets).tokens.numpy()
    assert np.allclose(file.z[-len(tokens) :], tokens, atol=1e-5)


@pytest.fixture(scope="module")
def bad_sources(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """90 jets of which the first, one in the middle and the last are bad; 40 bad jets; 50 good ones."""
    folder = tmp_path_factory.mktemp("bad")
    nan = {entry: [float("nan")] * 3 for entry in range(90)}
    empty = {0, 45, 89}
    branches = uproot.open(sample_sources()[0].path)["tree"].keys(filter_name="part_*")
    some = {branch: {entry: [] for entry in empty} for branch in branches}
    every = {branch: {entry: nan[entry] for entry in range(40)} for branch in branches}
    return [
        write_jets(folder / "some.root", "HToBB.root", slice(0, 90), some),
        write_jets(folder / "all.root", "TTBar.root", slice(0, 40), every),
        write_jets(folder / "good.root", "ZJetsToNuNu.root", slice(0, 50)),
    ]


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_bad_jets_get_rows_of_nan_so_that_rows_stay_aligned(
    tmp_path: Path, model: Path, bad_sources: list[str], order: tuple[int, ...]
) -> None:
    names = [bad_sources[index] for index in order]
    bad_entries = [[0, 45, 89], list(range(40)), []]
    sizes = [[90, 40, 50][index] for index in order]
    bad = np.concatenate([np.isin(np.arange(size), bad_entries[index]) for index, size in zip(order, sizes)])
    keep = ("jet_pt", "event", "triggered")
    skip = DataSettings(bad_jets="skip")
    done = embed(model, names, tmp_path / "z.h5", keep=keep, data=skip, batch_size=32)
    assert (done.jets, done.skipped) == (180, 43)
    assert sum(done.reasons.values()) == 43
    assert done.reasons["no particles"] == 3
    file = read_z(done.path)
    assert np.array_equal(key(file.columns), expected_key(sizes))
    assert np.array_equal(np.isnan(file.z).all(axis=1), bad)
    assert np.array_equal(np.isnan(file.z).any(axis=1), bad)
    assert np.array_equal(file.columns["label"] == -1, bad)
    for name in keep:
        assert np.array_equal(file.columns[name], directly(names, name)), name


def test_bad_jets_have_no_tokens(tmp_path: Path, model: Path, bad_sources: list[str]) -> None:
    done = embed(model, bad_sources, tmp_path / "t.h5", level="particle", data=DataSettings(bad_jets="skip"))
    assert (done.jets, done.skipped) == (180, 43)
    file = read_z(done.path, level="particle")
    assert np.isfinite(file.z).all()
    assert set(file.columns["source_file"]) == {0, 2}
    assert len(file) == directly(bad_sources[:1], "npart").sum() + directly(bad_sources[2:], "npart").sum()


def test_a_bad_jet_stops_by_default_and_leaves_nothing_behind(
    tmp_path: Path, model: Path, bad_sources: list[str]
) -> None:
    with pytest.raises(DataError, match="no particles"):
        embed(model, bad_sources, tmp_path / "z.root")
    assert list(tmp_path.iterdir()) == []


def test_a_column_that_a_file_lacks_is_refused_with_the_nearest(
    tmp_path: Path, model: Path, sources: list[str]
) -> None:
    with pytest.raises(UsageError, match=r"(?s)jet_ptt.*allowed: jet_pt,"):
        embed(model, sources, tmp_path / "z.root", keep=["jet_ptt"])
    with pytest.raises(UsageError, match="label"):
        embed(model, sources, tmp_path / "z.root", keep=["label_QCD"])
    with pytest.raises(UsageError, match=r"jets: \{input_label: \{branch: label\}\}"):
        embed(model, sources, tmp_path / "z.root", keep=["label"])
    assert list(tmp_path.iterdir()) == []


def test_usage_errors_come_before_any_work(tmp_path: Path, model: Path, sources: list[str]) -> None:
    (tmp_path / "z.root").write_text("precious")
    with pytest.raises(UsageError, match="--force"):
        embed(tmp_path / "no model", ["no file"], tmp_path / "z.root")
    with pytest.raises(UsageError, match="suffix"):
        embed(tmp_path / "no model", ["no file"], tmp_path / "z.txt")
    with pytest.raises(SslJetsError, match="no trained model"):
        embed(tmp_path / "no model", sources, tmp_path / "new.root")
    embed(model, sources[2:], tmp_path / "z.root", force=True)
    assert len(read_z(tmp_path / "z.root")) == 50


def test_without_sources_the_bundled_sample_is_embedded(tmp_path: Path, model: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("ssl_jets.data.dataset.sample_sources", lambda: sample_sources()[:1])
    done = embed(model, [], tmp_path / "z.npz")
    assert len(read_z(done.path)) == done.jets == open_files(sample_sources()[:1])[0].entries


def test_progress_rises_to_the_total(tmp_path: Path, model: Path, sources: list[str]) -> None:
    messages: list[tuple[int, int]] = []
    embed(model, sources, tmp_path / "z.npz", batch_size=32, report=lambda done, total: messages.append((done, total)))
    assert [done for done, _ in messages] == [32, 64, 90, 122, 154, 160, 192, 210, 210]
    assert {total for _, total in messages} == {210}


def test_a_signal_ends_it_without_a_trace(tmp_path: Path, model: Path, sources: list[str]) -> None:
    with pytest.raises(Interrupted):
        embed(model, sources, tmp_path / "z.root", report=lambda done, total: os.kill(os.getpid(), signal.SIGTERM))
    assert list(tmp_path.iterdir()) == []


def test_embed_parts_gives_tensors_that_gradients_can_be_computed_with(model: Path, sources: list[str]) -> None:
    files = open_files(resolve_sources(sources))
    parts = [EntryRange(2, 10, 20), EntryRange(0, 70, 90)]
    batches = list(embed_parts(load_model(model).encoder, files, parts, Request(("jet_pt",)), batch=8))
    z = torch.cat([z for _, z in batches])
    assert z.shape == (30, DIM)
    entries = torch.cat([jets.source[:, 1] for jets, _ in batches if jets.source is not None])
    assert entries.tolist() == [*range(10, 20), *range(70, 90)]
    layer = torch.nn.Linear(DIM, 1)
    layer(z).sum().backward()
    assert layer.weight.grad is not None


def test_jets_that_are_written_are_let_go(
    tmp_path: Path, model: Path, sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []

    def watched(files: Any, parts: Any, request: Request, **settings: Any) -> Iterator[Jets]:
        for jets in ordered(files, parts, request, chunk=10, **settings):
            read.append(weakref.ref(jets.particles))
            alive.append(sum(reference() is not None for reference in read))
            yield jets

    monkeypatch.setattr(writing, "ordered", watched)
    embed(model, sources, tmp_path / "z.npz", batch_size=5)
    assert len(alive) == 21
    assert max(alive) <= 5  # read ahead, in hand, and being yielded; never the whole input


@pytest.mark.parametrize("world", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("multiple", [1, 32, 1000])
def test_shares_one_after_another_are_the_whole(world: int, multiple: int) -> None:
    parts = [EntryRange(0, 0, 100), EntryRange(1, 30, 31), EntryRange(2, 0, 257)]
    shares = [share(parts, rank, world, multiple) for rank in range(world)]
    entries = [(part.file, entry) for mine in shares for part in mine for entry in range(part.start, part.stop)]
    assert entries == [(part.file, entry) for part in parts for entry in range(part.start, part.stop)]
    if multiple == 1:
        sizes = [sum(part.entries for part in mine) for mine in shares]
        assert max(sizes) - min(sizes) <= 1
    cuts = [part.start for mine in shares for part in mine if part.start not in (0, 30)]
    assert all(cut % multiple == 0 for cut in cuts)


def embed_on_rank(out: Path, model: Path, bad_jets: str, sources: list[str]) -> None:
    """Embed as one process of a launch."""
    data: Any = DataSettings(bad_jets=bad_jets)
    embed(model, sources, out, keep=["event"], precision="32-true", batch_size=16, data=data)


def test_two_processes_write_the_file_of_one(tmp_path: Path, model: Path, bad_sources: list[str]) -> None:
    all_ranks(embed_on_rank, tmp_path / "2.npz", model, "skip", bad_sources)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the processes: sums are rounded alike
    embed_on_rank(tmp_path / "1.npz", model, "skip", bad_sources)
    torch.set_num_threads(threads)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.npz", "2.npz"]
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()


def test_a_process_that_fails_ends_the_others_and_nothing_is_left(
    tmp_path: Path, model: Path, sources: list[str], bad_sources: list[str]
) -> None:
    began = time.monotonic()
    # Only the second process reads a bad jet.
    ended = on_ranks(embed_on_rank, tmp_path / "z.root", model, "error", [sources[0], bad_sources[1]])
    assert all(process.code != 0 for process in ended)
    assert "another process of this launch failed" in ended[0].error
    assert "a jet cannot be used" in ended[1].error
    assert time.monotonic() - began < 40
    assert list(tmp_path.iterdir()) == []


def test_auto_is_the_native_precision() -> None:
    assert resolve_precision("auto", "cpu") == native_precision("cpu")
    assert resolve_precision("32-true", "cpu") == "32-true"
    assert native_precision("meta") == "32-true"


def test_bfloat16_is_chosen_on_a_cpu_only_where_it_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert native_precision("cpu") == "32-true"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert native_precision("cpu") == "bf16-mixed"


def test_autocast_computes_in_the_precision_asked_for() -> None:
    x = torch.ones(2, 2)
    with autocast("cpu", "bf16-mixed"):
        assert (x @ x).dtype == torch.bfloat16
    with autocast("cpu", "32-true"):
        assert (x @ x).dtype == torch.float32


def test_momenta_in_mev_are_reported_and_momenta_in_gev_are_not(
    tmp_path: Path, model: Path, write_jetclass: Callable[..., Path]
) -> None:
    def in_mev(content: dict[str, Any]) -> None:
        for name in ("part_px", "part_py", "part_pz", "part_energy"):
            content[name] = content[name] * np.float32(1000)

    logged: dict[str, list[str]] = {"GeV": [], "MeV": []}
    for unit, edit in (("GeV", None), ("MeV", in_mev)):
        path = write_jetclass(f"{unit}.root", 10, edit=edit)
        embed(model, [str(path)], tmp_path / f"{unit}.npz", log=logged[unit].append)
    assert any("is it in MeV?" in text for text in logged["MeV"])
    assert not any("is it in MeV?" in text for text in logged["GeV"])


def test_a_kept_column_whose_name_the_format_cannot_hold_is_refused_before_the_work(
    tmp_path: Path, model: Path, write_jetclass: Callable[..., Path]
) -> None:
    source = write_jetclass(edit=lambda branches: branches.update({"metadata": branches["jet_pt"] + 1}))

    def work(done: int, total: int) -> None:
        raise AssertionError("it was begun")

    with pytest.raises(UsageError, match=r"(?s)npz cannot keep.*metadata.*\.root"):
        embed(model, [str(source)], tmp_path / "z.npz", keep=["metadata"], report=work)
    embed(model, [str(source)], tmp_path / "z.h5", keep=["metadata", "jet_pt"])
    kept = read_z(tmp_path / "z.h5").columns
    assert np.array_equal(kept["metadata"], kept["jet_pt"] + 1)
