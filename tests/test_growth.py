"""Time and memory of jobs with many files, jets and steps: linear in one of them, and no product of two."""

from __future__ import annotations

import gc
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from ssl_jets.config import FlattenSettings
from ssl_jets.data import files as opening
from ssl_jets.data import subset
from ssl_jets.data.dataset import Dataset
from ssl_jets.data.files import EntryRange, JetFile, open_files, whole
from ssl_jets.data.inspection import files_as_text, inspect_files
from ssl_jets.data.loading.cached_reading import CachedReader
from ssl_jets.data.loading.counting import Wanted, _Tally
from ssl_jets.data.loading.epoch_plan import chunk_at_boundaries
from ssl_jets.data.loading.flatten import measure_spectrum
from ssl_jets.data.loading.in_memory import MemoryStream
from ssl_jets.data.loading.shuffle_buffer import Chunk, _Block
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.skipped import skipped_jets
from ssl_jets.data.sources import Source
from ssl_jets.data.split import every_other_block, split
from ssl_jets.data.subset import choose_subset
from ssl_jets.embedding.inputs import Inputs
from ssl_jets.errors import DataError
from ssl_jets.evaluation import roles, ztable
from ssl_jets.evaluation.roles import draw
from ssl_jets.evaluation.ztable import read_table, trained_rows
from ssl_jets.jets import Jets
from ssl_jets.report import folders, page
from ssl_jets.report.folders import read_run
from ssl_jets.training.run_folder import TrainingRun
from ssl_jets.zfile import ZFile
from support.growth import lines_run, peak_bytes

Files = list[JetFile]


def fake_files(number: int, entries: int = 100, **more: Any) -> Files:
    """Files of different names, without any bytes."""
    facts = {"entries": entries, "events": None, "label_names": ("a", "b"), "boundaries": (0, entries), **more}
    names = [f"{chr(97 + index % 26) * (1 + index // 26)}.root" for index in range(number)]
    one = [SimpleNamespace(name=name, group=name, digest=name, source=name, **facts) for name in names]
    for file in one:
        file.numbers = lambda source: source[:, 1]
        file.jets_of = file.tree_entries = lambda start, stop: (start, stop)
    return cast("Files", one)


def batches(jets: int, size: int = 10_000, classes: int = 2) -> Iterator[Jets]:
    """Batches of one file, of jets without particles."""
    for start in range(0, jets, size):
        entry = torch.arange(start, start + size)
        source = torch.stack([torch.zeros_like(entry), entry, torch.zeros_like(entry)], dim=1)
        offsets = torch.zeros(size + 1, dtype=torch.int64)
        yield Jets(torch.empty(0, 1), offsets, ("pt",), labels=entry % classes, source=source)


# products of files and of ranges of entries


def test_copies_of_files_are_split_without_a_search_through_all_ranges() -> None:
    def run(number: int) -> int:
        files = fake_files(number)
        return lines_run(lambda: split([*files, *files], 0.1, 0))

    assert run(160) < 6 * run(40)


def test_jets_of_an_evaluation_are_counted_once_without_a_search_through_all_ranges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roles, "ordered", lambda *arguments, **more: iter(()))

    def run(number: int) -> int:
        files = fake_files(number)
        earlier = [EntryRange(index, 0, 50) for index in range(number)]
        parts = [EntryRange(index, 40, 90) for index in range(number)]

        def draws() -> None:
            with pytest.raises(DataError, match="no jet"):
                draw(files, parts, 100_000, 0, counted=earlier)

        return lines_run(draws)

    assert run(160) < 6 * run(40)


def test_each_output_of_per_file_finds_its_trained_entries_without_a_search_through_all() -> None:
    def run(number: int) -> int:
        sources, files = [Source(f"{index}.root") for index in range(number)], fake_files(number)
        trained = tuple((index, start, start + 5) for index in range(number) for start in range(0, 100, 25))
        inputs = Inputs(tuple(sources), tuple(files), np.arange(number), (), stop=number, trained=trained)
        each: list[Inputs] = []
        lines = lines_run(lambda: each.extend(inputs.each()))
        assert each[1].trained == ((1, 0, 5), (1, 25, 30), (1, 50, 55), (1, 75, 80))
        return lines

    assert run(160) < 6 * run(40)


def test_a_read_does_not_look_at_all_clusters_of_its_file() -> None:
    def run(clusters: int) -> int:
        file = fake_files(1, 10 * clusters, boundaries=tuple(range(0, 10 * clusters + 1, 10)))[0]
        chunks: list[EntryRange] = []
        lines = lines_run(lambda: chunks.extend(chunk_at_boundaries(file, EntryRange(0, 95, 125), 10)))
        assert [(chunk.start, chunk.stop) for chunk in chunks] == [(95, 100), (100, 110), (110, 120), (120, 125)]
        return lines

    assert run(4000) == run(100)


def test_a_read_through_the_cache_does_not_look_at_all_shards_of_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = CachedReader(cast("Any", None), [], Request())
    monkeypatch.setattr(reader, "_piece", lambda shard, part: Chunk(None, Counter({f"{part.start}-{part.stop}": 1})))

    def run(shards: int) -> int:
        ranges = [EntryRange(0, 10 * number, 10 * number + 10) for number in range(shards)]
        monkeypatch.setattr(reader, "_shards", lambda file: ranges)
        found: list[Chunk] = []
        lines = lines_run(lambda: found.append(reader(EntryRange(0, 105, 120))))
        assert found[0].skipped == {"105-110": 1, "110-120": 1}
        return lines

    assert run(4000) == run(100)


# products of files or ranges and of jets


def test_rows_trained_on_are_found_by_one_search_of_each_row() -> None:
    rng = np.random.default_rng(0)
    columns = {"source_file": rng.integers(0, 5, 3000).astype(np.int32), "source_entry": rng.integers(0, 100, 3000)}

    def run(number: int) -> int:
        starts = rng.integers(-3, 110, number)
        ranges = list(zip(rng.integers(0, 7, number).tolist(), starts.tolist(), (starts + 4).tolist()))
        file, found = ZFile(np.empty((3000, 0), np.float32), columns, {"trained": ranges}), list[Any]()
        lines = lines_run(lambda: found.append(trained_rows(file)))
        rows = zip(columns["source_file"].tolist(), columns["source_entry"].tolist())
        expected = [any(of == index and start <= at < stop for index, start, stop in ranges) for of, at in rows]
        assert found[0].tolist() == expected
        return lines

    assert run(0) == run(40) == run(1)


class Counting(np.ndarray[Any, Any]):
    """Array that counts the numbers that are computed from it."""

    computed = 0

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **more: Any) -> Any:
        Counting.computed += max(np.size(one) for one in inputs)
        plain = [one.view(np.ndarray) if isinstance(one, Counting) else one for one in inputs]
        return getattr(ufunc, method)(*plain, **more)


def test_every_other_block_looks_once_at_each_jet() -> None:
    file = np.tile(np.arange(50), 20).view(Counting)
    every_other_block(file, np.arange(1000))
    assert Counting.computed < 5 * 1000


# memory in proportion to the jets


def test_a_subset_is_chosen_in_memory_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subset, "_SORTED_AT_ONCE", 1000, raising=False)

    def run(jets: int) -> int:
        monkeypatch.setattr(subset, "ordered", lambda *arguments, **more: batches(jets))
        chosen: list[Jets] = []

        def choose() -> None:
            chosen.append(choose_subset(fake_files(1, jets), [EntryRange(0, 0, jets)], 100, 0, Request()))

        peak = peak_bytes(choose)
        assert torch.bincount(cast("torch.Tensor", chosen[0].labels)).tolist() == [50, 50]
        return peak

    assert run(400_000) < 1.5 * run(100_000)


def test_the_subset_is_the_one_of_the_smallest_numbers_of_all_jets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subset, "_SORTED_AT_ONCE", 10, raising=False)
    monkeypatch.setattr(subset, "ordered", lambda *arguments, **more: batches(20_000, 500, classes=3))
    files = fake_files(1, 20_000)
    chosen = choose_subset(files, [EntryRange(0, 0, 20_000)], 0.01, 5, Request())
    source = torch.cat([cast("torch.Tensor", jets.source) for jets in batches(20_000)]).numpy()
    number = subset._random_numbers(files, source, 5)
    expected = [np.flatnonzero(source[:, 1] % 3 == label) for label in range(3)]
    expected = [rows[np.argsort(number[rows])[: round(0.01 * len(rows))]] for rows in expected]
    assert cast("torch.Tensor", chosen.source)[:, 1].tolist() == np.sort(np.concatenate(expected)).tolist()


def test_labelled_jets_are_counted_in_memory_for_the_classes() -> None:
    files, wanted = fake_files(1), Wanted(classes=True)

    def run(jets: int) -> int:
        return peak_bytes(lambda: _Tally.of(files, batches(jets), wanted))

    assert run(400_000) < 1.5 * run(100_000)
    assert _Tally.of(files, batches(30_000), wanted).classes == {0: 15_000, 1: 15_000}


def test_spectra_are_measured_in_memory_for_one_histogram(write_jetclass: Any) -> None:
    (file,) = open_files([Source(str(write_jetclass(entries=50)))])
    settings = FlattenSettings(by=("jet_pt",), bins=(tuple(np.linspace(0, 2000, 201)),), to="uniform")
    data, found = Dataset([file] * 1000, [EntryRange(0, 0, 50)], []), list[Any]()
    assert peak_bytes(lambda: found.append(measure_spectrum(data, settings, Request()))) < 4e6
    assert (found[0].before.shape[1:], found[0].before.sum()) == ((200,), 50)


def test_batches_of_jets_in_memory_shuffle_them_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = MemoryStream(next(batches(1000, 1000)), batch_size=10, seed=1)
    shuffled, make = list[Any](), np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: (shuffled.append(seed), make(seed))[1])
    entries = [entry for _ in range(250) for entry in cast("torch.Tensor", next(stream).source)[:, 1].tolist()]
    assert shuffled == [[1, 0], [1, 1], [1, 2]]
    assert sorted(entries[:1000]) == sorted(entries[1000:2000]) == list(range(1000))


def test_a_z_file_is_evaluated_in_memory_for_the_chosen_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    z = np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float32)
    z[7] = np.nan
    np.savez(tmp_path / "z.npz", z=z, label=np.arange(20_000) % 2)
    monkeypatch.setattr(ztable, "_ROWS", 1000, raising=False)
    rows, found = np.array([0, 7, 999, 1000, 19_999]), list[Any]()

    def read() -> None:
        table = read_table(tmp_path / "z.npz")[2]
        found.extend([table, table.some(rows)])

    read_table(tmp_path / "z.npz")  # imports
    assert peak_bytes(lambda: found.append(read_table(tmp_path / "z.npz"))) < z.nbytes / 4
    read()
    table, some = found[-2:]
    assert (len(table), table.dim, np.flatnonzero(~table.finite).tolist()) == (20_000, 64, [7])
    np.testing.assert_array_equal(some.z, z[rows])
    assert some.columns["label"].tolist() == [0, 1, 1, 0, 1]


# many files: the first error, few distributions, short messages


@pytest.mark.parametrize(("wrong", "hint"), [({0}, True), ({5}, True), (set(range(500)), False)])
def test_an_error_does_not_wait_for_thousands_of_files(
    monkeypatch: pytest.MonkeyPatch, wrong: set[int], hint: bool
) -> None:
    opened: list[str] = []

    def fake(source: Source, *_: object) -> JetFile:
        time.sleep(0.02)
        opened.append(source.path)
        if int(source.path) in wrong:
            raise DataError("the server does not answer", where=source)
        return fake_files(1)[0]

    monkeypatch.setattr(opening, "_open", fake)
    with pytest.raises(DataError, match="does not answer") as caught:
        open_files([Source(str(number)) for number in range(500)])
    assert len(opened) < 250
    assert (f"{min(wrong)}" in str(caught.value), "bad_files=skip" in str(caught.value)) == (True, hint)


def test_many_inspected_files_hold_the_columns_that_are_shown(write_jetclass: Any) -> None:
    paths = [str(write_jetclass(f"{name}.root", entries=20)) for name in "abc"]
    every, some = inspect_files(paths, {}), inspect_files(paths, {}, whole=2)
    assert [bool(one.seen.columns or one.seen.jet_columns) for one in some] == [True, True, False]
    assert files_as_text(some) == files_as_text(every)


def test_a_line_about_thousands_of_corrupt_files_names_the_largest() -> None:
    line = skipped_jets({f"corrupt: {number}.root": number + 1 for number in range(2000)})
    assert line.startswith("jets left out: 2,000: corrupt: 1999.root; 1,999")
    assert line.endswith("1,961,190: 1,980 other reasons")
    assert len(line) < 1000


def test_a_table_of_facts_shows_the_first_of_thousands_of_files() -> None:
    text = page.facts({"files": [[f"{number}.root", 100] for number in range(3000)]})
    assert "0.root 100, 1.root 100" in text
    assert "and 2,900 more" in text


# logs of many steps


def write_log(folder: Path, steps: int) -> Sequence[dict[str, Any]]:
    lines = []
    for step in range(1, steps + 1):
        lines.append({"step": step, "kind": "train", "loss": 1 / step})
        lines += [{"step": step, "kind": "validation", "loss": 2 / step}] if step % 10 == 0 else []
    (folder / "config.yaml").write_text("method: {name: mae}\n")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lines


def test_a_report_of_a_long_training_has_some_of_its_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MOST_LINES", 50, raising=False)
    lines = write_log(tmp_path, 1001)
    found = read_run(tmp_path).lines
    steps = [line["step"] for line in found if line["kind"] == "train"]
    assert steps == [*range(16, 1001, 16), 1001]
    assert [line for line in found if line["kind"] != "train"] == [line for line in lines if line["kind"] != "train"]
    assert [line["step"] for line in found] == sorted(line["step"] for line in found)
    lines = write_log(tmp_path, 100)
    assert read_run(tmp_path).lines == lines


def test_a_long_log_is_cut_line_by_line(tmp_path: Path) -> None:
    lines, run = write_log(tmp_path, 10_000), TrainingRun(tmp_path)
    size = run.metrics.stat().st_size
    assert peak_bytes(lambda: run.drop_metrics_after(9000)) < size / 2
    assert [json.loads(line) for line in run.metrics.read_text().splitlines()] == [
        line for line in lines if line["step"] <= 9000
    ]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are listed on Linux only")
def test_trees_are_closed_with_the_thread_that_read_them(write_jetclass: Any) -> None:
    paths = [write_jetclass(f"{name}.root", entries=10) for name in "abcdef"]
    files = [replace(file, index=None) for file in open_files([Source(str(path)) for path in paths])]
    gc.collect()  # the indices: without them a file is read by its tree, as every RNTuple is

    def open_now() -> int:
        found = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
        return sum(found.count(os.path.realpath(path)) for path in paths)

    gc.disable()
    try:
        seen = [open_now() for _ in ordered(files, whole(files), Request(columns=("pt",)))]
        after = open_now()
    finally:
        gc.enable()
    assert (max(seen) > 0, after) == (True, 0)


def test_a_window_that_begins_with_long_jets_takes_no_memory_for_as_long_ones() -> None:
    def jets(number: int, length: int) -> Jets:
        particles = torch.full((number * length, 1), float(length))
        return Jets(
            particles, torch.arange(number + 1) * length, ("pt",), source=torch.zeros(number, 3, dtype=torch.int64)
        )

    block = _Block(paired=False)
    block.clear(10_000)
    block.append(jets(100, 200), 100)
    assert len(block._particles) <= 4 * 20_000
    for _ in range(99):
        block.append(jets(100, 5), 100)
    assert len(block._particles) < 2 * (20_000 + 9900 * 5)
    window = cast("Jets", block.jets())
    assert torch.bincount(window.lengths).nonzero()[:, 0].tolist() == [5, 200]
    assert torch.equal(window.particles[:, 0], window.lengths.repeat_interleave(window.lengths).float())
