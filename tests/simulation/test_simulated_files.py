"""Files of `simulate`: layout, invariants, seeds, parts, pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from simulation.conftest import BATCH, JETS, PART_JETS, Simulated
from ssl_jets.data.read import read_jets
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.runtime.signals import Interrupted
from ssl_jets.simulation import generator
from ssl_jets.simulation.parts import simulate_part
from ssl_jets.simulation.request import Part, parts_of, request_of
from ssl_jets.simulation.run import SimulateSummary, simulate
from ssl_jets.simulation.truth import Match

pytest.importorskip("pythia8mc")
pytest.importorskip("fastjet")
SAMPLE = Path(__file__).parents[2] / "data" / "HToBB.root"
FLAGS = ("isChargedHadron", "isNeutralHadron", "isPhoton", "isElectron", "isMuon")


def branches(path: Path) -> Any:
    return uproot.open(path)["tree"].arrays()


def content(summary: SimulateSummary) -> list[str]:
    manifest = json.loads(summary.manifest.read_text(encoding="utf-8"))
    return [file["content_sha256"] for file in manifest["files"]]


@pytest.fixture(scope="module")
def jets(simulated: Simulated) -> Any:
    return branches(simulated.summary.paths[0])


def test_the_branches_have_the_names_and_types_of_jetclass(simulated: Simulated) -> None:
    ours, theirs = (
        {name: branch.typename for name, branch in uproot.open(path)["tree"].items()}
        for path in (simulated.summary.paths[0], SAMPLE)
    )
    assert len(theirs) == 42  # 41 and the counter
    assert ours == theirs


def test_every_command_can_read_the_file(simulated: Simulated) -> None:
    read = read_jets([str(simulated.summary.paths[0])])
    assert len(read) == JETS
    assert read.labels is not None


def test_jets_are_the_sums_of_their_particles(jets: Any) -> None:
    px, py, pz, energy = (ak.sum(jets[f"part_{name}"], axis=1) for name in ("px", "py", "pz", "energy"))
    np.testing.assert_allclose(np.hypot(px, py), jets.jet_pt, rtol=1e-5)
    np.testing.assert_allclose(np.arcsinh(pz / np.hypot(px, py)), jets.jet_eta, atol=1e-5)
    np.testing.assert_allclose(energy, jets.jet_energy, rtol=1e-5)
    np.testing.assert_array_equal(ak.num(jets.part_px), jets.jet_nparticles)
    assert np.all((jets.jet_pt > 500) & (jets.jet_pt < 1000) & (np.abs(jets.jet_eta) < 2))


def test_particles_are_sorted_by_pt_and_lie_around_the_axis(jets: Any) -> None:
    pt = np.hypot(jets.part_px, jets.part_py)
    assert ak.all(pt[:, 1:] <= pt[:, :-1])
    eta = np.arcsinh(jets.part_pz / pt)
    sign = np.where(jets.jet_eta < 0, -1, 1)
    np.testing.assert_allclose(ak.flatten((eta - jets.jet_eta) * sign), ak.flatten(jets.part_deta), atol=1e-5)
    assert ak.max(np.hypot(jets.part_deta, jets.part_dphi)) < 2
    assert ak.mean(np.hypot(jets.part_deta, jets.part_dphi) < 0.8) > 0.95


def test_each_particle_has_one_kind_with_its_charge(jets: Any) -> None:
    flags = np.stack([ak.to_numpy(ak.flatten(jets[f"part_{name}"])) for name in FLAGS])
    np.testing.assert_array_equal(flags.sum(axis=0), 1)
    charge = ak.to_numpy(ak.flatten(jets.part_charge))
    np.testing.assert_array_equal(np.abs(charge), flags[[0, 3, 4]].sum(axis=0))
    assert abs(charge.mean()) < 0.1
    for name in ("d0val", "d0err", "dzval", "dzerr"):
        values = ak.to_numpy(ak.flatten(jets[f"part_{name}"]))
        assert np.all((values != 0) == (charge != 0)), name


def test_labels_agree_with_the_truth(jets: Any) -> None:
    assert ak.all(jets.label_Hbb)
    assert sum(int(ak.sum(jets[name])) for name in jets.fields if name.startswith("label_")) == JETS
    assert set(jets.aux_truth_match) == {Match.H_BB}
    assert set(jets.aux_genpart_pid) == {25}
    assert ak.mean(np.hypot(jets.aux_genpart_eta - jets.jet_eta, jets.aux_genpart_phi - jets.jet_phi) < 0.4) > 0.8


def test_b_hadrons_decay_away_from_the_beam(jets: Any) -> None:
    significance = np.abs(jets.part_d0val / jets.part_d0err)[jets.part_charge != 0]
    assert ak.mean(significance > 5) > 0.1  # of Gaussian errors alone: 6e-7
    assert 80 < np.median(jets.jet_sdmass) < 130


def test_the_same_seed_gives_the_same_jets_and_another_one_does_not(simulated: Simulated, tmp_path: Path) -> None:
    part = parts_of(simulated.request)[2]
    again = simulate_part(simulated.request, part).tables[0]
    whole = branches(simulated.summary.paths[0])[2 * PART_JETS :]
    np.testing.assert_array_equal(again["jet_pt"], whole.jet_pt)
    np.testing.assert_array_equal(again["part_d0val"], ak.flatten(whole.part_d0val))
    other = simulate_part(simulated.request.model_copy(update={"seed": 4}), part).tables[0]
    assert not np.isin(other["jet_pt"], again["jet_pt"]).any()


def test_a_stopped_simulation_goes_on_and_gives_the_same_jets(simulated: Simulated, tmp_path: Path) -> None:
    out = tmp_path / "jets.root"

    def stop(done: int, total: int) -> None:
        if done > 2 * PART_JETS:
            raise Interrupted(15)

    with pytest.raises(Interrupted):
        simulate(simulated.request, out, report=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["jets.root.parts"]
    with pytest.raises(UsageError, match="another simulation"):
        simulate(simulated.request.model_copy(update={"seed": 4}), out)
    first, second = sorted((tmp_path / "jets.root.parts").glob("part-*.npz"))
    second.write_bytes(first.read_bytes()[:-1000])
    summary = simulate(simulated.request, out)
    assert summary.resumed == PART_JETS  # the damaged part is made again
    assert content(summary) == content(simulated.summary)
    assert {path.name for path in tmp_path.iterdir()} == {"jets.root", "jets.root.json"}


def test_the_manifest_has_the_request_the_counts_and_the_hash(simulated: Simulated) -> None:
    manifest = json.loads(simulated.summary.manifest.read_text(encoding="utf-8"))
    assert manifest["request"] == simulated.request.model_dump()
    assert manifest["processes"]["hbb"]["jets"] == JETS
    assert manifest["processes"]["hbb"]["events"] == simulated.summary.events
    (file,) = manifest["files"]
    assert file["jets"] == JETS
    assert len(file["sha256"]) == 64


def test_an_output_that_exists_is_not_replaced(simulated: Simulated) -> None:
    with pytest.raises(UsageError, match="exists already"):
        simulate(simulated.request, simulated.summary.paths[0])


@pytest.mark.parametrize("pairs", ["detectors", "seeds", pytest.param("showers", marks=pytest.mark.slow)])
def test_pairs_are_aligned_by_event(pairs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "_HARD_EVENTS", 40)
    request = request_of(process="zqq", jets=8, seed=1, pairs=pairs)
    summary = simulate(request, tmp_path / "pairs.root")
    names = {"detectors": ["nominal", "shifted"], "seeds": ["first", "second"], "showers": ["simple", "vincia"]}[pairs]
    assert [path.name for path in summary.paths] == [f"pairs-{name}.root" for name in names]
    first, second = map(branches, summary.paths)
    assert len(first) == len(second) == 8
    np.testing.assert_array_equal(first.event_id, second.event_id)
    distance = np.hypot(first.jet_eta - second.jet_eta, (first.jet_phi - second.jet_phi + np.pi) % (2 * np.pi) - np.pi)
    assert np.all(distance < 0.4)
    assert np.all(first.jet_pt != second.jet_pt)
    np.testing.assert_allclose(first.aux_genpart_eta, second.aux_genpart_eta, atol=0.5)
    same = ak.to_numpy(first.aux_genpart_pt == second.aux_genpart_pt)
    assert same.all() if pairs == "detectors" else not same.any()


@pytest.mark.slow
def test_an_unlabelled_mixture_keeps_partly_merged_tops_and_has_no_truth() -> None:
    part = Part(number=3, group=0, process="tbqq", jets=15)
    mixed = simulate_part(request_of(process="mixture", jets=100), part).tables[0]
    assert not [name for name in mixed if name.startswith(("label_", "aux_"))]
    labelled = simulate_part(request_of(process="mixture", jets=100, labels=True), part).tables[0]
    assert set(labelled["aux_truth_match"]) <= {Match.TOP_BCQ, Match.TOP_BQQ}
    shared = np.isin(labelled["jet_pt"], mixed["jet_pt"])
    assert shared.any()
    assert not np.isin(mixed["jet_pt"], labelled["jet_pt"]).all()


def test_a_process_without_jets_ends_with_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_jets.simulation.parts._MAX_EVENTS_PER_JET", 0)
    with pytest.raises(SslJetsError, match="hardly any event"):
        simulate_part(request_of(process="hbb", jets=200), Part(0, 0, "hbb", 200))


@pytest.mark.slow
def test_two_processes_give_the_jets_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "BATCH", BATCH)  # workers are new processes
    (tmp_path / "signal.py").write_text("raise SystemExit('hidden')")
    monkeypatch.chdir(tmp_path)
    request = request_of(process="hbb", jets=JETS, seed=3)
    one, two = (simulate(request, tmp_path / f"{count}.root", processes=count) for count in (1, 2))
    assert content(one) == content(two)
