"""The plan: what is tried, in which order, what is taken, and that a prediction holds."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import ssl_jets
from ssl_jets.config import parse_set, read_config, to_yaml
from ssl_jets.data.files import JetFile
from ssl_jets.errors import SslJetsError, UsageError
from ssl_jets.finetuning import dry_run, finetune, make_plan, resolve_finetune
from ssl_jets.finetuning import memory_plan as planning
from ssl_jets.finetuning.adaptation import attach
from ssl_jets.finetuning.dry_run import Cost, Job, measure, save_batches
from ssl_jets.finetuning.memory_plan import MODES_BY_REACH, Candidate, best_that_fits, candidates, growing_batches
from ssl_jets.finetuning.modes import base
from ssl_jets.finetuning.objective import Objective
from ssl_jets.jets import Jets
from ssl_jets.model_file import load_model
from ssl_jets.training.best import Best
from ssl_jets.training.state import TrainingState
from support.finetune_settings import settings_of, sources

STREAM = 1000


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Costs by rule instead of a process: what was asked for is kept."""
    asked: list[dict[str, object]] = []
    base = {"full": 800, "lora": 600, "last-blocks": 400, "head": 300, "probe": 200}

    def cost(job: Job) -> Cost:
        if not job.batches:
            return Cost(peak=STREAM, stays=STREAM)
        method, train = job.settings["method"], job.settings["train"]
        asked.append({"mode": method["mode"], **train, "unfreeze": method["unfreeze"]})
        return Cost(base[method["mode"]] * train["batch_size"] // (1 + train["checkpointing"]), 0, 0.5, 7)

    monkeypatch.setattr(planning, "_in_a_process", cost)
    return asked


def test_all_candidates_of_a_mode_take_the_same_jets_for_a_step(pretrained: Path, class_files: list[JetFile]) -> None:
    settings = settings_of(pretrained, class_files[:2], "train.accumulate=3")
    for mode in MODES_BY_REACH:
        found = list(candidates(mode, settings))
        assert {candidate.batch_size * candidate.accumulate for candidate in found} == {48}
        assert found[0] == Candidate(mode, 16, 3, False)
        assert len(found) == (4 if mode in ("full", "lora", "last-blocks") else 2)


def test_with_an_adaptation_batches_hold_jets_of_both_domains_and_z_is_never_fixed(
    pretrained: Path, class_files: list[JetFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Job, list[Jets]]] = []

    def keep(job: Job) -> Cost:
        asked.append((job, [Jets(**fields) for fields in torch.load(job.batches)] if job.batches else []))
        return Cost()

    monkeypatch.setattr(planning, "_in_a_process", keep)
    target = f"data.unlabelled=[{class_files[2].source}]"
    more = (target, "data.unlabelled_ratio=1", "method.adapt=dann", "method.labels=60")
    found = make_plan(settings_of(pretrained, class_files[:2], *more))
    assert {row.candidate.mode for row in found.rows} == {"full", "lora", "last-blocks", "head"}
    for job, batches in asked[1:]:
        assert job.target == [2]
        for jets in batches:
            assert jets.source is not None
            assert jets.labels is not None
            of_target = jets.source[:, 0] == 2
            assert int(of_target.sum()) == len(jets) // 2
            assert bool((jets.labels[of_target] == -1).all())


@pytest.mark.parametrize("adapt", ["dann", "coral", "mmd", "sinkhorn", "reweight"])
def test_a_dry_run_does_what_an_adaptation_does(
    pretrained: Path,
    class_files: list[JetFile],
    batch: Jets,
    tmp_path: Path,
    adapt: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objectives: list[Objective] = []
    monkeypatch.setattr(
        dry_run, "attach", lambda objective, *rest: (objectives.append(objective), attach(objective, *rest))
    )
    kept: list[Best] = []
    monkeypatch.setattr(base, "TrainingState", lambda *given: kept.append((made := TrainingState(*given)).best) or made)
    target = f"data.unlabelled=[{class_files[2].source}]"
    more = (target, "data.unlabelled_ratio=1", f"method.adapt={adapt}", "train.keep=best")
    settings = settings_of(pretrained, class_files[:2], *more)
    save_batches([batch.select(torch.arange(16))] * 3, tmp_path / "b.pt")
    files = sorted({int(file) for file in batch.source[:16, 0]})
    assert len(files) > 1
    labels = list(class_files[0].label_names)
    assert measure(Job(settings.model_dump(mode="json"), labels, str(tmp_path / "b.pt"), files[1:])).seconds > 0
    (objective,) = objectives
    assert set(kept[0].state_dict()["weights"]) == set(objective.state_dict())
    if adapt == "reweight":
        assert objective.source_weights is not None
    else:
        assert float(objective.terms["domain"].target[0]) == files[1]
        assert objective(batch, 1.0)["loss_domain"] != 0


def test_a_batch_of_one_jet_has_no_smaller_one(pretrained: Path, class_files: list[JetFile]) -> None:
    found = list(candidates("head", settings_of(pretrained, class_files[:2], "train.batch_size=1")))
    assert found == [Candidate("head", 1, 1, False)]


@pytest.mark.parametrize(
    "setting", ["train.keep=best", "data.flatten={by: [jet_pt], bins: [[0, 1000]], how: resample}"]
)
def test_a_mode_that_would_ignore_a_setting_is_no_candidate(
    pretrained: Path, class_files: list[JetFile], setting: str
) -> None:
    settings = settings_of(pretrained, class_files[:2], setting)
    assert not list(candidates("probe", settings))
    assert list(candidates("head", settings))


def test_a_batch_too_small_for_two_domains_is_no_candidate(pretrained: Path, class_files: list[JetFile]) -> None:
    target = f"data.unlabelled=[{class_files[2].source}]"
    settings = settings_of(pretrained, class_files[:2], target, "method.adapt=coral", "train.batch_size=4")
    assert {candidate.batch_size for candidate in candidates("full", settings)} == {4}  # not 1


def test_without_peft_lora_is_no_candidate(
    pretrained: Path, class_files: list[JetFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning.importlib.util, "find_spec", lambda name: None)
    assert not list(candidates("lora", settings_of(pretrained, class_files[:2])))


def test_jets_to_shuffle_that_do_not_fit_are_no_stream_of_nothing(
    pretrained: Path, class_files: list[JetFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "_in_a_process", lambda job: Cost(failed="" if job.batches else "not enough memory"))
    with pytest.raises(SslJetsError, match=r"(?s)to shuffle do not fit.*data\.buffer=10000"):
        make_plan(settings_of(pretrained, class_files[:2], "method.labels=60"))


def test_the_plan_holds_each_candidate_and_the_stream_against_the_memory(
    pretrained: Path, class_files: list[JetFile], fake: list[dict[str, object]]
) -> None:
    more = ("method.memory=0.006MB", "method.unfreeze=0.5", "method.labels=60")
    found = make_plan(settings_of(pretrained, class_files[:2], *more))
    assert found.memory == 6000
    assert len(found.rows) == 4 * 3 + 2 * 2 == len(fake)
    assert {asked["unfreeze"] for asked in fake} == {0.0}  # all that is thawed at the end counts
    assert {asked["devices"] for asked in fake} == {1}  # by default all GPUs: each dry run would start others
    chosen = [row.candidate for row in found.rows if row.fits(found.memory)]
    assert {(c.mode, c.batch_size, c.checkpointing) for c in chosen} == {
        ("full", 4, False), ("full", 4, True), ("lora", 16, True), ("lora", 4, False), ("lora", 4, True),
        ("last-blocks", 16, True), ("last-blocks", 4, False), ("last-blocks", 4, True),
        ("head", 16, False), ("head", 4, False), ("probe", 16, False), ("probe", 4, False),
    }  # fmt: skip
    lines = found.table().splitlines()
    assert lines[0].split()[:2] == ["mode", "batch"]
    assert len(lines) == 17
    rows = json.loads(found.as_json())["rows"]
    assert rows[0] == {
        "mode": "full", "batch_size": 16, "accumulate": 1, "checkpointing": False, "peak": 800 * 16 + STREAM,
        "stays": STREAM, "seconds": 0.5, "learning": 7, "failed": "", "fits": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        ("1MB", Candidate("full", 16, 1, False)),
        ("0.0075MB", Candidate("full", 4, 4, False)),
        ("0.0028MB", Candidate("full", 4, 4, True)),
        ("0.0024MB", Candidate("lora", 4, 4, True)),
        ("0.0019MB", Candidate("last-blocks", 4, 4, True)),
        ("0.0018MB", Candidate("last-blocks", 4, 4, True)),
        ("0.00179MB", None),
    ],
)
def test_the_mode_that_changes_most_is_taken_if_any_of_its_levers_fits(
    pretrained: Path, class_files: list[JetFile], fake: object, memory: str, expected: Candidate | None
) -> None:
    settings = settings_of(pretrained, class_files[:2], f"method.memory={memory}", "method.labels=60")
    if expected is None:
        with pytest.raises(SslJetsError, match="no mode fits"):
            best_that_fits(settings)
    else:
        assert best_that_fits(settings).candidate == expected


def test_what_cannot_be_measured_does_not_fit(
    pretrained: Path, class_files: list[JetFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = Cost(failed="more memory than there is")
    monkeypatch.setattr(planning, "_in_a_process", lambda job: cost if job.batches else Cost())
    found = make_plan(settings_of(pretrained, class_files[:2], "method.memory=1TB", "method.labels=60"))
    assert not any(row.fits(found.memory) for row in found.rows)
    assert "more memory than there is" in found.table()


def test_what_fits_is_trained_kept_in_the_settings_and_resumed(
    pretrained: Path, class_files: list[JetFile], fake: list[dict[str, object]], tmp_path: Path
) -> None:
    more = ["method.mode=auto", "method.memory=0.0024MB", "method.labels=40"]
    out = finetune(settings_of(pretrained, class_files[:2], *more), tmp_path / "r")
    stored = read_config(out / "config.yaml")
    assert (stored["method"]["mode"], stored["train"]["batch_size"], stored["train"]["accumulate"]) == ("lora", 4, 4)
    assert stored["train"]["checkpointing"] is True
    training = load_model(out).facts["training"]
    assert training["mode"] == "lora"
    assert training["planned_memory"] == 600 * 4 // 2 + STREAM
    tried = len(fake)
    again = resolve_finetune(pretrained, parse_set(more), stored=out / "config.yaml")
    finetune(again, out, resume=True)
    assert len(fake) == tried


def test_batches_grow_from_the_lightest_to_the_heaviest(sample_jets: Jets) -> None:
    batches = growing_batches(sample_jets, 32, 6)
    sizes = [int(batch.lengths.sum()) for batch in batches]
    assert [len(batch) for batch in batches] == [32] * 6
    mean, spread = float(sample_jets.lengths.double().mean()), float(sample_jets.lengths.double().std()) * 32**0.5
    assert sizes[0] < 32 * mean - 2 * spread
    assert sizes[-1] > 32 * mean + 2 * spread
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("mode", ["probe", "lora"])
def test_a_dry_run_takes_steps_and_says_what_they_cost(
    pretrained: Path, class_files: list[JetFile], batch: Jets, tmp_path: Path, mode: str
) -> None:
    settings = settings_of(pretrained, class_files[:2], f"method.mode={mode}", "train.accumulate=2")
    save_batches([batch.select(torch.arange(16))] * 4, tmp_path / "b.pt")
    cost = measure(Job(settings.model_dump(mode="json"), list(class_files[0].label_names), str(tmp_path / "b.pt")))
    assert cost.seconds > 0
    assert cost.peak > 10**8
    heads = 64 * 10 + 10
    factors = 8 * 2 * ((64 + 192) + (64 + 64) + (64 + 256) + (256 + 64))
    assert cost.learning == heads + (factors + 128 if mode == "lora" else 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "batch", "accumulate", "adapt"),
    [("probe", 256, 1, "none"), ("full", 256, 1, "none"), ("full", 64, 4, "none"), ("full", 256, 1, "mmd")],
)
def test_the_predicted_peak_is_within_20_percent_of_what_the_run_uses(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path, mode: str, batch: int, accumulate: int, adapt: str
) -> None:
    more = ["train.steps=20", "data.buffer=100000", "train.validation_jets=2000"]
    more += [f"train.batch_size={batch}", f"train.accumulate={accumulate}"]
    more += [f"method.mode={mode}", f"method.adapt={adapt}"]
    if adapt != "none":
        *class_files, target = class_files
        more += [f"data.unlabelled=[{target.source}]", "data.unlabelled_ratio=1"]
    settings = resolve_finetune(pretrained, sources(class_files), parse_set(more))
    with planning.Planner(settings) as bench:
        predicted = bench.measure(next(candidates(mode, settings))).cost.peak
    words = [word for setting in more for word in ("--set", setting)]
    for file in class_files:
        words += ["--data", str(file.source)]
    command = [sys.executable, "-m", "ssl_jets", "finetune", "--model", str(pretrained), "--out", str(tmp_path / "r")]
    subprocess.run([*command, *words], check=True, capture_output=True)
    used = load_model(tmp_path / "r").facts["training"]["peak_memory"]
    assert (
        abs(predicted / used - 1) < 0.2
    )  # what is freed comes back in other sizes: a long run grows beyond three steps


@pytest.mark.slow
def test_the_command_prints_a_plan_and_trains_nothing(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    words = ["--plan", "--memory", "1GB", "--json", "--batch-size", "8", "--labels", "60"]
    command = [sys.executable, "-m", "ssl_jets", "finetune", "--model", str(pretrained), *words]
    for file in class_files[:2]:
        command += ["--data", str(file.source)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    found = json.loads(done.stdout)
    assert found["memory"] == 10**9
    assert len(found["rows"]) == 16
    assert all(row["peak"] > 10**8 and row["seconds"] > 0 for row in found["rows"])
    assert "full, batch 8: " in done.stderr
    assert not list(tmp_path.iterdir())


def test_batches_of_a_dry_run_may_lack_a_target_that_few_jets_have(
    pretrained: Path, class_files: list[JetFile], batch: Jets, tmp_path: Path
) -> None:
    settings = settings_of(pretrained, class_files[:2], "method.targets=[label,jet_sdmass]", "method.mode=head")
    missing = {"jet_sdmass": torch.full((16,), torch.nan)}
    save_batches([replace(batch.select(torch.arange(16)), jet=missing)] * 3, tmp_path / "b.pt")
    job = Job(settings.model_dump(mode="json"), list(class_files[0].label_names), str(tmp_path / "b.pt"))
    assert measure(job).seconds > 0


def test_a_dry_run_is_alone_also_where_its_process_is_one_of_a_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "here"), ("SLURM_STEP_NUM_TASKS", "2")):
        monkeypatch.setenv(name, value)
    given: dict[str, str] = {}

    def run(command: list[str], *, env: dict[str, str], **_: object) -> subprocess.CompletedProcess[str]:
        given.update(env)
        return subprocess.CompletedProcess(command, 0, stdout='{"peak": 7}\n', stderr="")

    monkeypatch.setattr(planning.subprocess, "run", run)
    assert planning._in_a_process(Job({}, "", [])).peak == 7
    assert "PATH" in given
    assert not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "SLURM_STEP_NUM_TASKS"} & set(given)


def test_the_command_of_a_run_whose_mode_was_chosen_resumes_it(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("method.mode=full", "train.batch_size=16", "train.accumulate=4", "train.checkpointing=true")
    settings = settings_of(pretrained, class_files[:2], *chosen, "method.memory=16GB")
    (tmp_path / "config.yaml").write_text(to_yaml(settings))
    asked: list[Any] = []
    monkeypatch.setattr("ssl_jets.finetuning.finetune", lambda settings, out, **options: asked.append(settings))
    monkeypatch.setattr("ssl_jets.report.write_run_report", lambda folder: folder)
    ssl_jets.finetune(pretrained, mode="auto", memory="16GB", batch_size=64, out=tmp_path, resume=True)
    assert asked == [settings]
    with pytest.raises(UsageError, match="belongs to the plan"):
        ssl_jets.finetune(pretrained, mode="full", memory="16GB", out=tmp_path / "other")


def test_a_dry_run_stays_within_the_limit_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(dry_run.resource, "getrlimit", lambda kind: (10**6, 10**6))
    monkeypatch.setattr(dry_run.resource, "setrlimit", lambda kind, values: limits.append(values))
    monkeypatch.setattr(dry_run.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(dry_run, "measure", lambda job: Cost(peak=7))
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(asdict(Job({}, [], "")))))
    dry_run.main()
    assert limits == [(10**6, 10**6)]  # the system refuses a limit above the hard one
