"""The training loop: schedule, optimizer, accumulation, refusals, and files on disk."""

from __future__ import annotations

import json
import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_jets.config import TrainSettings
from ssl_jets.data.loading.in_memory import MemoryStream
from ssl_jets.diagnostics.monitor import Monitor
from ssl_jets.errors import DataError, SslJetsError
from ssl_jets.jets import Jets
from ssl_jets.methods.mae import MaskedAutoencoder
from ssl_jets.methods.supervised import Supervised
from ssl_jets.training import state
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.loop import fit
from ssl_jets.training.optimizer import make_optimizer
from ssl_jets.training.run_folder import TrainingRun
from ssl_jets.training.state import FitResult, seed_step, total_steps
from support.batches import BadAt, InOrder
from support.small_models import CLASSES, build_method, tiny_encoder


def settings_of(**changes: Any) -> TrainSettings:
    return TrainSettings(**({"steps": 4, "batch_size": 8, "precision": "32-true", "log_every": 1} | changes))


def supervised(jets: Jets) -> Supervised:
    torch.manual_seed(1)
    return Supervised(Supervised.Config(), tiny_encoder(jets, blocks=2), CLASSES)


def run_fit(
    method: Any, stream: Any, folder: Path, settings: TrainSettings, **options: Any
) -> tuple[FitResult, TrainingRun]:
    run = TrainingRun(folder)
    if not options.get("resume"):
        run.create(settings)
    return fit(method, stream, run, settings, fabric=make_fabric(settings), **options), run


def lines(run: TrainingRun, kind: str = "train") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


@pytest.mark.parametrize(
    ("changes", "jets", "world", "steps"),
    [
        ({"steps": 7}, 1000, 1, 7),
        ({"steps": 7, "epochs": 3}, 1000, 2, 7),
        ({"steps": None, "epochs": 2, "batch_size": 100}, 1000, 1, 20),
        ({"steps": None, "epochs": 2, "batch_size": 100, "accumulate": 2}, 1000, 2, 5),
        ({"steps": None, "epochs": 1, "batch_size": 300}, 1000, 1, 4),
        ({"steps": None, "epochs": 0.5, "batch_size": 100}, 1000, 1, 5),
        ({"steps": None, "batch_size": 100}, 1000, 1, 10),
        ({"steps": None, "epochs": 0.001, "batch_size": 100}, 10, 1, 1),
    ],
)
def test_the_number_of_steps(changes: dict[str, Any], jets: int, world: int, steps: int) -> None:
    assert total_steps(settings_of(**changes), jets, world) == steps


def test_the_learning_rate_warms_up_to_its_peak_and_falls_as_a_cosine(batch: Jets, tmp_path: Path) -> None:
    settings = settings_of(steps=20, batch_size=2, lr=0.01, warmup=0.25, final_lr=0.1)
    rates = [line["lr"] for line in lines(run_fit(supervised(batch), InOrder(batch, 2), tmp_path, settings)[1])]
    assert rates[:5] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01])
    cosine = [0.01 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * k / 15))) for k in range(15)]
    assert rates[5:] == pytest.approx(cosine)
    assert max(rates) == rates[4] == pytest.approx(0.01)
    assert all(a >= b for a, b in pairwise(rates[4:]))
    assert 0.001 <= rates[-1] < 0.0012


def test_without_warmup_the_first_step_has_the_peak_rate(batch: Jets, tmp_path: Path) -> None:
    settings = settings_of(steps=3, batch_size=2, lr=0.01, warmup=0)
    assert lines(run_fit(supervised(batch), InOrder(batch, 2), tmp_path, settings)[1])[0]["lr"] == pytest.approx(0.01)


def test_only_matrices_of_linear_layers_decay(batch: Jets) -> None:
    method = MaskedAutoencoder(MaskedAutoencoder.Config(), tiny_encoder(batch, blocks=2))
    method.kinds_out.weight.requires_grad_(False)
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    decay = {
        names[id(parameter)]: group["weight_decay"]
        for group in make_optimizer(method, settings_of(weight_decay=0.3)).param_groups
        for parameter in group["params"]
    }
    linear = {f"{name}.weight" for name, module in method.named_modules() if isinstance(module, nn.Linear)}
    assert set(decay) == set(names.values()) - {"kinds_out.weight"}
    assert {name for name, value in decay.items() if value == 0.3} == linear - {"kinds_out.weight"}
    for name in ("encoder.missing", "encoder.extra_tokens", "mask_tokens.weight", "encoder.transformer.norm.weight"):
        assert decay[name] == 0.0


def descent(method: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    return torch.optim.SGD(method.parameters(), lr=settings.lr)


def test_two_accumulated_batches_of_8_are_one_of_16(
    batch: Jets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "make_optimizer", descent)
    weights, losses, jets = [], [], []
    for size, accumulate in ((16, 1), (8, 2)):
        method = supervised(batch)
        settings = settings_of(steps=2, batch_size=size, accumulate=accumulate, lr=0.5, warmup=0, clip=1e9)
        done, run = run_fit(method, InOrder(batch, size), tmp_path / str(size), settings)
        weights.append(method.state_dict())
        losses.append([line["loss"] for line in lines(run)])
        jets.append(done.jets)
    assert jets == [32, 32]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, atol=1e-5, rtol=1e-4)


def test_the_log_averages_over_the_jets_that_have_a_label(batch: Jets, tmp_path: Path) -> None:
    assert batch.labels is not None
    some = batch.select(torch.arange(16))
    assert some.labels is not None
    some.labels[8:] = -1
    first = []
    for accumulate in (1, 2):
        settings = settings_of(steps=2, batch_size=8, accumulate=accumulate)
        _, run = run_fit(supervised(batch), InOrder(some, 8), tmp_path / str(accumulate), settings)
        first.append(lines(run)[0])
    assert first[1]["loss"] == pytest.approx(first[0]["loss"], rel=1e-4)
    assert first[1]["accuracy"] == pytest.approx(first[0]["accuracy"])
    (_, unlabelled) = lines(TrainingRun(tmp_path / "1"))
    assert (unlabelled["loss"], unlabelled.get("accuracy")) == (0, None)


def test_the_gradient_is_clipped_and_its_norm_before_that_is_logged(
    batch: Jets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "make_optimizer", descent)
    method = supervised(batch)
    before = [parameter.detach().clone() for parameter in method.parameters()]
    settings = settings_of(steps=1, lr=1.0, warmup=0, clip=0.01)
    _, run = run_fit(method, InOrder(batch, 8), tmp_path, settings)
    moved = math.sqrt(sum(float((a - b).detach().square().sum()) for a, b in zip(method.parameters(), before)))
    assert lines(run)[0]["grad_norm"] > 0.1
    assert moved == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("name", ["kind", "step", "lr", "grad_norm"])
def test_a_part_of_the_loss_with_a_name_of_the_log_is_refused(
    name: str, batch: Jets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, loss = supervised(batch), Supervised.loss
    monkeypatch.setattr(method, "loss", lambda *arguments: loss(method, *arguments) | {name: torch.ones(())})
    with pytest.raises(SslJetsError, match=rf"name that the training log uses(.|\n)*found: +{name}"):
        run_fit(method, InOrder(batch, 8), tmp_path, settings_of(steps=1))


def test_a_held_out_metric_with_the_name_of_another_is_refused(
    batch: Jets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, monitor = supervised(batch), Monitor(batch.select(torch.arange(32)), 16, len(CLASSES))
    monkeypatch.setattr(method, "validation_metrics", lambda _batches: {"rankme": 1.0})
    with pytest.raises(SslJetsError, match=r"found: +rankme"):
        run_fit(method, InOrder(batch, 8), tmp_path, settings_of(steps=1), monitor=monitor)


def test_a_monitor_changes_nothing_in_the_training(batch: Jets, tmp_path: Path) -> None:
    weights = []
    for name, monitor in (("with", Monitor(batch.select(torch.arange(32)), 16, len(CLASSES))), ("without", None)):
        torch.manual_seed(1)
        method = MaskedAutoencoder(MaskedAutoencoder.Config(), tiny_encoder(batch, blocks=2))
        stream = MemoryStream(batch, batch_size=8, seed=0)
        _, run = run_fit(method, stream, tmp_path / name, settings_of(validate_every=1), monitor=monitor)
        weights.append(method.state_dict())
        assert len(lines(run, "validation")) == (4 if monitor else 0)
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_smaller_loss_is_reached_and_the_last_step_is_logged_and_validated(batch: Jets, tmp_path: Path) -> None:
    settings = settings_of(steps=25, batch_size=16, lr=2e-3, log_every=10, validate_every=10)
    stream, monitor = (
        InOrder(batch.select(torch.arange(16)), 16),
        Monitor(batch.select(torch.arange(32)), 64, len(CLASSES)),
    )
    done, run = run_fit(supervised(batch), stream, tmp_path, settings, monitor=monitor)
    assert [line["step"] for line in lines(run)] == [10, 20, 25]
    assert [line["step"] for line in lines(run, "validation")] == [10, 20, 25]
    assert (done.steps, done.jets) == (25, 400)
    assert lines(run)[-1]["loss"] < lines(run)[0]["loss"] < math.log(10) + 0.3
    assert lines(run)[-1]["epoch"] == pytest.approx(25)
    assert run.checkpoint.is_file()
    assert [path.name for path in run.checkpoint.parent.iterdir()] == ["last.ckpt"]


class Bad(InOrder):
    """From the given batch on, a jet that a reader would never let through."""

    def __init__(self, jets: Jets, batch_size: int, bad: int) -> None:
        super().__init__(jets, batch_size)
        self.bad = bad

    def __next__(self) -> Jets:
        jets = super().__next__()
        if self.taken > self.bad * self.batch_size:
            jets.particles[0, jets.columns.index("pt")] = math.nan
        return jets


def test_a_loss_that_is_not_finite_stops_with_step_and_files(batch: Jets, tmp_path: Path) -> None:
    names = [f"file{index}.root" for index in range(10)]
    with pytest.raises(SslJetsError, match="the loss is not finite") as caught:
        run_fit(supervised(batch), Bad(batch, 8, bad=2), tmp_path, settings_of(), file_names=names)
    assert "step 2" in str(caught.value.where)
    assert batch.source is not None
    used = batch.source[16:24, 0].unique().tolist()
    for index, name in enumerate(names):
        assert (name in str(caught.value.where)) == (index in used)
    assert [line["step"] for line in lines(TrainingRun(tmp_path))] == [1, 2]


class InfiniteSlope(Supervised):
    """A finite loss whose gradient is not finite."""

    def forward(self, jets: Jets, progress: float, hide: float = 0.0) -> dict[str, Tensor]:
        parts = super().forward(jets, progress, hide)
        assert self.tasks.head is not None
        return {"loss": parts["loss"] + (self.tasks.head.layers[0].weight * 0).sum().sqrt()}


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights(batch: Jets, tmp_path: Path) -> None:
    method = InfiniteSlope(Supervised.Config(), tiny_encoder(batch, blocks=2), CLASSES)
    before = {name: value.detach().clone() for name, value in method.named_parameters()}
    with pytest.raises(SslJetsError, match="the gradient is not finite") as caught:
        run_fit(method, InOrder(batch, 8), tmp_path, settings_of(), file_names=["x.root"] * 10)
    assert "step 0" in str(caught.value.where)
    assert all(torch.equal(value, before[name]) for name, value in method.named_parameters())


def test_a_gradient_that_is_not_finite_names_the_files_of_all_accumulated_batches(batch: Jets, tmp_path: Path) -> None:
    source = torch.zeros(len(batch), 3, dtype=torch.int64)
    source[:, 0] = torch.arange(len(batch)) // 8
    method = InfiniteSlope(Supervised.Config(), tiny_encoder(batch, blocks=2), CLASSES)
    names = [f"file{index}.root" for index in range(10)]
    with pytest.raises(SslJetsError) as caught:
        run_fit(
            method, InOrder(replace(batch, source=source), 8), tmp_path, settings_of(accumulate=3), file_names=names
        )
    assert str(caught.value.where) == "step 0, in a batch of jets from file0.root, file1.root, file2.root"


def test_a_skipped_step_leaves_the_whole_state_as_it_was(batch: Jets, tmp_path: Path) -> None:
    method = build_method(
        "byol", batch, blocks=2
    )  # BatchNorm takes its statistics in the forward pass, the teacher after it
    before = {name: value.clone() for name, value in method.state_dict().items()}
    settings = settings_of(steps=1, on_nonfinite="skip")
    done, run = run_fit(method, BadAt(batch, 8, 1), tmp_path, settings, file_names=["x.root"] * 10)
    assert done.skipped_steps == 1
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert lines(run, "nonfinite") == [
        {"step": 1, "kind": "nonfinite", "what": "the loss is not finite", "files": ["x.root"]}
    ]
    logged = "step 1 is skipped: the loss is not finite, in a batch of jets from x.root"
    assert logged in (run.folder / "log.txt").read_text()


def test_a_training_goes_on_after_skipped_steps_and_counts_them(batch: Jets, tmp_path: Path) -> None:
    settings = settings_of(steps=6, on_nonfinite="skip", max_nonfinite=3)
    method = supervised(batch)
    _, run = run_fit(method, BadAt(batch, 8, 2, 3, 5), tmp_path, settings, file_names=["x.root"] * 10)
    assert [line["step"] for line in lines(run, "nonfinite")] == [2, 3, 5]
    assert [line.get("skipped_steps", 0) for line in lines(run)] == [0, 1, 2, 2, 3, 3]
    assert [line["loss"] is None for line in lines(run)] == [False, True, True, False, True, False]
    assert all(value.isfinite().all() for value in method.state_dict().values())


def test_skipping_ends_after_some_steps_in_a_row(batch: Jets, tmp_path: Path) -> None:
    settings = settings_of(steps=6, on_nonfinite="skip", max_nonfinite=2)
    with pytest.raises(SslJetsError, match="not finite, in 2 steps in a row") as caught:
        run_fit(supervised(batch), BadAt(batch, 8, 1, 3, 4), tmp_path, settings, file_names=["x.root"] * 10)
    assert "step 3" in str(caught.value.where)


def test_an_infinite_gradient_is_skipped_too(batch: Jets, tmp_path: Path) -> None:
    method = InfiniteSlope(Supervised.Config(), tiny_encoder(batch, blocks=2), CLASSES)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    settings = settings_of(steps=2, on_nonfinite="skip")
    _, run = run_fit(method, InOrder(batch, 8), tmp_path, settings, file_names=["x.root"] * 10)
    assert [line["what"] for line in lines(run, "nonfinite")] == ["the gradient is not finite"] * 2
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_skipping_changes_nothing_where_all_is_finite(batch: Jets, tmp_path: Path) -> None:
    states = []
    for how in ("stop", "skip"):
        method = build_method("byol", batch, blocks=2)
        run_fit(method, InOrder(batch, 8), tmp_path / how, settings_of(steps=2, on_nonfinite=how))
        states.append(method.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """A disk that is full: every write beyond `size` bytes of a file fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_error_and_the_last_checkpoint_stays(batch: Jets, tmp_path: Path) -> None:
    settings = settings_of(steps=3, checkpoint_minutes=0)
    run_fit(supervised(batch), InOrder(batch, 8), tmp_path, settings)
    checkpoint = TrainingRun(tmp_path).checkpoint
    before = checkpoint.read_bytes()
    run = TrainingRun(tmp_path)
    with files_no_larger_than(100_000), pytest.raises(SslJetsError, match="checkpoint cannot be written") as caught:
        fit(supervised(batch), InOrder(batch, 8), run, settings, fabric=make_fabric(settings))
    assert caught.value.where == checkpoint
    assert str(caught.value.hint).endswith("last-1.ckpt, then --resume from last.ckpt")
    assert checkpoint.read_bytes() == before
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["last-1.ckpt", "last.ckpt"]


class LostAt(BadAt):
    """A stream whose file is gone after some batches, a few of them bad."""

    def __init__(self, jets: Jets, size: int, lost: int, *bad: int) -> None:
        super().__init__(jets, size, *bad)
        self.left = lost

    def __next__(self) -> Jets:
        self.left -= 1
        if self.left < 0:
            raise DataError("the file cannot be read", where="a.root", hint="copy it again")
        return super().__next__()


RESUME = "; --resume goes on from step 2 once the files are as they were"


@pytest.mark.parametrize(("minutes", "resume"), [(0, RESUME), (10, "")])
def test_a_file_that_is_lost_names_the_step_from_which_the_run_goes_on(
    batch: Jets, tmp_path: Path, minutes: int, resume: str
) -> None:
    settings = settings_of(steps=4, checkpoint_minutes=minutes)
    with pytest.raises(DataError) as caught:
        run_fit(supervised(batch), LostAt(batch, 8, 2), tmp_path, settings)
    assert caught.value.message.splitlines()[-1] == f"  try:     copy it again{resume}"
    result, _ = run_fit(supervised(batch), InOrder(batch, 8), tmp_path, settings, resume=True)
    assert result.steps == 4


def test_steps_that_are_skipped_count_over_a_resume(batch: Jets, tmp_path: Path) -> None:
    settings = settings_of(steps=5, on_nonfinite="skip", max_nonfinite=3, checkpoint_minutes=0)
    options: dict[str, Any] = {"file_names": ["x.root"] * 10}
    with pytest.raises(DataError):
        run_fit(supervised(batch), LostAt(batch, 8, 3, 2, 3), tmp_path, settings, **options)
    with pytest.raises(SslJetsError, match="not finite, in 3 steps in a row"):
        run_fit(supervised(batch), BadAt(batch, 8, 4), tmp_path, settings, resume=True, **options)
    done, _ = run_fit(supervised(batch), InOrder(batch, 8), tmp_path, settings, resume=True, **options)
    assert done.skipped_steps == 2


def test_later_validations_are_compared_with_the_first_one_over_a_resume(batch: Jets, tmp_path: Path) -> None:
    monitors = [Monitor(batch.select(torch.arange(16)), 16, 0) for _ in range(2)]
    for monitor in monitors:
        method = build_method("byol", batch, blocks=1)
        options: dict[str, Any] = {"monitor": monitor, "resume": monitor is monitors[1]}
        run_fit(method, InOrder(batch, 8), tmp_path, settings_of(steps=1), **options)
    first, resumed = (monitor.state_dict() for monitor in monitors)
    assert set(first) == {"compared", "teacher"}
    assert resumed == first


def test_on_another_number_of_processes_for_the_second_time_the_schedule_still_ends_with_the_last_step(
    batch: Jets, tmp_path: Path
) -> None:
    settings = settings_of(steps=12, lr=0.01, warmup=0, checkpoint_minutes=0)
    with pytest.raises(DataError):
        run_fit(supervised(batch), LostAt(batch, 8, 6), tmp_path, settings)
    file = TrainingRun(tmp_path).checkpoint
    saved = torch.load(file, weights_only=True)
    # As if one process had taken 4 of its 12 steps, then two processes 2 of the 4 that were left to them.
    changed = {"steps": 12, "done": 4.0, "since": 4, "last": 8}
    torch.save({**saved, "streams": saved["streams"] * 2, "schedule": changed}, file)
    done, run = run_fit(supervised(batch), InOrder(batch, 8), tmp_path, settings, resume=True)
    assert done.steps == 6 + 4  # a third of the training is left
    cosine = [0.01 * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (k - 1) / 11))) for k in range(8, 12)]
    assert [line["lr"] for line in lines(run)][6:] == pytest.approx(cosine)


def test_a_checkpoint_of_another_length_is_refused(batch: Jets, tmp_path: Path) -> None:
    run_fit(supervised(batch), InOrder(batch, 8), tmp_path, settings_of(steps=2))
    with pytest.raises(SslJetsError, match="another length") as caught:
        run_fit(supervised(batch), InOrder(batch, 8), tmp_path, settings_of(steps=3), resume=True)
    assert "2 then, 3 now" in str(caught.value)


def test_random_numbers_differ_by_step_rank_and_seed_and_repeat() -> None:
    draws = {}
    for key in ((0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0)):
        for _ in range(2):
            seed_step(*key)
            draws.setdefault(key, []).append(float(torch.rand(())))
    assert all(first == second for first, second in draws.values())
    assert len({first for first, _ in draws.values()}) == 4


def test_progress_goes_from_zero_to_one(batch: Jets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = [], []
    monkeypatch.setattr(Supervised, "after_step", lambda self, progress: after.append(progress))
    original = Supervised.loss
    monkeypatch.setattr(
        Supervised, "loss", lambda self, jets, progress: before.append(progress) or original(self, jets, progress)
    )
    run_fit(supervised(batch), InOrder(batch, 8), tmp_path, settings_of())
    assert before == [0.0, 0.25, 0.5, 0.75]
    assert after == [0.25, 0.5, 0.75, 1.0]


def test_nothing_follows_a_step_that_is_skipped(batch: Jets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after = []
    monkeypatch.setattr(Supervised, "after_step", lambda self, progress: after.append(progress))
    settings = settings_of(on_nonfinite="skip")
    run_fit(supervised(batch), BadAt(batch, 8, 2), tmp_path, settings, file_names=["x.root"] * 10)
    assert after == [0.25, 0.75, 1.0]


def test_a_step_without_loss_and_gradient_is_named_once(tmp_path: Path) -> None:
    """Of a jet of one particle, nothing can be hidden."""
    jets = Jets.of([[[50.0 + jet, 0.1, 0.0]] for jet in range(16)], columns=("pt", "deta", "dphi"))
    method = MaskedAutoencoder(MaskedAutoencoder.Config(), tiny_encoder(jets, blocks=2))
    run = run_fit(method, MemoryStream(jets, batch_size=8, seed=0), tmp_path / "run", settings_of())[1]
    assert (tmp_path / "run" / "log.txt").read_text().count("loss and gradient are 0, so nothing is learned") == 1
    assert lines(run)[-1]["loss"] == 0
