"""Files of one name and one size: jets that were trained on are marked, all others are tested."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from ssl_jets.data.files import count
from ssl_jets.embedding.embed import embed
from ssl_jets.errors import DataError, UsageError
from ssl_jets.evaluation.evaluation_data import EvaluationData
from ssl_jets.evaluation.settings import EvaluateSettings, MeasureSettings
from ssl_jets.evaluation.zfile import evaluate_z
from ssl_jets.model_file import load_model
from ssl_jets.pretraining import pretrain, resolve_pretrain
from ssl_jets.runtime.console import MessageLog
from ssl_jets.zfile import read_z
from support.overridden import overridden

JETS = 400
QUICK = [
    "model.size=tiny", "model.blocks=1", "train.precision=32-true", "train.steps=2", "train.batch_size=16",
    "train.validation_jets=40",
]  # fmt: skip


def write(path: Path, seed: int) -> Path:
    """Jets of OmniLearned with two classes; every file has the same size."""
    rng = np.random.default_rng(seed)
    label, length = rng.integers(0, 2, JETS), rng.integers(2, 9, JETS)
    data = rng.normal(0, 0.1, (JETS, 8, 4)).astype(np.float32)
    data[..., 3] = data[..., 2] + 0.3
    data[np.arange(8) >= length[:, None]] = 0
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file["data"], file["pid"] = data, label
    return path


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("schema") / "omni.yaml"
    path.write_text("extends: omnilearned\nlabel_index: {branch: pid, names: [q, g]}\n")
    return path


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jobs")
    sizes = {write(folder / f"job_{job}" / "out.h5", 100 + job).stat().st_size for job in range(10)}
    assert len(sizes) == 1
    return folder


def train(out: Path, schema: Path, *sources: Path, method: str = "supervised", more: tuple[str, ...] = ()) -> Path:
    data = {"data": {"sources": [str(source) for source in sources], "format": str(schema)}}
    return pretrain(resolve_pretrain(method, data, overridden(QUICK, *more)), out)


@pytest.fixture(scope="module")
def run(jobs: Path, schema: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("run") / "r", schema, jobs)


def settings_of(schema: Path, **measured: int) -> EvaluateSettings:
    found = EvaluateSettings(evaluate=MeasureSettings(**measured))
    return found.model_copy(update={"data": found.data.model_copy(update={"format": str(schema)})})


def bench_of(run: Path, schema: Path, *sources: Path, logged: list[str] | None = None) -> EvaluationData:
    note = MessageLog((logged if logged is not None else []).append)
    return EvaluationData.of([load_model(run)], [str(source) for source in sources], settings_of(schema), note)


def test_of_ten_files_of_one_name_and_size_the_one_held_out_is_tested(run: Path, jobs: Path, schema: Path) -> None:
    roles = bench_of(run, schema, jobs).roles
    assert (count(roles.test), count(roles.fit), sum(roles.trained)) == (400, 3600, 9)
    [held] = [index for index, trained in enumerate(roles.trained) if not trained]
    assert {part.file for part in roles.test} == {held}


def test_the_rows_of_a_z_file_that_were_trained_on_are_marked(
    run: Path, jobs: Path, schema: Path, tmp_path: Path
) -> None:
    settings = settings_of(schema, physics_jets=0)
    embed(run, [str(jobs)], tmp_path / "z.npz", data=settings.data)
    metadata = read_z(tmp_path / "z.npz").metadata
    assert sum(stop - start for _, start, stop in metadata["trained"]) == 3600
    assert len(set(metadata["digests"])) == 10
    found = evaluate_z(tmp_path / "z.npz", tmp_path / "out", settings=settings, log=lambda text: None)
    assert found.jets == {"fit": 3600, "test": 400}
    assert found.leaked == 0


def test_files_that_were_renamed_and_moved_are_recognised(run: Path, jobs: Path, schema: Path, tmp_path: Path) -> None:
    for job in range(10):
        shutil.copy(jobs / f"job_{job}" / "out.h5", tmp_path / f"{'qrstuvwxyz'[job]}.hdf5")
    there, here = (bench_of(run, schema, folder).roles for folder in (jobs, tmp_path))
    assert (here.trained, here.test, here.fit) == (there.trained, there.test, there.fit)


def test_files_of_the_name_and_size_of_a_training_file_are_new_and_named(schema: Path, tmp_path: Path) -> None:
    parts = {name: write(tmp_path / name / "data.h5", seed) for seed, name in enumerate(("train", "val", "test"))}
    run = train(tmp_path / "r", schema, parts["train"], more=(f"data.validation=[{parts['val']}]",))
    logged: list[str] = []
    roles = bench_of(run, schema, parts["test"], logged=logged).roles
    assert (count(roles.task), roles.new, roles.trained) == (400, (True,), (False,))
    assert any("contents are not those of the training file of the same name" in line for line in logged)
    with pytest.raises(DataError, match="none are left"):
        bench_of(run, schema, parts["train"])
    copy = shutil.copy(parts["train"], tmp_path / "copy.h5")
    with pytest.raises(UsageError, match="or a copy of one"):
        train(tmp_path / "s", schema, parts["train"], more=(f"data.validation=[{copy}]",))


def test_copies_are_named_and_held_out_alike(
    jobs: Path, schema: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = jobs / "job_0" / "out.h5"
    copy = Path(shutil.copy(first, tmp_path / "copy.h5"))
    run = train(tmp_path / "r", schema, first, copy, method="mae")
    line = f"WARNING: 1 file is a copy of another, so the same jets are there more than once: {copy} of {first}"
    assert line in capsys.readouterr().err.splitlines()
    held = {row[0]: row[3:] for row in load_model(run).facts["training"]["held_out"]}
    assert held["out.h5"] == held["copy.h5"]
    logged: list[str] = []
    assert count(bench_of(run, schema, copy, logged=logged).roles.test) == 40
    bench_of(run, schema, first, copy, logged=logged)
    assert line in logged


def test_jets_that_are_twice_in_a_file_are_counted(run: Path, schema: Path, tmp_path: Path) -> None:
    """The second half of the file repeats the first, so that blocks of both sides have the same jets."""
    path = write(tmp_path / "new" / "out.h5", 7)
    with h5py.File(path, "r+") as file:
        for name in ("data", "pid"):
            file[name][JETS // 2 :] = file[name][: JETS // 2]
    logged: list[str] = []
    data = bench_of(run, schema, path, logged=logged)
    assert data.classes
    held, fitted = ({float(pt) for pt in jets.sum(jets.column("pt"))} for jets in (data.test, data.fit))
    (line,) = [line for line in logged if "the files have jets twice" in line]
    assert f"WARNING: {len(held & fitted)} of the {len(data.test)} test jets" in line
    assert len(held & fitted) > 0.7 * len(data.test)
