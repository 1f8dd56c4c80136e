"""The digest of a file depends on its contents only: the same for copies of any name, different for other jets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import fsspec
import h5py
import numpy as np
import pytest
import torch
import uproot

from ssl_jets.data.chunks import ChangedFileError, read_chunk
from ssl_jets.data.files import EntryRange, JetFile, open_files
from ssl_jets.data.identity import BLOCK, BLOCKS, FileBlock
from ssl_jets.data.loading.shuffle_buffer import read_range
from ssl_jets.data.readers.registry import reader_of
from ssl_jets.data.readers.remote import read_ranges
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from support.jetclass_files import jetclass_branches, write_tree

JETS = 60


def opened(path: Path, tree: str | None = None) -> JetFile:
    return open_files([Source(str(path), tree)])[0]


def write_root(path: Path, seed: int, jets: int = JETS) -> Path:
    return write_tree(path, {"tree": jetclass_branches(jets, seed=seed)})


def write_ntuple(path: Path, seed: int, jets: int = JETS) -> Path:
    branches = jetclass_branches(jets, seed=seed)
    with uproot.recreate(path) as output:
        output.mkrntuple("tree", branches)
    return path


def write_parquet(path: Path, seed: int, jets: int = JETS) -> Path:
    ak.to_parquet(ak.Array(jetclass_branches(jets, seed=seed)), path, row_group_size=20)
    return path


def padded(seed: int, jets: int, particles: int = 20, filled: int = 8) -> dict[str, np.ndarray]:
    """Jets `[jet, particle, (deta, dphi, log pt, log energy)]` of OmniLearned, most places of which are zero."""
    rng = np.random.default_rng(seed)
    data = np.zeros((jets, particles, 4), dtype=np.float32)
    data[:, :filled] = rng.normal(size=(jets, filled, 4))
    return {"data": data, "pid": np.ones(jets, dtype=np.int64)}


def write_hdf5(path: Path, seed: int, jets: int = JETS) -> Path:
    with h5py.File(path, "w") as file:
        file.update(padded(seed, jets))
    return path


def write_chunked(path: Path, seed: int, jets: int = JETS) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in padded(seed, jets).items():
            file.create_dataset(name, data=values, chunks=(16, *values.shape[1:]), compression="gzip", shuffle=True)
    return path


def write_npz(path: Path, seed: int, jets: int = JETS) -> Path:
    rng = np.random.default_rng(seed)
    data = rng.exponential(size=(jets, 20, 4))
    data[..., 3] = 211
    np.savez(path, X=data, y=np.arange(jets) % 2)
    return path


WRITERS: dict[str, Callable[..., Path]] = {
    "tree.root": write_root,
    "ntuple.root": write_ntuple,
    "jets.parquet": write_parquet,
    "rows.h5": write_hdf5,
    "chunks.h5": write_chunked,
    "jets.npz": write_npz,
}

every_format = pytest.mark.parametrize(("name", "write"), WRITERS.items(), ids=WRITERS)


@every_format
def test_a_copy_of_any_name_is_the_same_file_and_other_jets_are_another(
    name: str, write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write(tmp_path / name, seed=1)
    (tmp_path / "elsewhere").mkdir()
    copy = Path(shutil.copy(path, tmp_path / "elsewhere" / f"renamed{path.suffix}"))
    first, second = opened(path), opened(copy)
    assert first.digest == second.digest
    assert len(first.digest) == 32
    assert opened(write(tmp_path / name, seed=2)).digest != first.digest
    longer = write(tmp_path / f"longer-{name}", seed=1, jets=JETS + 1)
    assert opened(longer).digest != first.digest


@every_format
def test_one_changed_byte_of_a_sampled_block_is_another_file(
    name: str, write: Callable[..., Path], tmp_path: Path
) -> None:
    path = write(tmp_path / name, seed=1)
    with reader_of(str(path)).open_tables(str(path)) as tables:
        blocks = [item for item in tables[0].stored() if isinstance(item, FileBlock)]
    assert sum(stop - start for start, stop in blocks) <= BLOCKS * BLOCK
    if name.endswith("npz"):  # checksums of all bytes take the place of blocks
        assert not blocks
        return
    before, content = opened(path).digest, path.read_bytes()
    for start, stop in (blocks[0], blocks[len(blocks) // 2], blocks[-1]):
        place = (start + stop) // 2
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert opened(path).digest != before


@every_format
@pytest.mark.parametrize("jets", [JETS, 2 * JETS])
def test_a_file_that_is_replaced_or_grows_while_it_is_read_is_refused_and_a_touched_one_is_not(
    name: str, write: Callable[..., Path], jets: int, tmp_path: Path
) -> None:
    file = opened(write(tmp_path / name, seed=1))
    before = read_chunk(file, 0, 20, 40, Request(bad_jets="skip"))[0]
    os.utime(tmp_path / name, ns=(1, 1))
    assert torch.equal(read_chunk(file, 0, 20, 40, Request(bad_jets="skip"))[0].particles, before.particles)
    assert len(file.versions) == 2
    write(tmp_path / f"new-{name}", seed=2, jets=jets).rename(tmp_path / name)
    for bad_files in "error", "skip":
        with pytest.raises(ChangedFileError, match=f"changed while it was read[\\s\\S]*{name}"):
            read_range([file], EntryRange(0, 0, 20), Request(bad_jets="skip", bad_files=bad_files))


def test_a_tree_is_recognised_by_its_own_contents(tmp_path: Path) -> None:
    one, other = (jetclass_branches(JETS, seed=seed) for seed in (1, 2))
    alone = opened(write_tree(tmp_path / "alone.root", {"tree": one})).digest
    assert opened(tmp_path / "alone.root", "tree").digest == alone
    both = write_tree(tmp_path / "both.root", {"tree": one, "other": other})
    digests = {tree: opened(both, tree).digest for tree in ("tree", "other")}
    assert digests["tree"] != digests["other"]
    with uproot.update(tmp_path / "alone.root") as file:
        file["scores"] = {"score": np.zeros(JETS)}
    assert opened(tmp_path / "alone.root").digest == alone


def test_unused_space_attributes_and_other_groups_of_hdf5_do_not_count(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "jets.h5", seed=1)
    before, size = opened(path).digest, path.stat().st_size
    with h5py.File(path, "r+") as file:
        file["scratch"] = np.arange(5000)
        file.create_group("scores")["score"] = np.zeros(7)
        file.attrs["note"] = "read by somebody"
    with h5py.File(path, "r+") as file:
        del file["scratch"]  # its place stays in the file
    assert path.stat().st_size > size
    assert opened(path, "").digest == before


def test_rows_that_are_nearly_all_padding_have_different_digests(tmp_path: Path) -> None:
    digests = set()
    for seed in range(20):
        with h5py.File(tmp_path / "wide.h5", "w") as file:
            file.update(padded(seed, 30, particles=700, filled=3))
        digests.add(opened(tmp_path / "wide.h5").digest)
    assert len(digests) == 20


def test_bytes_of_a_file_elsewhere_are_those_of_its_ranges() -> None:
    with fsspec.open("memory://identity/jets.root", "wb") as file:
        file.write(bytes(range(100)))
    assert read_ranges("memory://identity/jets.root", [FileBlock(3, 6), FileBlock(90, 100)]) == [
        bytes([3, 4, 5]),
        bytes(range(90, 100)),
    ]
