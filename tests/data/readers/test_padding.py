"""Lists that are filled up with zeros are read in every format by a schema, which the messages name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.profile import profile
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError
from support.jetclass_files import jetclass_branches

JETS, PLACES = 40, 16
NAMES = ["jets.parquet", "tree.root", "ntuple.root", "jets.h5", "jets.npz"]


def padded(value: float = 0) -> dict[str, Any]:
    found = {}
    for name, values in jetclass_branches(JETS).items():
        if isinstance(values, ak.Array):
            values = ak.to_numpy(ak.fill_none(ak.pad_none(values, PLACES), value))
        found[name] = values
    return found


def write(path: Path, value: float = 0) -> Path:
    values = padded(value)
    if path.suffix == ".parquet":
        arrays = {
            name: pa.FixedSizeListArray.from_arrays(one.reshape(-1), PLACES) if one.ndim == 2 else pa.array(one)
            for name, one in values.items()
        }
        pq.write_table(pa.table(arrays), path)
    elif path.suffix == ".npz":
        np.savez(path, **values)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, one in values.items():
                file[name] = one
    else:
        with uproot.recreate(path) as file:
            if path.stem == "ntuple":
                file.mkrntuple("tree", values)
            else:
                file.mktree("tree", {name: np.dtype((one.dtype, one.shape[1:])) for name, one in values.items()})
                file["tree"].extend(values)
    return path


def opened(path: Path, form: str | None = None) -> JetFile:
    return open_files([Source(str(path))], schema=form)[0]


@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_fixed_length_are_read_and_a_cut_takes_the_padding_off(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.yaml").write_text("extends: jetclass\nparticle_cut: hypot(part_px, part_py) > 0\n")
    jets, left_out = read_chunk(opened(write(tmp_path / name), str(tmp_path / "mine.yaml")), 0, 0, JETS, Request())
    expected = jetclass_branches(JETS)
    assert left_out.total() == 0
    assert jets.lengths.tolist() == ak.num(expected["part_px"]).to_list()
    assert jets.column("deta").tolist() == ak.flatten(expected["part_deta"]).to_list()


def test_the_hint_names_the_cut_that_takes_the_padding_off(tmp_path: Path) -> None:
    file = opened(write(tmp_path / "jets.parquet"))
    cut = "particle_cut: hypot(part_px, part_py) > 0"
    with pytest.raises(DataError, match="pt is zero") as caught:
        read_chunk(file, 0, 0, JETS, Request())
    assert cut in str(caught.value.hint)
    assert "extends: jetclass" in str(caught.value.hint)
    assert "bad_jets" not in str(caught.value.hint)
    assert any(cut in line for line in profile(file, JETS).suspicions)


@pytest.mark.parametrize(
    ("value", "cut"), [(-999, "part_px != -999"), (np.nan, "abs(part_px) >= 0"), (1e30, "part_px != 1e+30")]
)
def test_the_hint_names_the_cut_for_any_value(tmp_path: Path, value: float, cut: str) -> None:
    path = write(tmp_path / "jets.h5", value)
    with pytest.raises(DataError, match="a jet cannot be used") as caught:
        read_chunk(opened(path), 0, 0, JETS, Request())
    assert f"particle_cut: {cut}`" in str(caught.value.hint)
    (tmp_path / "mine.yaml").write_text(f"extends: jetclass\nparticle_cut: {cut}\n")
    jets, left_out = read_chunk(opened(path, str(tmp_path / "mine.yaml")), 0, 0, JETS, Request())
    assert left_out.total() == 0
    assert jets.lengths.tolist() == ak.num(jetclass_branches(JETS)["part_px"]).to_list()


def test_one_particle_of_pt_zero_is_not_taken_for_padding(tmp_path: Path) -> None:
    columns = jetclass_branches(JETS)
    for name in ("part_px", "part_py"):
        rows = ak.to_list(columns[name])
        rows[3][-1] = 0.0
        columns[name] = ak.values_astype(ak.Array(rows), np.float32)
    ak.to_parquet(ak.Array(columns), tmp_path / "jets.parquet")
    with pytest.raises(DataError, match=r"entry 3[\s\S]*data\.bad_jets=skip"):
        read_chunk(opened(tmp_path / "jets.parquet"), 0, 0, JETS, Request())
