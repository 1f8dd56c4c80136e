"""The modes: what each trains, what it leaves alone, and that its model is a model like any other."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ssl_jets.config import TrainSettings
from ssl_jets.data.files import JetFile
from ssl_jets.errors import DataError, UsageError
from ssl_jets.finetuning import finetune
from ssl_jets.finetuning.modes import MODES, unused_settings
from ssl_jets.finetuning.modes.distil import DistillationTerm
from ssl_jets.finetuning.modes.freezing import layer_multipliers
from ssl_jets.finetuning.modes.lora import merge
from ssl_jets.finetuning.objective import Objective
from ssl_jets.finetuning.settings import DistilSettings, resolve_finetune
from ssl_jets.finetuning.setup import build_objective
from ssl_jets.jets import Jets
from ssl_jets.model_file import Model, load_model, save_model
from ssl_jets.nn.heads import ClassHead
from ssl_jets.nn.regression import Regressor
from ssl_jets.nn.tasks import TaskSettings
from ssl_jets.training.optimizer import make_optimizer, part_of, set_rates
from support.finetune_settings import settings_of
from support.small_models import CLASSES, tiny_encoder

Begin = Callable[..., Objective]


@pytest.fixture
def batch(sample_jets: Jets) -> Jets:
    """24 real jets of all classes, with their 12 hardest particles."""
    return sample_jets.keep(sample_jets.rank_by_pt() < 12).select(torch.arange(24))


@pytest.fixture
def begun(pretrained: Path, class_files: list[JetFile]) -> Begin:
    """The objective of a mode before its first step."""

    def make(*more: str) -> Objective:
        settings = settings_of(pretrained, class_files[:2], *more)
        return build_objective(settings, load_model(pretrained), class_files[0].label_names)

    return make


def gradients(objective: Objective, jets: Jets) -> set[str]:
    """Names of the parameters that the loss reaches."""
    objective(jets, 0.5)["loss"].backward()
    return {name for name, parameter in objective.named_parameters() if parameter.grad is not None}


def take_steps(objective: Objective, jets: Jets, steps: int = 5, lr: float = 0.01) -> None:
    optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(jets, 0.5)["loss"].backward()
        optimizer.step()


HEADS = {"tasks.head.layers.0.weight", "tasks.head.layers.0.bias"}


def test_head_trains_attention_over_the_tokens_and_keeps_no_graph_of_the_encoder(begun: Begin, batch: Jets) -> None:
    objective = begun("method.mode=head")
    assert objective.encoder.cfg.pool == "attention"
    assert not objective.encoder(batch).tokens.requires_grad
    found = gradients(objective, batch)
    assert found == HEADS | {name for name, _ in objective.named_parameters() if name.startswith("encoder.pool.")}


def test_every_mode_that_trains_an_encoder_heeds_the_pooling_setting(begun: Begin, tmp_path: Path) -> None:
    for mode in ("last-blocks", "full", "scratch"):
        assert begun(f"method.mode={mode}", "method.pool=mean").encoder.cfg.pool == "mean"


@pytest.mark.parametrize("mode", MODES)
def test_weights_are_pulled_to_pretrained_ones_and_never_to_random_ones(
    begun: Begin, pretrained: Path, mode: str
) -> None:
    pool = () if mode == "probe" else ("method.pool=attention",)
    objective = begun(f"method.mode={mode}", "method.l2_sp=0.1", *pool)
    uses = mode in ("last-blocks", "full")
    assert ("l2_sp" in objective.terms) == uses
    assert ("method.l2_sp" in unused_settings(objective.cfg)) != uses  # type: ignore[arg-type]
    if uses:
        before, after = load_model(pretrained).encoder.state_dict(), dict(objective.encoder.named_parameters())
        learning = {name for name, weight in after.items() if weight.requires_grad}
        assert set(objective.terms["l2_sp"].names) == learning & before.keys() < learning


def test_the_random_weights_of_scratch_are_those_of_the_seed(begun: Begin) -> None:
    first, same, other = (
        begun("method.mode=scratch", f"train.seed={seed}").encoder.embed[0].weight for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("blocks", [1, 2])
def test_last_blocks_trains_the_last_blocks_norm_and_head(begun: Begin, batch: Jets, blocks: int) -> None:
    objective = begun("method.mode=last-blocks", f"method.blocks={blocks}")
    learning = (
        "encoder.transformer.norm",
        *(f"encoder.transformer.blocks.{number}." for number in range(2 - blocks, 2)),
    )
    expected = HEADS | {name for name, _ in objective.named_parameters() if name.startswith(learning)}
    assert gradients(objective, batch) == expected


def test_last_refuses_more_blocks_than_there_are(begun: Begin) -> None:
    with pytest.raises(UsageError, match="fewer blocks") as caught:
        begun("method.mode=last-blocks", "method.blocks=3")
    assert caught.value.allowed == ["1 to 2"]


@pytest.mark.parametrize("more", [(), ("method.lora.dora=true",), ("method.lora.targets=[qkv]", "method.lora.rank=3")])
def test_lora_merged_and_saved_gives_the_z_and_logits_of_the_adapted_model(
    begun: Begin, batch: Jets, pretrained: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    objective = begun("method.mode=lora", *more)
    before = load_model(pretrained).encoder
    take_steps(objective, batch)
    objective.eval()
    with torch.no_grad():
        z = objective.encoder(batch).z
        logits = objective.tasks.head(z)  # type: ignore[misc]
        moved = (z - before(batch).z).abs().max()
    assert moved > 0.1  # far above the tolerance below
    merge(objective.encoder)
    save_model(Model(objective.encoder, objective.tasks.head, labels=objective.labels), tmp_path / "model")
    loaded = load_model(tmp_path)
    assert set(loaded.encoder.state_dict()) == set(before.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(loaded.encoder(batch).z, z, atol=2e-5, rtol=2e-5)
        torch.testing.assert_close(loaded.head(loaded.encoder(batch).z), logits, atol=1e-4, rtol=1e-4)  # type: ignore[misc]


def test_lora_starts_as_the_pretrained_model_and_trains_small_factors_only(
    begun: Begin, batch: Jets, pretrained: Path
) -> None:
    objective = begun("method.mode=lora", "method.lora.rank=2")
    with torch.no_grad():
        torch.testing.assert_close(objective.encoder(batch).z, load_model(pretrained).encoder(batch).z)
    found = gradients(objective, batch)
    assert {name for name in found if "blocks" in name and "lora_" not in name} == set()
    assert {module.scaling["default"] for module in objective.modules() if hasattr(module, "scaling")} == {16 / 2}
    shapes = {tuple(p.shape) for name, p in objective.named_parameters() if "lora_A" in name}
    assert shapes == {(2, 64), (2, 256)}


def test_lora_without_peft_names_the_extra(begun: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError, match="needs the package peft") as caught:
        begun("method.mode=lora")
    assert "ssl-jets[lora]" in str(caught.value.hint)


def test_rates_fall_from_the_top_and_blocks_join_from_the_top() -> None:
    decayed = layer_multipliers(4, 0.5, 0.0, 0.0)
    names = [f"encoder.transformer.blocks.{block}." for block in range(4)]
    assert [decayed[name] for name in names] == [0.5**4, 0.5**3, 0.5**2, 0.5]
    assert (decayed["encoder."], decayed["encoder.transformer.norm"]) == (0.5**5, 1.0)
    for progress, joined in ((0.0, 0), (0.1, 1), (0.26, 3), (0.5, 4), (1.0, 4)):
        found = layer_multipliers(4, 1.0, 0.4, progress)
        assert sum(found[name] > 0 for name in names) == joined, progress
    assert min(layer_multipliers(4, 1.0, 0.4, 0.4).values()) == 1.0


def test_every_parameter_is_in_one_group_with_the_rate_of_its_layer(begun: Begin) -> None:
    objective = begun("method.layer_decay=0.5")
    settings = TrainSettings()
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    groups = make_optimizer(objective, settings).param_groups
    assert sorted(names[id(p)] for group in groups for p in group["params"]) == sorted(names.values())
    for group in groups:
        for parameter in group["params"]:
            assert part_of(names[id(parameter)], objective.lr_multipliers(0.0)) == group["part"]
    parts = {names[id(p)]: group["part"] for group in groups for p in group["params"]}
    assert parts["encoder.transformer.blocks.1.qkv.bias"] == "encoder.transformer.blocks.1."
    assert parts["encoder.embed.0.weight"] == "encoder."
    assert parts["tasks.head.layers.0.weight"] == ""


def test_frozen_blocks_do_not_move_before_they_are_unfrozen(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    more = ("method.unfreeze=1.0", "method.labels=40", "train.steps=2", "train.warmup=0")
    after = load_model(finetune(settings_of(pretrained, class_files[:2], *more), tmp_path / "r")).encoder
    before = load_model(pretrained).encoder.state_dict()
    changed = {name for name, value in after.state_dict().items() if not torch.equal(value, before[name])}
    # Of 3 layers, the upper one has joined when half of the steps are done.
    assert {name.split(".")[2] for name in changed if "blocks" in name} == {"1"}
    assert not any(name.startswith(("embed", "extra")) for name in changed)


@pytest.mark.parametrize(("mode", "rate"), [("full", 1), ("lora", 10)])
def test_lp_ft_starts_from_the_heads_of_the_probe(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path, mode: str, rate: float
) -> None:
    shared = ("method.labels=40", "train.steps=1")
    settings = settings_of(pretrained, class_files[:2], "method.mode=probe", *shared)
    probe = load_model(finetune(settings, tmp_path / "probe")).head
    more = (f"method.mode={mode}", "method.probe_first=true", "train.warmup=0.9")
    both = load_model(finetune(settings_of(pretrained, class_files[:2], *more, *shared), tmp_path / "both")).head
    assert probe is not None
    assert both is not None
    apart = (both.layers[0].weight - probe.layers[0].weight).abs().max()
    assert apart < 1.1 * rate * settings.train.lr * 2 < (probe.layers[0].weight.abs().max())


@pytest.mark.parametrize("mode", ["head", "last-blocks", "lora", "distil"])
def test_every_mode_leaves_a_model_that_is_read_like_any_other_and_can_be_resumed(
    pretrained: Path, class_files: list[JetFile], batch: Jets, tmp_path: Path, mode: str
) -> None:
    start = pretrained
    if mode == "distil":
        start = finetune(settings_of(pretrained, class_files[:2], "method.labels=40"), tmp_path / "teacher")
    settings = settings_of(start, class_files[:2], f"method.mode={mode}", "method.labels=40")
    out = finetune(settings, tmp_path / "r")
    model = load_model(out)
    assert all(parameter.requires_grad for parameter in model.encoder.parameters())
    assert model.head is not None
    with torch.inference_mode():
        assert model.head(model.encoder(batch).z).shape == (24, 10)
    assert {type(module) for module in model.encoder.modules() if isinstance(module, nn.Linear)} == {nn.Linear}
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["training"]["mode"] == mode
    assert config["training"]["peak_memory"] > 10**8
    assert config["parameters"] == sum(p.numel() for part in (model.encoder, model.head) for p in part.parameters())
    digest = model.sha256
    finetune(settings, out, resume=True)
    assert load_model(out).sha256 == digest


def test_z_alone_has_the_low_rank_updates_of_the_last_block(begun: Begin, batch: Jets) -> None:
    encoder = begun("method.mode=lora").encoder
    plain = encoder(batch).z
    with torch.no_grad():
        for name, weight in encoder.transformer.blocks[-1].named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
        full, alone = encoder(batch).z, encoder(batch, z_only=True).z
    assert (full - plain).abs().max() > 0.1
    torch.testing.assert_close(alone, full, atol=1e-5, rtol=1e-5)


@pytest.fixture
def teacher(pretrained: Path, tmp_path: Path) -> Callable[[tuple[str, ...]], Path]:
    """A model with a head for these classes that is sure of itself."""

    def make(labels: tuple[str, ...]) -> Path:
        model = load_model(pretrained)
        torch.manual_seed(3)
        head = ClassHead(model.encoder.dim, len(labels))
        head.layers[0].weight.data.mul_(10)
        save_model(Model(model.encoder, head, labels=labels, facts=model.facts), tmp_path / "teacher" / "model")
        return tmp_path / "teacher"

    return make


def test_the_loss_of_a_student_is_that_of_its_formula_jet_by_jet(batch: Jets) -> None:
    torch.manual_seed(0)
    columns = {"y": torch.randn(24), "x": 100 * torch.rand(24)}
    jets = replace(batch, jet=columns, labels=torch.arange(24) % 3)
    head, regressor = ClassHead(64, 3), Regressor(64, ("x", "y"))
    head.layers[0].weight.data.mul_(10)
    regressor.targets.fit_statistics([jets])
    known = Model(tiny_encoder(batch, seed=7, blocks=1), head, ("a", "b", "c"), regressor=regressor)
    known.encoder.transformer.norm.weight.data.mul_(3)  # z of length 1 at first
    term = DistillationTerm(known, 64, DistilSettings(temperature=3.0, outputs=0.7, z=0.3))
    # Classes and columns in another order, and columns in another scale.
    cfg, classes = TaskSettings(targets=("label", "y", "x")), ("c", "a", "b")
    objective = Objective(cfg, tiny_encoder(batch, blocks=1), classes, {"teacher": term})
    objective.tasks.fit_statistics([jets.select(torch.arange(12))])
    assert objective.tasks.head is not None
    assert objective.tasks.regressor is not None
    total, dim = 0.0, 64
    with torch.no_grad():
        found = float(objective(jets, 0.0)["loss_teacher"])
        for one in (jets.select(torch.tensor([jet])) for jet in range(24)):
            z, taught = objective.encoder(one).z, known.encoder(one).z
            normalized = (taught - taught.mean()) / taught.std(correction=0)
            total += 0.3 * float((term.to_teacher(z) - normalized).square().sum()) / dim
            logits = dict(zip(("a", "b", "c"), head(taught)[0] / 3, strict=True))
            p = torch.stack([logits[name] for name in classes]).softmax(0)
            q = (objective.tasks.head(z)[0] / 3).softmax(0)
            total += 0.7 * 9 * float((p * (p / q).log()).sum())
            physical = regressor.physical(taught)[0]
            targets = objective.tasks.regressor.targets.standardised(physical[[1, 0]])
            total += 0.7 * float((targets - objective.tasks.regressor(z)[0]).square().sum())
    assert found == pytest.approx(total / 24, rel=1e-3)


def test_a_student_learns_the_predictions_of_its_teacher(
    teacher: Callable[[tuple[str, ...]], Path], class_files: list[JetFile], batch: Jets
) -> None:
    labels = class_files[0].label_names
    path = teacher(labels[::-1])  # its classes stand in another order
    more = ("method.mode=distil", "model.registers=2", "method.distil.outputs=5")
    objective = build_objective(settings_of(path, class_files[:2], *more), load_model(path), labels)
    assert objective.encoder.cfg.registers == 2
    known = load_model(path)

    def agreement() -> float:
        with torch.no_grad():
            taught = known.head(known.encoder(batch).z).flip(1).argmax(1)  # type: ignore[misc]
            return float((objective.tasks.head(objective.encoder(batch).z).argmax(1) == taught).float().mean())  # type: ignore[misc]

    before = float(objective(batch, 0.0)["loss_teacher"])
    take_steps(objective, batch, 40, lr=3e-3)
    assert float(objective(batch, 0.0)["loss_teacher"]) < before / 2
    assert agreement() > 0.6
    for name, value in objective.terms["teacher"].encoder.state_dict().items():
        assert torch.equal(value, known.encoder.state_dict()[name])


def test_a_student_of_a_size_has_its_width_whatever_the_width_of_the_teacher(batch: Jets, tmp_path: Path) -> None:
    facts = {"training": {"validation_fraction": 0.1, "split_seed": 0}}
    head = ClassHead(16, 2)
    save_model(Model(tiny_encoder(batch, width=16, heads=2), head, ("a", "b"), facts), tmp_path / "teacher" / "model")
    distil = {"method": {"mode": "distil"}}
    assert resolve_finetune(tmp_path / "teacher", distil).model.shape == (16, 4, 2)
    assert resolve_finetune(tmp_path / "teacher", distil, {"model": {"size": "tiny"}}).model.shape == (64, 4, 2)


def test_a_teacher_without_heads_has_a_student_of_its_z_that_reads_no_labels(
    begun: Begin, pretrained: Path, class_files: list[JetFile], sample_jets: Jets, tmp_path: Path
) -> None:
    batch = sample_jets.select(torch.arange(32))  # all particles: z of short jets are alike
    assert resolve_finetune(pretrained, {"method": {"mode": "distil"}}).method.targets == ()
    objective, unlabelled = begun("method.mode=distil"), replace(batch, labels=None)
    before = objective(batch, 0.5)
    assert torch.equal(before["loss"], objective(unlabelled, 0.5)["loss"])
    assert torch.equal(before["loss"], before["loss_teacher"])
    for _ in range(2):  # the optimizer starts again
        take_steps(objective, unlabelled, 20, lr=3e-3)
    assert objective(batch, 0.5)["loss"].item() < before["loss"].item() / 2
    with torch.no_grad():  # the z of another jet is not taught
        z = objective.encoder(batch).z.roll(1, 0)
        assert float(objective.terms["teacher"](objective, z, batch, 0.5)) > 1.5 * float(objective(batch, 0.5)["loss"])
    settings = settings_of(pretrained, class_files[:2], "method.mode=distil", "method.l2_sp=1")
    out = finetune(settings, tmp_path / "student")
    model = load_model(out)
    assert (model.head, model.regressor) == (None, None)
    assert model.facts["training"]["labelled_jets"] is None
    log = (out / "log.txt").read_text()
    assert "targets: z of the teacher;" in log
    assert "labelled jets" not in log
    assert "mode distil does not use method.l2_sp\n" in log


def test_the_teacher_reads_the_inputs_that_are_hidden_from_its_student(begun: Begin, batch: Jets) -> None:
    objective = begun("method.mode=distil")
    teacher, columns = objective.terms["teacher"].encoder, {}
    for encoder in (teacher, objective.encoder):
        encoder.register_forward_hook(lambda module, inputs, _: columns.update({module: inputs[0].columns}))
    objective(replace(batch, labels=None), 0.0, 1.0)
    assert columns == {teacher: batch.columns, objective.encoder: ("pt", "deta", "dphi", "energy")}


def test_labels_are_not_distilled_from_a_teacher_without_heads(begun: Begin) -> None:
    with pytest.raises(UsageError, match=r"no head[^$]*method\.targets=\[\]"):
        begun("method.mode=distil", "method.targets=[label]")
    with pytest.raises(UsageError, match="there is a target"):
        begun("method.mode=distil", "method.distil.z=0")


def test_a_teacher_of_other_classes_is_refused(
    teacher: Callable[[tuple[str, ...]], Path], class_files: list[JetFile]
) -> None:
    path = teacher(("QCD", "Hbb"))
    settings = settings_of(path, class_files[:2], "method.mode=distil")
    with pytest.raises(DataError, match="classes of the teacher"):
        build_objective(settings, load_model(path), class_files[0].label_names)


def test_a_probe_cannot_learn_attention(begun: Begin) -> None:
    with pytest.raises(UsageError, match="trains heads only"):
        begun("method.mode=probe", "method.pool=attention")


def test_the_encoder_of_every_mode_has_the_statistics_of_the_pretrained_one(begun: Begin, pretrained: Path) -> None:
    before = load_model(pretrained).encoder.features.mean
    for mode in set(MODES) - {"distil"}:
        assert torch.equal(begun(f"method.mode={mode}").encoder.features.mean, before)


def test_where_few_weights_learn_they_learn_at_ten_times_the_rate(
    pretrained: Path, class_files: list[JetFile], tmp_path: Path
) -> None:
    shared = ("method.labels=40", "train.steps=1", "train.lr=1e-5", "train.warmup=0", "train.weight_decay=0")
    moved = {}
    for mode in ("full", "last-blocks", "lora"):
        settings = settings_of(pretrained, class_files[:2], f"method.mode={mode}", *shared)
        before = load_model(pretrained).encoder.transformer.norm.weight
        after = load_model(finetune(settings, tmp_path / mode)).encoder.transformer.norm.weight
        moved[mode] = float((after - before).abs().max().detach())
    # The first step of AdamW is the rate, whatever the gradient.
    assert moved == pytest.approx({"full": 1e-5, "last-blocks": 1e-4, "lora": 1e-4}, rel=0.05)
    settings = settings_of(pretrained, class_files[:2], "method.mode=head", *shared)
    objective = build_objective(settings, load_model(pretrained), CLASSES[:2])
    assert objective.lr_multipliers(0.5) == {"": 10.0, "weights.": 1.0}


@pytest.mark.parametrize("mode", ["head", "last-blocks"])
def test_uncertainties_of_tasks_learn_at_the_rate_of_a_full_training(mode: str, begun: Begin) -> None:
    objective = begun(f"method.mode={mode}", "method.targets=[label,jet_sdmass]", "method.blocks=1")
    optimizer = make_optimizer(objective, TrainSettings(lr=1e-3))
    set_rates(optimizer, 1e-3, objective.lr_multipliers(0.5))
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    own = {name: rates[id(weight)] for name, weight in objective.named_parameters() if weight.requires_grad}
    assert own.pop("weights.log_sigma") == pytest.approx(1e-3)
    assert list(own.values()) == pytest.approx([1e-2] * len(own))
