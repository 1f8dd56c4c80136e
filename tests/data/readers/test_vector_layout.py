"""Public JetClass files have `std::vector` branches and no counter: they read as the jagged ones do."""

from __future__ import annotations

import pytest
import torch
import uproot

from ssl_jets.data.files import JetFile, open_files, whole
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.jets import Jets, concatenate
from support.jetclass_files import CLASSES, jetclass_branches, write_tree
from support.vector_root_file import write_vector_tree


@pytest.fixture(scope="module")
def both_layouts(tmp_path_factory: pytest.TempPathFactory) -> list[JetFile]:
    folder = tmp_path_factory.mktemp("layouts")
    branches = jetclass_branches(50, label="Zqq", seed=3)
    jagged = write_tree(folder / "jagged.root", {"tree": branches})
    vector = write_vector_tree(folder / "vector.root", branches)
    return open_files([Source(str(jagged)), Source(str(vector))])


def test_the_file_of_this_test_has_the_public_layout(both_layouts: list[JetFile]) -> None:
    tree = uproot.open(both_layouts[1].source.path)["tree"]
    assert tree["part_px"].typename == "std::vector<float>"
    assert tree["part_isMuon"].typename == "std::vector<int32_t>"
    assert "npart" not in tree


def test_both_layouts_are_the_same_file_to_us(both_layouts: list[JetFile]) -> None:
    jagged, vector = both_layouts
    assert vector.label_names == CLASSES
    for name in ("tree", "entries", "boundaries", "columns", "jet_columns", "label_branches"):
        assert getattr(jagged, name) == getattr(vector, name), name


@pytest.mark.parametrize("chunk", [7, 20, 100])
def test_both_layouts_give_the_same_jets(both_layouts: list[JetFile], chunk: int) -> None:
    request = Request(jet_columns=("jet_pt",))

    def read(number: int) -> Jets:
        parts = whole(both_layouts)[number : number + 1]
        return concatenate(list(ordered(both_layouts, parts, request, chunk=chunk)))

    jagged, vector = read(0), read(1)
    assert torch.equal(jagged.particles, vector.particles)
    assert torch.equal(jagged.offsets, vector.offsets)
    assert jagged.labels is not None
    assert vector.labels is not None
    assert torch.equal(jagged.labels, vector.labels)
    assert torch.equal(jagged.jet["jet_pt"], vector.jet["jet_pt"])
