"""Reading in order gives every jet once, in order, with few chunks in memory, and ends its threads."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssl_jets.data.files import EntryRange, JetFile, open_files, whole
from ssl_jets.data.loading import shuffle_buffer
from ssl_jets.data.loading.epoch_plan import chunk_at_boundaries
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.readers import root
from ssl_jets.data.request import Request
from ssl_jets.data.schemas.schema import known_schemas
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets, concatenate
from support.jetclass_files import jetclass_branches, write_tree

Write = Callable[..., Path]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[JetFile]:
    folder = tmp_path_factory.mktemp("ordered")
    paths = [write_tree(folder / f"c{seed}_0.root", {"tree": jetclass_branches(60, seed=seed)}) for seed in range(3)]
    return open_files([Source(str(path)) for path in paths])


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ssl-jets")]


@pytest.mark.parametrize(("chunk", "workers"), [(7, 1), (7, 3), (20, 3), (50, 1), (1000, 3)])
def test_every_jet_comes_once_and_in_order(files: list[JetFile], chunk: int, workers: int) -> None:
    parts = [EntryRange(2, 10, 60), EntryRange(0, 0, 60), EntryRange(1, 5, 6)]
    batches = list(ordered(files, parts, chunk=chunk, workers=workers))
    source = concatenate(batches).source
    assert source is not None
    expected = [[part.file, entry, 0] for part in parts for entry in range(part.start, part.stop)]
    assert source.tolist() == expected
    assert max(len(batch) for batch in batches) <= chunk
    assert not reading_threads()


def test_the_values_do_not_depend_on_the_chunks(files: list[JetFile]) -> None:
    one = concatenate(list(ordered(files, whole(files), chunk=1000)))
    many = concatenate(list(ordered(files, whole(files), chunk=9)))
    assert torch.equal(one.particles, many.particles)
    assert torch.equal(one.offsets, many.offsets)


@given(
    clusters=st.lists(st.integers(1, 40), max_size=10),
    size=st.integers(1, 50),
    limit=st.none() | st.integers(1, 60),
    ends=st.tuples(st.integers(0, 400), st.integers(0, 400)),
)
def test_chunks_cover_a_part_and_are_no_longer_than_allowed(
    clusters: list[int], size: int, limit: int | None, ends: tuple[int, int]
) -> None:
    edges = [0, *np.cumsum(clusters).tolist()]
    start, stop = sorted(min(end, edges[-1]) for end in ends)
    file = JetFile(Source("a.root"), known_schemas()[0], root, "tree", edges[-1], tuple(edges), 1, (), ())
    chunks = chunk_at_boundaries(file, EntryRange(0, start, stop), size, limit)
    covered = [entry for chunk in chunks for entry in range(chunk.start, chunk.stop)]
    assert covered == list(range(start, stop))
    assert all(0 < chunk.entries <= max(size, limit or size) for chunk in chunks)


def test_few_chunks_are_alive_at_a_time(files: list[JetFile], monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []

    def counted(*arguments: Any) -> Any:
        begun.append(1)
        return read_chunk(*arguments)

    read_chunk = shuffle_buffer.read_chunk
    monkeypatch.setattr(shuffle_buffer, "read_chunk", counted)
    workers = 2
    for number, _ in enumerate(ordered(files, whole(files), chunk=10, workers=workers)):
        time.sleep(0.005)
        assert len(begun) <= number + 1 + workers + 1
    assert len(begun) == 18


def test_leaving_early_leaves_no_thread_behind(files: list[JetFile]) -> None:
    jets = ordered(files, whole(files), chunk=5, workers=2)
    next(jets)
    assert reading_threads()
    jets.close()  # type: ignore[attr-defined]
    assert not reading_threads()


def test_the_error_of_a_thread_reaches_the_caller_and_leaves_no_thread_behind(write_jetclass: Write) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        branches["label_QCD"][45] = 0

    files = open_files([Source(str(write_jetclass(edit=spoil)))])
    jets = ordered(files, whole(files), chunk=20)
    assert len(next(jets)) == 20
    assert len(next(jets)) == 20
    with pytest.raises(DataError, match="entry 45"):
        next(jets)
    assert not reading_threads()


def test_skipped_jets_are_missing_from_the_source_and_counted(write_jetclass: Write) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        for name in ("part_px", "part_py"):
            branches[name] = branches[name] * np.where(np.arange(50) < 25, 0, 1).astype(np.float32)

    files = open_files([Source(str(write_jetclass(edit=spoil)))])
    skipped: Counter[str] = Counter()
    batches = list(ordered(files, whole(files), Request(bad_jets="skip"), chunk=10, skipped=skipped))
    source = concatenate(batches).source
    assert source is not None
    assert source[:, 1].tolist() == list(range(25, 50))
    assert skipped == {"pt is zero": 25}
    assert all(len(batch) for batch in batches)


def test_a_wrong_request_is_refused_before_anything_is_read(files: list[JetFile]) -> None:
    with pytest.raises(UsageError, match="no such column"):
        ordered(files, whole(files), Request(jet_columns=("nonsense",)))


def test_the_files_that_are_read_must_have_the_same_columns_unless_some_are_chosen(write_jetclass: Write) -> None:
    paths = [write_jetclass("a.root"), write_jetclass("b.root", drop=["part_d0val"])]
    files = open_files([Source(str(path)) for path in paths])
    with pytest.raises(DataError, match="different particle columns"):
        ordered(files, whole(files))
    assert sum(map(len, ordered(files, whole(files)[:1]))) == 50
    jets: Jets = concatenate(list(ordered(files, whole(files), Request(columns=("pt", "deta", "dphi")))))
    assert jets.particles.shape[1] == 3
