"""A few bytes that claim to be much are refused before anything is allocated for them, in one message."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.readers import base
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError

SCHEMA = """
particles:
  pt: {branch: pt, unit: GeV}
  deta: {branch: eta}
  dphi: {branch: phi}
"""
SMALL = np.ones((10, 4), dtype=np.float32)


def opened(path: Path) -> JetFile:
    (path.parent / "own.yaml").write_text(SCHEMA)
    return open_files([Source(str(path))], schema=str(path.parent / "own.yaml"))[0]


def header(shape: tuple[int, ...]) -> bytes:
    text = repr({"descr": "<f4", "fortran_order": False, "shape": shape}) + "\n"
    return np.lib.format.magic(1, 0) + len(text).to_bytes(2, "little") + text.encode()


def write_npz(path: Path, head: bytes, megabytes: int, how: int) -> None:
    """Write two small arrays, and a third of a header and zeros."""
    np.savez(path.open("wb"), eta=SMALL, phi=SMALL)
    with zipfile.ZipFile(path, "a", how) as archive, archive.open("pt.npy", "w") as member:
        member.write(head)
        for _ in range(megabytes):
            member.write(bytes(1 << 20))


@pytest.mark.parametrize(
    ("head", "megabytes", "how"),
    [
        (header((10, 10**9)), 0, zipfile.ZIP_DEFLATED),
        (header((10**15, 4)), 0, zipfile.ZIP_DEFLATED),
        (header((10, 2 << 20)), 80, zipfile.ZIP_BZIP2),
        (np.lib.format.magic(2, 0) + (1 << 28).to_bytes(4, "little"), 256, zipfile.ZIP_DEFLATED),
    ],
    ids=["places", "rows", "bomb", "header"],
)
def test_an_array_of_npz_that_claims_too_much_is_named(
    tmp_path: Path, head: bytes, megabytes: int, how: int, little_memory: None
) -> None:
    write_npz(tmp_path / "jets.npz", head, megabytes, how)
    with pytest.raises(DataError, match=r"lacks the branch pt\n[\s\S]*pt \((it|its header) claims|pt \(no array"):
        opened(tmp_path / "jets.npz")


@pytest.fixture
def little_memory() -> Any:
    """Fail where more than 256 MB are added to the memory of this process."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (256 << 20), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("shape", [(10, 10**9), (10**12, 4), (10**13,), (10**9, 10**5, 3)])
@pytest.mark.parametrize("chunks", [False, True])
def test_a_dataset_of_hdf5_that_was_never_written_is_named(
    tmp_path: Path, shape: tuple[int, ...], chunks: bool, little_memory: None
) -> None:
    with h5py.File(tmp_path / "jets.h5", "w") as file:
        file["eta"], file["phi"] = SMALL, SMALL
        file.create_dataset("pt", shape, "f4", chunks=(1, *[1] * (len(shape) - 1)) if chunks else None)
    with pytest.raises(DataError, match=r"lacks the branch pt\n[\s\S]*pt \(it claims [\d,]+ bytes, of which 0 "):
        opened(tmp_path / "jets.h5")


def test_a_table_of_hdf5_of_rows_without_bytes_is_refused(tmp_path: Path, little_memory: None) -> None:
    with h5py.File(tmp_path / "jets.h5", "w") as file:
        for name in ("pt", "eta", "phi"):
            file.create_dataset(name, (10**15, 0), "f4", chunks=(1, 1), maxshape=(None, None))
    with pytest.raises(DataError, match=r"more entries than it can hold[\s\S]*1,000,000,000,000,000 entries"):
        opened(tmp_path / "jets.h5")


def test_a_parquet_file_of_very_many_empty_rows_is_refused(tmp_path: Path) -> None:
    rows = 5_000_000
    empty = pa.ListArray.from_arrays(pa.array(np.zeros(rows + 1, dtype=np.int32)), pa.array([], pa.float32()))
    pq.write_table(pa.table(dict.fromkeys(("pt", "eta", "phi"), empty)), tmp_path / "jets.parquet")
    with pytest.raises(DataError, match=r"more entries than it can hold[\s\S]*5,000,000 entries"):
        opened(tmp_path / "jets.parquet")


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name in ("pt", "eta", "phi"):
            file.create_dataset(name, data=np.ones((10, 5000), "f4"), compression="gzip")


def _npz(path: Path) -> None:
    np.savez_compressed(path.open("wb"), **{name: np.ones((10, 5000), "f4") for name in ("pt", "eta", "phi")})


def _parquet(path: Path) -> None:
    lists = pa.array(np.ones((10, 5000)).tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table(dict.fromkeys(("pt", "eta", "phi"), lists)), path)


@pytest.mark.parametrize("write", [_hdf5, _npz, _parquet])
def test_a_read_is_bounded(tmp_path: Path, write: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "jets")
    file = opened(tmp_path / "jets")
    assert len(read_chunk(file, 0, 0, 10, Request())[0]) == 10
    monkeypatch.setattr(base, "MOST_READ", 100_000)
    with pytest.raises(DataError, match=r"entries of the file are too large[\s\S]*allowed: 100,000"):
        read_chunk(file, 0, 0, 10, Request())


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("maximum depth")])
def test_what_a_file_asks_too_much_for_is_a_message(error: BaseException) -> None:
    with pytest.raises(DataError, match=r"more memory than there is|corrupt"), base.readable("x.h5", "HDF5"):
        raise error
