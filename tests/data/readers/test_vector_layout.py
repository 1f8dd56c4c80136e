"""Public JetClass files have `std::vector` branches and no counter: they read as the jagged ones do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import uproot

from ssl_jets.data.files import JetFile, open_files, whole
from ssl_jets.data.loading.stream import ordered
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.jets import Jets, concatenate
from support.jetclass_files import CLASSES, jetclass_branches, write_tree
from support.root_program import in_root, needs_root
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
    for name in ("tree", "entries", "boundaries", "columns", "jet_columns", "classes"):
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


WRITE = """
from array import array
numbers, vectors = json.load(open(sys.argv[1])), {}
file = ROOT.TFile(sys.argv[2], "RECREATE")
tree = ROOT.TTree("tree", "tree")
plain = {}
for name, (kind, values) in numbers.items():
    if isinstance(values[0], list):
        vectors[name] = ROOT.std.vector(kind)()
        tree.Branch(name, vectors[name])
    else:
        code, letter = {"float": ("f", "/F"), "int": ("i", "/I"), "bool": ("b", "/O")}[kind]
        plain[name] = array(code, [0])
        tree.Branch(name, plain[name], name + letter)
for row in range(len(values)):
    for name, vector in vectors.items():
        vector.clear()
        for value in numbers[name][1][row]:
            vector.push_back(value)
    for name, number in plain.items():
        number[0] = numbers[name][1][row]
    tree.Fill()
tree.Write()
file.Close()
print(json.dumps(len(vectors)))
"""


@needs_root
def test_vectors_that_root_itself_wrote_are_the_same_jets(both_layouts: list[JetFile], tmp_path: Path) -> None:
    tree = uproot.open(both_layouts[1].source.path)["tree"]
    kinds = {"f": "float", "i": "int", "b": "bool"}
    numbers = {}
    for name, values in tree.arrays(library="np").items():
        first = np.asarray(values[0])
        numbers[name] = (kinds[first.dtype.kind], [np.asarray(value).tolist() for value in values])
    (tmp_path / "numbers.json").write_text(json.dumps(numbers))
    assert in_root(WRITE, tmp_path / "numbers.json", tmp_path / "root.root") == 16
    files = [both_layouts[1], *open_files([Source(str(tmp_path / "root.root"))])]
    assert files[1].label_names == CLASSES
    ours, roots = (concatenate(list(ordered(files, whole(files)[n : n + 1], Request()))) for n in (0, 1))
    assert torch.equal(ours.particles, roots.particles)
    assert torch.equal(ours.offsets, roots.offsets)
    assert ours.labels is not None
    assert roots.labels is not None
    assert torch.equal(ours.labels, roots.labels)
