"""On a CUDA device where there is one, otherwise on the CPU: kernels against references, devices against each other."""

from __future__ import annotations

import pytest
import torch

from ssl_jets.jets import Jets
from ssl_jets.model import embed_jets
from ssl_jets.nn.attention.attend import AttentionLayout, attend
from support.small_models import build_method, tiny_encoder

pytestmark = pytest.mark.device
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LENGTHS = (2, 2, 5, 40)


def plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool) -> torch.Tensor:
    """Attention of each jet by its definition, in float64."""
    out = []
    for queries, keys, values in zip(q.split(LENGTHS), k.split(LENGTHS), v.split(LENGTHS), strict=True):
        scores = torch.einsum("ihd,jhd->hij", queries.double(), keys.double()) / q.shape[-1] ** 0.5
        later = torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).triu(1)
        weights = (scores.masked_fill(later, -torch.inf) if causal else scores).softmax(-1)
        out.append(torch.einsum("hij,jhd->ihd", weights, values.double()))
    return torch.cat(out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_attention_is_the_softmax_also_for_the_first_query_alone(dtype: torch.dtype, causal: bool, first: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(sum(LENGTHS), 2, 32, device=DEVICE).to(dtype) for _ in range(3))
    layout = AttentionLayout.of(torch.tensor([0, *LENGTHS], device=DEVICE).cumsum(0), causal)
    exact = plain(q, k, v, causal)
    rows = layout.offsets[:-1] if first else torch.arange(len(q), device=DEVICE)
    found = attend(q[rows], k, v, layout).double()
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(found, exact[rows], atol=tolerance, rtol=tolerance)


def test_gradients_with_a_pair_bias_are_those_of_the_cpu(batch: Jets) -> None:
    gradients = []
    for device in ("cpu", DEVICE):
        encoder = tiny_encoder(batch, pair_bias=True, registers=2).to(device)
        z, tokens = encoder(batch.to(device))
        (z[:, :32].square().mean() + tokens[:, :32].square().mean()).backward()
        gradients.append({name: weight.grad for name, weight in encoder.named_parameters() if weight.grad is not None})
    assert any(name.startswith("pair_bias") for name in gradients[0])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name].cpu(), gradient, atol=1e-4, rtol=1e-3, msg=name)


def test_z_is_that_of_the_cpu(batch: Jets) -> None:
    encoder = tiny_encoder(batch, pair_bias=True)
    here = embed_jets(encoder, batch, precision="32-true")
    there = embed_jets(encoder, batch, device=DEVICE, precision="32-true")
    torch.testing.assert_close(there, here, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["supervised", "mae", "next_particle"])
def test_a_step_has_finite_gradients(name: str, batch: Jets) -> None:
    method = build_method(name, batch).to(DEVICE)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        loss = method(batch.to(DEVICE), 0.0)["loss"]
    loss.backward()
    gradients = [weight.grad for weight in method.parameters() if weight.grad is not None]
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
