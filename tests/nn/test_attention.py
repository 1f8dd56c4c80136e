"""Attention inside jets: against a plain softmax of each jet, in values and gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_jets.errors import SslJetsError
from ssl_jets.nn.attention import attend as module
from ssl_jets.nn.attention.attend import AttentionLayout, attend
from support.pretended_device import PretendCuda

LENGTHS = ([1], [2], [128], [1, 2, 128], [3, 3, 3], [5, 2, 2, 1, 7, 2, 5, 5], [128, 1, 128])
HEADS, WIDTH = 2, 4


def layout_of(lengths: list[int], causal: bool = False) -> AttentionLayout:
    return AttentionLayout.of(torch.tensor([0, *lengths]).cumsum(0), causal)


def random_qkv(lengths: list[int], dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths))
    shape = (sum(lengths), HEADS, WIDTH)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for _ in range(3)]


def random_bias(layout: AttentionLayout, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(jets, HEADS, length, length, generator=generator, dtype=dtype).requires_grad_()
        for _, jets, length in layout.runs
    ]


def plain(
    q: Tensor, k: Tensor, v: Tensor, lengths: list[int], bias: list[Tensor] | None = None, causal: bool = False
) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v, jet by jet; causal: query by query over the keys up to its own."""
    of_jet = None if bias is None else [jet for run in bias for jet in run]
    out, start = [], 0
    for index, length in enumerate(lengths):
        queries, keys, values = (x[start : start + length].transpose(0, 1) for x in (q, k, v))
        score = queries @ keys.transpose(1, 2) / math.sqrt(q.shape[-1])
        if of_jet is not None:
            score = score + of_jet[index]
        if causal:
            rows = [score[:, t, : t + 1].softmax(-1)[:, None] @ values[:, : t + 1] for t in range(length)]
            out.append(torch.cat(rows, dim=1).transpose(0, 1))
            start += length
            continue
        out.append((score.softmax(-1) @ values).transpose(0, 1))
        start += length
    return torch.cat(out)


def padded(bias: list[Tensor]) -> list[Tensor]:
    """The bias of the runs as the one of the padded batch."""
    jets = [jet for run in bias for jet in run]
    longest = max(len(jet[0]) for jet in jets)
    sides = [(0, longest - len(jet[0])) for jet in jets]
    masked = [torch.nn.functional.pad(jet, side, value=-math.inf) for jet, side in zip(jets, sides)]
    return [torch.stack([torch.nn.functional.pad(jet, (0, 0, *side)) for jet, side in zip(masked, sides)])]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("biased", ["", "runs", "padded"])
@pytest.mark.parametrize("causal", [False, True])
def test_values_and_gradients_are_those_of_a_plain_softmax_per_jet(
    lengths: list[int], dtype: torch.dtype, tolerance: float, biased: str, causal: bool
) -> None:
    layout, inputs = layout_of(lengths, causal), random_qkv(lengths, dtype)
    bias = random_bias(layout, dtype) if biased else None
    given = padded(bias) if bias and biased == "padded" else bias
    ours, expected = attend(*inputs, layout, given), plain(*inputs, lengths, bias, causal)
    leaves = [*inputs, *(bias or [])]
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2), dtype=dtype)
    torch.testing.assert_close(ours, expected, atol=tolerance, rtol=tolerance)
    for mine, theirs in zip(
        torch.autograd.grad((ours * weight).sum(), leaves),
        torch.autograd.grad((expected * weight).sum(), leaves),
        strict=True,
    ):
        assert mine.dtype == dtype
        torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_gradient_is_that_of_finite_differences(biased: bool, causal: bool) -> None:
    lengths = [3, 1, 2, 2]
    layout, inputs = layout_of(lengths, causal), random_qkv(lengths, torch.float64)
    bias = random_bias(layout, torch.float64) if biased else []
    assert torch.autograd.gradcheck(lambda q, k, v, *b: attend(q, k, v, layout, b or None), (*inputs, *bias))


def test_a_second_derivative_is_refused_and_not_wrong_in_silence() -> None:
    inputs = random_qkv([3, 2], torch.float64)
    (gradient,) = torch.autograd.grad(attend(*inputs, layout_of([3, 2])).square().sum(), inputs[2:], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_strided_views_of_one_projection_give_the_same_as_copies() -> None:
    lengths = [4, 4, 2]
    qkv = torch.randn(10, 3, HEADS, WIDTH, generator=torch.Generator().manual_seed(0))
    views, copies = qkv.unbind(1), [x.contiguous() for x in qkv.unbind(1)]
    assert torch.equal(attend(*views, layout_of(lengths)), attend(*copies, layout_of(lengths)))


def test_a_jet_attends_to_no_other_jet() -> None:
    lengths = [3, 3, 5]
    q, k, v = (x.detach() for x in random_qkv(lengths, torch.float32))
    before = attend(q, k, v, layout_of(lengths))
    k[3:6], v[3:6] = 7.0, -7.0
    after = attend(q, k, v, layout_of(lengths))
    assert torch.equal(before[:3], after[:3])
    assert torch.equal(before[6:], after[6:])
    assert not torch.allclose(before[3:6], after[3:6])


@pytest.mark.parametrize("lengths", [[0], [3, 0, 2], [2, 0, 0]], ids=str)
def test_a_jet_without_tokens_is_refused_where_it_enters(lengths: list[int]) -> None:
    with pytest.raises(SslJetsError, match="a jet without tokens") as caught:
        layout_of(lengths)
    assert f"{lengths.count(0)} empty jets" in str(caught.value)


def test_a_causal_token_sees_nothing_after_it() -> None:
    lengths = [4, 4]
    q, k, v = (x.detach() for x in random_qkv(lengths, torch.float32))
    before = attend(q, k, v, layout_of(lengths, causal=True))
    k[6:], v[6:] = 9.0, -9.0
    after = attend(q, k, v, layout_of(lengths, causal=True))
    assert torch.equal(before[:6], after[:6])
    assert not torch.allclose(before[6:], after[6:])


def test_runs_are_consecutive_jets_of_equal_length() -> None:
    assert layout_of([2, 2, 3, 2]).runs == [(0, 2, 2), (4, 1, 3), (7, 1, 2)]


def test_bfloat16_is_close_to_float32_under_autocast() -> None:
    lengths = [1, 40, 40, 128]
    inputs = random_qkv(lengths, torch.float32)
    expected = plain(*inputs, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        ours = attend(*(x.bfloat16() for x in inputs), layout_of(lengths))
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), expected, atol=0.03, rtol=0.03)


def test_autocast_does_not_lower_the_precision_of_float32_inputs() -> None:
    lengths = [5, 9]
    inputs = random_qkv(lengths, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours = attend(*inputs, layout_of(lengths))
        gradient = torch.autograd.grad(ours.square().sum(), inputs)
    expected = plain(*inputs, lengths)
    torch.testing.assert_close(ours, expected, atol=2e-6, rtol=2e-6)
    for mine, theirs in zip(gradient, torch.autograd.grad(expected.square().sum(), inputs), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "cuda", "biased", "width", "fused"),
    [
        (torch.bfloat16, (8, 0), False, 8, True),
        (torch.float16, (12, 0), False, 256, True),
        (torch.float32, (8, 0), False, 8, False),
        (torch.bfloat16, (8, 0), True, 8, False),
        (torch.bfloat16, None, False, 8, False),
        (torch.bfloat16, (8, 0), False, 12, False),
        (torch.bfloat16, (8, 0), False, 264, False),
        (torch.bfloat16, (7, 5), False, 8, False),
    ],
)
@pytest.mark.parametrize("causal", [False, True])
def test_the_fused_kernel_is_chosen_only_where_it_works(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    cuda: tuple[int, int] | None,
    biased: bool,
    width: int,
    fused: bool,
    causal: bool,
) -> None:
    calls: list[tuple[Any, ...]] = []

    def kernel(q: Tensor, k: Tensor, v: Tensor, *where: Any, **seen: Any) -> Tensor:
        assert seen == ({"is_causal": True} if causal else {})
        calls.append(where)
        return q

    monkeypatch.setattr(module, "_variable_length", lambda: module._Kernel(kernel, {"is_causal": True}))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: cuda)
    lengths = [2, 5, 3]
    layout = layout_of(lengths, causal)
    inputs = [torch.randn(10, HEADS, width).to(dtype) for _ in range(3)]
    if cuda:
        inputs = [x.as_subclass(PretendCuda) for x in inputs]
    attend(*inputs, layout, random_bias(layout, dtype) if biased else None)
    assert len(calls) == fused
    if fused:
        from_offsets, to_offsets, longest, longest_key = calls[0]
        assert from_offsets.dtype == to_offsets.dtype == torch.int32
        assert from_offsets.tolist() == to_offsets.tolist() == [0, 2, 7, 10]
        assert longest == longest_key == 5


def test_a_batch_without_jets_has_no_attention_on_a_gpu() -> None:
    empty = torch.zeros(0, HEADS, 8, dtype=torch.bfloat16).as_subclass(PretendCuda)
    assert attend(empty, empty, empty, layout_of([])).shape == (0, HEADS, 8)


def test_a_mask_keeps_cudnn_out_on_a_gpu_and_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (torch.randn(2, HEADS, 3, WIDTH) for _ in range(3))
    visible = torch.tensor([[True, True, False], [True, True, True]])[:, None, None]
    expected, compute, allowed = module.fused_attention(q, k, v, visible), module.scaled_dot_product_attention, []

    def computed(*args: Any) -> Tensor:
        allowed.append([getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in ("cudnn", "mem_efficient")])
        return compute(*args)

    monkeypatch.setattr(module, "scaled_dot_product_attention", computed)
    there = [x.as_subclass(PretendCuda) for x in (q, k, v)]
    torch.testing.assert_close(module.fused_attention(*there, visible).as_subclass(Tensor), expected)
    assert allowed == [[False, True]]
    assert torch.backends.cuda.cudnn_sdp_enabled()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("causal", [False, True])
def test_the_fused_kernel_agrees_with_a_plain_softmax_per_jet(causal: bool) -> None:
    lengths = [1, 2, 128, 5, 5]
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(sum(lengths), 4, 32, generator=generator).cuda().bfloat16().requires_grad_() for _ in range(3)
    ]
    exact = [x.detach().float().requires_grad_() for x in inputs]
    layout = AttentionLayout.of(torch.tensor([0, *lengths]).cumsum(0).cuda(), causal)
    ours, expected = attend(*inputs, layout), plain(*exact, lengths, causal=causal)
    torch.testing.assert_close(ours.float(), expected, atol=0.03, rtol=0.03)
    for mine, theirs in zip(
        torch.autograd.grad(ours.float().sum(), inputs), torch.autograd.grad(expected.sum(), exact), strict=True
    ):
        torch.testing.assert_close(mine.float(), theirs, atol=0.05, rtol=0.05)
