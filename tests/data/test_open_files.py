"""The schema of a file is detected from its branches, and an unusable file is one clear error."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.schemas.schema import Schema, known_schemas, load_schema
from ssl_jets.data.shared import shared_columns, shared_labels
from ssl_jets.data.sources import Source
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import COLUMNS
from support.jetclass_files import CLASSES, jetclass_branches, write_tree

Write = Callable[..., Path]


def opened(path: Path, tree: str | None = None, labels: tuple[str, ...] | None = None) -> JetFile:
    return open_files([Source(str(path), tree)], labels)[0]


def test_a_jetclass_file_is_recognised_with_all_its_columns(write_jetclass: Write) -> None:
    path = write_jetclass(entries=50, cluster=20)
    file = opened(path)
    assert (file.schema.name, file.tree, file.entries) == ("jetclass", "tree", 50)
    assert file.columns == COLUMNS
    assert file.label_names == CLASSES
    assert file.jet_columns == ("jet_pt", "jet_sdmass", "aux_genpart_pid")
    assert file.boundaries == (0, 20, 40, 50)
    assert file.identity[:2] == ("QCD_000.root", path.stat().st_size)


def test_the_files_come_in_the_order_they_were_named(write_jetclass: Write) -> None:
    paths = [write_jetclass(f"f{number}.root", entries=number + 1) for number in (3, 1, 2)]
    assert [file.entries for file in open_files([Source(str(path)) for path in paths])] == [4, 2, 3]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("HToBB_000", "HToBB"),
        ("ZJetsToNuNu_12-3", "ZJetsToNuNu"),
        ("Tbl", "Tbl"),
        ("HToWW4Q_001", "HToWW4Q"),
        ("12", "12"),
    ],
)
def test_the_group_is_the_name_without_its_number(write_jetclass: Write, name: str, group: str) -> None:
    assert opened(write_jetclass(f"{name}.root", entries=2)).group == group


def test_a_column_whose_branches_are_missing_is_not_there(write_jetclass: Write) -> None:
    file = opened(write_jetclass(drop=["part_d0val", "part_d0err"]))
    assert file.columns == tuple(name for name in COLUMNS if name not in ("d0", "d0err"))


@pytest.mark.parametrize("branch", ["part_px", "part_energy", "part_deta", "part_isPhoton"])
def test_a_missing_branch_is_named_with_those_most_like_it(write_jetclass: Write, branch: str) -> None:
    def misspell(branches: dict[str, Any]) -> None:
        branches[f"{branch}_"] = branches.pop(branch)

    path = write_jetclass(edit=misspell)
    with pytest.raises(DataError) as caught:
        opened(path)
    assert f"lacks the branch {branch}" in caught.value.what
    assert str(path) in str(caught.value)
    assert f"{branch}_" in str(caught.value.found)


def test_a_flat_branch_in_place_of_a_list_is_refused(write_jetclass: Write) -> None:
    def flatten(branches: dict[str, Any]) -> None:
        branches["part_deta"] = branches["jet_pt"]

    with pytest.raises(DataError, match="part_deta does not hold a list"):
        opened(write_jetclass(edit=flatten))


def test_without_label_branches_a_file_is_unlabelled(write_jetclass: Write) -> None:
    assert opened(write_jetclass(label=None)).label_names == ()


def test_some_label_branches_but_not_all_is_an_error(write_jetclass: Write) -> None:
    with pytest.raises(DataError, match="not label_Hcc, label_Tbl"):
        opened(write_jetclass(drop=["label_Hcc", "label_Tbl"]))


def test_labels_can_be_chosen_by_branch_or_by_class(write_jetclass: Write) -> None:
    path = write_jetclass(edit=lambda branches: branches.update(is_signal=np.ones(50, np.int32)))
    assert opened(path, labels=("label_Tbl", "QCD")).classes.branches == ("label_Tbl", "label_QCD")
    file = opened(path, labels=("is_signal",))
    assert file.label_names == ("is_signal",)
    assert "is_signal" not in file.jet_columns
    assert "label_QCD" in file.jet_columns


def test_labels_that_no_file_has_are_wrong_usage(write_jetclass: Write) -> None:
    with pytest.raises(UsageError) as caught:
        opened(write_jetclass(), labels=("label_QCT",))
    assert caught.value.where == "data.labels"


def test_files_with_different_columns_or_classes_are_an_error(write_jetclass: Write) -> None:
    first = opened(write_jetclass("a.root"))
    with pytest.raises(DataError, match="different particle columns"):
        shared_columns([first, opened(write_jetclass("b.root", drop=["part_d0val"]))])
    with pytest.raises(DataError, match="different classes"):
        shared_labels([first, opened(write_jetclass("c.root"), labels=("QCD", "Tbl"))])
    assert shared_labels([opened(write_jetclass("d.root", label=None)), first]) == CLASSES


def test_the_tree_can_be_named(tmp_path: Path) -> None:
    trees = {"first": jetclass_branches(3), "second": jetclass_branches(4)}
    path = write_tree(tmp_path / "two.root", trees)
    assert opened(path, "second").entries == 4
    with pytest.raises(DataError, match="several trees") as caught:
        opened(path)
    assert "first, second" in str(caught.value)


def test_the_only_tree_with_jets_is_found_among_others(tmp_path: Path) -> None:
    trees = {"meta": {"weight": np.ones(3)}, "jets": jetclass_branches(4)}
    assert opened(write_tree(tmp_path / "two.root", trees)).tree == "jets"


def test_a_wrong_tree_is_an_error_with_the_available_trees(write_jetclass: Write) -> None:
    with pytest.raises(DataError, match="no such tree") as caught:
        opened(write_jetclass(), "trees")
    assert caught.value.allowed == ["tree"]


def test_a_file_without_jets_is_an_error_with_its_trees(tmp_path: Path) -> None:
    path = write_tree(tmp_path / "other.root", {"Events": {"run": np.ones(3, np.int32)}})
    with pytest.raises(DataError, match="no jets of a known format") as caught:
        opened(path)
    assert "tree Events" in str(caught.value)
    assert any("JetClass" in name for name in caught.value.allowed or ())


def test_a_root_file_without_trees_is_an_error(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "hist.root") as file:
        file["h"] = np.histogram([1.0, 2.0])
    with pytest.raises(DataError, match="no trees"):
        opened(tmp_path / "hist.root")


@pytest.mark.parametrize("content", [b"", b"%PDF something", b"roo", b"root"])
def test_a_file_of_no_known_kind_is_refused_whatever_its_suffix(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.root"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"of no kind that is read|truncated") as caught:
        opened(path)
    assert str(path) in str(caught.value)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "jets.root")
    with pytest.raises(DataError, match="read from files") as caught:
        opened(tmp_path / "jets.root")
    assert caught.value.found == "a pipe"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused_wherever_it_was_cut(write_jetclass: Write, share: float) -> None:
    path = write_jetclass()
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match="truncated"):
        opened(path)


def test_a_corrupt_directory_is_one_error_and_no_traceback_of_uproot(write_jetclass: Write) -> None:
    path = write_jetclass()
    content = bytearray(path.read_bytes())
    end = struct.unpack(">i", content[12:16])[0]
    content[200:end] = b"\xff" * (end - 200)
    path.write_bytes(content)
    with pytest.raises(DataError, match="corrupt"):
        opened(path)


def test_a_file_that_vanished_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read") as caught:
        opened(tmp_path / "gone.root")
    assert "No such file" in str(caught.value)


def test_files_without_any_entry_are_an_error_but_one_among_others_is_not(write_jetclass: Write) -> None:
    empty = write_jetclass("empty.root", entries=0)
    with pytest.raises(DataError, match="no jets"):
        opened(empty)
    files = open_files([Source(str(empty)), Source(str(write_jetclass("full.root")))])
    assert [file.entries for file in files] == [0, 50]


def test_every_schema_of_the_package_is_valid_and_jetclass_names_its_classes_in_order() -> None:
    jetclass = next(schema for schema in known_schemas() if schema.name == "jetclass")
    assert tuple(jetclass.labels) == CLASSES
    assert set(jetclass.particles) == set(COLUMNS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\ntitle: X\nparticles: {pT: {branch: a}}", "unknown particle columns"),
        ("name: x\ntitle: X\nparticles: {pt: {branch: a, formula: b}}", "exactly one of"),
        ("name: x\ntitle: X\nparticles: {kind: {flags: {quark: a}}}", "unknown kinds"),
        ("name: x\ntitle: X\nparticles: {deta: {branch: a}}\nlabel: {}", "no such key"),
        ("name: x\ntitle: X\nparticles: {pt: {branch: a}}", "the unit of pt is one of GeV, MeV, not 1"),
        ("name: x\ntitle: X\nparticles: {d0: {branch: a, unit: GeV}}", "the unit of d0 is one of mm, cm, m"),
        ("name: x\ntitle: X\nparticles: {deta: {branch: a, absolute: true}}", "the axis of the jet is needed"),
        ("name: x\ntitle: X\nparticles: {deta: {formula: 'a +* b'}}", "not a formula.* at character 4"),
    ],
)
def test_a_wrong_schema_of_a_user_is_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_schema(path)


def test_units_are_converted_to_gev_and_millimetres() -> None:
    schema = Schema.model_validate(
        {
            "name": "x",
            "title": "X",
            "particles": {
                "pt": {"branch": "a", "unit": "MeV"},
                "deta": {"branch": "c"},
                "dphi": {"branch": "d"},
                "d0": {"branch": "b", "unit": "cm"},
            },
        }
    )
    assert schema.particles["pt"].factor == 1e-3
    assert schema.particles["d0"].factor == 10


def test_a_class_named_twice_is_refused(write_jetclass: Write) -> None:
    source = Source(str(write_jetclass()))
    for labels in (("QCD", "Tbqq", "QCD"), ("QCD", "label_QCD")):
        with pytest.raises(UsageError, match="a class is named twice") as caught:
            open_files([source], labels)
        assert (caught.value.where, caught.value.found) == ("data.labels", "QCD")
    assert open_files([source], ("Tbqq", "label_QCD"))[0].label_names == ("Tbqq", "QCD")
