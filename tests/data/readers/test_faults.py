"""Files that go bad: an error by default, left out and counted where the settings say so, and never a hang."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.files import JetFile, count, open_files, whole
from ssl_jets.data.loading.stream import TrainStream, ordered
from ssl_jets.data.readers import parquet, remote, root
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, SslJetsError
from support.faulty_files import remove, spoil_baskets, truncate

Write = Callable[..., Path]
SKIP = Request(columns=("pt", "charge"), bad_files="skip")


@pytest.fixture
def files(write_jetclass: Write) -> list[JetFile]:
    paths = [write_jetclass(f"{name}.root", seed=seed) for seed, name in enumerate(("QCD_0", "QCD_1", "Tbl_0"))]
    return open_files([Source(str(path)) for path in paths])


def stream_of(files: list[JetFile], request: Request, **more: Any) -> TrainStream:
    return TrainStream(files, whole(files), batch_size=10, buffer=40, seed=0, request=request, **more)


@pytest.mark.parametrize("fault", [truncate, spoil_baskets, remove])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_file_that_goes_bad_in_an_epoch_is_an_error_or_counted_by_file_and_reason(
    files: list[JetFile], fault: Callable[[Path], None], workers: int
) -> None:
    fault(Path(files[1].source.path))
    with stream_of(files, Request(columns=("pt", "charge")), workers=workers) as stream:
        with pytest.raises(DataError) as caught:
            [next(stream) for _ in range(15)]
        assert caught.value.where is not None
        assert files[1].source.path in str(caught.value.where)
        assert "data.bad_files=skip" in str(caught.value)
    with stream_of(files, SKIP, workers=workers) as stream:
        seen = set()
        while stream.epoch < 2:
            source = next(stream).source
            assert source is not None
            seen |= {(file, entry) for file, entry, _ in source.tolist()}
    lost = 50 - sum(file == 1 for file, _ in seen)
    assert lost > 0
    assert {key for key in seen if key[0] != 1} == {(file, entry) for file in (0, 2) for entry in range(50)}
    assert all(files[1].source.path in reason for reason in stream.skipped)
    assert stream.skipped.total() >= 2 * lost  # once in each epoch, and in the window that is read ahead


def test_lists_of_different_lengths_are_left_out_with_their_reason(write_jetclass: Write) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        charge = branches["part_charge"]
        branches["part_charge"] = ak.concatenate([charge[:30], ak.concatenate([charge[30:], charge[30:]], axis=1)])

    paths = [write_jetclass("QCD_0.root"), write_jetclass("QCD_1.root", edit=spoil, counter=None)]
    files = open_files([Source(str(path)) for path in paths])
    skipped: Counter[str] = Counter()
    jets = sum(len(batch) for batch in ordered(files, whole(files), SKIP, chunk=20, skipped=skipped))
    assert jets == 50 + 30
    assert skipped.total() == 20
    assert all("different numbers of particles" in reason and paths[1].name in reason for reason in skipped)


def test_files_that_cannot_be_opened_are_left_out_by_name(write_jetclass: Write) -> None:
    def flat(branches: dict[str, Any]) -> None:
        branches["part_charge"] = np.zeros(50, dtype=np.float32)

    good = [write_jetclass(f"{name}.root") for name in ("QCD_0", "QCD_1")]
    cut, other_type = write_jetclass("QCD_2.root"), write_jetclass("QCD_3.root", edit=flat)
    truncate(cut)
    sources = tuple(str(path) for path in [good[0], cut, other_type, good[1]])
    with pytest.raises(DataError, match=r"truncated|list of numbers"):
        open_dataset(DataSettings(sources=sources))
    data = open_dataset(DataSettings(sources=sources, bad_files="skip"))
    assert {file.source.path for file in data.files} == {str(path) for path in good}
    assert count(data.train) + count(data.held_out) <= 100
    assert set(data.left_out) == {str(cut), str(other_type)}
    assert "truncated" in data.left_out[str(cut)]
    with pytest.raises(DataError, match="truncated"):
        open_dataset(DataSettings(sources=(str(cut),), bad_files="skip"))


def test_a_bad_jet_is_still_an_error_where_only_bad_files_are_skipped(write_jetclass: Write) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        branches["part_charge"] = branches["part_charge"] * np.float32(np.nan)

    files = open_files([Source(str(write_jetclass(edit=spoil)))])
    with stream_of(files, SKIP) as stream, pytest.raises(DataError, match="cannot be used"):
        next(stream)


def test_rows_that_a_library_passes_over_are_an_error(tmp_path: Path) -> None:
    # pyarrow 26 gives none of the flags that it has written into pages of 64 bytes of several row groups.
    flags, path = [[True], [False], [True, True]], tmp_path / "flags.parquet"
    pages: dict[str, Any] = {"row_group_size": 1, "data_page_version": "2.0", "data_page_size": 64}
    pq.write_table(pa.table({"flag": pa.array(flags)}), path, **pages)
    with suppress(DataError):
        assert parquet.read(str(path), "", ["flag"], 0, 3)["flag"].to_list() == flags


def test_a_limit_of_open_files_stops_the_work_and_no_file_is_left_out(
    files: list[JetFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    sources, message = [file.source for file in files], r"too many files(.|\n)*ulimit"
    with monkeypatch.context() as limited:
        limited.setattr("os.open", refuse)
        with pytest.raises(SslJetsError, match=message):
            list(ordered(files, whole(files), SKIP))
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(SslJetsError, match=message):
        open_files(sources, left_out={})


@pytest.mark.parametrize(
    ("error", "failures", "waits"),
    [(TimeoutError("Operation expired"), 2, [1, 5]), (ConnectionError("reset"), 9, [1, 5, 20])],
)
def test_a_server_that_does_not_answer_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: OSError,
    failures: int,
    waits: list[float],
) -> None:
    opened, waited = list[str](), list[float]()

    class Opened:
        classname = "TTree"
        file = SimpleNamespace(close=lambda: None)

        def arrays(self, **_: object) -> dict[str, Any]:
            if len(opened) <= failures:
                raise error
            return {"pt": np.arange(3)}

    monkeypatch.setattr(root, "_open", lambda path: opened.append(path) or {"tree": Opened()})
    monkeypatch.setattr(root, "_OPENED", threading.local())
    monkeypatch.setattr(remote.time, "sleep", waited.append)
    url = "root://host//file.root"
    if failures > len(waits):
        with pytest.raises(DataError, match="corrupt"):
            root.read(url, "tree", ["pt"], 0, 3)
    else:
        assert root.read(url, "tree", ["pt"], 0, 3)["pt"].tolist() == [0, 1, 2]
    assert (waited, len(opened)) == (waits, len(waits) + 1)  # each time over a new connection
    assert capsys.readouterr().err.splitlines()[0] == f"{url}: {error}; again in 1 s"


@pytest.mark.parametrize("error", [FileNotFoundError("no such file"), ValueError("damaged")])
def test_a_file_that_a_server_lacks_or_that_is_damaged_is_not_asked_for_again(error: Exception) -> None:
    asked: list[int] = []

    def read() -> None:
        asked.append(1)
        raise error

    with pytest.raises(type(error)):
        remote.patiently(read, "https://host/file.root", lambda: None)
    assert asked == [1]
