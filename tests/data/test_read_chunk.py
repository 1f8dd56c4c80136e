"""Entries become jets with the values of the file, and a bad value is an error with file, branch and entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
import uproot

from ssl_jets.data.chunks import check_request, read_chunk, read_jet_columns
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.profile import profile
from ssl_jets.data.request import Request
from ssl_jets.data.schemas.types import JetTypes
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import KINDS, Jets
from support.jetclass_files import CLASSES, KIND_FLAGS

Write = Callable[..., Path]
Branches = dict[str, Any]
OWN = "{{extends: jetclass, particles: {{pt: {pt}, deta: {{branch: part_deta}}, dphi: {dphi}}}}}"
"""A user's own schema."""


def opened(path: Path) -> JetFile:
    return open_files([Source(str(path))])[0]


def read(path: Path, start: int = 0, stop: int | None = None, request: Request = Request()) -> Jets:
    file = opened(path)
    return read_chunk(file, 0, start, file.entries if stop is None else stop, request)[0]


def set_value(branches: Branches, name: str, entry: int, particle: int, value: float) -> None:
    lists = branches[name].to_list()
    lists[entry][particle] = value
    branches[name] = ak.values_astype(ak.Array(lists), np.float32)


def empty_jet(branches: Branches, entry: int) -> None:
    for name, values in branches.items():
        if isinstance(values, ak.Array):
            lists = values.to_list()
            lists[entry] = []
            branches[name] = ak.values_astype(ak.Array(lists), values.layout.content.dtype)


@pytest.mark.parametrize(("start", "stop"), [(0, 50), (0, 20), (7, 45), (49, 50)])
def test_the_values_equal_plain_uproot(write_jetclass: Write, start: int, stop: int) -> None:
    path = write_jetclass(entries=50, cluster=20, label="Hgg")
    jets = read(path, start, stop, Request(jet_columns=("jet_sdmass", "jet_pt")))
    tree = uproot.open(path)["tree"].arrays(entry_start=start, entry_stop=stop)

    def expected(branch: str) -> torch.Tensor:
        return torch.tensor(ak.flatten(tree[branch]).to_list(), dtype=torch.float32)

    assert jets.lengths.tolist() == ak.num(tree["part_px"]).to_list()
    pt = torch.hypot(expected("part_px").double(), expected("part_py").double())
    torch.testing.assert_close(jets.column("pt"), pt.float(), rtol=3e-7, atol=0)
    same = {"energy": "part_energy", "deta": "part_deta", "dphi": "part_dphi", "charge": "part_charge"}
    same |= {"d0": "part_d0val", "d0err": "part_d0err", "dz": "part_dzval", "dzerr": "part_dzerr"}
    for column, branch in same.items():
        assert torch.equal(jets.column(column), expected(branch)), column
    flags = torch.stack([expected(branch) for branch in KIND_FLAGS], dim=1)
    kinds = torch.where(flags.sum(1) > 0, flags.argmax(1), KINDS.index("other"))
    assert torch.equal(jets.column("kind"), kinds.float())
    assert kinds.unique().numel() == 6 or stop - start < 20
    assert jets.labels is not None
    assert jets.labels.tolist() == [CLASSES.index("Hgg")] * (stop - start)
    assert list(jets.jet) == ["jet_sdmass", "jet_pt"]
    assert jets.jet["jet_sdmass"].tolist() == tree["jet_sdmass"].to_list()
    assert jets.source is not None
    assert jets.source.tolist() == [[0, entry, 0] for entry in range(start, stop)]
    assert (jets.particles.dtype, jets.offsets.dtype, jets.labels.dtype) == (torch.float32, torch.int64, torch.int64)


def test_only_the_columns_asked_for_are_read_in_that_order(write_jetclass: Write) -> None:
    path = write_jetclass()
    whole = read(path)
    some = read(path, request=Request(columns=("pt", "dphi", "kind")))
    assert some.columns == ("pt", "dphi", "kind")
    for name in some.columns:
        assert torch.equal(some.column(name), whole.column(name))


def test_a_request_is_compiled_once_for_a_file_and_again_for_other_types(write_jetclass: Write) -> None:
    file, request = opened(write_jetclass()), Request(jet_columns=("jet_pt",))
    assert file.decoder(request) is file.decoder(Request(jet_columns=("jet_pt",)))
    wider = replace(file, types=JetTypes(dict.fromkeys(file.jet_columns, np.dtype(np.float64))))
    assert read_chunk(file, 0, 0, 5, request)[0].jet["jet_pt"].dtype == torch.float32
    assert read_chunk(wider, 0, 0, 5, request)[0].jet["jet_pt"].dtype == torch.float64


def test_jet_columns_are_read_without_particles_and_labels(write_jetclass: Write) -> None:
    file = opened(write_jetclass(edit=lambda branches: empty_jet(branches, 12)))
    decoder = file.decoder(Request(("jet_pt",), columns=(), labels=False))
    assert decoder.branches == ("jet_pt",)
    assert read_jet_columns(file, ["jet_pt"], 0, 50)[1]["jet_pt"].shape == (50,)


def test_a_column_the_file_lacks_is_refused_with_the_nearest(write_jetclass: Write) -> None:
    file = opened(write_jetclass())
    with pytest.raises(UsageError) as caught:
        check_request([file], Request(jet_columns=("jet_sdmas",)))
    assert caught.value.allowed is not None
    assert caught.value.allowed[0] == "jet_sdmass"
    with pytest.raises(UsageError, match=r"found: +d0"):
        check_request([opened(write_jetclass("b.root", drop=["part_d0val"]))], Request(columns=("pt", "d0")))


def test_large_event_numbers_stay_exact_in_formulas_too(write_jetclass: Write, tmp_path: Path) -> None:
    numbers = np.arange(50, dtype=np.int64) + 2**40 + 1
    path = write_jetclass(edit=lambda branches: branches.update(event=numbers, weight=numbers / 3))
    (tmp_path / "mine.yaml").write_text(
        "extends: jetclass\njets: {key: {formula: 100 * event + 7}, half: {formula: jet_pt / 2}}\n"
    )
    (file,) = open_files([Source(str(path))], schema=str(tmp_path / "mine.yaml"))
    jets = read_chunk(file, 0, 0, 50, Request(jet_columns=("event", "weight", "key", "half")))[0]
    assert jets.jet["event"].tolist() == numbers.tolist()
    assert jets.jet["key"].tolist() == (100 * numbers + 7).tolist()
    assert jets.jet["half"].dtype == torch.float32
    assert jets.jet["weight"].tolist() == (numbers / 3).tolist()


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8"])
def test_jet_columns_are_converted_with_the_precision_of_their_type(
    write_jetclass: Write, tmp_path: Path, dtype: str
) -> None:
    numbers = (500_000 + 12_345 * np.arange(50)).astype(dtype)
    path = write_jetclass(edit=lambda branches: branches.update(pt_mev=numbers))
    (tmp_path / "mine.yaml").write_text("extends: jetclass\njets: {own_pt: {branch: pt_mev, unit: MeV}}\n")
    (file,) = open_files([Source(str(path))], schema=str(tmp_path / "mine.yaml"))
    found = read_chunk(file, 0, 0, 50, Request(("own_pt",)))[0].jet["own_pt"].numpy()
    assert found.dtype == (np.float32 if dtype == "f4" else np.float64)
    np.testing.assert_allclose(found, numbers / 1000, rtol=2e-7 if dtype == "f4" else 1e-15)


def test_unsigned_numbers_beyond_64_bits_with_a_sign_are_refused_and_inspected(write_jetclass: Write) -> None:
    numbers = np.arange(50, dtype=np.uint64) + np.uint64(2**63 - 30)
    path = write_jetclass(edit=lambda branches: branches.update(event=numbers))
    assert read(path, 0, 30, Request(("event",))).jet["event"].tolist() == numbers[:30].tolist()
    for bad_jets in "error", "skip":
        with pytest.raises(DataError, match=rf"too large[\s\S]*entry 30, column event[\s\S]*{2**63}"):
            read(path, request=Request(("event",), bad_jets))
    assert profile(opened(path), 100).jet_columns["event"].most == float(2**63 + 19)


def test_unlabelled_jets_have_label_minus_one(write_jetclass: Write) -> None:
    labels = read(write_jetclass(label=None)).labels
    assert labels is not None
    assert labels.tolist() == [-1] * 50


def test_a_jet_column_may_be_nan_as_subjettiness_ratios_are(write_jetclass: Write) -> None:
    path = write_jetclass(edit=lambda branches: branches.update(jet_tau21=np.full(50, np.nan, np.float32)))
    assert read(path, request=Request(jet_columns=("jet_tau21",))).jet["jet_tau21"].isnan().all()


@pytest.mark.parametrize(
    ("branch", "value"),
    [("part_px", np.nan), ("part_px", -np.inf), ("part_deta", np.inf), ("part_dzerr", np.nan), ("part_dzerr", np.inf)],
)
def test_a_value_that_is_not_finite_is_named_by_branch_and_entry(
    write_jetclass: Write, branch: str, value: float
) -> None:
    def spoil(branches: Branches) -> None:
        for entry in (33, 41):
            set_value(branches, branch, entry, 0, value)

    path = write_jetclass(edit=spoil)
    with pytest.raises(DataError, match=f"{branch} is not finite") as caught:
        read(path, 10, 50)
    assert str(caught.value.where) == f"{path}, tree tree, entry 33"
    assert str(caught.value.found).startswith("2 of the 40")
    kept, skipped = read_chunk(opened(path), 0, 10, 50, Request(bad_jets="skip"))
    assert kept.source is not None
    assert kept.source[:, 1].tolist() == [entry for entry in range(10, 50) if entry not in (33, 41)]
    assert skipped == {f"{branch} is not finite": 2}
    assert kept.particles.isfinite().all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("branch", ["part_energy", "part_d0val", "jet_pt"])
def test_a_number_beyond_single_precision_is_a_bad_one_and_no_warning(write_jetclass: Write, branch: str) -> None:
    def spoil(branches: dict[str, Any]) -> None:
        branches[branch] = ak.values_astype(branches[branch], np.float64) * 1e300

    file = opened(write_jetclass(edit=spoil))
    _, left_out = read_chunk(file, 0, 0, 50, Request(bad_jets="skip", weights="jet_pt"))
    assert left_out.total() > 0


def test_two_infinities_that_cancel_are_found(write_jetclass: Write) -> None:
    def spoil(branches: Branches) -> None:
        set_value(branches, "part_d0val", 3, 0, np.inf)
        set_value(branches, "part_d0val", 4, 0, -np.inf)

    with pytest.raises(DataError, match="part_d0val is not finite"):
        read(write_jetclass(edit=spoil))


def test_a_jet_without_particles_is_named_or_skipped(write_jetclass: Write) -> None:
    path = write_jetclass(edit=lambda branches: empty_jet(branches, 12))
    with pytest.raises(DataError, match="no particles") as caught:
        read(path)
    assert "entry 12" in str(caught.value)
    kept, skipped = read_chunk(opened(path), 0, 0, 50, Request(bad_jets="skip"))
    assert (len(kept), skipped) == (49, {"no particles": 1})
    assert kept.lengths.min() > 0


def test_a_particle_without_pt_is_bad(write_jetclass: Write) -> None:
    def spoil(branches: Branches) -> None:
        for name in ("part_px", "part_py"):
            set_value(branches, name, 5, 0, 0.0)

    with pytest.raises(DataError, match="pt is zero") as caught:
        read(write_jetclass(edit=spoil))
    assert "entry 5" in str(caught.value)


def overflow(branches: Branches, entry: int, value: float) -> None:
    set_value(branches, "part_px", entry, 0, value)


def test_a_jet_bad_in_a_computed_column_is_found_beside_one_bad_in_a_branch(write_jetclass: Write) -> None:
    def spoil(branches: Branches) -> None:
        set_value(branches, "part_deta", 3, 0, np.nan)
        for entry, value in ((5, 1e25), (7, 2e6)):  # the pt of the first is infinite in float32
            overflow(branches, entry, value)
        set_value(branches, "part_energy", 9, 0, 1e7)
        set_value(branches, "part_deta", 11, 0, -999)

    path = write_jetclass(edit=spoil)
    kept, skipped = read_chunk(opened(path), 0, 0, 50, Request(bad_jets="skip"))
    assert skipped == {
        "part_deta is not finite": 1,
        "pt is beyond 1,000,000": 2,
        "energy is beyond 1,000,000": 1,
        "its momentum pt cosh(deta) is beyond 1,000,000": 1,
    }
    assert kept.source is not None
    assert kept.source[:, 1].tolist() == [entry for entry in range(50) if entry not in (3, 5, 7, 9, 11)]
    assert kept.particles.abs().max() <= 1e6
    with pytest.raises(DataError, match="pt is beyond 1,000,000") as caught:
        read(path, 5, 20)
    assert "unit: MeV" in str(caught.value)


def test_a_negative_pt_has_a_reason_of_its_own(write_jetclass: Write, tmp_path: Path) -> None:
    schema = tmp_path / "mine.yaml"
    schema.write_text(OWN.format(pt="{branch: part_px, unit: GeV}", dphi="{branch: part_dphi}"))
    path = write_jetclass(edit=lambda branches: branches.update(part_px=abs(branches["part_px"]) + 1))
    file = open_files([Source(str(path))], schema=str(schema))[0]
    assert read_chunk(file, 0, 0, 50, Request(bad_jets="skip"))[1] == {}
    path = write_jetclass(edit=lambda branches: set_value(branches, "part_px", 4, 0, -3.0))
    left_out = read_chunk(open_files([Source(str(path))], schema=str(schema))[0], 0, 4, 5, Request(bad_jets="skip"))[1]
    assert left_out == {"pt is negative": 1}


@pytest.mark.parametrize(
    "schema", [None, OWN.format(pt="{formula: 'hypot(part_px, part_py)', unit: GeV}", dphi="{formula: part_dphi + 0}")]
)
def test_dphi_is_wrapped_and_angles_inside_keep_every_bit(
    write_jetclass: Write, tmp_path: Path, schema: str | None
) -> None:
    turned = {(3, 0): 6.1, (8, 0): -6.0, (9, 0): 9.3}

    def unwrap(branches: Branches) -> None:
        set_value(branches, "part_dphi", 12, 0, float(np.float32(np.pi)))
        for (entry, particle), value in turned.items():
            set_value(branches, "part_dphi", entry, particle, value)

    if schema is not None:
        (tmp_path / "mine.yaml").write_text(schema)
    path = write_jetclass(edit=unwrap)
    file = open_files([Source(str(path))], schema=None if schema is None else str(tmp_path / "mine.yaml"))[0]
    raw, wrapped = (read_chunk(file, 0, 0, 50, Request(wrap=wrap))[0] for wrap in (False, True))
    inside = raw.column("dphi").abs() <= np.float32(np.pi)
    assert int((~inside).sum()) == len(turned)
    assert torch.equal(wrapped.column("dphi")[inside], raw.column("dphi")[inside])
    expected = torch.tensor([value - 2 * np.pi * round(value / (2 * np.pi)) for value in turned.values()])
    torch.testing.assert_close(wrapped.column("dphi")[~inside].double(), expected.double(), rtol=0, atol=2e-6)
    others = [name for name in raw.columns if name != "dphi"]
    assert all(torch.equal(raw.column(name), wrapped.column(name)) for name in others)


def test_a_jet_bad_for_two_reasons_is_counted_once(write_jetclass: Write) -> None:
    def spoil(branches: Branches) -> None:
        set_value(branches, "part_deta", 5, 0, np.nan)
        set_value(branches, "part_dphi", 5, 0, np.nan)

    kept, skipped = read_chunk(opened(write_jetclass(edit=spoil)), 0, 0, 50, Request(bad_jets="skip"))
    assert (len(kept), skipped.total()) == (49, 1)


@pytest.mark.parametrize("bad_jets", ["error", "skip"])
def test_branches_of_different_lengths_are_always_an_error(write_jetclass: Write, bad_jets: str) -> None:
    def shorten(branches: Branches) -> None:
        lists = branches["part_dphi"].to_list()
        lists[27] = [*lists[27], 0.0]
        branches["part_dphi"] = ak.values_astype(ak.Array(lists), np.float32)

    path = write_jetclass(edit=shorten, counter=None)
    with pytest.raises(DataError, match="different numbers of particles") as caught:
        read(path, 20, 50, Request(bad_jets=bad_jets))  # type: ignore[arg-type]
    assert "part_dphi" in caught.value.what
    assert "entry 27" in str(caught.value)


@pytest.mark.parametrize(("label", "value"), [("label_QCD", 0), ("label_Tbl", 1), ("label_QCD", 0.5)])
def test_labels_that_are_not_one_hot_are_an_error(write_jetclass: Write, label: str, value: float) -> None:
    def spoil(branches: Branches) -> None:
        branches[label][8] = value

    path = write_jetclass(edit=spoil)
    with pytest.raises(DataError, match="belongs to no class, or to several") as caught:
        read(path)
    assert str(caught.value.where) == f"{path}, tree tree, entry 8"
    assert "data.labels" in str(caught.value)
    jets, left_out = read_chunk(opened(path), 0, 0, 20, Request(bad_jets="skip"))
    assert dict(left_out) == {"it belongs to no class, or to several": 1}
    assert jets.source is not None
    assert jets.source[:, 1].tolist() == [entry for entry in range(20) if entry != 8]


def test_jets_of_other_classes_than_those_asked_for_can_be_left_out(write_jetclass: Write) -> None:
    def every_third(branches: Branches) -> None:
        third = np.arange(50) % 3 == 0
        branches["label_QCD"], branches["label_Tbqq"] = (~third).astype(np.float32), third.astype(np.int32)

    files = open_files([Source(str(write_jetclass(edit=every_third)))], labels=("Hbb", "Tbqq"))
    with pytest.raises(DataError, match="all labels are 0"):
        read_chunk(files[0], 0, 0, 20, Request())
    jets, left_out = read_chunk(files[0], 0, 0, 20, Request(bad_jets="skip"))
    assert jets.labels is not None
    assert jets.labels.tolist() == [1] * 7
    assert left_out.total() == 13


def test_a_corrupt_basket_is_one_error(write_jetclass: Write) -> None:
    path = write_jetclass()
    file = opened(path)
    branch = uproot.open(path)["tree"]["part_px"]
    begin = branch.member("fBasketSeek")[0]
    content = bytearray(path.read_bytes())
    content[begin : begin + 30] = b"\x00" * 30
    path.write_bytes(content)
    with pytest.raises(DataError, match="corrupt") as caught:
        read_chunk(file, 0, 0, 20, Request())
    assert str(path) in str(caught.value)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads the list of mapped files of Linux")
def test_a_file_is_not_mapped_into_memory_where_cutting_it_short_would_kill_the_process(write_jetclass: Write) -> None:
    path = write_jetclass(entries=50, cluster=20)
    read(path, 0, 20)
    assert str(path) not in Path("/proc/self/maps").read_text()
