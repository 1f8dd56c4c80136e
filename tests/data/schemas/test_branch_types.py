"""A branch of a schema is used, or its type is an error; strings are names of classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from ssl_jets.data.chunks import check_request, read_chunk
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, SslJetsError, UsageError

NAMES = ["g", "q", "g", "t", "q", "?"]
PARTICLES = {name: np.full((6, 3), 1.5, dtype=np.float32) for name in ("pt", "eta", "phi")}
SCHEMA = """
particles:
  pt: {branch: pt, unit: GeV}
  deta: {branch: eta}
  dphi: {branch: phi}
"""
FLOATS = ak.types.ListType(ak.types.NumpyType("float32"))  # uproot parses "var * float32" for as long as it writes
INDEX = "label_index: {branch: flavour, names: [q, g, t]}\n"


def write_root(path: Path, **more: Any) -> None:
    lists = {name: ak.Array(list(values)) for name, values in PARTICLES.items()}
    types = dict.fromkeys(lists, FLOATS) | {name: _root_type(values) for name, values in more.items()}
    with uproot.recreate(path) as file:
        file.mktree("tree", types).extend(lists | {name: ak.Array(values) for name, values in more.items()})


def _root_type(values: Any) -> Any:
    return "string" if isinstance(values[0], str) else np.asarray(values).dtype


def write_rntuple(path: Path, **more: Any) -> None:
    arrays = {name: ak.Array(list(values)) for name, values in PARTICLES.items()}
    with uproot.recreate(path) as file:
        file.mkrntuple("tree", arrays | {name: ak.Array(values) for name, values in more.items()})


def write_parquet(path: Path, **more: Any) -> None:
    arrays = {name: pa.array(values.tolist(), pa.list_(pa.float32())) for name, values in PARTICLES.items()}
    pq.write_table(pa.table(arrays | {name: pa.array(values) for name, values in more.items()}), path)


def write_dictionary(path: Path, **more: Any) -> None:
    write_parquet(path, **{name: pa.array(values).dictionary_encode() for name, values in more.items()})


def write_view(path: Path, **more: Any) -> None:
    """Strings as polars declares them."""
    try:
        write_parquet(path, **{name: pa.array(list(values), pa.string_view()) for name, values in more.items()})
    except pa.ArrowNotImplementedError as error:
        pytest.skip(f"by this version of pyarrow: {error}")


def write_bytes(path: Path, **more: Any) -> None:
    """Strings of programs that do not declare them as text."""
    write_parquet(path, **{name: pa.array(list(values), pa.binary()) for name, values in more.items()})


def write_hdf5(path: Path, **more: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, values in (PARTICLES | more).items():
            file[name] = values


def write_fixed(path: Path, **more: Any) -> None:
    write_hdf5(path, **{name: np.array(values, dtype="S4") for name, values in more.items()})


def write_npz(path: Path, **more: Any) -> None:
    np.savez(path.open("wb"), **PARTICLES, **more)


WRITERS = (
    write_root, write_rntuple, write_parquet, write_dictionary, write_view, write_bytes, write_hdf5, write_fixed,
    write_npz,
)  # fmt: skip


def opened(folder: Path, schema: str, write: Callable[..., None] = write_parquet, **more: Any) -> JetFile:
    write(folder / "jets", **more)
    (folder / "mine.yaml").write_text(SCHEMA + schema)
    return open_files([Source(str(folder / "jets"))], schema=str(folder / "mine.yaml"))[0]


@pytest.mark.parametrize("write", WRITERS)
def test_strings_of_a_label_are_names_of_classes(tmp_path: Path, write: Callable[..., None]) -> None:
    file = opened(tmp_path, INDEX, write, flavour=NAMES)
    assert file.label_names == ("q", "g", "t")
    jets, left_out = read_chunk(file, 0, 0, 6, Request(bad_jets="skip"))
    assert jets.labels is not None
    assert jets.labels.tolist() == [1, 0, 1, 2, 0]
    assert left_out.total() == 1
    with pytest.raises(DataError, match=r"entry 5[\s\S]*flavour = \?[\s\S]*q, g, t"):
        read_chunk(file, 0, 0, 6, Request())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan, 1e300, 0.5, -1, 3])
def test_a_number_that_is_no_index_of_a_class_is_a_bad_jet_and_no_warning(tmp_path: Path, wrong: float) -> None:
    file = opened(tmp_path, INDEX, flavour=np.array([1, 0, 1, 2, 0, wrong]))
    jets, left_out = read_chunk(file, 0, 0, 6, Request(bad_jets="skip"))
    assert jets.labels is not None
    assert jets.labels.tolist() == [1, 0, 1, 2, 0]
    assert left_out.total() == 1


@pytest.mark.parametrize("write", [write_hdf5, write_npz])
def test_the_hint_on_a_row_of_numbers_names_the_first_of_them(tmp_path: Path, write: Callable[..., None]) -> None:
    flavour = np.array([[1], [0], [1], [2], [0], [0]])
    with pytest.raises(DataError, match=r"does not hold one number[\s\S]*flavour\[0\] is the first"):
        opened(tmp_path, INDEX, write, flavour=flavour)
    labels = read_chunk(
        opened(tmp_path, INDEX.replace("flavour", '"flavour[0]"'), write, flavour=flavour), 0, 0, 6, Request()
    )[0].labels
    assert labels is not None
    assert labels.tolist() == flavour[:, 0].tolist()


@pytest.mark.parametrize(
    ("schema", "more", "found"),
    [
        (INDEX, {"flavour": [[1], [2, 3]] * 3}, r"flavour does not hold one number[\s\S]*list<"),
        (
            "labels: {a: flavour, b: 1 - flavour}",
            {"flavour": NAMES},
            r"flavour does not hold[\s\S]*string[\s\S]*names:",
        ),
        (
            "labels: {a: flavour == 1, b: flavour != 1}",
            {"flavour": NAMES},
            r"flavour does not hold numbers[\s\S]*string",
        ),
        ("labels: {a: pt > 1, b: pt <= 1}", {}, "for each particle"),
        ("jets: {mass: {branch: m}}", {"m": [[1.0], [2.0]] * 3}, r"m does not hold one number[\s\S]*list<"),
        ("jets: {mass: {branch: m}}", {"m": NAMES}, r"m does not hold one number[\s\S]*string"),
        ("jets: {mass: {formula: 2 * m}}", {"m": NAMES}, r"m does not hold numbers[\s\S]*string"),
        ("particle_cut: valid", {"valid": NAMES}, r"valid does not hold numbers[\s\S]*string"),
        ("  charge: {branch: q}", {"q": [1.0] * 6}, r"q does not hold a list of numbers[\s\S]*double"),
        ("  charge: {branch: q, required: false}", {"q": NAMES}, r"q does not hold a list of numbers[\s\S]*string"),
    ],
)
def test_a_branch_of_another_type_is_an_error_with_its_type(
    tmp_path: Path, schema: str, more: dict[str, Any], found: str
) -> None:
    with pytest.raises(SslJetsError, match=found):
        opened(tmp_path, schema, **more)


def test_labels_of_a_known_format_that_cannot_be_used_do_not_make_it_unlabelled(tmp_path: Path) -> None:
    columns = {f"part_{name}": pa.array([[1.0]] * 6) for name in ("px", "py", "energy", "deta", "dphi")}
    pq.write_table(pa.table(columns | {"jet_label": pa.array([[1]] * 6)}), tmp_path / "jets")
    with pytest.raises(DataError, match=r"jet_label does not hold one number[\s\S]*list<"):
        open_files([Source(str(tmp_path / "jets"))])


def test_a_sum_over_lists_can_make_a_label(tmp_path: Path) -> None:
    file = opened(tmp_path, "labels: {many: sum(pt) > 4, few: sum(pt) <= 4}")
    labels = read_chunk(file, 0, 0, 6, Request())[0].labels
    assert labels is not None
    assert labels.tolist() == [0] * 6


@pytest.mark.parametrize("request_", [Request(("tag",)), Request(weights="tag")])
def test_a_column_asked_for_that_holds_no_number_is_refused_with_its_type(tmp_path: Path, request_: Request) -> None:
    file = opened(tmp_path, "", tag=NAMES)
    with pytest.raises(UsageError, match=r"tag does not hold one number[\s\S]*string"):
        check_request([file], request_)


def test_the_counter_of_a_list_can_be_used_in_formulas(tmp_path: Path) -> None:
    file = opened(tmp_path, "jet_cut: npt > 2\nlabel_index: {branch: nflavour, names: [a, b]}", _counted)
    labels = read_chunk(file, 0, 0, 6, Request())[0].labels
    assert labels is not None
    assert labels.tolist() == [1] * 6
    assert "npt" not in file.jet_columns


def _counted(path: Path) -> None:
    lists = {name: ak.Array(list(values)) for name, values in PARTICLES.items()} | {"flavour": ak.Array([[5.0]] * 6)}
    with uproot.recreate(path) as file:
        file.mktree("tree", dict.fromkeys(lists, FLOATS)).extend(lists)
