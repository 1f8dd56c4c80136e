"""Some rows of z files of all formats, read without the rest, and an index of parts that is read as one file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssl_jets.errors import DataError, UsageError
from ssl_jets.zfile import PartMetadata, ZMetadata, ZWriter, count_rows, iterate_z, merge_parts, read_metadata, read_z
from ssl_jets.zfile.columns import Column, z_columns
from ssl_jets.zfile.description import described_zfile
from ssl_jets.zfile.formats import SUFFIXES

FORMATS = (".root", ".parquet", ".h5", ".npz", "rntuple.root")
DIM = 4
COLUMNS = z_columns("jet", DIM, labelled=True, kept=("jet_pt",))
METADATA = ZMetadata(
    "ab12", "mae", DIM, "jet", ("a.root",), ("QCD", "Hbb"), ("jet_pt",), ("",), digests=("d",), schemas=("s",)
)
BLOCK = 20
ROW_BYTES = sum(column.row_bytes for column in COLUMNS)


def make_rows(count: int, first: int = 0) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(first)
    rows = {column.name: rng.integers(0, 2, (count, *column.shape)).astype(column.dtype) for column in COLUMNS}
    z = rng.standard_normal((count, DIM)).astype("f4")
    return rows | {"z": z, "source_file": np.zeros(count, "i4"), "source_entry": np.arange(first, first + count)}


def write(path: Path, rows: dict[str, npt.NDArray[Any]], metadata: ZMetadata = METADATA, block: int = BLOCK) -> Path:
    options = {"block_bytes": block * ROW_BYTES, "rntuple": path.name.endswith("rntuple.root")}
    with ZWriter(path, COLUMNS, metadata, **options) as writer:  # type: ignore[arg-type]
        writer.write(rows)
    return path


RANGES = [(0, 60), (0, 1), (19, 21), (20, 40), (25, 33), (59, None), (-5, None), (0, 999), (7, 7), (60, 60)]


@pytest.mark.parametrize("suffix", FORMATS)
def test_rows_are_a_slice_of_the_file(tmp_path: Path, suffix: str) -> None:
    rows = make_rows(60)
    path = write(tmp_path / f"z{suffix}", rows)
    assert count_rows(path) == 60
    for start, stop in RANGES:
        some = read_z(path, start=start, stop=stop)
        assert np.array_equal(some.z, rows["z"][start:stop])
        for name, values in some.columns.items():
            assert values.dtype == rows[name].dtype
            assert np.array_equal(values, rows[name][start:stop]), (name, start, stop)
        blocks = list(iterate_z(path, 8, start=start, stop=stop))
        entries = np.concatenate([block["source_entry"] for block in blocks])
        assert np.array_equal(entries, rows["source_entry"][start:stop])


@pytest.mark.parametrize("suffix", [".root", ".parquet", ".h5", ".npz"])
def test_only_the_blocks_with_the_rows_are_checked_and_damage_in_them_is_reported(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"z{suffix}", make_rows(60))
    metadata = SUFFIXES[suffix].reading(path).metadata
    rows = make_rows(60)
    rows["jet_pt"][45] += 1
    sink = SUFFIXES[suffix].sink(path, COLUMNS)
    for first in range(0, 60, BLOCK):
        sink.write({column.name: rows[column.name][first : first + BLOCK] for column in COLUMNS})
    sink.close(str(metadata))
    assert np.array_equal(read_z(path, start=3, stop=40).z, rows["z"][3:40])
    with pytest.raises(DataError, match="column jet_pt, rows 40 to 59"):
        read_z(path, start=55)


def read_bytes() -> int:
    """Return the bytes that this process has read by system calls."""
    return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not count the bytes read")
@pytest.mark.parametrize("suffix", [".root", ".parquet", ".h5", "rntuple.root"])
def test_a_few_rows_are_read_without_the_rest_of_the_file(tmp_path: Path, suffix: str) -> None:
    """npz is mapped into memory, so that no system call reads it."""
    rows = make_rows(300_000)
    path = write(tmp_path / f"z{suffix}", rows, block=20_000)
    before = read_bytes()
    assert np.array_equal(read_z(path, start=151_000, stop=151_100).z, rows["z"][151_000:151_100])
    assert read_bytes() - before < 0.4 * path.stat().st_size


def test_rows_of_a_file_of_another_tool_are_read_too(tmp_path: Path) -> None:
    z = np.arange(20.0).reshape(10, 2)
    np.savez(tmp_path / "z.npz", z=z)
    assert np.array_equal(read_z(tmp_path / "z.npz", start=4, stop=6).z, z[4:6].astype("f4"))
    # In Parquet the rows that are asked for may have no list at all to tell D.
    lists = [None, None, None, [0.5, 1.5]]
    pq.write_table(pa.table({"z": pa.array(lists)}), tmp_path / "z.parquet", row_group_size=2)
    for start, stop in ((0, 4), (0, 2), (3, 3), (3, 4)):
        expected = np.float32([[np.nan] * 2] * 3 + [[0.5, 1.5]])[start:stop]
        np.testing.assert_array_equal(read_z(tmp_path / "z.parquet", start=start, stop=stop).z, expected)


LENGTHS = (30, 0, 45, 25)


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Parts of four formats with 30, 0, 45 and 25 rows of four input files, the second without rows and not opened."""
    paths, first = list[Path](), 0
    listed = tuple((column.name, column.dtype, column.width) for column in COLUMNS)
    for number, (count, suffix) in enumerate(zip(LENGTHS, (".parquet", ".npz", ".root", ".h5"), strict=True)):
        ranges = ((number, 0, count),) if count else ()
        place = PartMetadata(number + 1, 4, number, 4, "f00", ranges, listed)
        name = f"{number}.root"
        metadata = replace(METADATA, files=(name,), part=place, files_left_out={} if count else {name: "broken"})
        rows = make_rows(count, first) | {"source_file": np.full(count, number, "i4")}
        paths.append(write(tmp_path / f"part{number}{suffix}", rows, metadata))
        first += count
    return paths


def test_an_index_reads_as_the_merged_file(tmp_path: Path, parts: list[Path]) -> None:
    one, index = tmp_path / "one.npz", tmp_path / "z.json"
    merged = merge_parts(parts, one)
    assert merge_parts(parts[::-1], index) == replace(merged, path=index)
    assert count_rows(index) == sum(LENGTHS)
    assert read_metadata(index) == read_metadata(one)
    for start, stop in ((0, None), (10, 20), (29, 31), (28, 80), (74, 99), (-3, None), (50, 50)):
        some, expected = read_z(index, start=start, stop=stop), read_z(one, start=start, stop=stop)
        assert np.array_equal(some.z, expected.z), (start, stop)
        for name, values in expected.columns.items():
            assert some.columns[name].dtype == values.dtype
            assert np.array_equal(some.columns[name], values), (name, start, stop)
    assert set(read_z(index).columns["source_file"]) == {0, 1, 2}  # in `files`, which lacks the unopened one
    blocks = list(iterate_z(index, 7))
    assert max(len(block["z"]) for block in blocks) <= 7
    assert sum(len(block["z"]) for block in blocks) == sum(LENGTHS)


@pytest.mark.parametrize("other", [{"digests": ("e",)}, {"schemas": ("r",)}])
def test_parts_of_one_file_with_other_contents_or_another_schema_are_not_merged(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    paths = list[Path]()
    listed = tuple((column.name, column.dtype, column.width) for column in COLUMNS)
    for number, own in enumerate((METADATA, replace(METADATA, **other))):
        place = PartMetadata(number + 1, 2, 0, 1, "f00", ((0, 30 * number, 30 * number + 30),), listed)
        paths.append(write(tmp_path / f"{number}.npz", make_rows(30, 30 * number), replace(own, part=place)))
    with pytest.raises(UsageError, match=r"(?s)other contents.*1\.npz.*a\.root"):
        merge_parts(paths, tmp_path / "out.npz")


def test_only_the_parts_with_the_rows_are_opened_and_they_may_be_moved_with_their_index(
    tmp_path: Path, parts: list[Path]
) -> None:
    merge_parts(parts, tmp_path / "z.json")
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in (parts[2], tmp_path / "z.json"):
        path.rename(moved / path.name)
    assert len(read_z(moved / "z.json", start=30, stop=75)) == 45
    with pytest.raises(DataError, match=r"(?s)no such z file.*part0\.parquet"):
        read_z(moved / "z.json", start=29, stop=75)
    with pytest.raises(DataError, match=r"(?s)no such z file.*part0\.parquet"):
        described_zfile(moved / "z.json")


def test_a_part_written_after_its_index_and_a_changed_index_are_refused(tmp_path: Path, parts: list[Path]) -> None:
    index = tmp_path / "z.json"
    merge_parts(parts, index)
    with pytest.raises(UsageError, match="exists"):
        merge_parts(parts, index)
    place = PartMetadata(1, 4, 0, 4, "f00", ((0, 0, 30),), ())
    parts[0].unlink()
    write(parts[0], make_rows(30, 99), replace(METADATA, part=place))
    with pytest.raises(DataError, match=r"(?s)after its index.*part0"):
        read_z(index, stop=5)
    with pytest.raises(DataError, match=r"(?s)after its index.*part0"):
        described_zfile(index)
    assert len(read_z(index, start=30)) == 70
    content = json.loads(index.read_text())
    content["index"]["parts"][0][1] = 29
    index.write_text(json.dumps(content))
    with pytest.raises(DataError, match="damaged"):
        read_z(index)
    for text in ("", "[]", "{}", '{"index": 3}'):
        index.write_text(text)
        with pytest.raises(DataError, match=r"damaged|cannot be read as an index"):
            read_z(index)


def test_parts_whose_files_are_not_in_order_are_refused(tmp_path: Path, parts: list[Path]) -> None:
    listed = tuple((column.name, column.dtype, column.width) for column in COLUMNS)
    place = PartMetadata(1, 4, 0, 4, "f00", ((3, 0, 30),), listed)
    parts[0].unlink()
    write(parts[0], make_rows(30), replace(METADATA, files=("0.root",), part=place))
    with pytest.raises(DataError, match="two parts have rows of the same entries"):
        merge_parts(parts, tmp_path / "z.json")


def write_types(folder: Path, largest: int) -> list[Path]:
    """Write a part with labels and a floating column, and one without labels with whole numbers in this column."""
    paths = []
    for number, dtype in enumerate(("f4", "i8")):
        columns = [Column("z", "f4", 2), *z_columns("jet", 2, labelled=number == 0)[1:], Column("tracks", dtype)]
        rows = {column.name: np.ones((3, *column.shape), column.dtype) for column in columns}
        rows["source_file"][:] = number
        if number:
            rows["tracks"][2] = largest
        listed = tuple((column.name, column.dtype, column.width) for column in columns)
        place = PartMetadata(number + 1, 2, number, 2, "f00", ((number, 0, 3),), listed)
        names = ("QCD", "Hbb") if number == 0 else ()
        metadata = replace(METADATA, files=(f"{number}.root",), label_names=names, part=place)
        paths.append(folder / f"{number}.parquet")
        with ZWriter(paths[-1], columns, metadata) as writer:
            writer.write(rows)
    return paths


def test_columns_of_other_types_and_a_missing_label_are_converted(tmp_path: Path) -> None:
    merge_parts(write_types(tmp_path, 2**53 - 1), tmp_path / "z.json")
    file = read_z(tmp_path / "z.json")
    assert file.columns["label"].tolist() == [1, 1, 1, -1, -1, -1]
    assert file.columns["tracks"].dtype == np.float64
    assert file.columns["tracks"][-1] == 2**53 - 1


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1])
def test_whole_numbers_that_another_part_would_round_are_refused(tmp_path: Path, number: int) -> None:
    parts = write_types(tmp_path, number)
    with pytest.raises(DataError, match=r"(?s)too large.*1\.parquet, column tracks"):
        merge_parts(parts, tmp_path / "z.npz")
    assert not (tmp_path / "z.npz").exists()
    merge_parts(parts, tmp_path / "z.json")
    with pytest.raises(DataError, match="too large"):
        read_z(tmp_path / "z.json")
