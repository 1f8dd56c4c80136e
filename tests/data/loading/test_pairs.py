"""Pairs of files: row i of both stays one jet through shuffling, ranks, resuming, bad jets and ordinary files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch

from ssl_jets.config import DataSettings
from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.dataset import open_dataset
from ssl_jets.data.files import EntryRange, JetFile, whole
from ssl_jets.data.loading.pairs import refuse_pairs
from ssl_jets.data.loading.shuffle_buffer import read_range
from ssl_jets.data.loading.stream import TrainStream
from ssl_jets.data.request import Request
from ssl_jets.data.seen import Seen
from ssl_jets.data.subset import choose_subset
from ssl_jets.errors import DataError, SslJetsError, UsageError
from ssl_jets.jets import Jets, concatenate
from ssl_jets.pretraining import pretrain, resolve_pretrain
from support.jetclass_files import jetclass_branches, write_tree

Edit = Callable[[dict[str, Any]], None]
COLUMNS = ("pt", "charge")
REQUEST = Request(columns=COLUMNS, bad_jets="skip")


def write(path: Path, entries: int, seed: int, edit: Edit | None = None) -> Path:
    """A file of random jets, whose `event_id` is 1,000 plus the row."""
    branches = jetclass_branches(entries, seed=seed) | {"event_id": 1000 + np.arange(entries, dtype=np.int64)}
    if edit is not None:
        edit(branches)
    return write_tree(path, {"tree": branches}, cluster=8)


def settings_of(folder: Path, *ordinary: Path, **more: Any) -> DataSettings:
    """Settings of `a-first` and `b-first` in a folder with their partners, and of ordinary files."""
    sources = (f"{folder}/*-first.root", *map(str, ordinary))
    return DataSettings(sources=sources, pairs={f"{folder}/*-first.root": f"{folder}/*-second.root"}, **more)


def spoil(*rows: int) -> Edit:
    """Give the charge of all particles of some jets the value NaN."""

    def edit(branches: dict[str, Any]) -> None:
        charge = branches["part_charge"]
        wrong = np.isin(np.arange(len(charge)), rows)
        branches["part_charge"] = ak.values_astype(ak.where(wrong, charge * np.nan, charge), np.float32)

    return edit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of 60 and 45 jets, with bad jets in rows 3 and 7 of one and 7 and 11 of the other."""
    folder = tmp_path_factory.mktemp("pairs")
    write(folder / "a-first.root", 60, 0, spoil(3, 7))
    write(folder / "a-second.root", 60, 1, spoil(7, 11))
    write(folder / "b-first.root", 45, 2)
    write(folder / "b-second.root", 45, 3)
    write(folder / "ordinary.root", 30, 4)
    return folder


@pytest.fixture(scope="module")
def files(folder: Path) -> list[JetFile]:
    return open_dataset(settings_of(folder, folder / "ordinary.root")).files


@pytest.fixture(scope="module")
def partners(files: list[JetFile]) -> list[Jets]:
    """The second view of each file as a plain read gives it; of an ordinary file the jets themselves."""
    request = Request(columns=COLUMNS)
    views = [replace(file.views[-1], second=None) for file in files]
    spoiled = [replace(request, bad_jets="skip", columns=("pt",)) if "a-" in file.name else request for file in views]
    return [read_chunk(file, 0, 0, file.entries, one)[0] for file, one in zip(views, spoiled)]


def check(jets: Jets, partners: Sequence[Jets]) -> None:
    """Check that the second view of every jet is the row of the partner."""
    assert jets.second is not None
    assert jets.source is not None
    assert len(jets.second) == len(jets)
    for number, (file, entry, _) in enumerate(jets.source.tolist()):
        partner = partners[file]
        assert partner.source is not None
        row = torch.nonzero(partner.source[:, 1] == entry)[0]
        second, first = jets.second.select(torch.tensor([number])), partner.select(row)
        assert torch.equal(second.column("pt"), first.column("pt"))


def stream_of(files: Sequence[JetFile], **settings: Any) -> TrainStream:
    arguments = {"batch_size": 15, "buffer": 40, "seed": 1, "request": REQUEST} | settings
    return TrainStream(files, whole(files), **arguments)


@pytest.mark.parametrize("buffer", [12, 40, 1000])
def test_the_second_view_of_a_jet_is_its_row_of_the_other_file(
    files: list[JetFile], partners: list[Jets], buffer: int
) -> None:
    with stream_of(files, buffer=buffer) as stream:
        for _ in range(20):
            check(next(stream), partners)


def test_a_pair_with_a_bad_jet_in_either_file_is_skipped_and_counted_once(files: list[JetFile]) -> None:
    jets, skipped = read_range(files, EntryRange(0, 0, 60), REQUEST)
    assert jets is not None
    assert jets.source is not None
    assert jets.second is not None
    assert jets.source[:, 1].tolist() == [row for row in range(60) if row not in (3, 7, 11)]
    assert skipped == {"part_charge is not finite": 2, "part_charge is not finite, in the second view": 1}
    assert len(jets.second) == 57


def test_a_bad_jet_of_the_second_file_is_an_error_that_names_it(files: list[JetFile]) -> None:
    with pytest.raises(DataError, match="part_charge is not finite") as caught:
        read_range(files, EntryRange(0, 8, 20), replace(REQUEST, bad_jets="error"))
    assert "a-second.root" in str(caught.value.where)
    assert "entry 11" in str(caught.value.where)


def test_ranks_and_another_number_of_them_after_a_resume_see_each_pair_once(
    files: list[JetFile], partners: list[Jets]
) -> None:
    streams = [stream_of(files, rank=rank, world=2, batch_size=9) for rank in range(2)]
    seen: list[tuple[int, int]] = []

    def take(stream: TrainStream) -> None:
        jets = next(stream)
        check(jets, partners)
        assert jets.source is not None
        seen.extend((file, entry) for file, entry, _ in jets.source.tolist())

    for stream in streams:
        take(stream)
        take(stream)
    states = [stream.state_dict() for stream in streams]
    with stream_of(files, batch_size=1) as stream:
        stream.resume(states)
        while stream.epoch == 0:
            take(stream)
    for each in streams:
        each.close()
    expected = [(file, entry) for file in range(3) for entry in range(files[file].entries)]
    assert sorted(seen) == [key for key in expected if key not in [(0, 3), (0, 7), (0, 11)]]


def test_a_restored_stream_goes_on_with_the_same_pairs(files: list[JetFile]) -> None:
    with stream_of(files) as stream:
        next(stream)
        state = stream.state_dict()
        expected = [next(stream) for _ in range(4)]
    with stream_of(files) as stream:
        stream.resume([state])
        for jets in expected:
            other = next(stream)
            assert jets.second is not None
            assert other.second is not None
            assert torch.equal(other.particles, jets.particles)
            assert torch.equal(other.second.particles, jets.second.particles)
            assert torch.equal(other.second.offsets, jets.second.offsets)


def test_the_first_views_come_in_the_same_order_as_without_pairs(files: list[JetFile]) -> None:
    alone = [replace(file, second=None) for file in files]
    good = [EntryRange(0, 12, 60), EntryRange(1, 0, 45), EntryRange(2, 0, 30)]
    with (
        TrainStream(files, good, batch_size=15, buffer=40, seed=1, request=REQUEST) as paired,
        TrainStream(alone, good, batch_size=15, buffer=40, seed=1, request=REQUEST) as single,
    ):
        for _ in range(10):
            one, other = next(paired), next(single)
            assert torch.equal(one.particles, other.particles)
            assert other.second is None


def test_a_labelled_subset_keeps_its_pairs(files: list[JetFile], partners: list[Jets]) -> None:
    check(choose_subset(files, whole(files), 40, 0, REQUEST), partners)


def test_the_model_file_records_both_files_as_seen(folder: Path) -> None:
    data = open_dataset(settings_of(folder))
    second = data.files[0].second
    assert second is not None
    seen = Seen.of_parts(data.files, data.train, data.held_out)
    assert seen.trained(second.identity)
    assert seen.ranges(second.identity) == seen.ranges(data.files[0].identity) != []


def test_jets_keep_their_partner_when_they_are_selected_hidden_moved_and_joined(batch: Jets) -> None:
    others = batch.select(torch.arange(64).flip(0)).second_view()
    paired = replace(batch, second=others)
    chosen = paired.select(torch.tensor([5, 0])).second
    assert chosen is not None
    assert chosen.labels is None
    assert torch.equal(chosen.particles, others.select(torch.tensor([5, 0])).particles)
    hidden = paired.without(["kind"]).second
    assert hidden is not None
    assert "kind" not in hidden.columns
    assert paired.to("cpu").second is not None
    joined = concatenate([batch, paired]).second
    assert joined is not None
    assert torch.equal(joined.particles, torch.cat([batch.particles, others.particles]))
    assert concatenate([batch, batch]).second is None


def test_a_jet_without_a_partner_is_its_own_second_view(batch: Jets) -> None:
    assert torch.equal(batch.second_view().particles, batch.particles)


def drop_id(branches: dict[str, Any]) -> None:
    del branches["event_id"]


def swap(branches: dict[str, Any]) -> None:
    branches["event_id"][[20, 21]] = branches["event_id"][[21, 20]]


@pytest.mark.parametrize(
    ("entries", "edit", "found"),
    [
        (29, None, "30 and 29 jets"),
        (30, swap, "event_id 1020 and 1021 in row 20"),
        (30, drop_id, "event_id in .*a-first.root only"),
    ],
)
def test_files_that_do_not_hold_the_same_events_are_refused_in_one_message(
    tmp_path: Path, entries: int, edit: Edit | None, found: str
) -> None:
    write(tmp_path / "a-first.root", 30, 0)
    write(tmp_path / "a-second.root", entries, 1, edit)
    with pytest.raises(DataError, match="do not hold the same jets") as caught:
        open_dataset(settings_of(tmp_path))
    assert re.search(found, str(caught.value.found))


def test_files_without_event_numbers_are_paired_by_their_rows(tmp_path: Path) -> None:
    for seed, name in enumerate(("a-first", "a-second")):
        write(tmp_path / f"{name}.root", 30, seed, drop_id)
    assert open_dataset(settings_of(tmp_path)).files[0].second is not None


def test_names_that_make_no_pairs_are_refused(folder: Path) -> None:
    first, second = f"{folder}/a-first.root", f"{folder}/a-second.root"
    wrong: list[tuple[dict[str, str], tuple[str, ...], str]] = [
        ({f"{folder}/*-first.root": second}, (first,), "different numbers of files"),
        ({second: first}, (f"{folder}/b-first.root",), "is not among the files"),
        ({first: second}, (first, second), "is a file to train or validate on"),
        ({first: first}, (first,), "named twice"),
    ]
    for pairs, sources, message in wrong:
        with pytest.raises(UsageError, match=message):
            open_dataset(DataSettings(sources=sources, pairs=pairs))


def test_the_partner_of_a_skipped_file_is_skipped_and_a_broken_partner_is_an_error(tmp_path: Path) -> None:
    for seed, name in enumerate(("a-first", "a-second", "b-first", "b-second")):
        write(tmp_path / f"{name}.root", 30, seed)
    (tmp_path / "b-first.root").write_bytes(b"root, but no more")
    data = open_dataset(settings_of(tmp_path, bad_files="skip"))
    assert [file.name for file in data.files] == ["a-first.root"]
    assert data.files[0].second is not None
    (tmp_path / "a-second.root").write_bytes(b"root, but no more")
    with pytest.raises(SslJetsError):
        open_dataset(settings_of(tmp_path, bad_files="skip"))


def test_trainings_that_read_one_view_refuse_pairs(folder: Path, tmp_path: Path) -> None:
    pairs = {f"{folder}/b-first.root": f"{folder}/b-second.root"}
    data = {"data": {"sources": [f"{folder}/b-first.root"], "pairs": pairs}}
    with pytest.raises(UsageError, match="reads one view") as caught:
        pretrain(resolve_pretrain("mae", data), tmp_path / "run")
    assert caught.value.allowed == ["byol", "lejepa", "simclr", "supcon", "vicreg"]
    with pytest.raises(UsageError, match="reads one view"):
        refuse_pairs(DataSettings(**data["data"]))
    refuse_pairs(DataSettings())
