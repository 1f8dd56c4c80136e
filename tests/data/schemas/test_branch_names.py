"""A name is a name, whatever characters it has: in every format, in formulas, labels, weights and kept columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import uproot

from ssl_jets.config import DataSettings, ModelSettings
from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.files import open_files
from ssl_jets.data.request import Request
from ssl_jets.data.schemas.formula_text import quoted
from ssl_jets.data.sources import Source, resolve_sources
from ssl_jets.embedding.embed import embed
from ssl_jets.errors import DataError, UsageError
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.zfile import read_z

NAMES = ("jet.pt", "soft/mass", "a b", "a:b", "µ", "été", "sum", "kind", "class", "x[y]", "a`b", "2nd", "a-b", "jet")
JETS = 6


def columns(prefix: str = "") -> dict[str, Any]:
    rng = np.random.default_rng(0)
    lists = {f"{prefix}part {name}": rng.uniform(0.5, 1, (JETS, 3)).astype("f4") for name in ("pt", "η", "ϕ")}
    return lists | {name: np.arange(JETS) + 10.0 * number for number, name in enumerate(NAMES)}


def write(path: Path, values: dict[str, Any]) -> Path:
    if path.suffix == ".parquet":
        arrays = {name: ak.to_arrow(ak.Array(one), extensionarray=False) for name, one in values.items()}
        pq.write_table(pa.table(arrays), path)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, one in values.items():
                file[name] = one
    elif path.suffix == ".npz":
        np.savez(path, **values)
    else:
        with uproot.recreate(path) as file:
            if path.stem == "ntuple":
                file.mkrntuple("tree", values)
            else:
                file.mktree("tree", {name: np.dtype((one.dtype, one.shape[1:])) for name, one in values.items()})
                file["tree"].extend(values)
    return path


SCHEMA = """
particles:
  pt: {branch: part pt, unit: GeV}
  deta: {formula: "`part η` - 1"}
  dphi: {branch: part ϕ, unit: rad}
jets:
  total: {formula: "`a b` + été + sum + `class` + sum(`part pt` > 0) + `jet.pt` + jet.pt"}
labels: {low: "`a:b` < 33", high: "!(`a:b` < 33)"}
"""


@pytest.mark.parametrize("name", ["jets.parquet", "tree.root", "ntuple.root", "jets.h5", "jets.npz"])
def test_every_name_is_read_in_every_format(tmp_path: Path, name: str) -> None:
    values = columns()
    if name == "jets.h5":
        del values["soft/mass"]  # in HDF5 a slash parts groups
    path = write(tmp_path / name, values)
    (tmp_path / "mine.yaml").write_text(SCHEMA, encoding="utf-8")
    (file,) = open_files([Source(str(path))], schema=str(tmp_path / "mine.yaml"))
    plain = [name for name in values if not name.startswith("part") and name != "a:b"]
    jets, _ = read_chunk(file, 0, 0, JETS, Request((*plain, "total"), weights="a b"))
    for name_ in plain:
        assert jets.jet[name_].tolist() == values[name_].tolist(), name_
    total = values["a b"] + values["été"] + values["sum"] + values["class"] + 3 + 2 * values["jet.pt"]
    assert jets.jet["total"].tolist() == total.tolist()
    assert jets.labels is not None
    assert jets.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert jets.weights is not None
    assert jets.weights.tolist() == values["a b"].tolist()
    np.testing.assert_array_equal(jets.column("deta"), values["part η"].reshape(-1) - 1)


@pytest.mark.parametrize("name", ["jets.parquet", "ntuple.root"])
def test_fields_of_records_have_a_dot_before_their_name(tmp_path: Path, name: str) -> None:
    values = columns()
    particles = ak.zip({name: ak.from_regular(values[f"part {name}"]) for name in ("pt", "η", "ϕ")})
    axis = ak.zip({"pt": values["a b"], "deep": ak.zip({"eta": values["jet"]})})
    path = write(tmp_path / name, {"p": particles, "j": axis})
    (tmp_path / "mine.yaml").write_text(
        "particles: {pt: {branch: p.pt, unit: GeV}, deta: {branch: p.η}, dphi: {formula: p.ϕ - j.pt}}\n",
        encoding="utf-8",
    )
    (file,) = open_files([Source(str(path))], schema=str(tmp_path / "mine.yaml"))
    jets, _ = read_chunk(file, 0, 2, 5, Request(("j.pt", "j.deep.eta")))
    np.testing.assert_array_equal(jets.column("pt"), values["part pt"][2:5].reshape(-1))
    np.testing.assert_array_equal(jets.column("deta"), values["part η"][2:5].reshape(-1))
    assert jets.jet["j.pt"].tolist() == values["a b"][2:5].tolist()
    assert jets.jet["j.deep.eta"].tolist() == values["jet"][2:5].tolist()


def test_lists_of_lists_of_records_hold_several_jets_in_an_entry(tmp_path: Path) -> None:
    values = columns()
    jets = ak.zip({name: ak.unflatten(ak.from_regular(values[f"part {name}"]), [2, 0, 4]) for name in ("pt", "η", "ϕ")})
    path = write(tmp_path / "ntuple.root", {"p": jets})
    text = "particles: {pt: {branch: p.pt, unit: GeV}, deta: {branch: p.η}, dphi: {branch: p.ϕ}}\n"
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    (file,) = open_files([Source(str(path))], schema=str(tmp_path / "mine.yaml"))
    found, _ = read_chunk(file, 0, 1, JETS, Request())
    np.testing.assert_array_equal(found.column("pt"), values["part pt"][1:].reshape(-1))


def test_labels_are_asked_for_by_any_name(tmp_path: Path) -> None:
    values = columns() | {"is top": np.arange(JETS) % 2, "not/top": 1 - np.arange(JETS) % 2}
    path = write(tmp_path / "jets.parquet", values)
    (tmp_path / "mine.yaml").write_text(SCHEMA.partition("jets:")[0], encoding="utf-8")
    (file,) = open_files([Source(str(path))], ("is top", "not/top"), str(tmp_path / "mine.yaml"))
    labels = read_chunk(file, 0, 0, JETS, Request())[0].labels
    assert labels is not None
    assert (file.label_names, labels.tolist()) == (("is top", "not/top"), [1, 0] * 3)
    with pytest.raises((DataError, UsageError), match="is tip"):
        open_files([Source(str(path))], ("is tip", "not/top"), str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize("suffix", [".parquet", ".root", ".h5", ".npz"])
def test_a_kept_column_keeps_its_name_or_is_refused(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(0)
    encoder = Encoder(ModelSettings(size="tiny", blocks=1))
    save_model(Model(encoder, facts={"method": "mae"}), tmp_path / "run" / "model")
    values = columns() | {"x[0]": np.arange(JETS) * 2.0, "metadata": np.arange(JETS) * 3.0}
    path = write(tmp_path / "jets.parquet", values)
    (tmp_path / "mine.yaml").write_text(SCHEMA.partition("jets:")[0], encoding="utf-8")
    data = DataSettings(format=str(tmp_path / "mine.yaml"))
    for name in (*NAMES, "x[0]", "metadata"):
        out = tmp_path / f"z{suffix}"
        refused = (suffix, name) in {(".root", "x[0]"), (".npz", "metadata")}
        if refused:
            with pytest.raises(UsageError, match="cannot keep"):
                embed(tmp_path / "run", [str(path)], out, keep=[name], data=data, force=True, log=lambda _: None)
        else:
            embed(tmp_path / "run", [str(path)], out, keep=[name], data=data, force=True, log=lambda _: None)
            assert read_z(out).columns[name].tolist() == values[name].tolist()


def test_a_tree_may_have_colons_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.root").touch()
    assert resolve_sources([f"{tmp_path}/a.root:b:c"]) == [Source(f"{tmp_path}/a.root", "b:c")]


def test_only_names_that_could_be_something_else_are_quoted() -> None:
    assert [quoted(name) for name in ("jet.pt", "a[3]", "sum", "é", "a b", "in", "a`b")] == [
        *("jet.pt", "a[3]", "sum"),
        *("`é`", "`a b`", "`in`", "`a``b`"),
    ]
