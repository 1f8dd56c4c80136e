"""Jets written in the JetClass layout: what is read back, what is computed, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch
import uproot

from ssl_jets.data.files import JetFile, open_files, whole
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.shared import shared_labels
from ssl_jets.data.sources import resolve_sources
from ssl_jets.data.write import write_jets
from ssl_jets.errors import DataError, SslJetsError, UsageError
from ssl_jets.jets import COLUMNS, Jets, concatenate
from support.small_models import CLASSES, made_jets, without_columns

AXIS = ("jet_eta", "jet_phi")


def read(path: Path, *jet_columns: str) -> Jets:
    files = open_files(resolve_sources([str(path)]))
    return concatenate(list(ordered(files, whole(files), Request(jet_columns=jet_columns))))


def assert_same(read_back: Jets, written: Jets) -> None:
    """To the rounding of float32, which pt takes twice."""
    assert read_back.columns == written.columns
    assert torch.equal(read_back.offsets, written.offsets)
    for name in written.columns:
        exact = name != "pt"
        torch.testing.assert_close(
            read_back.column(name), written.column(name), rtol=0 if exact else 3e-7, atol=0, msg=name
        )


@pytest.fixture(scope="module")
def original(sample_files: list[JetFile]) -> Jets:
    """Real jets with their axis, and all their jet columns."""
    parts = [part for part in whole(sample_files) if part.file in (0, 8)]
    parts = [replace(part, stop=100) for part in parts]
    columns = (*AXIS, "jet_pt", "jet_energy", "jet_nparticles")
    return concatenate(list(ordered(sample_files, parts, Request(jet_columns=columns))))


def test_real_jets_are_read_back_as_they_were_written(original: Jets, tmp_path: Path) -> None:
    batches = [original.select(rows) for rows in torch.arange(200).split(37)]
    assert write_jets(tmp_path / "jets.root", batches, labels=CLASSES) == 200
    found = read(tmp_path / "jets.root", *AXIS)
    assert_same(found, original)
    assert torch.equal(found.labels, original.labels)
    assert shared_labels(open_files(resolve_sources([str(tmp_path)]))) == CLASSES
    assert torch.equal(found.jet["jet_eta"], original.jet["jet_eta"])


def test_momenta_and_jet_columns_are_those_of_the_file_they_came_from(
    original: Jets, sample_files: list[JetFile], tmp_path: Path
) -> None:
    write_jets(tmp_path / "jets.root", [original])
    wanted = [uproot.open(str(sample_files[index].source.path))["tree"].arrays(entry_stop=100) for index in (0, 8)]
    found = uproot.open(tmp_path / "jets.root")["tree"].arrays()
    for name in ("part_px", "part_py", "part_pz", "jet_pt", "jet_energy", "jet_nparticles"):
        expected = np.concatenate([np.asarray(np.concatenate([np.atleast_1d(v) for v in a[name]])) for a in wanted])
        actual = np.concatenate([np.atleast_1d(values) for values in found[name]])
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=2e-3, err_msg=name)
    px, py, pz, energy = (
        ak.sum(ak.values_astype(found[f"part_{name}"], "float64"), axis=1) for name in ("px", "py", "pz", "energy")
    )
    mass2 = ak.to_numpy(energy**2 - px**2 - py**2 - pz**2)
    np.testing.assert_allclose(found["jet_mass"], np.sqrt(np.maximum(mass2, 0)), rtol=1e-5, atol=1e-3)


def test_jet_columns_keep_their_type_and_half_precision_becomes_float(original: Jets, tmp_path: Path) -> None:
    half = torch.linspace(-3, 3, len(original), dtype=torch.float16)
    columns = {"half": half, "flag": half > 0, "event": 2**60 + torch.arange(len(original))}
    write_jets(tmp_path / "jets.root", [replace(original, jet=original.jet | columns)])
    found = read(tmp_path / "jets.root", *columns).jet
    assert found["half"].dtype == torch.float32
    assert all(torch.equal(found[name], values.to(found[name].dtype)) for name, values in columns.items())
    assert (found["flag"].dtype, found["event"].dtype) == (torch.bool, torch.int64)


def test_without_an_axis_jets_lie_at_zero_and_a_missing_column_is_not_written(tmp_path: Path) -> None:
    jets = without_columns(made_jets([5, 1, 9]), "d0", "d0err", "energy")
    write_jets(tmp_path / "jets.root", [jets], metadata={"seed": 3})
    found = read(tmp_path / "jets.root", *AXIS)
    assert found.columns == tuple(name for name in COLUMNS if name not in ("d0", "d0err"))
    assert not found.jet["jet_eta"].any()
    assert not found.jet["jet_phi"].any()
    expected = ((jets.column("pt") * jets.column("deta").cosh()).square() + jets.masses().square()).sqrt()
    torch.testing.assert_close(found.column("energy"), expected, rtol=1e-6, atol=0)
    assert bool((found.labels == -1).all())
    with uproot.open(tmp_path / "jets.root") as file:
        assert json.loads(str(file["metadata"])) == {"seed": 3}
        assert "label_QCD" not in file["tree"]


def test_other_classes_than_those_of_jetclass_get_branches_of_their_own(tmp_path: Path) -> None:
    jets = replace(made_jets([3, 4]), labels=torch.tensor([1, 0]))
    write_jets(tmp_path / "jets.root", [jets], labels=("signal", "background"))
    files = open_files(resolve_sources([str(tmp_path / "jets.root")]), ("label_signal", "label_background"))
    assert next(ordered(files, whole(files))).labels.tolist() == [1, 0]


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    jets = made_jets([3, 4])
    with pytest.raises(UsageError, match=r"\.parquet"):
        write_jets(tmp_path / "jets.parquet", [jets])
    with pytest.raises(DataError, match="no jets"):
        write_jets(tmp_path / "jets.root", [])
    with pytest.raises(DataError, match="without a label"):
        write_jets(tmp_path / "jets.root", [replace(jets, labels=torch.tensor([0, -1]))], labels=CLASSES)

    def broken():
        yield jets
        raise OSError(28, "No space left on device")

    with pytest.raises(SslJetsError, match="No space left"):
        write_jets(tmp_path / "jets.root", broken())
    with pytest.raises(SslJetsError, match="mkdir -p"):
        write_jets(tmp_path / "none" / "jets.root", [jets])
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    path = tmp_path / "jets.root"
    path.write_text("precious")
    with pytest.raises(UsageError, match="--force"):
        write_jets(path, [made_jets([3])])
    assert path.read_text() == "precious"
    assert write_jets(path, [made_jets([3])], force=True) == 1
    assert len(read(path)) == 1
