"""Several z files are one table, or are refused with one message."""

from pathlib import Path

import numpy as np
import pytest

from ssl_jets.errors import UsageError
from ssl_jets.evaluation.settings import EvaluateSettings, MeasureSettings
from ssl_jets.evaluation.zfile import evaluate_z
from ssl_jets.evaluation.ztable import read_table
from ssl_jets.zfile import ZMetadata, ZWriter, z_columns

SETTINGS = EvaluateSettings(evaluate=MeasureSettings(physics_jets=0))


def write(path: Path, seed: int, model: str = "ab" * 32, names: tuple[str, ...] = ("QCD", "top")) -> Path:
    """120 jets of two input files; the first 60 entries of the second were trained on."""
    rng, jets = np.random.default_rng(seed), 120
    files = (f"a{seed}.root", f"b{seed}.root")
    trained = ((1, 0, 60),)
    metadata = ZMetadata(model, "mae", 3, "jet", files, names, trained=trained)
    columns = {
        "z": rng.normal(size=(jets, 3)).astype(np.float32),
        "source_file": np.repeat([0, 1], 60).astype(np.int32),
        "source_entry": np.tile(np.arange(60), 2),
        "source_jet": np.zeros(jets, dtype=np.int32),
        "label": np.arange(jets) % 2,
    }
    with ZWriter(path, z_columns("jet", 3, labelled=True), metadata) as writer:
        writer.write(columns)
    return path


def test_two_files_are_one_table_with_their_input_files_apart(tmp_path: Path) -> None:
    one, two = (write(tmp_path / f"{seed}.parquet", seed) for seed in (1, 2))
    paths, rows, table = read_table([one, two])
    assert (paths, rows, len(table)) == ([one, two], [120, 120], 240)
    assert table.metadata["files"] == ["a1.root", "b1.root", "a2.root", "b2.root"]
    assert table.metadata["trained"] == [(1, 0, 60), (3, 0, 60)]
    assert list(np.unique(table.columns["source_file"], return_counts=True)[1]) == [60] * 4
    np.testing.assert_array_equal(table.z[120:], read_table(two)[2].z)
    logged: list[str] = []
    found = evaluate_z([one, two], tmp_path / "out", settings=SETTINGS, log=logged.append)
    assert found.jets == {"fit": 120, "test": 120}
    assert [(file.name, file.entries) for file in found.files] == [("1.parquet", 120), ("2.parquet", 120)]


def test_of_a_kept_jet_eta_the_size_is_read_from_z(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    eta, path = rng.normal(size=400), tmp_path / "z.npz"
    np.savez(path, z=np.column_stack([np.abs(eta), rng.normal(size=400)]), jet_eta=eta)
    settings = EvaluateSettings(evaluate=MeasureSettings(physics_jets=400))
    (ridge, _) = evaluate_z(path, tmp_path / "out", settings=settings, log=lambda _: None).physics
    assert ridge.quantity == "|eta|"
    assert ridge.explained.value > 0.99


def test_files_of_other_models_classes_or_columns_are_refused(tmp_path: Path) -> None:
    one = write(tmp_path / "1.parquet", 1)
    for other, text in (
        (write(tmp_path / "2.parquet", 2, model="cd" * 32), "the model"),
        (write(tmp_path / "3.parquet", 3, names=("QCD", "W")), "the classes"),
    ):
        with pytest.raises(UsageError, match=f"agree in {text}"):
            evaluate_z([one, other], tmp_path / "out", settings=SETTINGS, log=lambda _: None)
    with pytest.raises(UsageError, match="named twice"):
        read_table([one, one])
    np.savez(tmp_path / "x.npz", z=np.zeros((4, 3)), mass=np.zeros(4))
    np.savez(tmp_path / "y.npz", z=np.zeros((4, 3)))
    with pytest.raises(UsageError, match="agree in the columns"):
        read_table([tmp_path / "x.npz", tmp_path / "y.npz"])


def test_a_file_that_is_ordered_by_class_has_all_classes_on_both_sides(tmp_path: Path) -> None:
    label = np.repeat(np.arange(4), 300)
    z = np.random.default_rng(0).normal(size=(1200, 4)) + 6 * np.eye(4)[label]
    np.savez(tmp_path / "z.npz", z=z.astype(np.float32), label=label)
    found = evaluate_z(tmp_path / "z.npz", tmp_path / "out", settings=SETTINGS, log=lambda message: None)
    assert (found.jets["fit"], found.jets["test"]) == (600, 600)
    assert not [note for note in found.notes if "classes" in note]
    assert all(probe.accuracy.value > 0.95 for probe in found.probes)
