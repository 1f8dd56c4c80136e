"""Events without jets: what is clustered is what a plain anti-kt gives, and every reader counts its jets."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from ssl_jets.config import ModelSettings
from ssl_jets.data.chunks import read_chunk
from ssl_jets.data.events import clustering
from ssl_jets.data.files import JetFile, open_files, whole
from ssl_jets.data.inspection import files_as_text, inspect_files
from ssl_jets.data.loading.stream import TrainStream, ordered
from ssl_jets.data.request import Request
from ssl_jets.data.sources import Source
from ssl_jets.data.split import split
from ssl_jets.embedding.embed import embed
from ssl_jets.errors import DataError, UsageError
from ssl_jets.jets import Jets, concatenate
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.zfile import read_z
from support.lhco_files import Particles, random_event, write_lhco

pytest.importorskip("fastjet")

NUMBERS = (0, 1, 2, 3, 2, 2, 1, 4, 2, 2)
"""Jets of each event that are hard enough."""
COLUMNS = ("jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_mass", "jet_nparticles")


@pytest.fixture(scope="module")
def events() -> list[Particles]:
    rng = np.random.default_rng(3)
    return [random_event(rng, jets) for jets in NUMBERS]


@pytest.fixture(scope="module")
def path(events: list[Particles], tmp_path_factory: pytest.TempPathFactory) -> Path:
    signal = np.arange(len(events)) % 2.0
    return write_lhco(tmp_path_factory.mktemp("lhco") / "events.h5", events, signal)


def opened(path: Path, form: str | None = None) -> JetFile:
    return open_files([Source(str(path))], schema=form)[0]


def read(file: JetFile, start: int = 0, stop: int | None = None) -> tuple[Jets, Counter[str]]:
    return read_chunk(file, 0, start, file.entries if stop is None else stop, Request(jet_columns=COLUMNS))


def four(particles: Particles) -> npt.NDArray[np.float64]:
    """px, py, pz, E of massless particles, `[particle, 4]`."""
    pt, eta, phi = particles.T
    return np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta)], axis=1)


def plain_anti_kt(particles: Particles, radius: float, min_pt: float) -> list[list[int]]:
    """Particles of each jet by falling pt: all distances anew at each step, as in arXiv:0802.1189."""
    left = [(momentum, [number]) for number, momentum in enumerate(four(particles))]
    jets = []
    while left:
        momenta = np.array([momentum for momentum, _ in left])
        pt2 = momenta[:, 0] ** 2 + momenta[:, 1] ** 2
        y = np.arctanh(momenta[:, 2] / momenta[:, 3])
        phi = np.arctan2(momenta[:, 1], momenta[:, 0])
        turn = np.abs(phi[:, None] - phi)
        apart = (y[:, None] - y) ** 2 + np.minimum(turn, 2 * np.pi - turn) ** 2
        pair = np.minimum(1 / pt2[:, None], 1 / pt2) * apart / radius**2
        np.fill_diagonal(pair, 1 / pt2)
        first, second = np.unravel_index(np.argmin(pair), pair.shape)
        if first == second:
            jets.append(left.pop(first))
        else:
            (p, of_p), (q, of_q) = left[first], left[second]
            left = [pseudo for at, pseudo in enumerate(left) if at not in (first, second)] + [(p + q, of_p + of_q)]
    hard = [(np.hypot(*momentum[:2]), members) for momentum, members in jets]
    return [sorted(members) for pt, members in sorted(hard, key=lambda jet: -jet[0]) if pt >= min_pt]


@pytest.mark.parametrize(("radius", "min_pt", "most"), [(1.0, 20.0, 2), (0.4, 5.0, 3)])
def test_the_jets_are_those_of_a_plain_anti_kt(
    path: Path, events: list[Particles], tmp_path: Path, radius: float, min_pt: float, most: int
) -> None:
    schema = tmp_path / "mine.yaml"
    cluster = f"cluster: {{radius: {radius}, min_pt: {min_pt}, jets: {most}}}"
    schema.write_text(f"extends: lhco\n{cluster}\n", encoding="utf-8")
    file = opened(path, str(schema))
    jets, left_out = read(file)
    assert file.entries == most * len(events)
    assert jets.source is not None
    wanted = [plain_anti_kt(event, radius, min_pt)[:most] for event in events]
    keys = [[0, entry, number] for entry, found in enumerate(wanted) for number in range(len(found))]
    assert jets.source.tolist() == keys
    assert left_out == {"not jet_nparticles > 0": file.entries - len(keys)}
    for row, (_, entry, number) in enumerate(keys):
        own = events[entry][wanted[entry][number]]
        pt = jets.column("pt")[jets.offsets[row] : jets.offsets[row + 1]].numpy()
        np.testing.assert_allclose(np.sort(pt), np.sort(own[:, 0]), rtol=1e-6)


OWN = """
cluster: {table: parts, particle: [pt, eta, phi], jets: 2}
particles:
  pt: {branch: pt, unit: GeV}
  deta: {branch: eta, absolute: true}
  dphi: {branch: phi, absolute: true}
axis: {eta: jet_eta, phi: jet_phi}
jet_cut: jet_nparticles > 0
"""


def test_lists_of_their_own_length_give_the_same_jets(path: Path, events: list[Particles], tmp_path: Path) -> None:
    lists = [None if row == 3 else event.reshape(-1).tolist() for row, event in enumerate(events)]
    pq.write_table(pa.table({"parts": pa.array(lists, pa.list_(pa.float64()))}), tmp_path / "events.parquet")
    (tmp_path / "own.yaml").write_text(OWN)
    jets, left_out = read(opened(tmp_path / "events.parquet", str(tmp_path / "own.yaml")))
    expected = read(opened(path))[0]
    assert expected.source is not None
    expected = expected.select(expected.source[:, 1] != 3)
    assert torch.equal(jets.particles[:, :3], expected.particles[:, :3])
    assert torch.equal(jets.jet["jet_pt"], expected.jet["jet_pt"])
    assert left_out["not jet_nparticles > 0"] == 2 * len(events) - len(jets)


def test_the_sum_of_the_particles_is_the_jet(path: Path) -> None:
    jets, _ = read(opened(path))
    of_jet = {name: values.numpy().astype(np.float64) for name, values in jets.jet.items()}
    side = np.where(of_jet["jet_eta"] < 0, -1, 1)
    owner = jets.jet_of_particle.numpy()
    pt, deta, dphi, energy = (jets.column(name).numpy().astype(np.float64) for name in ("pt", "deta", "dphi", "energy"))
    eta, phi = deta * side[owner] + of_jet["jet_eta"][owner], dphi + of_jet["jet_phi"][owner]
    assert np.abs(dphi).max() < np.pi
    px, py, pz, e = (np.bincount(owner, part) for part in four(np.stack([pt, eta, phi], axis=1)).T)
    np.testing.assert_allclose(np.hypot(px, py), of_jet["jet_pt"], rtol=1e-5)
    np.testing.assert_allclose(np.arcsinh(pz / np.hypot(px, py)), of_jet["jet_eta"], atol=1e-5)
    np.testing.assert_allclose(np.exp(1j * np.arctan2(py, px)), np.exp(1j * of_jet["jet_phi"]), atol=1e-5)
    np.testing.assert_allclose(e, of_jet["jet_energy"], rtol=1e-5)
    np.testing.assert_allclose(np.bincount(owner, energy), of_jet["jet_energy"], rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(e**2 - px**2 - py**2 - pz**2), of_jet["jet_mass"], rtol=1e-3)
    assert of_jet["jet_nparticles"].tolist() == jets.lengths.tolist()


def test_jets_have_the_label_of_their_event_and_a_black_box_has_none(
    path: Path, events: list[Particles], tmp_path: Path
) -> None:
    file = opened(path)
    assert (file.schema.name, file.label_names, file.columns) == (
        "lhco",
        ("background", "signal"),
        ("pt", "deta", "dphi", "energy"),
    )
    jets, _ = read(file)
    assert jets.labels is not None
    assert jets.source is not None
    assert jets.labels.tolist() == (jets.source[:, 1] % 2).tolist()
    box = opened(write_lhco(tmp_path / "box.h5", events, None))
    assert (box.schema.name, box.label_names, box.entries) == ("lhco", (), file.entries)
    assert torch.equal(read(box)[0].particles, jets.particles)


def test_pieces_chunks_and_streams_give_the_same_jets(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = opened(path)
    once, _ = read(file)
    monkeypatch.setattr("ssl_jets.data.events.gather.PIECE", 3)
    request = Request(jet_columns=COLUMNS)
    joined = concatenate(list(ordered([file], whole([file]), request, chunk=5)))
    assert torch.equal(joined.particles, once.particles)
    assert joined.source is not None
    assert once.source is not None
    assert torch.equal(joined.source, once.source)
    seen: Counter[tuple[int, ...]] = Counter()
    with TrainStream([file], whole([file]), batch_size=4, buffer=8, seed=0) as stream:
        while stream.epoch < 1:
            batch = next(stream)
            assert batch.source is not None
            seen.update(tuple(row) for row in batch.source.tolist())
    assert {tuple(row) for row in once.source.tolist()} <= set(seen)
    sides = split([file], 0.3, 0)
    of_event = [{entry for jets in ordered([file], side) for _, entry, _ in jets.source.tolist()} for side in sides]
    assert not of_event[0] & of_event[1]


def test_embed_and_inspect_know_the_jets(path: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_model(Model(Encoder(ModelSettings(size="tiny", blocks=1)), facts={"method": "mae"}), tmp_path / "model")
    done = embed(tmp_path / "model", [str(path)], tmp_path / "z.h5", keep=["jet_pt"], log=lambda _: None)
    table = read_z(done.path)
    assert np.stack([table.columns["source_entry"], table.columns["source_jet"]], 1).tolist() == [
        [entry, number] for entry in range(len(NUMBERS)) for number in range(2)
    ]
    there = [number < jets for jets in NUMBERS for number in range(2)]
    assert np.isfinite(table.z).all(axis=1).tolist() == there
    assert np.isfinite(table.columns["jet_pt"]).tolist() == there
    assert table.metadata["collections"] == ["anti-kt R=1"]
    text = files_as_text(inspect_files([str(path)], {}))
    assert "anti-kt R=1, 20 in 10 events" in text


def test_an_event_with_nonsense_in_it_is_an_error(tmp_path: Path, events: list[Particles]) -> None:
    wrong = [event.copy() for event in events]
    wrong[4][1, 2] = np.nan
    with pytest.raises(DataError, match="not finite") as caught:
        read(opened(write_lhco(tmp_path / "wrong.h5", wrong, None)))
    assert "entry 4" in str(caught.value.where)


def test_there_are_no_other_jets_to_choose(path: Path) -> None:
    with pytest.raises(UsageError, match="made by clustering"):
        open_files([Source(str(path))], jets="AK4")


def test_without_fastjet_the_message_says_what_to_install(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    importing = builtins.__import__

    def refuse(name: str, *args: Any, **more: Any) -> Any:
        if name == "fastjet":
            raise ImportError(name)
        return importing(name, *args, **more)

    monkeypatch.setattr(clustering, "_LOADED", [])
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match=r"ssl-jets\[cluster\]"):
        open_files([Source(str(path))], left_out={})


def test_one_line_on_stderr_asks_to_cite_fastjet_instead_of_its_banner() -> None:
    program = """
from ssl_jets.data.events.clustering import load_fastjet
load_fastjet(), load_fastjet()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if "FastJet" in line or line.startswith("#")] == [
        "jets are clustered by FastJet (https://fastjet.fr); please cite arXiv:1111.6097"
    ]
