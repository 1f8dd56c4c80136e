"""`data.where`: the jets of a condition are read, counted, trained on and embedded, and no others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import torch
import uproot
from typer.testing import CliRunner

import ssl_jets
from ssl_jets.cli.app import app
from ssl_jets.config import DataSettings, ModelSettings
from ssl_jets.data.dataset import open_dataset, open_named
from ssl_jets.data.files import JetFile, count, whole
from ssl_jets.data.loading.stream import TrainStream, ordered
from ssl_jets.data.request import NOT_SELECTED, Request
from ssl_jets.data.selection import SelectedNumbers, count_selected
from ssl_jets.embedding.embed import embed
from ssl_jets.errors import DataError, SslJetsError, UsageError
from ssl_jets.evaluation.roles import draw
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model, save_model
from ssl_jets.nn.encoder import Encoder
from ssl_jets.pretraining import pretrain, resolve_pretrain
from ssl_jets.zfile import read_z
from support.lhco_files import random_event, write_lhco
from support.overridden import overridden

WHERE = "jet_pt > 700 && !(jet_sdmass > 150) && label_QCD == 1"


def truth(path: Path) -> np.ndarray:
    """Evaluate `jet_pt > 700 && jet_sdmass <= 150` with uproot and numpy alone."""
    with uproot.open(path) as file:
        columns = file["tree"].arrays(["jet_pt", "jet_sdmass"], library="np")
    mask: np.ndarray = (columns["jet_pt"] > 700) & (columns["jet_sdmass"] <= 150)
    return mask


def settings_for(*paths: Path, **more: Any) -> DataSettings:
    return DataSettings(sources=tuple(map(str, paths)), where=WHERE, **more)


def entries_of(jets: Jets) -> list[int]:
    assert jets.source is not None
    return jets.source[:, 1].tolist()


def opened(data: DataSettings) -> list[JetFile]:
    return open_named(data.sources, data, {})


def test_the_jets_of_the_condition_are_read_and_the_others_counted(write_jetclass) -> None:
    path = write_jetclass(entries=200)
    data, skipped = settings_for(path), Counter[str]()
    files = opened(data)
    batches = list(ordered(files, whole(files), Request.of(data), chunk=30, skipped=skipped))
    expected = np.flatnonzero(truth(path)).tolist()
    assert [entry for jets in batches for entry in entries_of(jets)] == expected
    assert skipped == {NOT_SELECTED: 200 - len(expected)}


def test_a_column_has_the_unit_of_the_schema(write_jetclass, tmp_path: Path) -> None:
    def in_mev(branches: dict[str, Any]) -> None:
        branches["jet_pt"] = branches["jet_pt"] * np.float32(1000)

    path, schema = write_jetclass(entries=100, edit=in_mev), tmp_path / "mev.yaml"
    schema.write_text("extends: jetclass\njets:\n  pt_jet: {branch: jet_pt, unit: MeV}\n")
    data = DataSettings(sources=(str(path),), format=str(schema), where="pt_jet > 700")
    files = opened(data)
    jets = sum(map(len, ordered(files, whole(files), Request.of(data))))
    with uproot.open(path) as file:
        assert jets == int((file["tree/jet_pt"].array(library="np") > 700e3).sum())


def test_an_epoch_has_each_selected_jet_once(write_jetclass) -> None:
    paths = [write_jetclass(f"QCD_00{index}.root", 120, seed=index) for index in range(3)]
    data = open_dataset(settings_for(*paths, validation_fraction=0.3))
    inside = [truth(path) for path in paths]
    expected = {
        (part.file, entry) for part in data.train for entry in range(part.start, part.stop) if inside[part.file][entry]
    }
    assert data.jets(data.train) == len(expected) < count(data.train)
    stream = TrainStream(
        data.files,
        data.train,
        batch_size=len(expected),
        buffer=50,
        seed=1,
        request=Request.of(settings_for()),
        selected=data.jets(data.train),
    )
    with stream:
        assert stream.jets_per_epoch == len(expected)
        for _ in range(2):
            jets = next(stream)
            assert jets.source is not None
            found = [(file, entry) for file, entry, _ in jets.source.tolist()]
            assert len(found) == len(set(found))
            assert set(found) == expected


def test_the_rows_of_a_z_file_are_the_selected_jets_with_the_keys_of_the_file(write_jetclass, tmp_path: Path) -> None:
    def with_bad_jets(branches: dict[str, Any]) -> None:
        energies = branches["part_energy"].tolist()
        for entry in range(0, 100, 5):
            energies[entry][0] = float("nan")
        branches["part_energy"] = ak.values_astype(ak.Array(energies), np.float32)

    path = write_jetclass(entries=100, edit=with_bad_jets)
    torch.manual_seed(0)
    save_model(Model(Encoder(ModelSettings(size="tiny", blocks=1)), facts={"method": "mae"}), tmp_path / "model")
    data = settings_for(path, bad_jets="skip")
    summary = embed(tmp_path / "model", data.sources, tmp_path / "z.parquet", data=data, keep=["jet_pt"], batch_size=16)
    z, inside = read_z(tmp_path / "z.parquet"), np.flatnonzero(truth(path))
    bad = np.isin(inside, np.arange(0, 100, 5))
    assert bad.any()
    assert z.columns["source_entry"].tolist() == inside.tolist()
    assert np.array_equal(np.isnan(z.z[:, 0]), bad)
    with uproot.open(path) as file:
        assert np.array_equal(z.columns["jet_pt"], file["tree/jet_pt"].array(library="np")[inside])
    assert summary.reasons[NOT_SELECTED] == 100 - len(inside)


def test_an_evaluation_draws_as_many_jets_as_it_wants_from_the_selected_ones(write_jetclass) -> None:
    path = write_jetclass(entries=2000, cluster=500)
    data = settings_for(path)
    files = opened(data)
    jets = draw(files, whole(files), 40, 0, Request.of(data))
    assert len(jets) == 40
    assert truth(path)[entries_of(jets)].all()


@pytest.mark.parametrize(
    ("where", "kind", "message"),
    [
        ("jet_ptt > 3", UsageError, "there is no such column to select by.*jet_ptt.*jet_pt"),
        ("jet_pt", UsageError, "a selection is true or false for each jet"),
        ("jet_pt >", UsageError, "the selection is not a formula.*invalid syntax at character 9"),
        ("part_energy > 3", UsageError, "part_energy does not hold one number per jet"),
        ("sum(jet_pt) > 3", UsageError, "a formula of jets has no particles to add over"),
        ("jet_pt > 1e9", DataError, "there is no jet to train on.*not selected by where"),
    ],
)
def test_a_wrong_selection_is_one_message(write_jetclass, where: str, kind: type[SslJetsError], message: str) -> None:
    data = DataSettings(sources=(str(write_jetclass(entries=40)),), where=where)
    with pytest.raises(kind, match=f"(?s){message}"):
        open_dataset(data)


def test_a_run_goes_on_with_its_own_selection_only(write_jetclass, tmp_path: Path) -> None:
    path = write_jetclass(entries=200)
    short = overridden(
        ["model.size=tiny", "model.blocks=1", "train.steps=2", "train.batch_size=8", "train.validation_jets=10"]
    )

    def settings(where: str) -> Any:
        return resolve_pretrain("mae", {"data": {"sources": [str(path)], "where": where}}, short)

    run = pretrain(settings(WHERE), tmp_path / "run")
    selected = int(truth(path).sum())
    assert 0 < int((run / "log.txt").read_text().split("data: ")[1].split(" ")[0]) < selected
    with pytest.raises(UsageError, match=r"(?s)begun with other settings.*data\.where"):
        pretrain(settings("jet_pt > 800"), run, resume=True)


def test_inspect_counts_the_jets_outside_of_the_selection(write_jetclass) -> None:
    path = write_jetclass(entries=100)
    result = CliRunner().invoke(app, ["inspect", str(path), "--where", WHERE])
    assert result.exit_code == 0
    assert f"selected by where: {int(truth(path).sum())} of 100" in result.stdout


def test_outputs_of_different_selections_are_not_mixed(write_jetclass, tmp_path: Path) -> None:
    """A finished file and parts of another `--where` are refused; a z file itself is not selected from."""
    data = str(write_jetclass(entries=60))
    save_model(Model(Encoder(ModelSettings(size="tiny", blocks=1)), facts={"training": {}}), tmp_path / "model")
    options: Any = {"data": data, "keep": ["jet_pt"]}
    out = tmp_path / "z.parquet"
    ssl_jets.embed(tmp_path / "model", out=out, where="jet_pt > 700", resume=True, **options)
    with pytest.raises(UsageError, match="the output exists already"):
        ssl_jets.embed(tmp_path / "model", out=out, where="jet_pt > 600", resume=True, **options)
    first, second = tmp_path / "1.parquet", tmp_path / "2.parquet"
    ssl_jets.embed(tmp_path / "model", out=first, part="1/2", where="jet_pt > 700", **options)
    ssl_jets.embed(tmp_path / "model", out=second, part="2/2", where="jet_pt > 600", **options)
    with pytest.raises(UsageError, match="selection"):
        ssl_jets.merge([first, second], out=tmp_path / "all.parquet")
    with pytest.raises(UsageError, match="a z file is evaluated as it is"):
        ssl_jets.evaluate(z=out, settings={"data.where": "jet_pt > 700"})


def test_empty_places_of_padded_lists_are_no_particles_of_a_selection(tmp_path: Path) -> None:
    """EnergyFlow: `jet_nparticles` is a sum over the list, which is padded to 60."""
    rng = np.random.default_rng(0)
    number = rng.integers(5, 60, 80)
    real = np.arange(60) < number[:, None]
    columns = [rng.uniform(1, 50, real.shape), rng.normal(0, 0.1, real.shape), rng.uniform(1, 1.3, real.shape)]
    jets = np.stack([*columns, np.full(real.shape, 211)], axis=2) * real[..., None]
    np.savez(tmp_path / "QG_jets.npz", X=jets, y=rng.integers(0, 2, 80))
    data = DataSettings(sources=(str(tmp_path / "QG_jets.npz"),), where="jet_nparticles > 30")
    files, request = opened(data), Request.of(data)
    assert count_selected(files, whole(files), request)[whole(files)[0]] == (number > 30).sum()
    assert sum(len(jets) for jets in ordered(files, whole(files), request)) == (number > 30).sum()


def test_an_event_that_is_no_jets_costs_only_its_own_in_a_selection(tmp_path: Path) -> None:
    pytest.importorskip("fastjet")
    rng = np.random.default_rng(0)
    events = [random_event(rng, 2) for _ in range(12)]
    good = str(write_lhco(tmp_path / "good.h5", [*events[:7], *events[8:]], None))
    events[7][0, 0] = np.nan
    path = str(write_lhco(tmp_path / "events.h5", events, None))
    data = DataSettings(sources=(path,), where="jet_pt > 1", bad_jets="skip")
    expected = len(ssl_jets.read_jets(good))
    files, request = opened(data), Request.of(data)
    assert sum(count_selected(files, whole(files), request).values()) == expected
    assert sum(len(jets) for jets in ordered(files, whole(files), request)) == expected
    strict = Request.of(data.model_copy(update={"bad_jets": "error", "bad_files": "skip"}))  # the event is not the file
    for select in (
        lambda: count_selected(files, whole(files), strict),
        lambda: SelectedNumbers(files, strict).among(0, np.arange(3)),
    ):
        with pytest.raises(DataError, match=r"not finite[\s\S]*data\.bad_jets=skip"):
            select()

    torch.manual_seed(0)
    save_model(Model(Encoder(ModelSettings(size="tiny", blocks=1)), facts={"method": "mae"}), tmp_path / "model")
    embed(tmp_path / "model", [path], tmp_path / "z.parquet", data=data, keep=["jet_pt"])
    z = read_z(tmp_path / "z.parquet")
    assert np.isfinite(z.columns["jet_pt"]).sum() == expected
