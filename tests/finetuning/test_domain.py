"""Domain adaptation: what the unlabelled jets of the target do to a finetuning, and what they cannot do."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ssl_jets.config import RunSettings
from ssl_jets.data.files import JetFile, open_files
from ssl_jets.data.loading.in_memory import MemoryStream
from ssl_jets.data.read import read_jets
from ssl_jets.data.sources import Source
from ssl_jets.errors import UsageError
from ssl_jets.finetuning import FinetuneSettings, finetune, resolve_finetune
from ssl_jets.finetuning.adaptation import DannTerm, DistanceTerm, DomainTerm, attach
from ssl_jets.finetuning.adaptation_settings import CoralSettings, DannSettings, ReweightSettings
from ssl_jets.finetuning.objective import L2SPTerm, Objective
from ssl_jets.finetuning.setup import build_objective
from ssl_jets.finetuning.source_weights import SourceWeights
from ssl_jets.jets import Jets, concatenate
from ssl_jets.model import with_columns
from ssl_jets.model_file import load_model
from ssl_jets.nn.domain.distance import SCALES, coral, mmd, sinkhorn
from ssl_jets.nn.encoder import Encoder
from ssl_jets.nn.task_weights import mean_of_batches
from ssl_jets.nn.tasks import Tasks, TaskSettings
from ssl_jets.runtime.signals import Interrupted
from support.finetune_settings import QUICK
from support.overridden import overridden
from support.small_models import CLASSES, few_particles, tiny_encoder

TARGET = 7
"""Number of the file of the target in the batches made here."""


def settings_of(model: Path, files: list[JetFile], target: Any, *more: str) -> RunSettings[FinetuneSettings]:
    data = {"sources": [str(file.source) for file in files[:2]], "unlabelled": [str(target)] if target else []}
    return resolve_finetune(model, {"data": data}, overridden(QUICK, *more))


def lines(run: Path, kind: str = "train") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def both(source: Jets, target: Jets) -> Jets:
    """A batch as a mixed stream gives it: the target from another file, without labels."""
    assert target.source is not None
    moved = target.source.clone()
    moved[:, 0] = TARGET
    assert source.source is not None
    labelled = replace(source, source=source.source % TARGET)
    return concatenate([labelled, replace(target, source=moved, labels=torch.full((len(target),), -1))])


def harder(jets: Jets) -> Jets:
    """The jets as another detector may see them: half the pt."""
    pt = torch.ones(len(jets.columns))
    pt[[jets.columns.index("pt"), jets.columns.index("energy")]] = 0.5
    return replace(jets, particles=jets.particles * pt)


@pytest.mark.parametrize("adapt", ["dann", "reweight"])
def test_labels_of_the_target_change_nothing(
    pretrained: Path, class_files: list[JetFile], write_jetclass: Any, tmp_path: Path, adapt: str
) -> None:
    more = (f"method.adapt={adapt}", "method.labels=40", "method.reweight.jets=40")
    shas = []
    for label in ("Hbb", None):
        target = write_jetclass(f"{label}/target.root", 60, label=label)
        settings = settings_of(pretrained, class_files, target, *more)
        shas.append(load_model(finetune(settings, tmp_path / str(label) / "run")).sha256)
    assert shas[0] == shas[1]


@pytest.mark.parametrize("adapt", ["dann", "coral", "mmd", "sinkhorn"])
def test_half_of_a_batch_is_of_the_target_and_its_loss_is_logged(
    pretrained: Path, class_files: list[JetFile], write_jetclass: Any, tmp_path: Path, adapt: str
) -> None:
    target = write_jetclass("target.root", 60, label=None)
    settings = settings_of(pretrained, class_files, target, f"method.adapt={adapt}", "train.steps=null")
    assert settings.data.unlabelled_ratio == 1
    few = settings.model_copy(update={"method": settings.method.model_copy(update={"min_steps": 1, "labels": 40})})
    run = finetune(few, tmp_path / "r")
    facts = load_model(run).facts["training"]
    assert facts["steps"] == 40 // 8  # one epoch of 40 labelled jets, eight in a batch
    assert facts["jets"] == 16 * facts["steps"]
    assert list(open_files([Source(str(target))])[0].identity) in facts["files"]
    for line in lines(run):
        assert line["loss_domain"] != 0
        assert ("domain_accuracy" in line) == (adapt == "dann")
    assert not any("loss_domain" in line for line in lines(run, "validation"))


@pytest.mark.parametrize("mode", ["full", "probe"])
def test_reweight_logs_the_effective_share_of_the_source(
    pretrained: Path, class_files: list[JetFile], write_jetclass: Any, tmp_path: Path, mode: str
) -> None:
    target = write_jetclass("target.root", 60, label=None)
    more = ("method.adapt=reweight", "method.labels=40", "method.reweight.jets=40", f"method.mode={mode}")
    run = finetune(settings_of(pretrained, class_files, target, *more), tmp_path / "r")
    [found] = lines(run, "reweight")
    assert 0 < found["effective"] <= 1
    plain = finetune(settings_of(pretrained, class_files, None, "method.labels=40", more[-1]), tmp_path / "plain")
    assert lines(run)[-1]["loss"] != lines(plain)[-1]["loss"]
    facts = load_model(run).facts["training"]
    assert facts["jets"] == 3 * 16
    assert list(open_files([Source(str(target))])[0].identity) in facts["files"]  # its jets made the weights


def terms(encoder: Encoder) -> dict[str, DomainTerm]:
    torch.manual_seed(0)
    return {
        "dann": DannTerm(DannSettings(), encoder.dim, [TARGET]),
        "coral": DistanceTerm(coral, 3.0, [TARGET]),
        "mmd": DistanceTerm(partial(mmd, scales=SCALES), 2.0, [TARGET]),
        "sinkhorn": DistanceTerm(partial(sinkhorn, regularization=0.5), 2.0, [TARGET]),
    }


@pytest.mark.parametrize("name", ["dann", "coral", "mmd", "sinkhorn"])
def test_a_term_is_the_loss_between_the_jets_of_the_two_files(sample_jets: Jets, name: str) -> None:
    source, target = sample_jets.select(torch.arange(10)), harder(sample_jets.select(torch.arange(10, 18)))
    encoder = tiny_encoder(sample_jets)
    term, jets = terms(encoder)[name], both(source, target)
    objective = Objective(TaskSettings(), encoder, CLASSES, {"domain": term})
    found = objective(jets, 0.5)
    z = [encoder(each).z for each in (source, target)]
    expected = {
        "dann": lambda: term.discriminator(*z, 1.0)[0],  # type: ignore[operator, union-attr]
        "coral": lambda: 3 * coral(*z),
        "mmd": lambda: 2 * mmd(*z, SCALES),
        "sinkhorn": lambda: 2 * sinkhorn(*z, 0.5),
    }[name]()
    torch.testing.assert_close(found["loss_domain"], expected.detach(), rtol=1e-4, atol=1e-6)
    alone = Objective(TaskSettings(), encoder, CLASSES)
    alone.load_state_dict(objective.state_dict(), strict=False)
    torch.testing.assert_close(found["loss"] - found["loss_domain"], alone(source, 0.5)["loss"])
    for one in (source, target):
        alike = both(one, one).select(torch.arange(len(one)))
        assert term(objective, encoder(one).z, alike, 0.5) == (0, 0)
        batches = []
        for batch in (jets, alike):
            objective(batch, 0.5)
            batches.append(objective.last)
        assert mean_of_batches(batches)["loss_domain"] == pytest.approx(float(expected.detach()), rel=1e-4)


@pytest.mark.parametrize("mode", ["full", "last-blocks", "lora", "head"])
def test_trainable_weights_of_every_mode_get_a_gradient_from_the_domains(
    pretrained: Path, class_files: list[JetFile], sample_jets: Jets, mode: str
) -> None:
    settings = settings_of(pretrained, class_files, class_files[2].source, "method.adapt=coral", f"method.mode={mode}")
    objective = build_objective(settings, load_model(pretrained), CLASSES)
    jets = both(sample_jets.select(torch.arange(8)), harder(sample_jets.select(torch.arange(8, 16))))
    DistanceTerm(coral, CoralSettings().weight, [TARGET])(
        objective, objective.encoder(jets).z, jets, 0.5
    ).value.backward()
    learning = {name: weight for name, weight in objective.encoder.named_parameters() if weight.requires_grad}
    assert learning
    moved = [name for name, weight in learning.items() if weight.grad is not None and bool(weight.grad.any())]
    assert len(moved) > len(learning) / 3  # of LoRA only one of two factors at the start


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dann", "coral", "mmd", "sinkhorn"])
def test_adaptation_brings_z_of_the_domains_together(sample_jets: Jets, name: str) -> None:
    """Beside the same training without its gradient: the discriminator is deceived, the distance is smaller."""

    def apart(weight: float) -> float:
        encoder = tiny_encoder(sample_jets)
        torch.manual_seed(0)
        term = {
            "dann": lambda: DannTerm(DannSettings(weight=weight), encoder.dim, [TARGET]),
            "coral": lambda: DistanceTerm(coral, 100 * weight, [TARGET]),
            "mmd": lambda: DistanceTerm(partial(mmd, scales=SCALES), weight, [TARGET]),
            "sinkhorn": lambda: DistanceTerm(partial(sinkhorn, regularization=0.5), weight, [TARGET]),
        }[name]()
        objective = Objective(TaskSettings(), encoder, CLASSES, {"domain": term})
        optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3)
        generator = torch.Generator().manual_seed(0)
        for step in range(80):
            rows = torch.randperm(400, generator=generator)[:48]
            jets = both(sample_jets.select(rows[:24]), harder(sample_jets.select(rows[24:])))
            optimizer.zero_grad()
            objective(jets, step / 80)["loss"].backward()
            optimizer.step()
        jets = both(sample_jets.select(torch.arange(400, 450)), harder(sample_jets.select(torch.arange(450, 500))))
        with torch.no_grad():
            found = float(term(objective, encoder(jets).z, jets, 1.0).value)
        return -found if name == "dann" else found / weight

    without = apart(1e-6)
    assert apart(1.0) < {"dann": without - 0.02, "coral": without, "mmd": without / 2, "sinkhorn": without / 2}[name]


def test_a_weight_of_two_is_the_jet_twice_and_of_zero_is_none() -> None:
    torch.manual_seed(0)
    cfg = TaskSettings(targets=("label", "mass"), weights="equal", label_smoothing=0.1)
    tasks = Tasks(cfg, 4, ("a", "b", "c"))
    z, labels, mass = torch.randn(4, 4), torch.tensor([0, 1, 2, 1]), torch.tensor([1.0, 2.0, 3.0, 4.0])

    def losses(rows: list[int], weights: list[float] | None) -> list[float]:
        jets = Jets(
            torch.empty(0, 10), torch.zeros(len(rows) + 1).long(), jet={"mass": mass[rows]}, labels=labels[rows]
        )
        found, _ = tasks(z[rows], jets, None if weights is None else torch.tensor(weights))
        return [float(entry.value.detach()) for entry in found.values()]

    # The sum is divided by the number of jets: of mean 1, two twos and two zeros are two jets.
    assert losses([0, 1, 2, 3], [2.0, 0.0, 2.0, 0.0]) == pytest.approx(losses([0, 2], None), rel=1e-5)
    assert losses([0, 1, 2, 3], [1.0] * 4) == pytest.approx(losses([0, 1, 2, 3], None), rel=1e-6)


def test_weights_of_the_source_are_those_of_z_before_the_finetuning(sample_jets: Jets) -> None:
    sample_jets = sample_jets.select(torch.arange(200))
    encoder = tiny_encoder(sample_jets)
    weighing = SourceWeights(ReweightSettings(), encoder)
    weighing.fit([sample_jets], [harder(sample_jets)], seed=0)
    before = weighing(sample_jets)
    nn.init.zeros_(encoder.extra_tokens)
    assert torch.equal(weighing(sample_jets), before)
    assert not torch.allclose(before, torch.ones(len(before)))
    assert float(before.mean()) == pytest.approx(1, abs=0.3)
    # The softest jets of the source look like the target: they count most.
    pt = sample_jets.mean(sample_jets.column("pt")) * sample_jets.lengths
    soft = pt < pt.median()
    assert float(before[soft].mean()) > float(before[~soft].mean())


def test_weights_of_the_source_read_the_inputs_that_the_training_hides(sample_jets: Jets) -> None:
    jets = few_particles(sample_jets.select(torch.arange(40)))
    labelled, encoder, found = torch.arange(0, 40, 2), tiny_encoder(jets), []
    objective = Objective(TaskSettings(), encoder, CLASSES)
    objective.source_weights = weighing = SourceWeights(ReweightSettings(), encoder)
    weighing.fit([jets], [harder(jets).without(("charge", "kind"))], seed=0)
    expected = weighing(jets.select(labelled))
    weighing.register_forward_hook(lambda module, inputs, weights: found.append(weights))
    assert jets.labels is not None
    labels = torch.full((40,), -1).index_copy(0, labelled, jets.labels[labelled])
    objective(replace(jets, labels=labels), 0.5, hide=1.0)
    torch.testing.assert_close(found, [expected])


def test_source_jets_of_weight_0_have_no_part_in_the_weights(sample_jets: Jets) -> None:
    sample_jets = few_particles(sample_jets.select(torch.arange(200)))
    counting, target = torch.arange(0, 200, 3), harder(sample_jets)
    weights = torch.zeros(200)
    weights[counting] = 1.0
    encoder, found = tiny_encoder(sample_jets), []
    for source in (replace(sample_jets, weights=weights), sample_jets.select(counting)):
        weighing = SourceWeights(ReweightSettings(), encoder)
        found.append((weighing.fit([source], [target], seed=0), weighing(target).tolist()))
    assert found[0] == found[1]


def test_the_weights_of_a_student_are_of_z_of_its_teacher(pretrained: Path, class_files: list[JetFile]) -> None:
    more = ("method.adapt=reweight", "method.mode=distil", "method.targets=[]", "model.blocks=1")
    settings, teacher = settings_of(pretrained, class_files, "target.root", *more), load_model(pretrained)
    jets = few_particles(with_columns(read_jets([str(class_files[0].source)], each=20), teacher.columns))
    teacher.facts["training"] = teacher.training | {"columns": [*jets.columns][:-1]}
    weights = attach(build_objective(settings, teacher, ()), settings.method, [TARGET])
    assert weights is not None
    before = weights.fit([jets], [harder(jets)], seed=0)
    known = SourceWeights(ReweightSettings(), teacher.encoder)
    fewer = jets.without({jets.columns[-1]})
    assert before == known.fit([fewer], [harder(fewer)], seed=0)
    assert torch.equal(weights(jets), known(fewer))


@pytest.mark.parametrize(
    ("mode", "more"),
    [
        ("probe", "data.weights=jet_pt"),
        ("full", "data.flatten={by: [jet_pt], bins: [[0, 600, 2000]], how: resample}"),
    ],
)
def test_the_weights_begin_at_the_weights_and_the_spectrum_of_the_source(
    pretrained: Path, class_files: list[JetFile], write_jetclass: Any, tmp_path: Path, mode: str, more: str
) -> None:
    target, found = write_jetclass("target.root", 60, label=None), []
    for name, others in (("plain", ()), ("changed", (more,))):
        common = ("method.adapt=reweight", f"method.mode={mode}", "train.steps=1", *others)
        [line] = lines(finetune(settings_of(pretrained, class_files, target, *common), tmp_path / name), "reweight")
        found.append(line["effective"])
    assert found[0] != found[1]


def test_the_pull_keeps_the_encoder_near_the_pretrained_one(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    def moved(strength: float) -> float:
        more = (f"method.l2_sp={strength}", "method.labels=40", "train.steps=8", "train.weight_decay=0")
        run = finetune(settings_of(pretrained, class_files, None, *more), tmp_path / str(strength))
        before, after = (load_model(path).encoder.state_dict() for path in (pretrained, run))
        return float(sum((after[name] - value).square().sum() for name, value in before.items()))

    assert moved(1000.0) < 0.8 * moved(0.0)


def test_the_pull_is_its_strength_times_half_the_squared_way(batch: Jets) -> None:
    encoder = tiny_encoder(batch)
    term = L2SPTerm(3.0, encoder, encoder.parameters())
    objective = Objective(TaskSettings(), encoder, CLASSES, {"l2_sp": term})
    nn.init.constant_(encoder.missing, 0.5)
    expected = 3 / 2 * 0.25 * encoder.missing.numel()
    assert float(objective(batch, 0.0)["loss_l2_sp"]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("target", "more", "where"),
    [
        (None, ["method.adapt=dann"], "--adapt dann"),
        ("target.root", [], "--domain"),
        ("target.root", ["method.adapt=coral", "method.mode=probe"], "--adapt coral"),
        ("target.root", ["method.adapt=sinkhorn", "method.mode=probe"], "--adapt sinkhorn"),
        (
            "target.root",
            ["method.adapt=mmd", "data.unlabelled_ratio=0.1", "train.batch_size=8"],
            "data.unlabelled_ratio",
        ),
    ],
)
def test_impossible_adaptations_are_refused(
    pretrained: Path, class_files: list[JetFile], target: str | None, more: list[str], where: str
) -> None:
    with pytest.raises(UsageError) as caught:
        settings_of(pretrained, class_files, target, *more)
    assert caught.value.where == where
    assert caught.value.hint is not None


def test_jets_of_the_source_are_not_those_of_the_target(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    settings = settings_of(pretrained, class_files, class_files[0].source, "method.adapt=dann")
    with pytest.raises(UsageError, match="both labelled and unlabelled"):
        finetune(settings, tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
@pytest.mark.parametrize("adapt", ["dann", "reweight"])
def test_an_adaptation_that_is_stopped_and_resumed_is_the_one_that_was_not(
    pretrained: Path,
    class_files: list[JetFile],
    write_jetclass: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    adapt: str,
) -> None:
    target = write_jetclass("target.root", 60, label=None)
    more = (f"method.adapt={adapt}", "method.labels=40", "method.reweight.jets=40", "method.l2_sp=0.1", "train.steps=6")
    settings = settings_of(pretrained, class_files, target, *more)
    whole = finetune(settings, tmp_path / "whole")
    original, taken = MemoryStream.__next__, []

    def taking(self: MemoryStream) -> Jets:
        taken.append(1)
        if len(taken) == 3:
            signal.raise_signal(signal.SIGTERM)
        return original(self)

    monkeypatch.setattr(MemoryStream, "__next__", taking)
    with pytest.raises(Interrupted):
        finetune(settings, tmp_path / "stopped")
    finetune(settings, tmp_path / "stopped", resume=True)
    assert len(taken) == 6
    assert load_model(tmp_path / "stopped").sha256 == load_model(whole).sha256
    assert [line["loss"] for line in lines(tmp_path / "stopped")] == [line["loss"] for line in lines(whole)]
    assert len(lines(tmp_path / "stopped", "reweight")) == (adapt == "reweight")
