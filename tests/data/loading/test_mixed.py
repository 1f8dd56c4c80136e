"""Labelled and unlabelled jets in one batch: their shares, what is blanked, resuming, ranks."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import pytest
import torch

from ssl_jets.config import DataSettings
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.files import EntryRange, JetFile
from ssl_jets.data.loading.in_memory import MemoryStream
from ssl_jets.data.loading.mixed import MixedStream, shares
from ssl_jets.data.loading.stream import TrainStream, ordered
from ssl_jets.data.request import Request
from ssl_jets.data.schemas.labels import Classes
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets, concatenate
from support.jetclass_files import write_class_files

COLUMNS = ("jet_sdmass",)
PARTS = [EntryRange(0, 0, 40), EntryRange(1, 0, 40), EntryRange(2, 0, 40)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[JetFile]:
    """Three files of 40 jets, each of one class."""
    return write_class_files(tmp_path_factory.mktemp("mixed"), 40)


def mixed(files: list[JetFile], rank: int = 0, world: int = 1, memory: bool = False) -> MixedStream:
    """6 labelled jets of the first 20 of each file, and 10 unlabelled ones of 120, in windows of 50."""
    request = Request(jet_columns=COLUMNS)
    few = [EntryRange(index, 0, 20) for index in range(3)]
    place = {"seed": 1, "rank": rank, "world": world}
    labelled: MemoryStream | TrainStream
    if memory:
        labelled = MemoryStream(concatenate(list(ordered(files, few, request))), batch_size=6, **place)
    else:
        labelled = TrainStream(files, few, batch_size=6, buffer=30, request=request, **place)
    blind = [replace(file, classes=Classes()) for file in files]
    return MixedStream(labelled, TrainStream(blind, PARTS, batch_size=10, buffer=50, **place))


def rows(jets: Jets) -> list[list[int]]:
    assert jets.source is not None
    return jets.source.tolist()


@pytest.mark.parametrize("memory", [False, True])
def test_the_first_jets_have_labels_and_columns_and_the_others_neither(files: list[JetFile], memory: bool) -> None:
    stream = mixed(files, memory=memory)
    jets = next(stream)
    assert len(jets) == 16
    assert jets.labels is not None
    assert (jets.labels[:6] >= 0).all()
    assert (jets.labels[6:] == -1).all()
    mass = jets.jet["jet_sdmass"]
    assert mass[:6].isfinite().all()
    assert mass[6:].isnan().all()
    assert all(entry < 20 for _, entry, _ in rows(jets)[:6])
    assert stream.jets_per_epoch == 60 + 120
    stream.close()


def test_each_of_the_two_goes_round_at_its_own_pace(files: list[JetFile]) -> None:
    stream = mixed(files)
    batches = [rows(next(stream)) for _ in range(12)]
    labelled, unlabelled = ([row for batch in batches for row in batch[part]] for part in (slice(6), slice(6, None)))
    assert sorted(labelled[:60]) == [[file, entry, 0] for file in range(3) for entry in range(20)]
    assert sorted(unlabelled) == [[file, entry, 0] for file in range(3) for entry in range(40)]
    stream.close()


@pytest.mark.parametrize(
    ("batches", "memory"), [(0, False), (1, True), (4, False), (11, True), (13, False), (13, True)]
)
def test_a_resumed_stream_goes_on_with_the_same_jets_on_both_sides(
    files: list[JetFile], batches: int, memory: bool
) -> None:
    stream = mixed(files, memory=memory)
    for _ in range(batches):
        next(stream)
    state = stream.state_dict()
    expected = [rows(next(stream)) for _ in range(6)]
    stream.close()
    resumed = mixed(files, memory=memory)
    next(resumed)
    resumed.resume([state])
    assert [rows(next(resumed)) for _ in range(6)] == expected
    resumed.close()


@pytest.mark.parametrize("memory", [False, True])
def test_the_ranks_share_the_jets_of_both(files: list[JetFile], memory: bool) -> None:
    streams = [mixed(files, rank, 2, memory) for rank in range(2)]
    batches = [[rows(next(stream)) for _ in range(5)] for stream in streams]
    for part, entries in ((slice(6), 20), (slice(6, None), 40)):
        seen = sorted(tuple(row) for batch in chain(*batches) for row in batch[part])
        assert len(set(seen)) >= 0.9 * len(seen)  # a window of a rank is not a multiple of a batch
        assert max(entry for _, entry, _ in seen) < entries
    for stream in streams:
        stream.close()


@pytest.mark.parametrize(
    ("size", "ratio", "expected"), [(256, 3, (64, 192)), (16, 1, (8, 8)), (10, 0.5, (7, 3)), (100, 99, (1, 99))]
)
def test_the_ratio_makes_the_shares(size: int, ratio: float, expected: tuple[int, int]) -> None:
    assert shares(size, ratio) == expected


@pytest.mark.parametrize(("size", "ratio"), [(16, 1000), (16, 0.001)])
def test_a_ratio_that_leaves_one_side_empty_is_refused(size: int, ratio: float) -> None:
    with pytest.raises(UsageError, match="cannot hold") as caught:
        shares(size, ratio)
    assert caught.value.where == "data.unlabelled_ratio"


def names_of(files: list[JetFile]) -> tuple[str, ...]:
    return tuple(str(file.source) for file in files)


def test_without_files_of_their_own_the_training_jets_are_the_unlabelled_ones(sample_files: list[JetFile]) -> None:
    data = open_dataset(DataSettings(sources=names_of(sample_files[:2]), unlabelled_ratio=2))
    assert data.unlabelled == data.train == data.all_train
    assert open_dataset(DataSettings(sources=names_of(sample_files[:2]))).unlabelled == []


def test_unlabelled_files_are_split_like_the_others(sample_files: list[JetFile]) -> None:
    data = open_dataset(
        DataSettings(sources=names_of(sample_files[:2]), unlabelled=names_of(sample_files[2:4]), unlabelled_ratio=1)
    )
    assert {part.file for part in data.unlabelled} == {part.file for part in data.unlabelled_held_out} == {2, 3}
    assert {part.file for part in data.held_out} == {0, 1}
    assert data.names == list(names_of(sample_files[:4]))
    for held in data.unlabelled_held_out:
        same_file = [part for part in data.unlabelled if part.file == held.file]
        assert all(part.stop < held.start or part.start > held.stop for part in same_file)


def test_unlabelled_files_that_no_batch_would_use_are_refused(sample_files: list[JetFile]) -> None:
    with pytest.raises(UsageError, match="no batch would have jets") as caught:
        open_dataset(DataSettings(sources=names_of(sample_files[:1]), unlabelled=names_of(sample_files[1:2])))
    assert caught.value.hint is not None


def test_a_file_cannot_be_labelled_and_unlabelled(sample_files: list[JetFile]) -> None:
    names = names_of(sample_files[:1])
    with pytest.raises(UsageError, match="both labelled and unlabelled"):
        open_dataset(DataSettings(sources=names, unlabelled=names, unlabelled_ratio=1))


def test_torch_reads_missing_columns_of_whole_numbers_as_nan(files: list[JetFile]) -> None:
    jets = concatenate(list(ordered(files, [EntryRange(0, 0, 20)], Request())))
    counted = replace(jets, jet={"number": torch.arange(20)})
    batch = next(MixedStream(MemoryStream(counted, batch_size=2, seed=0), MemoryStream(jets, batch_size=3, seed=0)))
    assert batch.jet["number"].isnan().tolist() == [False, False, True, True, True]
