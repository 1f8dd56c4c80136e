"""Augmentations keep exactly what they declare to keep."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssl_jets.jets import Jets
from ssl_jets.nn import random
from ssl_jets.nn.augment import (
    AUGMENTATIONS,
    Views,
    beam,
    crop_hardest,
    crop_region,
    drop,
    hide_kind,
    make_view,
    reflect,
    resolution,
    rotate,
    shift,
    smear,
    split,
)
from support.content_masks import chance_by_content
from support.paths import ROOT
from support.small_models import made_jets, shuffle_particles, without_columns

STRONG = {
    "rotate": math.pi, "reflect": 0.5, "boost": 0.9, "shift": 0.3, "crop_region": 0.9, "crop_hardest": 0.9,
    "thin": 0.9, "drop": 0.99, "split": 1.0, "smear": 0.5, "resolution": 1.0, "beam": 2.0,
    "hide_tracks": 1.0, "hide_kind": 1.0,
}  # fmt: skip
SMALLEST = {name for name, field in Views.model_fields.items() if field.default > 0}

Augmentation = Callable[[Jets, float], Jets]


TRACKS = ("d0", "d0err", "dz", "dzerr")
ALL_BUT_PLACE = ("energy", "charge", "kind", *TRACKS)

every = pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda augmentation: augmentation.__name__)
lengths_of_jets = st.lists(st.integers(1, 25), min_size=1, max_size=6)
jets_to_draw = st.builds(made_jets, lengths_of_jets, st.integers(0, 1000))
plain = settings(deadline=None, max_examples=8, derandomize=True)


def one_by_one(jets: Jets) -> list[dict[str, Tensor]]:
    """The columns of each jet, float64."""
    return [
        dict(zip(jets.columns, part.double().unbind(1), strict=True))
        for part in jets.particles.split(jets.lengths.tolist())
    ]


def distances(jet: dict[str, Tensor]) -> Tensor:
    deta, dphi = (jet[name][:, None] - jet[name][None, :] for name in ("deta", "dphi"))
    return torch.hypot(deta, dphi)


def flow(jet: dict[str, Tensor]) -> list[float]:
    """Moments of the flow of pt over the plane: blind to soft particles and to collinear splitting."""
    weights = [jet["deta"] * 0 + 1, jet["deta"], jet["dphi"], jet["deta"] ** 2, jet["deta"] * jet["dphi"]]
    return [float((jet["pt"] * weight).sum() / 1000) for weight in weights]


MEASURES: dict[str, Callable[[dict[str, Tensor]], list[float]]] = {
    "pt": lambda jet: [float(jet["pt"].sum())],
    "energy": lambda jet: [float(jet["energy"].sum())],
    "mass": lambda jet: [float((jet["pt"][:, None] * jet["pt"] * distances(jet) ** 2).sum() / 2) ** 0.5],
    "multiplicity": lambda jet: [float(len(jet["pt"]))],
    "angles": lambda jet: distances(jet).flatten().sort().values.tolist(),
    "charge": lambda jet: [float(jet["charge"].sum())],
    "displacement": lambda jet: [
        value for name in ("d0", "dz") for value in jet[name][jet[name] != 0].abs().sort().values.tolist()
    ],
    "lifetime sign": lambda jet: [float((jet["d0"] * jet["dphi"]).sign().sum())],
    "kind": lambda jet: torch.bincount(jet["kind"].long(), minlength=6).tolist(),
    "IRC": flow,
}
"""Meaning of each word of the table of invariants for a jet, written without any of the code under test."""


def documented() -> dict[str, set[str]]:
    """The invariants of each augmentation, in the table of the docs."""
    text = (ROOT / "docs" / "augmentations.md").read_text(encoding="utf-8")
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    of_invariants = [row for row in rows if len(row) == 1 + len(MEASURES)]
    assert of_invariants[0][1:] == list(MEASURES)
    return {
        name: {word for word, cell in zip(MEASURES, cells, strict=True) if cell} for name, *cells in of_invariants[2:]
    }


KEPT = documented()


def is_kept(word: str, before: Jets, after: Jets) -> bool:
    """Whether every jet has the same measure of `word` as before."""
    measure, scale = MEASURES[word], 0.02 if word == "IRC" else 1e-4
    for old, new in zip(one_by_one(before), one_by_one(after), strict=True):
        try:
            wanted, found = measure(old), measure(new)
        except KeyError:  # the column is gone
            return False
        if found != pytest.approx(wanted, rel=scale, abs=scale):
            return False
    return True


def hard(jets: Jets) -> Jets:
    """The jets with particles of 100 GeV and more."""
    particles = jets.particles.clone()
    particles[:, jets.columns.index("pt")] += 100
    return replace(jets, particles=particles)


def apply(augmentation: Augmentation, jets: Jets, strength: float | None = None, seed: int = 0) -> Jets:
    torch.manual_seed(seed)
    return augmentation(jets, STRONG[augmentation.__name__] if strength is None else strength)


def test_every_setting_of_a_view_is_an_augmentation_in_that_order() -> None:
    names = [augmentation.__name__ for augmentation in AUGMENTATIONS]
    assert names == list(Views.model_fields) == list(STRONG) == list(KEPT)


@every
@plain
@given(jets=jets_to_draw, seed=st.integers(0, 100))
def test_documented_invariants_stay(augmentation: Augmentation, jets: Jets, seed: int) -> None:
    for word in KEPT[augmentation.__name__]:
        before = hard(jets) if word == "IRC" else jets
        assert is_kept(word, before, apply(augmentation, before, seed=seed)), word


@every
def test_everything_else_changes(augmentation: Augmentation) -> None:
    jets = made_jets([20] * 20)
    for word in set(MEASURES) - KEPT[augmentation.__name__]:
        before = hard(jets) if word == "IRC" else jets
        assert not is_kept(word, before, apply(augmentation, before)), word


@every
def test_documented_invariants_hold_for_real_jets(augmentation: Augmentation, batch: Jets) -> None:
    batch = batch.select(torch.arange(16))
    after = apply(augmentation, batch)
    for word in KEPT[augmentation.__name__] - {"IRC"}:
        assert is_kept(word, batch, after), word


@every
@plain
@given(jets=jets_to_draw, share=st.floats(0.01, 1), seed=st.integers(0, 100))
def test_jets_stay_whole_at_every_strength(augmentation: Augmentation, jets: Jets, share: float, seed: int) -> None:
    after = apply(augmentation, jets, share * STRONG[augmentation.__name__], seed)
    assert len(after) == len(jets)
    assert after.lengths.min() >= 1
    assert after.offsets[-1] == len(after.particles)
    assert after.particles.dtype == jets.particles.dtype
    assert after.particles.isfinite().all()
    assert (after.column("pt") > 0).all()
    assert after.labels is jets.labels
    assert after.source is jets.source


@every
def test_the_input_is_not_changed_in_place(augmentation: Augmentation) -> None:
    jets = made_jets([1, 5, 20])
    particles, offsets = jets.particles.clone(), jets.offsets.clone()
    apply(augmentation, jets)
    assert torch.equal(jets.particles, particles)
    assert torch.equal(jets.offsets, offsets)


@every
def test_strength_zero_changes_nothing(augmentation: Augmentation) -> None:
    jets = made_jets([1, 5, 20])
    if augmentation.__name__ == "beam":  # it puts the axis at an eta of 0
        energy = jets.column("pt") * jets.column("deta").cosh()
        jets = replace(jets, particles=jets.particles.clone())
        jets.particles[:, jets.columns.index("energy")] = energy
    after = apply(augmentation, jets, 0.0)
    assert torch.equal(after.particles, jets.particles)
    assert torch.equal(after.offsets, jets.offsets)
    assert after.columns == jets.columns


@every
def test_a_stronger_augmentation_changes_more(augmentation: Augmentation) -> None:
    jets = made_jets([30] * 10)

    def change(strength: float) -> float:
        after = apply(augmentation, jets, strength)
        if after.particles.shape != jets.particles.shape:
            return abs(after.particles.numel() - jets.particles.numel())
        return float((after.particles - jets.particles).abs().sum())

    if augmentation.__name__ == "reflect":
        assert 0 < change(0.5) < change(1.0)
    else:
        strong = STRONG[augmentation.__name__]
        assert change(0.1 * strong) < change(0.5 * strong) or augmentation.__name__.startswith("hide")
        assert change(strong) > 0


@every
def test_augmented_jets_depend_on_the_seed_alone(augmentation: Augmentation) -> None:
    jets = made_jets([30] * 10)
    first, again = (apply(augmentation, jets, seed=1).particles for _ in range(2))
    assert torch.equal(first, again)
    if not augmentation.__name__.startswith("hide"):
        other = apply(augmentation, jets, seed=2).particles
        assert other.shape != first.shape or not torch.equal(other, first)


@every
def test_all_chance_comes_from_nn_chance(augmentation: Augmentation, monkeypatch: pytest.MonkeyPatch) -> None:
    jets = made_jets([30] * 10)
    monkeypatch.setattr(random, "uniform", lambda jets: torch.full((len(jets.particles),), 0.3).double())
    monkeypatch.setattr(random, "uniform_per_jet", lambda jets: torch.full((len(jets),), 0.3).double())
    monkeypatch.setattr(random, "once", lambda: 0.3)
    first, second = (apply(augmentation, jets, seed=seed) for seed in (0, 1))
    assert torch.equal(first.particles, second.particles)
    assert first.columns == second.columns


@every
def test_a_jet_is_augmented_the_same_in_any_order_and_company(augmentation: Augmentation) -> None:
    jets = made_jets([3, 1, 12, 20, 7])
    with chance_by_content():
        whole = apply(augmentation, jets)
        part = apply(augmentation, jets.select(torch.tensor([3, 0])))
        shuffled = apply(augmentation, shuffle_particles(jets)[0])
    # Not equal: cosh of four numbers at once and of one differ in the last bit.
    torch.testing.assert_close(part.particles, whole.select(torch.tensor([3, 0])).particles)
    for one, other in zip(one_by_one(whole), one_by_one(shuffled), strict=True):
        for name, values in one.items():
            torch.testing.assert_close(values.sort().values, other[name].sort().values, atol=1e-6, rtol=1e-6)


@every
@pytest.mark.parametrize("missing", [("energy",), ("charge",), ("kind",), TRACKS, ALL_BUT_PLACE], ids="-".join)
def test_missing_columns_stay_missing_and_the_others_are_augmented(
    augmentation: Augmentation, missing: tuple[str, ...]
) -> None:
    jets = made_jets([1, 5, 20])
    after = apply(augmentation, without_columns(jets, *missing))
    assert not set(after.columns) & set(missing)
    if not set(missing) & {"charge", "kind"}:
        whole = without_columns(apply(augmentation, jets), *missing)
        assert torch.equal(after.particles, whole.particles)


def test_tracks_are_not_split_however_they_are_marked() -> None:
    jets = made_jets([40] * 5)
    for missing in (("charge",), ("charge", "kind")):
        bare = without_columns(jets, *missing)
        torch.manual_seed(0)
        after = split(bare, 1.0)
        assert len(after.particles) > len(bare.particles)
        assert int((after.column("d0") != 0).sum()) == int((bare.column("d0") != 0).sum())


def test_the_halves_of_a_split_particle_add_up_and_none_is_tiny() -> None:
    jets = made_jets([40] * 20)
    torch.manual_seed(0)
    after = split(jets, 1.0)
    neutral = jets.column("charge") == 0
    halves = after.column("pt")[after.column("charge") == 0].view(-1, 2)
    torch.testing.assert_close(halves.sum(1), jets.column("pt")[neutral])
    share = (halves.min(1).values / halves.sum(1)).sort().values
    assert 0.05 <= share[0] < 0.06
    assert share.median() == pytest.approx(0.275, abs=0.03)


def test_rotations_are_spread_over_the_circle_and_the_same_for_a_jet(batch: Jets) -> None:
    jets = made_jets([3] * 2000)
    after = apply(rotate, jets)
    angle = torch.atan2(after.column("dphi"), after.column("deta")) - torch.atan2(
        jets.column("dphi"), jets.column("deta")
    )
    turned = torch.polar(torch.ones_like(angle), angle).view(-1, 3)
    torch.testing.assert_close(turned[:, 0], turned[:, 1], atol=1e-3, rtol=0)
    assert abs(turned[:, 0].mean()) < 0.08
    assert torch.histc(turned[:, 0].angle(), 4, -math.pi, math.pi).min() > 400


def test_chance_moves_jets_and_particles_by_the_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    jets = made_jets([4, 9])
    pt, deta, dphi, energy, d0, dz = (
        jets.column(name) for name in ("pt", "deta", "dphi", "energy", "d0", "dz")
    )  # fmt: skip
    monkeypatch.setattr(random, "normal", lambda jets, width: torch.tensor([1.0, -1.0])[:width].expand(13, -1))
    chance = iter([1.0, 0.25, 0.9, 0.0])  # of shift in deta and in dphi, of beam, of reflect
    monkeypatch.setattr(random, "uniform_per_jet", lambda jets: torch.full((2,), next(chance)).double())

    def check(after: Jets, **expected: Tensor) -> None:
        before = {name: jets.column(name) for name in jets.columns}
        for name, values in (before | expected).items():
            torch.testing.assert_close(after.column(name), values, rtol=1e-5, atol=1e-6)

    check(shift(jets, 0.3), deta=deta + 0.3, dphi=dphi - 0.15)
    check(beam(jets, 2.0), energy=pt * (1.8 + deta).cosh())
    check(reflect(jets, 0.5), dphi=-dphi, d0=-d0, dz=dz)
    width = (0.5 / pt).clamp(max=0.1)
    check(smear(jets, 0.5), deta=deta + width, dphi=dphi - width)
    factor = (2.0 / pt.sqrt()).clamp(max=1).exp()
    check(resolution(jets, 2.0), pt=pt * factor, energy=energy * factor)


def test_crops_keep_the_hardest_and_the_nearest(batch: Jets) -> None:
    jets = made_jets([20] * 30)
    for before, after in zip(one_by_one(jets), one_by_one(apply(crop_hardest, jets))):
        kept = len(after["pt"])
        assert 2 <= kept <= 20
        assert set(after["pt"].tolist()) == set(before["pt"].sort(descending=True).values[:kept].tolist())
    for before, after in zip(one_by_one(jets), one_by_one(apply(crop_region, jets))):
        kept = torch.isin(before["pt"], after["pt"])
        # Of one of the kept ones, the kept are the nearest.
        assert any(
            bool(kept[row.argsort()[: int(kept.sum())]].all()) for row, inside in zip(distances(before), kept) if inside
        )


def test_soft_particles_are_lost_at_the_set_rate_and_the_hardest_never() -> None:
    pt = torch.tensor([50.0, 4.0, 2.0, 0.5, 1e-3]).repeat(4000)
    jets = made_jets([5] * 4000)
    jets = replace(jets, particles=torch.cat([pt[:, None], jets.particles[:, 1:]], dim=1))
    after = apply(drop, jets, 0.8)
    for value in (50.0, 4.0, 2.0, 0.5, 1e-3):
        lost = 1 - float((after.column("pt") == value).sum()) / 4000
        assert lost == pytest.approx(0.8 * math.exp(-value / 2), abs=0.03)


def test_hidden_columns_are_hidden_at_the_set_rate() -> None:
    jets = made_jets([2])
    torch.manual_seed(0)
    hidden = sum("kind" not in hide_kind(jets, 0.3).columns for _ in range(2000))
    assert hidden / 2000 == pytest.approx(0.3, abs=0.05)


def test_a_view_applies_its_augmentations_in_the_order_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    from ssl_jets.nn import augment

    called: list[tuple[str, float]] = []

    def spy(name: str) -> Augmentation:
        def augmentation(jets: Jets, strength: float) -> Jets:
            called.append((name, strength))
            return jets

        augmentation.__name__ = name
        return augmentation

    monkeypatch.setattr(augment, "AUGMENTATIONS", tuple(map(spy, STRONG)))
    make_view(made_jets([3]), Views(**STRONG))
    assert called == list(STRONG.items())
    called.clear()
    make_view(made_jets([3]), Views())
    assert {name for name, _ in called} == SMALLEST


def test_a_view_without_any_augmentation_is_the_jets_themselves() -> None:
    jets = made_jets([3])
    assert make_view(jets, Views(**dict.fromkeys(STRONG, 0.0))) is jets


@plain
@given(jets=jets_to_draw, seed=st.integers(0, 100))
def test_all_augmentations_together_leave_whole_jets(jets: Jets, seed: int) -> None:
    torch.manual_seed(seed)
    view = make_view(jets, Views(**STRONG))
    assert len(view) == len(jets)
    assert view.lengths.min() >= 1
    assert view.particles.isfinite().all()
    assert view.columns == ("pt", "deta", "dphi", "energy", "charge")


@every
def test_a_particle_keeps_its_features_and_the_halves_of_a_split_one_lack_them(augmentation: Augmentation) -> None:
    plain_jets = made_jets([9, 1, 20, 14])
    number = torch.arange(len(plain_jets.particles), dtype=torch.float32)  # a feature that tells the particles apart
    jets = replace(
        plain_jets,
        particles=torch.cat([plain_jets.particles, number.unsqueeze(1)], dim=1),
        columns=(*plain_jets.columns, "number"),
        context={"jet_pt": plain_jets.sum(plain_jets.column("pt"))},
    )
    torch.manual_seed(0)
    changed = apply(augmentation, jets)
    assert torch.equal(changed.context["jet_pt"], jets.context["jet_pt"])
    features = changed.column("number")
    assert bool(features.isfinite().all()) == (augmentation is not split)
    known = features[features.isfinite()].long()
    assert torch.equal(changed.jet_of_particle[features.isfinite()], jets.jet_of_particle[known])
    torch.manual_seed(0)
    without = apply(augmentation, plain_jets)
    assert torch.equal(without.particles, changed.without(["number"]).particles)
