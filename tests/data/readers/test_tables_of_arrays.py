"""Rows of HDF5 and npz files are those of the arrays that a schema names, in any group; other files stay closed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ssl_jets.config import DataSettings
from ssl_jets.data.chunks import check_request, read_chunk
from ssl_jets.data.dataset import open_named
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.readers import hdf5
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets

JETS, PLACES = 12, 5
SCHEMA = """
particles:
  pt: {branch: PT, unit: GeV}
  deta: {branch: ETA}
  dphi: {branch: PHI}
particle_cut: PT
jets: {jet_pt: {branch: JET}}
"""


def arrays() -> dict[str, Any]:
    """Padded particles, and one number per jet."""
    rng = np.random.default_rng(0)
    lists = {name: rng.uniform(1, 2, (JETS, PLACES)).astype("f4") for name in ("pt", "eta", "phi")}
    lists["pt"][:, 3:] = 0
    return lists | {"jet": np.arange(JETS, dtype="f4")}


def write_hdf5(path: Path, values: Mapping[str, Any]) -> None:
    with h5py.File(path, "w") as file:
        for name, value in values.items():
            file[name] = value


def write_npz(path: Path, values: Mapping[str, Any]) -> None:
    np.savez(path.open("wb"), **values)


def schema(folder: Path, **names: str) -> str:
    text = SCHEMA
    for name, branch in names.items():
        text = text.replace(name, branch)
    (folder / "mine.yaml").write_text(text)
    return str(folder / "mine.yaml")


def read(file: JetFile, start: int = 0, stop: int = JETS) -> Jets:
    return read_chunk(file, 0, start, stop, Request(("jet_pt",)))[0]


@pytest.mark.parametrize("write", [write_hdf5, write_npz])
def test_numbers_wider_than_double_precision_are_read_as_it(tmp_path: Path, write: Callable[..., None]) -> None:
    wide = {name: values.astype(np.longdouble) for name, values in arrays().items()}
    write(tmp_path / "wide", wide)
    form = schema(tmp_path, PT="pt", ETA="eta", PHI="phi", JET="jet")
    (file,) = open_files([Source(str(tmp_path / "wide"))], schema=form)
    jets = read(file)
    assert jets.jet["jet_pt"].dtype == torch.float64
    assert jets.jet["jet_pt"].tolist() == arrays()["jet"].tolist()


@pytest.mark.parametrize("write", [write_hdf5, write_npz])
def test_the_order_of_bytes_does_not_matter_in_formulas(tmp_path: Path, write: Callable[..., None]) -> None:
    # 300^2 is beyond half precision: the formula has to compute in another one.
    values = arrays() | {"pt": np.where(arrays()["pt"] > 0, 300, 0).astype(">f2")}
    write(tmp_path / "jets", values)
    form = schema(tmp_path, **{"branch: PT": 'formula: "hypot(pt, pt)"'}, PT="pt", ETA="eta", PHI="phi", JET="jet")
    pt = read(open_files([Source(str(tmp_path / "jets"))], schema=form)[0]).column("pt")
    np.testing.assert_allclose(pt, np.hypot(300, 300), rtol=1e-6)


def check(file: JetFile, expected: Mapping[str, Any]) -> None:
    assert (file.entries, file.columns) == (JETS, ("pt", "deta", "dphi"))
    jets = read(file, 4, 9)
    assert jets.lengths.tolist() == [3] * 5
    for column, name in (("pt", "pt"), ("deta", "eta"), ("dphi", "phi")):
        np.testing.assert_array_equal(jets.column(column), expected[name][4:9, :3].ravel())
    assert jets.jet["jet_pt"].tolist() == list(range(4, 9))


@pytest.mark.parametrize("write", [write_hdf5, write_npz])
def test_rows_are_those_of_the_arrays_that_the_schema_names(tmp_path: Path, write: Callable[..., None]) -> None:
    others = {f"other_{number}": np.zeros(7 * JETS) for number in range(9)} | {"meta": np.float32(1)}
    write(tmp_path / "jets", arrays() | others)
    form = schema(tmp_path, PT="pt", ETA="eta", PHI="phi", JET="jet")
    check(open_files([Source(str(tmp_path / "jets"))], schema=form)[0], arrays())


@pytest.mark.parametrize("write", [write_hdf5, write_npz])
def test_arrays_of_other_rows_are_named_where_a_branch_is_missing(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path / "jets", arrays() | {"phi": np.zeros((84, PLACES)), "eta2": np.zeros(3)})
    form = schema(tmp_path, PT="pt", ETA="eta", PHI="phi", JET="jet")
    with pytest.raises(DataError, match=r"lacks the branch phi\n[\s\S]*not used: phi \(84 rows\), eta2 \(3 rows\)"):
        open_files([Source(str(tmp_path / "jets"))], schema=form)


def test_python_objects_and_arrays_by_column_are_no_branches_and_are_named(tmp_path: Path) -> None:
    values = arrays() | {"notes": np.array([{"a": 1}], dtype=object)}
    write_npz(tmp_path / "jets", values)
    form = schema(tmp_path, PT="pt", ETA="eta", PHI="phi", JET="jet")
    check(open_files([Source(str(tmp_path / "jets"))], schema=form)[0], arrays())
    write_npz(tmp_path / "jets", values | {"eta": np.asfortranarray(values["eta"])})
    with pytest.raises(DataError, match=r"branch eta\n[\s\S]*eta \(stored column by column[\s\S]*notes \(pickled"):
        open_files([Source(str(tmp_path / "jets"))], schema=form)


def test_a_schema_names_datasets_of_several_groups(tmp_path: Path) -> None:
    values = arrays()
    groups = {"pt": "a/b/pt", "eta": "a/b/eta", "phi": "a/phi", "jet": "c/jet"}
    write_hdf5(tmp_path / "jets", {groups[name]: value for name, value in values.items()})
    form = schema(tmp_path, PT="a.b.pt", ETA="a.b.eta", PHI="a.phi", JET="c.jet")
    check(open_files([Source(str(tmp_path / "jets"))], schema=form)[0], values)


def test_fields_and_places_below_a_group_have_its_name_in_front(tmp_path: Path) -> None:
    values = arrays()
    table = np.stack([values[name] for name in ("pt", "eta", "phi")], axis=2)
    jets = np.array([(value, 1) for value in values["jet"]], dtype=[("pt", "f4"), ("flag", "u1")])
    write_hdf5(tmp_path / "jets", {"a/table": table, "b/jets": jets})
    form = schema(tmp_path, PT='"a.table[0]"', ETA='"a.table[1]"', PHI='"a.table[2]"', JET="b.jets.pt")
    (file,) = open_files([Source(str(tmp_path / "jets"))], schema=form)
    check(file, values)
    assert read(file, 7, 8).jet["jet_pt"].tolist() == [7.0]


@pytest.mark.parametrize("write", [write_hdf5, write_npz])
def test_fields_may_be_compound_or_arrays(tmp_path: Path, write: Callable[..., None]) -> None:
    values = arrays()
    kind = np.dtype([("angles", [("eta", "f4"), ("phi", "f4")]), ("p", "f4", (2,))])
    tracks, jets = np.zeros((JETS, PLACES), kind), np.zeros(JETS, [("four", "f4", (4,)), ("name", "S3")])
    tracks["angles"]["eta"], tracks["angles"]["phi"], tracks["p"][..., 1] = (values[k] for k in ("eta", "phi", "pt"))
    jets["four"][:, 3] = values["jet"]
    write(tmp_path / "jets", {"tracks": tracks, "jets": jets})
    form = schema(
        tmp_path, PT='"tracks.p[1]"', ETA="tracks.angles.eta", PHI="tracks.angles.phi", JET='"jets.four[3]"'
    ).replace('"', "")
    text = (tmp_path / "mine.yaml").read_text().replace('particle_cut: "tracks.p[1]"', "particle_cut: tracks.p[1] > 0")
    (tmp_path / "mine.yaml").write_text(text)
    (file,) = open_files([Source(str(tmp_path / "jets"))], schema=form)
    check(file, values)
    assert file.jet_columns == ("jet_pt", "jets.four[0]", "jets.four[1]", "jets.four[2]", "jets.four[3]")


def test_a_name_of_two_arrays_is_no_branch_and_is_named(tmp_path: Path) -> None:
    values = arrays()
    write_hdf5(tmp_path / "jets", values | {"a.b": values["jet"], "a/b": values["jet"] + 1})
    (file,) = open_files(
        [Source(str(tmp_path / "jets"))], schema=schema(tmp_path, PT="pt", ETA="eta", PHI="phi", JET="jet")
    )
    assert "a.b" not in file.jet_columns
    with pytest.raises(UsageError, match=r"no column of its jets[\s\S]*a\.b: a name of 2 datasets"):
        check_request([file], Request(("a.b",)))
    jets = np.array([(value, 1) for value in values["jet"]], dtype=[("pt", "f4"), ("flag", "u1")])
    write_hdf5(tmp_path / "two", values | {"jets": jets, "jets.pt": values["jet"]})
    with pytest.raises(DataError, match=r"branch jets\.pt\n[\s\S]*jets\.pt \(a name of 2 arrays\)"):
        open_files(
            [Source(str(tmp_path / "two"))], schema=schema(tmp_path, PT="pt", ETA="eta", PHI="phi", JET="jets.pt")
        )


def test_columns_of_one_name_in_parquet_are_no_branch_and_are_named(tmp_path: Path) -> None:
    table = pa.table({name: pa.array(list(values)) for name, values in arrays().items()})
    form = schema(tmp_path, PT="pt", ETA="eta", PHI="phi", JET="jet")
    pq.write_table(
        pa.Table.from_arrays([*table.columns, *[table["jet"]] * 2], [*table.column_names, "run", "run"]),
        tmp_path / "jets",
    )
    (file,) = open_files([Source(str(tmp_path / "jets"))], schema=form)
    check(file, arrays())
    with pytest.raises(UsageError, match=r"run: a name of 2 columns"):
        check_request([file], Request(("run",)))


@pytest.mark.parametrize("options", [{}, {"chunks": (5,), "compression": "gzip"}])
def test_lists_of_their_own_length_are_read_from_hdf5(tmp_path: Path, options: dict[str, Any]) -> None:
    values = arrays()
    lengths = np.arange(JETS) % PLACES
    with h5py.File(tmp_path / "jets", "w") as file:
        file["jet"] = values["jet"]
        for name, kind in (("pt", "f4"), ("eta", "f8"), ("phi", "f4")):
            lists = file.create_dataset(name, (JETS,), h5py.vlen_dtype(np.dtype(kind)), **options)
            for row, length in enumerate(lengths):
                lists[row] = values[name][row, :length]
    form = schema(tmp_path, PT="pt", ETA="eta", PHI="phi", JET="jet")
    (opened,) = open_files([Source(str(tmp_path / "jets"))], schema=form)
    jets = read(opened, 1, 4)  # without the padding, which begins behind three particles
    assert jets.lengths.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(jets.column("deta"), np.concatenate([values["eta"][row, :row] for row in (1, 2, 3)]))
    with hdf5.open_tables(str(tmp_path / "jets")) as tables:
        assert tables[0].lengths("phi").tolist() == lengths.tolist()


def test_lists_in_the_other_order_of_bytes_are_refused(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "jets", arrays())
    with h5py.File(tmp_path / "jets", "a") as file:
        file.create_dataset("other", (JETS,), h5py.vlen_dtype(np.dtype("f4").newbyteorder()))
    with pytest.raises(DataError, match="other does not hold a list of numbers"):
        open_files(
            [Source(str(tmp_path / "jets"))], schema=schema(tmp_path, PT="pt", ETA="other", PHI="phi", JET="jet")
        )


def test_the_root_group_has_a_name_where_others_hold_jets_too(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "jets", arrays() | {f"old/{name}": value + 1 for name, value in arrays().items()})
    form = schema(tmp_path, PT="pt", ETA="eta", PHI="phi", JET="jet")
    with pytest.raises(DataError, match=r"found: +/, old\n[\s\S]*jets:/"):
        open_files([Source(str(tmp_path / "jets"))], schema=form)
    for tree, more in (("/", 0), ("old", 1), ("/old", 1)):
        (file,) = open_files([Source(str(tmp_path / "jets"), tree)], schema=form)
        assert read_chunk(file, 0, 3, 4, Request(("jet_pt",), bad_jets="skip"))[0].jet["jet_pt"].tolist() == [3 + more]


@pytest.mark.parametrize(
    ("names", "label"), [(b"(lp0\nI0\naI1\naI2\naVlabel\np1\na.", "label"), (b"(lp0\nI0\naI1\naI2\naI3\na.", "3")]
)
def test_columns_of_pandas_may_be_named_by_numbers(tmp_path: Path, names: bytes, label: str) -> None:
    """What pandas writes of `DataFrame({0: pt, 1: eta, 2: phi, "label": jet}).to_hdf(format="table")`."""
    rows = np.zeros(JETS, dtype=[("index", "i8"), ("values_block_0", "f8", (4,))])
    rows["values_block_0"] = np.arange(JETS * 4).reshape(JETS, 4)
    with h5py.File(tmp_path / "jets.h5", "w") as file:
        table = file.create_dataset("df/table", data=rows)
        table.attrs["index_kind"], table.attrs["values_block_0_kind"] = map(np.bytes_, (b"integer", names))
    with hdf5.open_tables(str(tmp_path / "jets.h5")) as tables:
        group = next(group for group in tables if label in group.branches)
        found = group.read([label, "2", "columns"], 0, JETS, "")
    np.testing.assert_array_equal(found[label], rows["values_block_0"][:, 3])
    np.testing.assert_array_equal(found["2"], rows["values_block_0"][:, 2])
    lists = 3 if label == "label" else 4
    np.testing.assert_array_equal(found["columns"], rows["values_block_0"][:, :lists])


def external_link(file: h5py.File, other: Path) -> None:
    file["eta"] = h5py.ExternalLink(str(other), "eta")


def external_group(file: h5py.File, other: Path) -> None:
    file["far"] = h5py.ExternalLink(str(other), "/")
    file["eta"] = h5py.SoftLink("/far/eta")


def virtual(file: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((JETS, PLACES), "f4")
    layout[:] = h5py.VirtualSource(str(other), "eta", (JETS, PLACES))
    file.create_virtual_dataset("eta", layout)


def external_storage(file: h5py.File, other: Path) -> None:
    raw = other.with_suffix(".raw")
    raw.write_bytes(arrays()["eta"].tobytes())
    file.create_dataset("eta", (JETS, PLACES), "f4", external=[(str(raw), 0, h5py.h5f.UNLIMITED)])


@pytest.mark.parametrize("lead", [external_link, external_group, virtual, external_storage])
def test_other_files_are_opened_only_where_the_user_asks(
    tmp_path: Path, lead: Callable[[h5py.File, Path], None]
) -> None:
    values = arrays()
    write_hdf5(tmp_path / "other.h5", {"eta": values.pop("eta")})
    write_hdf5(tmp_path / "jets.h5", values)
    with h5py.File(tmp_path / "jets.h5", "a") as file:
        lead(file, tmp_path / "other.h5")
    form = schema(tmp_path, PT="pt", ETA="eta", PHI="phi", JET="jet")
    with pytest.raises(DataError, match=r"from another file[\s\S]*from /.*other[\s\S]*data\.external=true"):
        open_named([str(tmp_path / "jets.h5")], DataSettings(format=form), {})
    check(open_named([str(tmp_path / "jets.h5")], DataSettings(format=form, external=True), {})[0], arrays())


def test_soft_links_and_virtual_datasets_within_a_file_are_read(tmp_path: Path) -> None:
    values = arrays()
    write_hdf5(tmp_path / "jets.h5", {f"raw/raw_{name}": value for name, value in values.items()})
    with h5py.File(tmp_path / "jets.h5", "a") as file:
        for name in ("pt", "phi", "jet"):
            file[name] = h5py.SoftLink(f"/raw/raw_{name}")
        layout = h5py.VirtualLayout((JETS, PLACES), "f4")
        layout[:] = h5py.VirtualSource(file["raw/raw_eta"])
        file.create_virtual_dataset("eta", layout)
        file["raw/again"] = file["raw"]  # a group below itself
    form = schema(tmp_path, PT="pt", ETA="eta", PHI="phi", JET="jet")
    check(open_files([Source(str(tmp_path / "jets.h5"))], schema=form)[0], values)
