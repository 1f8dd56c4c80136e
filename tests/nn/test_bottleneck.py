"""The bottleneck: a fixed scale and noise of a known size."""

from __future__ import annotations

import pytest
import torch

from ssl_jets.errors import UsageError
from ssl_jets.nn.normalize import add_noise, project_to_sphere
from support.small_models import made_jets


def test_z_keeps_its_direction_and_loses_its_scale() -> None:
    torch.manual_seed(0)
    z = torch.randn(5, 12)
    unit = project_to_sphere(z)
    torch.testing.assert_close(unit.square().mean(1), torch.ones(5))
    torch.testing.assert_close(torch.cosine_similarity(unit, z), torch.ones(5))
    torch.testing.assert_close(project_to_sphere(1000 * z), unit)


def test_one_number_on_the_sphere_would_be_a_sign_without_a_gradient() -> None:
    with pytest.raises(UsageError, match="z of one number"):
        project_to_sphere(torch.randn(5, 1))


def test_the_blur_is_normal_noise_of_the_given_size_of_each_number() -> None:
    torch.manual_seed(0)
    jets, z = made_jets([1] * 5000), torch.randn(5000, 8)
    noise = add_noise(jets, z, 0.3) - project_to_sphere(z)
    torch.testing.assert_close(noise.T.cov(), 0.09 * torch.eye(8), atol=6e-3, rtol=0)
    assert float(noise.mean()) == pytest.approx(0, abs=5e-3)
    assert torch.equal(add_noise(jets, z, 0.0), project_to_sphere(z))
