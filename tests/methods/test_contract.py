"""The contract that every method keeps (`methods/_method.py`). A new method file is covered by being there."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_jets import methods
from ssl_jets.config import Settings
from ssl_jets.errors import UsageError
from ssl_jets.jets import Jets
from ssl_jets.methods._describe import describe_method, described_recipe, described_settings
from ssl_jets.methods._method import Method
from ssl_jets.nn.encoder import Encoder
from ssl_jets.training import state
from support import two_ranks
from support.content_masks import chance_by_content
from support.ranks import all_ranks
from support.small_models import CLASSES, build_method, few_particles, shuffle_particles, tiny_encoder

WITHOUT_GRADIENT = {"encoder.missing"}
"""Parameters whose gradient is zero while no column is missing."""

every_method = pytest.mark.parametrize("name", methods.names())


def build(name: str, jets: Jets, seed: int = 1, **settings: Any) -> Method:
    return build_method(name, jets, seed, blocks=1, **settings)


def settings_of(
    config: type[Settings], values: dict[str, Any], path: str
) -> Iterator[tuple[str, str | None, str | None]]:
    """Key, default and description of each setting of the class itself."""
    for key, field in config.model_fields.items():
        if isinstance(value := values[key], Settings):
            yield f"{path}.{key}.*", None, field.description
            yield from settings_of(type(value), dict(value), f"{path}.{key}")
        elif key != "name":
            yield f"{path}.{key}", repr(value), field.description


@every_method
def test_settings_described_without_torch_equal_the_settings(name: str) -> None:
    config = methods.find(name).Config
    defaults = {key: field.default for key, field in config.model_fields.items()}
    assert described_settings(name) == list(settings_of(config, defaults, "method"))
    text = inspect.cleandoc(inspect.getmodule(config).__doc__ or "")
    assert describe_method(name).startswith(text + "\n\nSettings")
    assert described_recipe(name) == methods.find(name).recipe
    assert described_recipe(name).layer() == methods.find(name).recipe.layer()


@pytest.fixture
def batch(sample_jets: Jets) -> Jets:
    """16 real jets of all classes with few particles, with labels and jet columns."""
    return few_particles(sample_jets.select(torch.arange(16)))


def loss_of(method: Method, jets: Jets, seed: int = 0, progress: float = 0.5) -> Tensor:
    torch.manual_seed(seed)
    return method(jets, progress)["loss"]


@pytest.fixture
def masks_by_content() -> Iterator[None]:
    with chance_by_content():
        yield


@every_method
def test_the_loss_is_a_finite_scalar_and_its_parts_carry_no_gradient(name: str, batch: Jets) -> None:
    torch.manual_seed(0)
    parts = build(name, batch)(batch, 0.5)
    loss = parts.pop("loss")
    assert loss.shape == ()
    assert loss.isfinite()
    assert loss.requires_grad
    for key, part in parts.items():
        assert part.shape == (), key
        assert part.isfinite(), key
        assert not part.requires_grad, key


@every_method
def test_the_loss_and_its_parts_are_computed_in_float32_under_autocast(name: str, batch: Jets) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = build(name, batch)(batch, 0.5)
    assert all(part.dtype == torch.float32 for part in parts.values()), {key: part.dtype for key, part in parts.items()}


@every_method
def test_the_loss_is_finite_for_the_smallest_jets(name: str, batch: Jets) -> None:
    small = batch.keep(batch.rank_by_pt() < 1 + batch.jet_of_particle % 3)
    assert small.lengths.unique().tolist() == [1, 2, 3]
    method = build(name, batch)
    for jets in (small, small.select(torch.tensor([1])), small.select(torch.tensor([0]))):
        loss = loss_of(method, jets)
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())


@every_method
def test_every_trainable_parameter_gets_a_gradient(name: str, batch: Jets) -> None:
    method = build(name, batch)
    loss_of(method, batch).backward()
    for key, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
            assert parameter.grad.any() or key in WITHOUT_GRADIENT, key


@every_method
def test_a_small_step_against_the_gradient_lowers_the_loss(name: str, batch: Jets) -> None:
    method = build(name, batch)
    before = loss_of(method, batch)
    before.backward()
    learning = [parameter for parameter in method.parameters() if parameter.grad is not None]
    length = torch.stack([parameter.grad.square().sum() for parameter in learning]).sum().sqrt()
    with torch.no_grad():
        for parameter in learning:
            parameter -= 0.01 * parameter.grad / length
    assert loss_of(method, batch) < before - 0.001 * length


COMPARING = [name for name in methods.names() if methods.find(name).compares_views]


@pytest.mark.parametrize("name", COMPARING)
def test_a_jet_paired_with_itself_has_the_loss_of_an_unpaired_jet(name: str, batch: Jets) -> None:
    method, paired = build(name, batch), replace(batch, second=batch.second_view())
    assert torch.equal(loss_of(method, paired), loss_of(method, batch))


@pytest.mark.parametrize("name", COMPARING)
def test_views_without_augmentations_differ_only_in_pairs(name: str, batch: Jets) -> None:
    """Without augmentations both views of a jet are equal, unless the second file has another jet there."""
    key = {"lejepa": "global_view"}.get(name, "views")
    method = build(name, batch, **{key: "none"})
    alone = loss_of(method, batch)
    others = loss_of(method, replace(batch, second=batch.select(torch.arange(16).roll(7)).second_view()))
    assert not torch.isclose(alone, others, rtol=1e-3)


@every_method
def test_methods_that_compare_no_views_do_not_read_the_second_one(name: str, batch: Jets) -> None:
    if name in COMPARING:
        return
    method, second = build(name, batch), batch.select(torch.arange(16).roll(7)).second_view()
    assert torch.equal(loss_of(method, replace(batch, second=second)), loss_of(method, batch))


@every_method
def test_observables_are_regressed_from_z_with_their_weight(name: str, batch: Jets) -> None:
    """Weights 0.5 and 1 of one and the same network: the loss rises in proportion to the error of the observables."""
    method = build(name, batch, observables_weight=0.5)
    method.prepare([batch])
    torch.manual_seed(0)
    parts = method(batch, 0.5)
    error = float(parts["observables_loss"])
    method.cfg = method.cfg.model_copy(update={"observables_weight": 1.0})
    assert float(loss_of(method, batch).detach() - parts["loss"].detach()) == pytest.approx(0.5 * error, rel=1e-3)
    if not method.regresses_observables:
        parts["loss"].backward()
        assert method.auxiliary is not None
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in method.auxiliary.parameters())
        assert method.auxiliary.mean.any()


@every_method
@pytest.mark.usefixtures("masks_by_content")
def test_the_loss_is_blind_to_the_order_of_the_particles(name: str, batch: Jets) -> None:
    method = build(name, batch)
    loss = loss_of(method, batch)
    torch.testing.assert_close(loss_of(method, shuffle_particles(batch)[0]), loss, atol=1e-5, rtol=1e-5)


@every_method
@pytest.mark.usefixtures("masks_by_content")
def test_the_loss_is_the_mean_over_jets_that_do_not_see_each_other(name: str, batch: Jets) -> None:
    if methods.find(name).compares_jets:
        pytest.skip("this method compares the jets of a batch by design")
    method = build(name, batch)
    pieces = torch.arange(len(batch)).split([4, 12])
    mean = sum(len(piece) / len(batch) * loss_of(method, batch.select(piece)) for piece in pieces)
    torch.testing.assert_close(mean, loss_of(method, batch), atol=1e-5, rtol=1e-5)
    backwards = batch.select(torch.arange(len(batch)).flip(0))
    torch.testing.assert_close(loss_of(method, backwards), loss_of(method, batch), atol=1e-5, rtol=1e-5)


@every_method
def test_all_randomness_is_that_of_torchs_generator(name: str, batch: Jets) -> None:
    method = build(name, batch)
    assert torch.equal(loss_of(method, batch, seed=3), loss_of(method, batch, seed=3))


@every_method
def test_the_state_round_trips(name: str, batch: Jets) -> None:
    method, other = build(name, batch), build(name, batch, seed=2)
    assert not torch.equal(loss_of(other, batch), loss_of(method, batch))
    other.load_state_dict(method.state_dict())
    assert torch.equal(loss_of(other, batch), loss_of(method, batch))


@every_method
def test_the_export_is_an_encoder_with_a_finite_z(name: str, batch: Jets) -> None:
    method = build(name, batch)
    method.after_step(0.5)
    exported = method.exported()
    assert isinstance(exported, Encoder)
    z = exported.eval()(batch).z
    assert z.shape == (len(batch), exported.dim)
    assert z.isfinite().all()
    head = method.exported_head()
    if head is not None:
        assert head(z).shape == (len(batch), len(CLASSES))


@every_method
def test_the_settings_are_documented_and_named_after_the_file(name: str) -> None:
    cls = methods.find(name)
    assert cls.Config.model_config.get("extra") == "forbid"
    for key, field in cls.Config.model_fields.items():
        assert field.description, key


@every_method
def test_a_method_is_one_short_file_with_a_formula_and_a_paper(name: str) -> None:
    module = sys.modules[methods.find(name).__module__]
    assert module.__file__ is not None
    assert len(Path(module.__file__).read_text(encoding="utf-8").splitlines()) <= 150
    assert "arXiv" in (module.__doc__ or "")


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="there is no such method") as caught:
        methods.find("supervized")
    assert caught.value.allowed is not None
    assert caught.value.allowed[0] == "supervised"


def test_the_regressed_z_is_of_the_first_encoding_of_every_jet(batch: Jets) -> None:
    """`vicreg` encodes a view of each jet; `supervised` labelled jets only, so that whole jets are encoded again."""
    few = torch.as_tensor(batch.labels).clone()
    few[::2] = -1
    for name, jets in (("vicreg", batch), ("supervised", replace(batch, labels=few))):
        method = build(name, batch, observables_weight=0.5, **({"views": "none"} if name == "vicreg" else {}))
        method.prepare([batch])
        assert method.auxiliary is not None
        z = method.encoder(jets, z_only=True).z
        expected = method.auxiliary.error(z, jets, method.encoder.features).mean()
        torch.testing.assert_close(method(jets, 0.0)["observables_loss"], expected.detach())
        assert not method.encoder._forward_hooks


def without_some_labels(jets: Jets) -> Jets:
    """16 jets of different weights, of which 7 of the first half have a label and 3 of the second."""
    labels = torch.as_tensor(jets.labels).clone()
    labels[[2, 8, 9, 11, 12, 15]] = -1
    return replace(jets, labels=labels, weights=torch.linspace(0.2, 3, 16))


@pytest.fixture(scope="module")
def joined(sample_jets: Jets) -> list[Jets]:
    """The batches of all ranks together."""
    return [
        without_some_labels(few_particles(sample_jets.select(torch.arange(start, start + 16)))) for start in (0, 16)
    ]


@pytest.fixture(scope="module")
def one_rank(joined: list[Jets]) -> dict[str, dict[str, Tensor]]:
    """States of all methods, trained by one process on whole batches."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("make_optimizer", "seed_step"):
            patch.setattr(state, name, getattr(state, name))  # put back what the program replaces
        return two_ranks.train_all(methods.names(), joined, world=1)


def launch(program: Callable[[Path, Path], None], batches: list[Jets], folder: Path) -> list[dict[str, Any]]:
    """States that each of two processes saved, trained on its halves of the batches."""
    torch.save(batches, folder / "batches.pt")
    all_ranks(program, folder / "batches.pt", folder, seconds=900)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def each_of_two(joined: list[Jets], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All methods replicated, some sharded, and resumed runs."""
    return launch(two_ranks.train_on_rank, joined, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def others_of_two(joined: list[Jets], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All other methods sharded, and accumulated batches."""
    return launch(two_ranks.train_others_on_rank, joined, tmp_path_factory.mktemp("ranks"))


def assert_same(alone: dict[str, Tensor], ranks: list[dict[str, Tensor]], batch: Jets) -> None:
    """Assert that both ranks have the same numbers, and one process the same to the rounding of steps of that size."""
    start = tiny_encoder(batch, blocks=two_ranks.BLOCKS).state_dict()
    transformer = [key for key in alone if key.startswith("encoder.transformer")]
    steps = [alone[key] - start[key.removeprefix("encoder.")] for key in transformer]
    moved = max(float(step.abs().max()) for step in steps)
    rounding = max(2e-5, 2e-4 * moved)
    for key, value in alone.items():
        assert torch.equal(ranks[0][key], ranks[1][key]), key
        torch.testing.assert_close(ranks[0][key], value, atol=rounding, rtol=1e-4, msg=lambda text, key=key: key + text)
    assert moved > 0.01  # the steps were large against the tolerance


@every_method
def test_two_ranks_equal_one_rank_on_the_joined_batch_in_parameters_and_buffers(
    name: str, one_rank: dict[str, dict[str, Tensor]], each_of_two: list[dict[str, Any]], batch: Jets
) -> None:
    assert_same(one_rank[name], [states["ddp"][name] for states in each_of_two], batch)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in two_ranks.SHARDED else (pytest.mark.slow,)) for name in methods.names()],
)
def test_two_ranks_that_shard_the_weights_equal_one_rank_on_the_joined_batch(
    name: str, one_rank: dict[str, dict[str, Tensor]], batch: Jets, request: pytest.FixtureRequest
) -> None:
    ranks = request.getfixturevalue("each_of_two" if name in two_ranks.SHARDED else "others_of_two")
    assert_same(one_rank[name], [states["fsdp"][name] for states in ranks], batch)


@pytest.mark.slow
def test_accumulated_batches_and_recomputed_activations_are_the_same_sharded(
    others_of_two: list[dict[str, Any]], batch: Jets
) -> None:
    replicated = others_of_two[0]["accumulated ddp"]["mae"]
    assert_same(replicated, [states["accumulated fsdp"]["mae"] for states in others_of_two], batch)


def close(one: Any, other: Any) -> None:
    """Assert that two checkpoints have the same keys and types, and the same numbers to rounding."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - {"seconds"}:
            close(one[key], other[key])
    elif isinstance(one, list):
        for mine, theirs in zip(one, other, strict=True):
            close(mine, theirs)
    elif isinstance(one, Tensor):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)
    else:
        assert one == other or (one != one and other != other)  # NaN


def test_checkpoints_are_the_same_with_either_strategy_and_resume_with_the_other(
    each_of_two: list[dict[str, Any]],
) -> None:
    runs = each_of_two[0]["resumed"]
    expected = runs.pop("ddp-ddp")
    assert (expected["half"]["step"], expected["whole"]["step"]) == (2, 4)
    assert len(expected["half"]["optimizer"]["state"]) > 20
    for checkpoints in runs.values():
        close(checkpoints["half"], expected["half"])
        close(checkpoints["whole"], expected["whole"])


def test_machines_that_do_not_share_the_run_folder_stop_together_before_the_first_step(
    each_of_two: list[dict[str, Any]],
) -> None:
    for states in each_of_two:
        assert "do not see the same checkpoint" in states["apart"]
        assert "rank 1: none" in states["apart"]
