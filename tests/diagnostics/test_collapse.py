"""Verdicts on representations that collapse in one way each, and none on healthy ones."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ssl_jets.diagnostics import collapse
from ssl_jets.diagnostics.representation import RepresentationStatistics, representation_statistics


def normal(jets: int, dimensions: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(jets, dimensions, generator=torch.Generator().manual_seed(seed))


OFFSET = 3.0
Z = normal(400, 16) * torch.tensor([1.0, 0.8, 0.7, 0.6] + [0.1] * 12)
RANDOM = representation_statistics(Z + OFFSET, Z + OFFSET + 0.3 * normal(400, 16, 1) * Z.std(0))


def names(z: RepresentationStatistics, *, targets: bool = False) -> list[str]:
    return [verdict.name for verdict in collapse.verdicts_on_z(z, RANDOM, targets=targets)]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_z_like_that_of_random_weights_is_healthy_at_any_scale(scale: float) -> None:
    z = scale * (Z + OFFSET)
    assert names(representation_statistics(z, z)) == []


def test_a_z_of_fewer_directions_far_from_its_origin_is_healthy() -> None:
    z = Z * torch.tensor([1.0, 0.8] + [0.1] * 14) + 10
    found = representation_statistics(z, z)
    assert found.mean_cosine > 0.99
    assert found.participation_ratio < 0.8 * RANDOM.participation_ratio
    assert names(found) == []


def test_one_point_for_all_jets_is_a_collapse_with_and_without_labels() -> None:
    point = normal(1, 16, 5).expand(400, 16)
    for noise in (0.0, 1e-3):
        z = point + noise * normal(400, 16)
        assert "constant" in names(representation_statistics(z, z))
        assert "constant" in names(representation_statistics(z, z), targets=True)


def test_one_number_is_a_collapse_but_not_of_a_classifier_nor_in_the_first_steps() -> None:
    random = representation_statistics(normal(400, 16))
    found = representation_statistics(normal(400, 1) * torch.ones(16) + 0.01 * normal(400, 16, 1))
    assert [verdict.name for verdict in collapse.verdicts_on_z(found, random)] == ["low-rank"]
    assert collapse.verdicts_on_z(found, random, targets=True) == []
    assert collapse.verdicts_on_z(found, random, early=True) == []


@pytest.mark.parametrize(
    ("now", "expected"),
    [(0.9, []), (0.5, []), (0.34, []), (0.33, ["constant-projection"]), (0.0, ["constant-projection"])],
)
def test_jets_that_become_alike_to_the_loss_are_reported(now: float, expected: list[str]) -> None:
    assert [verdict.name for verdict in collapse.verdicts_on_projection(now, 0.5)] == expected


def test_a_z_that_forgets_its_jet_is_noise() -> None:
    assert names(representation_statistics(normal(400, 16), normal(400, 16, 1))) == ["noise"]
    assert names(representation_statistics(normal(400, 16))) == []  # without a view nothing is reported


def test_a_loss_that_does_not_rise_is_told_at_any_scale_and_sign() -> None:
    for loss in (2.0, -2.0, 1e3):
        assert [v.name for v in collapse.verdicts_on_swap(0.0, loss)] == ["uninformative"]
        assert [v.name for v in collapse.verdicts_on_swap(-0.1 * abs(loss), loss)] == ["uninformative"]
        assert collapse.verdicts_on_swap(0.01 * abs(loss), loss) == []


def test_a_dead_codebook_is_told() -> None:
    assert [verdict.name for verdict in collapse.verdicts_on_codes(1 / 512)] == ["codes"]
    assert collapse.verdicts_on_codes(0.3) == []


def test_a_verdict_says_what_was_found_and_beside_what() -> None:
    found = replace(RANDOM, variation=0.001)
    (verdict,) = collapse.verdicts_on_z(found, RANDOM, targets=False)
    assert "0.001" in verdict.text
    assert f"{RANDOM.variation:.2g}" in verdict.text


def test_every_verdict_of_the_docs_has_a_first_remedy() -> None:
    text = (Path(__file__).parents[2] / "docs" / "collapse.md").read_text(encoding="utf-8")
    table = text.partition("| verdict | criterion |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == list(collapse.ADVICE)
