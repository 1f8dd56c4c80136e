"""ROOT itself reads z and scores files: equal numbers, friends of a chain of inputs, blocks beyond a basket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uproot

from ssl_jets.config import ModelSettings
from ssl_jets.data.files import open_files
from ssl_jets.data.sources import sample_sources
from ssl_jets.embedding.embed import embed
from ssl_jets.embedding.options import OutSettings
from ssl_jets.embedding.predictions import predict
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.heads import ClassHead
from ssl_jets.zfile import ZMetadata, ZWriter, iterate_z, key_columns, read_scores, read_z
from ssl_jets.zfile.columns import Column
from support.root_program import in_root, needs_root

ROWS = (45_000, 0, 30_000, 25_001)
DIM = 128


COLUMNS = """
frame = ROOT.RDataFrame("jets", sys.argv[1])
names = [str(name) for name in frame.GetColumnNames()]
arrays = frame.AsNumpy([name for name in names if name != "z"])
result = {name: [float(value) for value in values] for name, values in arrays.items()}
if "z" in names:
    result["z"] = [[float(value) for value in row] for row in frame.AsNumpy(["z"])["z"]]
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    encoder = Encoder(ModelSettings(size="tiny"))
    labels = open_files(sample_sources()[:1])[0].label_names
    folder = tmp_path_factory.mktemp("tagger")
    save_model(Model(encoder, ClassHead(encoder.dim, len(labels)), labels, {"method": "mae"}), folder / "model")
    return folder


@needs_root
@pytest.mark.parametrize("rntuple", [False, True], ids=["ttree", "rntuple"])
def test_scores_and_z_have_equal_numbers_in_rdataframe(tmp_path: Path, tagger: Path, rntuple: bool) -> None:
    sources = [source.path for source in sample_sources()[:1]]
    options: dict[str, Any] = {"keep": ["jet_pt"], "out_settings": OutSettings(rntuple=rntuple)}
    predict([tagger], sources, tmp_path / "s.root", scores=["D = Hbb / (Hbb + QCD)"], **options)
    embed(tagger, sources, tmp_path / "z.root", **options)
    scores, z = in_root(COLUMNS, tmp_path / "s.root"), in_root(COLUMNS, tmp_path / "z.root")
    expected = read_scores(tmp_path / "s.root").columns
    assert scores.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(np.array(scores[name]), values.astype(float)), name
    assert np.array_equal(np.array(z["z"], np.float32), read_z(tmp_path / "z.root").z)


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """Input files of 100,001 jets together (one without any), and a file with z, a score and the number of each jet."""
    folder = tmp_path_factory.mktemp("production")
    rng = np.random.default_rng(0)
    inputs = []
    columns = (
        Column("z", "f4", DIM),
        Column("p_Hbb", "f4"),
        *key_columns("jet", labelled=False),
        Column("event", "i8"),
    )
    files = tuple(str(folder / f"in{number}.root") for number in range(len(ROWS)))
    with ZWriter(folder / "scores.root", columns, ZMetadata("", "mae", DIM, "jet", files)) as writer:
        for number, (name, rows) in enumerate(zip(files, ROWS)):
            event = rng.integers(0, 2**60, rows)
            with uproot.recreate(name) as file:
                file.mktree("tree", {"event": np.dtype(np.int64), "jet_pt": np.dtype(np.float32)})
                for start in range(0, rows, 7000):
                    part = event[start : start + 7000]
                    file["tree"].extend({"event": part, "jet_pt": (part % 1000).astype(np.float32)})
            inputs.append(Path(name))
            z = rng.random((rows, DIM), dtype=np.float32)
            key = {"source_file": np.full(rows, number, np.int32), "source_entry": np.arange(rows)}
            key["source_jet"] = np.zeros(rows, np.int32)
            writer.write({"z": z, "p_Hbb": z.mean(1), **key, "event": event})
    return inputs, folder / "scores.root"


FRIENDS = """
scores, threads, *inputs = sys.argv[1:]
if int(threads):
    ROOT.EnableImplicitMT(int(threads))
chain = ROOT.TChain("tree")
for name in inputs:
    chain.Add(name)
friend = ROOT.TChain("jets")
friend.Add(scores)
chain.AddFriend(friend, "s")
frame = ROOT.RDataFrame(chain).Define("total", "Sum(s.z)")
aligned = frame.Filter("event == s.event").Count()
rows, total, score, other = frame.Count(), frame.Sum("total"), frame.Sum("s.p_Hbb"), frame.Sum("s.source_entry")
result = [rows.GetValue(), aligned.GetValue(), total.GetValue(), score.GetValue(), other.GetValue()]
print(json.dumps(result))
"""


@needs_root
@pytest.mark.parametrize("threads", [0, 2])
def test_a_friend_is_aligned_with_a_chain_of_several_files(production: tuple[list[Path], Path], threads: int) -> None:
    inputs, scores = production
    rows, aligned, total, score, entries = in_root(FRIENDS, scores, threads, *inputs)
    assert rows == aligned == sum(ROWS)
    blocks = list(iterate_z(scores))
    assert total == pytest.approx(sum(block["z"].sum(dtype=np.float64) for block in blocks), rel=1e-6)
    assert score == pytest.approx(sum(block["p_Hbb"].sum(dtype=np.float64) for block in blocks), rel=1e-6)
    assert entries == sum(int(block["source_entry"].sum()) for block in blocks)


READER = """
file = ROOT.TFile(sys.argv[1])
reader = ROOT.TTreeReader("jets", file)
z, entry = ROOT.TTreeReaderArray["float"](reader, "z"), ROOT.TTreeReaderValue["Long64_t"](reader, "source_entry")
total, entries, width = 0.0, 0, 0
step = int(sys.argv[2])
rows = 0
for row in range(0, reader.GetEntries(), step):  # blocks are read out of order, too: backwards in the second half
    reader.SetEntry(row if row % 2 else reader.GetEntries() - 1 - row)
    total += z[0] + z[z.GetSize() - 1]
    entries += entry.Get()[0]
    width, rows = z.GetSize(), rows + 1
tree = file.Get("jets")
branch = tree.GetBranch("z")
largest = max(branch.GetBasketBytes()[number] for number in range(branch.GetWriteBasket()))
print(json.dumps([total, int(entries), int(width), rows, int(largest), int(branch.GetBasketSize())]))
"""


@needs_root
def test_a_tree_reader_reads_blocks_larger_than_the_basket_size_in_any_order(
    production: tuple[list[Path], Path],
) -> None:
    step = 997
    total, entries, width, rows, largest, basket = in_root(READER, production[1], step)
    file = read_z(production[1])
    chosen = [row if row % 2 else len(file) - 1 - row for row in range(0, len(file), step)]
    assert (width, rows) == (DIM, len(chosen))
    assert total == pytest.approx(file.z[chosen][:, [0, -1]].sum(dtype=np.float64), rel=1e-6)
    assert entries == file.columns["source_entry"][chosen].sum()
    assert largest > basket  # larger blocks than the nominal size: the case under test
