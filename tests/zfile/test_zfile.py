"""z files: four formats, bit for bit, whole or not at all, in bounded memory."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from ssl_jets.errors import DataError, SslJetsError, UsageError
from ssl_jets.runtime import atomic
from ssl_jets.zfile import Column, ZMetadata, ZWriter, iterate_z, read_z, z_columns

FORMATS = (".root", ".parquet", ".h5", ".hdf5", ".npz")
DIM = 5
COLUMNS = z_columns("jet", DIM, labelled=True, kept=("jet_pt",))
METADATA = ZMetadata("ab12", "mae", DIM, "jet", ("a.root", "päth b.root"), ("QCD", "Hbb"), ("jet_pt",))
SMALL_BLOCK = 7 * sum(column.row_bytes for column in COLUMNS)


def make_rows(count: int, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(seed)
    # Every bit pattern of a float32, with NaN, infinity and denormals among them.
    z = rng.integers(0, 2**32, (count, DIM), dtype=np.uint32).view(np.float32)
    return {
        "z": z,
        "source_file": np.sort(rng.integers(0, 2, count)).astype(np.int32),
        "source_entry": rng.integers(0, 2**40, count),
        "source_jet": rng.integers(0, 3, count).astype(np.int32),
        "label": rng.integers(-1, 2, count),
        "jet_pt": rng.random(count, dtype=np.float32),
    }


def write(path: Path, rows: dict[str, npt.NDArray[Any]], cuts: tuple[int, ...] = (), **settings: Any) -> None:
    with ZWriter(path, COLUMNS, METADATA, block_bytes=SMALL_BLOCK, **settings) as writer:
        for start, stop in zip((0, *cuts), (*cuts, len(rows["z"]))):
            writer.write({name: values[start:stop] for name, values in rows.items()})


def write_and_raise(path: Path, error: BaseException, **settings: Any) -> None:
    with ZWriter(path, COLUMNS, METADATA, block_bytes=SMALL_BLOCK, **settings) as writer:
        writer.write(make_rows(20))
        assert any(entry.name.startswith(".") for entry in path.parent.iterdir())
        raise error


def same_bits(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    same_kind = first.dtype == second.dtype and first.shape == second.shape
    return same_kind and np.ascontiguousarray(first).tobytes() == np.ascontiguousarray(second).tobytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_written_rows_are_read_back_bit_for_bit(tmp_path: Path, suffix: str) -> None:
    rows = make_rows(40)
    write(tmp_path / f"out{suffix}", rows, cuts=(3, 3, 25, 39))
    back = read_z(tmp_path / f"out{suffix}")
    assert same_bits(back.z, rows.pop("z"))
    assert set(back.columns) == set(rows)
    for name, values in rows.items():
        assert same_bits(back.columns[name], values), name
    assert back.metadata == json.loads(json.dumps(METADATA.to_dict()))
    assert back.metadata["files"] == ["a.root", "päth b.root"]


@pytest.mark.parametrize(("suffix", "rntuple"), [*((suffix, False) for suffix in FORMATS), (".root", True)])
def test_half_precision_is_kept_or_in_root_written_as_float(tmp_path: Path, suffix: str, rntuple: bool) -> None:
    rows = make_rows(40) | {"half": np.linspace(-3, 3, 40).astype(np.float16)}
    with ZWriter(tmp_path / f"out{suffix}", [*COLUMNS, Column("half", "<f2")], METADATA, rntuple=rntuple) as writer:
        writer.write(rows)
    half = read_z(tmp_path / f"out{suffix}").columns["half"]
    assert half.dtype == (np.float32 if suffix == ".root" else np.float16)
    assert np.array_equal(half, rows["half"])


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_without_rows_keeps_its_columns_and_metadata(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"out{suffix}", make_rows(0))
    back = read_z(tmp_path / f"out{suffix}")
    assert back.z.shape == (0, DIM)
    assert back.columns["label"].dtype == np.int64
    assert back.metadata["method"] == "mae"


@pytest.mark.parametrize("suffix", FORMATS)
def test_blocks_have_the_size_asked_for_and_join_to_the_whole(tmp_path: Path, suffix: str) -> None:
    rows = make_rows(40)
    write(tmp_path / f"out{suffix}", rows)
    for size in (1, 7, 9, 100):
        blocks = list(iterate_z(tmp_path / f"out{suffix}", size))
        assert all(0 < len(block["z"]) <= size for block in blocks)
        for name, values in rows.items():
            assert same_bits(np.concatenate([block[name] for block in blocks]), values)


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_layout_does_not_depend_on_how_the_rows_arrive(tmp_path: Path, suffix: str) -> None:
    rows = make_rows(40)
    write(tmp_path / f"one{suffix}", rows)
    write(tmp_path / f"many{suffix}", rows, cuts=tuple(range(1, 40)))
    sizes = [(tmp_path / f"{name}{suffix}").stat().st_size for name in ("one", "many")]
    assert abs(sizes[0] - sizes[1]) <= 8  # the name of a ROOT file is stored in it
    if suffix == ".npz":
        assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "many.npz").read_bytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_tokens_are_one_row_per_particle(tmp_path: Path, suffix: str) -> None:
    columns = z_columns("particle", 2, labelled=False)
    rows = {column.name: np.arange(4 * (column.width or 1)).reshape(4, *column.shape) for column in columns}
    rows["token"] = rows["token"].astype("f4")
    with ZWriter(tmp_path / f"out{suffix}", columns, {"level": "particle"}) as writer:
        writer.write(rows)
    back = read_z(tmp_path / f"out{suffix}", level="particle")
    assert np.array_equal(back.z, rows["token"])
    assert np.array_equal(back.columns["particle"], [0, 1, 2, 3])
    with pytest.raises(DataError, match=r'(?s)column `z`.*level="particle"'):
        read_z(tmp_path / f"out{suffix}")


def test_plain_uproot_reads_the_tree_jets_as_fixed_size_arrays(tmp_path: Path) -> None:
    rows = make_rows(40)
    write(tmp_path / "out.root", rows)
    with uproot.open(tmp_path / "out.root") as file:
        tree = file["jets"]
        assert tree.num_entries == 40
        assert tree.typenames()["z"] == f"float[{DIM}]"
        assert tree.typenames()["source_entry"] == "int64_t"
        assert same_bits(tree["z"].array(library="np"), rows["z"])
        assert file.classnames()["metadata;1"] == "TObjString"
        assert json.loads(str(file["metadata"]))["model_sha256"] == "ab12"


def test_plain_readers_of_the_other_formats_find_z(tmp_path: Path) -> None:
    rows = make_rows(40)
    for suffix in (".parquet", ".h5", ".npz"):
        write(tmp_path / f"out{suffix}", rows)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("z").type == pa.list_(pa.float32(), DIM)
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 6  # 40 rows in blocks of 7
    assert json.loads(pq.read_metadata(tmp_path / "out.parquet").metadata[b"ssl_jets"])["dim"] == DIM
    with h5py.File(tmp_path / "out.h5") as file:
        assert same_bits(file["z"][:], rows["z"])
        assert json.loads(file.attrs["ssl_jets"])["dim"] == DIM
    with np.load(tmp_path / "out.npz", allow_pickle=False) as arrays:
        assert same_bits(arrays["z"], rows["z"])
        assert arrays["metadata"].ndim == 0
        assert json.loads(str(arrays["metadata"]))["dim"] == DIM


@pytest.mark.parametrize("suffix", FORMATS)
def test_metadata_may_name_thousands_of_files(tmp_path: Path, suffix: str) -> None:
    files = tuple(f"/a/long/folder/of/a/computing/centre/file_{index:05d}.root" for index in range(5000))
    with ZWriter(tmp_path / f"out{suffix}", COLUMNS, ZMetadata("", "mae", DIM, "jet", files)) as writer:
        writer.write(make_rows(3))
    assert read_z(tmp_path / f"out{suffix}").metadata["files"] == list(files)


def test_a_metadata_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    with ZWriter(tmp_path / "out.npz", COLUMNS, {"format_version": 99}) as writer:
        writer.write(make_rows(1))
    with pytest.raises(DataError, match="newer"):
        read_z(tmp_path / "out.npz")


def test_an_unknown_suffix_is_refused_with_the_allowed_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"(?s)\.rot.*allowed: \.root"):
        ZWriter(tmp_path / "out.rot", COLUMNS, METADATA)
    with pytest.raises(UsageError, match="suffix"):
        read_z(tmp_path / "out")


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_exception_leaves_nothing_behind(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(tmp_path / f"out{suffix}", KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_existing_file_is_replaced_only_by_force_and_only_when_complete(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_text("precious")
    with pytest.raises(UsageError, match="--force"):
        ZWriter(path, COLUMNS, METADATA)
    with pytest.raises(RuntimeError, match="middle"):
        write_and_raise(path, RuntimeError("in the middle"), force=True)
    assert path.read_text() == "precious"
    write(path, make_rows(20), force=True)
    assert len(read_z(path)) == 20
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_appears_while_writing_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out.npz"
    writer = ZWriter(path, COLUMNS, METADATA)
    writer.write(make_rows(2))
    path.write_text("precious")
    with pytest.raises(UsageError, match="exists"):
        writer.close()
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_or_unwritable_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SslJetsError, match=r"(?s)nowhere/out\.root.*No such file.*mkdir -p"):
        ZWriter(tmp_path / "nowhere" / "out.root", COLUMNS, METADATA)
    (tmp_path / "file").write_text("")
    with pytest.raises(SslJetsError, match="Not a directory"):
        ZWriter(tmp_path / "file" / "out.root", COLUMNS, METADATA)


def test_an_output_that_is_a_folder_is_refused_even_by_force(tmp_path: Path) -> None:
    (tmp_path / "out.root").mkdir()
    with pytest.raises(UsageError, match="folder"):
        ZWriter(tmp_path / "out.root", COLUMNS, METADATA, force=True)


FULL_DISK = """
import os, resource, sys
from pathlib import Path
import numpy as np
from ssl_jets.errors import SslJetsError
from ssl_jets.zfile import ZWriter, z_columns

def write(path, rows):
    with ZWriter(path, columns, {}, block_bytes=2**20) as writer:
        for _ in range(3):
            writer.write(rows)

def limit(size):  # writes past it fail, as on a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

columns = z_columns("jet", 128, labelled=False)
for suffix, count in [(s, c) for s in (".root", ".parquet", ".h5", ".npz") for c in (500, 4_000)]:  # one block, several
    path = Path(sys.argv[1]) / f"out{suffix}"
    rows = {column.name: np.random.rand(count, *column.shape).astype(column.dtype) for column in columns}
    write(path, rows)
    size = path.stat().st_size
    path.unlink()
    for share in (0.001, 0.5, 1):
        limit(int(size * share) - 1)
        try:
            write(path, rows)
        except SslJetsError as error:
            assert "cannot be written" in str(error) and "File too large" in str(error), error
        else:
            raise AssertionError(f"{suffix} was written")
        assert os.listdir(sys.argv[1]) == [], os.listdir(sys.argv[1])
    limit(resource.RLIM_INFINITY)
print("done")
"""


def test_a_full_disk_is_reported_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_full_disk_found_only_when_the_file_is_synced_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic, "sync", full)
    with pytest.raises(SslJetsError, match=r"(?s)No space left.*free some space"):
        write(tmp_path / "out.root", make_rows(20))
    assert list(tmp_path.iterdir()) == []


MEMORY = """
import resource, sys
import numpy as np
from ssl_jets.zfile import ZWriter, iterate_z, z_columns

columns = z_columns("jet", 128, labelled=False)
rows = {column.name: np.random.rand(4_000, *column.shape).astype(column.dtype) for column in columns}
for chunks in (5, 45):  # 10 and 92 MB of z
    path = sys.argv[1] + str(chunks) + sys.argv[2]
    with ZWriter(path, columns, {}, block_bytes=2**21) as writer:
        for _ in range(chunks):
            writer.write(rows)
    if not path.endswith(".npz"):  # mapped pages of a file count as resident, though they are no allocation
        assert sum(len(block["z"]) for block in iterate_z(path, 4_000)) == 4_000 * chunks
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.parametrize("suffix", [".root", ".parquet", ".h5", ".npz"])
def test_peak_memory_does_not_grow_with_the_rows(tmp_path: Path, suffix: str) -> None:
    command = [sys.executable, "-c", MEMORY, f"{tmp_path}/", suffix]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    few, many = map(float, done.stdout.split())
    assert many - few < 25  # MB


def test_vectors_of_other_tools_are_read(tmp_path: Path) -> None:
    z = np.arange(12.0).reshape(4, 3)
    label = np.array([0.0, 1.0, 1.0, 0.0])
    with uproot.recreate(tmp_path / "out.root") as file:
        file.mktree("events", {"z": "3 * float64", "label": "float64"}).extend({"z": z, "label": label})
    pq.write_table(pa.table({"z": z.tolist(), "label": label, "name": list("abcd")}), tmp_path / "out.parquet")
    with h5py.File(tmp_path / "out.h5", "w") as file:
        file["z"], file["label"], file["other"] = z.astype(">f8"), label, np.arange(9)
        file["n"] = np.arange(4, dtype=">i4")
    np.savez(tmp_path / "out.npz", z=np.asfortranarray(z), label=label)
    np.savez_compressed(tmp_path / "small.npz", z=z, label=label)
    for name in ("out.root", "out.parquet", "out.h5", "out.npz", "small.npz"):
        back = read_z(tmp_path / name)
        assert same_bits(back.z, z.astype("f4")), name
        assert set(back.columns) - {"n"} == {"label"}
        assert all(values.dtype.isnative for values in back.columns.values())  # torch refuses the other byte order
        assert back.columns["label"].dtype == np.int64
        assert back.metadata == {}


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 2)])
def test_a_missing_value_of_a_parquet_file_is_missing_in_its_row(
    tmp_path: Path, kind: pa.DataType, statistics: bool
) -> None:
    columns = {"z": pa.array([[1, 2], None, [3, 4]], kind), "label": [1, None, 0], "n": [5, 6, None]}
    path = tmp_path / "null.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=2, write_statistics=statistics)
    found = read_z(tmp_path / "null.parquet")
    assert np.array_equal(found.z, np.array([[1, 2], [np.nan, np.nan], [3, 4]]), equal_nan=True)
    assert found.columns["label"].tolist() == [1, -1, 0]
    assert np.array_equal(found.columns["n"], [5, 6, np.nan], equal_nan=True)


def test_a_jagged_or_missing_z_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="column `z`"):
        read_z(tmp_path / "none.npz")
    np.savez(tmp_path / "flat.npz", z=np.zeros(3))
    with pytest.raises(DataError, match="not a vector"):
        read_z(tmp_path / "flat.npz")
    pq.write_table(pa.table({"z": [[1.0], [1.0, 2.0, 3.0]]}), tmp_path / "jagged.parquet")
    with pytest.raises(DataError, match="different lengths"):
        read_z(tmp_path / "jagged.parquet")
    with uproot.recreate(tmp_path / "none.root"):
        pass
    with pytest.raises(DataError, match="TTree `jets`"):
        read_z(tmp_path / "none.root")


def test_labels_that_are_not_whole_numbers_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "out.npz", z=np.zeros((2, 2)), label=np.array([0.5, np.nan]))
    with pytest.raises(DataError, match="whole numbers"):
        read_z(tmp_path / "out.npz")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_damaged_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"not a z file" * 50)
    with pytest.raises(DataError, match="cannot be read"):
        read_z(path)
    write(path, make_rows(400), force=True)
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(DataError, match="cannot be read"):
        read_z(path)


def test_a_missing_file_is_reported_with_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path / "z_jets.root", make_rows(1))
    with pytest.raises(DataError, match=r"(?s)no such z file.*z_jets\.root"):
        read_z(tmp_path / "z_jet.root")


def test_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "out.npz", "w") as archive, archive.open("z.npy", "w") as member:
        np.lib.format.write_array(member, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects"):
        read_z(tmp_path / "out.npz")


def test_rows_that_do_not_fit_the_columns_are_refused(tmp_path: Path) -> None:
    rows = make_rows(4)
    with ZWriter(tmp_path / "out.npz", COLUMNS, METADATA) as writer:
        with pytest.raises(ValueError, match="columns"):
            writer.write({name: values for name, values in rows.items() if name != "label"})
        with pytest.raises(ValueError, match="lengths"):
            writer.write({**rows, "label": rows["label"][:2]})
        with pytest.raises(TypeError, match="cast"):
            writer.write({**rows, "label": rows["label"] + 0.5})


NAMES = (
    "soft/mass",
    "a.b",
    "a:b",
    "a[3]",
    "[0]",
    "",
    "é ✓",
    "Z",
    "Label",
    "z2",
    "z.x",
    "metadata",
    ".",
    "..",
    "/x",
    "x/",
)
NAMES += ("a-b", "a;1", "a*", "sqrt(z)", "z/x", "jets", "0", "a\\b", "a\nb", "x" * 300, "a.npy", "column0", "%s", "\0")
REFUSED = {
    ".root": {"a[3]", "[0]", "/x", "\0"},
    ".parquet": {"\0"},
    ".h5": {"", ".", "/x", "x/", "z/x", "\0"},
    ".npz": {"metadata", "\0"},
}


@pytest.mark.parametrize("suffix", list(REFUSED))
def test_names_of_kept_columns_are_kept_exactly_or_refused_before_the_work(tmp_path: Path, suffix: str) -> None:
    kept = [name for name in NAMES if name not in REFUSED[suffix]]
    columns = z_columns("jet", 2, labelled=False, kept=kept)
    rows = {column.name: np.arange(6 * (column.width or 1)).reshape(6, *column.shape) for column in columns}
    rows = {column.name: (rows[column.name] + number).astype(column.dtype) for number, column in enumerate(columns)}
    with ZWriter(tmp_path / f"z{suffix}", columns, {}) as writer:
        writer.write(rows)
    back = read_z(tmp_path / f"z{suffix}")
    assert set(back.columns) == set(rows) - {"z"}
    assert same_bits(back.z, rows["z"])
    for name in kept:
        assert same_bits(back.columns[name], rows[name]), name
        assert all(name in block for block in iterate_z(tmp_path / f"z{suffix}", 4))
    for name in REFUSED[suffix]:
        with pytest.raises(UsageError, match=r"(?s)cannot keep a column of this name.*(--out|rename)"):
            ZWriter(tmp_path / f"bad{suffix}", z_columns("jet", 2, labelled=False, kept=[name]), {})
    with pytest.raises(UsageError, match="cannot keep a column"):
        ZWriter(tmp_path / f"bad{suffix}", z_columns("jet", 2, labelled=False, kept=["\udcff"]), {})
    assert [path.name for path in tmp_path.iterdir()] == [f"z{suffix}"]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "name", ["a:b", "http:x", "s3:y", "root:z", "a*", "a?[b]", "@list", "jets.root:tree", "-", "é"]
)
def test_names_of_files_are_names_whatever_libraries_make_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = make_rows(9)
    write(Path(f"{name}{suffix}"), rows)
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}{suffix}"]
    assert same_bits(read_z(f"{name}{suffix}").z, rows["z"])


def test_a_tree_behind_a_colon_is_no_z_file(tmp_path: Path) -> None:
    write(tmp_path / "a.root", make_rows(1))
    with pytest.raises(UsageError, match="suffix"):
        read_z(f"{tmp_path}/a.root:jets")


def test_a_shape_that_asks_for_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "z.h5", "w") as file:
        file.create_dataset("z", (10**12, 8), "f4", chunks=(1000, 8))  # never written
    for rows in (10**9, 10**15):
        with (
            zipfile.ZipFile(tmp_path / "z.npz", "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("z.npy", "w") as one,
        ):
            np.lib.format.write_array_header_1_0(one, {"descr": "<f4", "fortran_order": False, "shape": (rows, 8)})
        with pytest.raises(DataError, match="longer than its file"):
            read_z(tmp_path / "z.npz")
    with pytest.raises(DataError, match="claims more numbers than it can hold"):
        read_z(tmp_path / "z.h5")
