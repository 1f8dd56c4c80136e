"""Attention within each jet of a packed batch.

In half precision on GPUs of Ampere or newer it is PyTorch's variable-length flash attention, and with a pair bias its
memory-efficient attention on the padded batch. Elsewhere consecutive jets of equal length form a run, which is one
exact batched product without padding (`exact.py`); the encoder sorts jets by length, so that runs are long.
`benchmarks/results` compares them with a padded transformer and PyTorch's fused kernel.

Example of runs: lengths 2, 2, 3 are offsets 0, 2, 4, 7 and the runs (first token 0, 2 jets, length 2) and
(first token 4, 1 jet, length 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from inspect import signature
from itertools import groupby
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ssl_jets.errors import SslJetsError
from ssl_jets.nn.attention.exact import ExactAttention


@dataclass(eq=False)
class AttentionLayout:
    """Layout of the jets in a packed tensor of tokens, and the causality of their attention.

    Attributes:
        offsets: int64 `[jet + 1]`.
        runs: consecutive jets of equal length as (first token, jets, length).
        causal: a token attends to itself and earlier tokens of its jet only.
        longest: largest number of tokens of a jet; 0 without jets.

    Example:
        >>> AttentionLayout.of(torch.tensor([0, 2, 4, 7])).runs
        [(0, 2, 2), (4, 1, 3)]
    """

    offsets: Tensor
    runs: list[tuple[int, int, int]]
    causal: bool = False
    longest: int = field(init=False)

    def __post_init__(self) -> None:
        self.longest = max((length for _, _, length in self.runs), default=0)

    @classmethod
    def of(cls, offsets: Tensor, causal: bool = False) -> AttentionLayout:
        """Return the layout of packed jets with these `offsets`; a jet without tokens is an error."""
        lengths = (offsets[1:] - offsets[:-1]).tolist()
        runs, start = [], 0
        for length, group in groupby(lengths):
            jets = len(list(group))
            if length == 0:
                raise SslJetsError("attention over a jet without tokens", found=f"{jets} empty jets in the batch")
            runs.append((start, jets, length))
            start += jets * length
        return cls(offsets, runs, causal)

    @property
    def jets(self) -> int:
        """Number of jets."""
        return len(self.offsets) - 1

    def jet_of_token(self) -> Tensor:
        """Return the jet of each token, int64 `[token]`; a GPU is not waited for."""
        tokens = sum(jets * length for _, jets, length in self.runs)
        return torch.repeat_interleave(self.offsets.diff(), output_size=tokens)


def attend(q: Tensor, k: Tensor, v: Tensor, layout: AttentionLayout, bias: Sequence[Tensor] | None = None) -> Tensor:
    """Compute softmax(q k^T / sqrt(d) + bias) v within each jet; with a causal layout, over keys up to the query's own.

    Queries may be fewer than keys: then they belong to the first n tokens of each jet, n the same for all jets.

    Args:
        q: queries, `[token, head, d]`, or `[jet * n, head, d]`.
        k: keys, `[token, head, d]`.
        v: values, `[token, head, d]`.
        layout: the layout of the jets.
        bias: added to the scores: for each run of `layout` a tensor `[jet, head, query, length]`, or one of the padded
            batch `[jet, head, query, longest]`, -inf for padding, which GPUs take in one kernel.

    Returns:
        `[token, head, d]`, or `[jet * n, head, d]`.
    """
    queries = None if len(q) == len(k) else len(q) // layout.jets
    kernel = _variable_length() if bias is None and layout.jets and _takes(q) else None
    if kernel is not None and not (layout.causal and queries):
        offsets = layout.offsets.to(torch.int32)
        longest = layout.longest
        causal = kernel.causal if layout.causal else {}
        if queries is None:
            return cast(Tensor, kernel.attend(q, k, v, offsets, offsets, longest, longest, **causal))
        of_queries = queries * torch.arange(layout.jets + 1, dtype=torch.int32, device=q.device)
        return cast(Tensor, kernel.attend(q, k, v, of_queries, offsets, queries, longest))
    if bias is not None and len(bias) == 1 < len(layout.runs):
        return _attend_padded(q, k, v, layout, queries, bias[0])
    out: Tensor = ExactAttention.apply(q, k, v, layout.runs, layout.causal, queries, *(bias or ()))
    return out


def _attend_padded(
    q: Tensor, k: Tensor, v: Tensor, layout: AttentionLayout, queries: int | None, bias: Tensor
) -> Tensor:
    """Compute the attention of `attend` in the padded batch, with a bias `[jet, head, query, token]`."""
    jets, longest, jet = layout.jets, layout.longest, layout.jet_of_token()
    place = torch.arange(len(k), device=k.device) + (longest * jet - layout.offsets[jet])

    def padded(x: Tensor) -> Tensor:
        whole = x.new_zeros(jets * longest, *x.shape[1:]).index_copy(0, place, x)
        return whole.view(jets, longest, *x.shape[1:]).transpose(1, 2)  # [jet, head, token, d]

    if layout.causal:
        bias = bias.masked_fill(torch.ones_like(bias[0, 0], dtype=torch.bool).triu(1), -math.inf)
    asking = padded(q) if queries is None else q.unflatten(0, (jets, queries)).transpose(1, 2)
    by_head = fused_attention(asking, padded(k), padded(v), bias.to(q.dtype))
    mixed: Tensor = by_head.transpose(1, 2).flatten(0, 1)  # [jet * query, head, d]
    return mixed[place] if queries is None else mixed


def fused_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, *, dropout: float = 0.0) -> Tensor:
    """Compute PyTorch's fused attention with a mask in a padded batch, on GPUs not by cuDNN.

    PyTorch 2.11 and newer prefer cuDNN on Hopper and Blackwell. Its gradient with a mask can be NaN for some lengths
    (github.com/pytorch/pytorch/issues/196678), and it builds a kernel for every shape: each batch has a new one.

    Args:
        q: queries, `[jet, head, query, d]`.
        k: keys, `[jet, head, key, d]`.
        v: values, `[jet, head, key, d]`.
        mask: added to the scores, or true for visible keys; broadcasts to `[jet, head, query, key]`.
        dropout: probability of dropout on the attention weights.
    """
    if not q.is_cuda:
        return scaled_dot_product_attention(q, k, v, mask, dropout)
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]):  # the others take no mask
        return scaled_dot_product_attention(q, k, v, mask, dropout)


@dataclass(frozen=True)
class _Kernel:
    """PyTorch's variable-length attention, and its arguments for a causal mask."""

    attend: Callable[..., Any]
    causal: dict[str, Any]


@cache
def _variable_length() -> _Kernel | None:
    """Return the variable-length kernel; None for torch before 2.10. Only CUDA imports it: it takes a second."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    windowed = "window_size" in signature(varlen_attn).parameters  # torch > 2.10
    return _Kernel(varlen_attn, {"window_size": (-1, 0)} if windowed else {"is_causal": True})


def _takes(q: Tensor) -> bool:
    """Check if the variable-length kernel takes queries: half precision, Ampere or newer, heads of 8, 16, ..., 256."""
    if not q.is_cuda or q.dtype not in (torch.float16, torch.bfloat16):
        return False
    return q.shape[-1] % 8 == 0 and q.shape[-1] <= 256 and torch.cuda.get_device_capability(q.device) >= (8, 0)


def single_query_attention(q: Tensor, k: Tensor, v: Tensor, jet: Tensor) -> Tensor:
    """Compute softmax(q k^T / sqrt(d)) v with one query for each jet, in float32.

    Args:
        q: queries, `[jet, head, d]`.
        k: keys, packed, `[token, head, d]`.
        v: values, packed, `[token, head, d]`.
        jet: the jet of each token, int64 `[token]`.

    Returns:
        `[jet, head, d]`; zero for a jet without tokens.
    """
    with torch.autocast(q.device.type, enabled=False):
        q, k, v = q.float(), k.float(), v.float()
        scores = (q[jet] * k).sum(-1) / math.sqrt(q.shape[-1])  # [token, head]
        index = jet.unsqueeze(1).expand_as(scores)
        largest = (
            scores.detach().new_zeros(q.shape[:2]).scatter_reduce(0, index, scores.detach(), "amax", include_self=False)
        )
        weights = (scores - largest[jet]).exp()  # [token, head]
        total = weights.new_zeros(q.shape[:2]).index_add(0, jet, weights)  # [jet, head]
        mixed = v.new_zeros(q.shape).index_add(0, jet, weights.unsqueeze(-1) * v)  # [jet, head, d]
        return mixed / total.clamp(min=torch.finfo(total.dtype).tiny).unsqueeze(-1)


def padded_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute softmax(q k^T / sqrt(d) + bias) v in a padded batch: equal to `attend` up to rounding.

    It consists of products, a softmax and selections only, for exported graphs. Training and embedding use the packed
    functions, which compute nothing for padding.

    Args:
        q: queries, `[jet, query, head, d]`.
        k: keys, `[jet, key, head, d]`.
        v: values, `[jet, key, head, d]`, finite also for padding.
        mask: true for a key that is no padding, bool `[jet, key]`.
        bias: added to the scores, `[jet, head, query, key]`.

    Returns:
        `[jet, query, head, d]`; zero for a jet without keys.

    Example:
        >>> q, k, v = torch.randn(3, 2, 5, 1, 4).unbind(0)
        >>> whole = padded_attention(q, k, v, torch.tensor([[True] * 5, [True] * 3 + [False] * 2]))
        >>> torch.allclose(whole[1, :3], padded_attention(q[1:, :3], k[1:, :3], v[1:, :3], torch.ones(1, 3).bool())[0])
        True
    """
    scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / math.sqrt(q.shape[-1])  # [jet, head, query, key]
    if bias is not None:
        scores = scores + bias
    real = mask[:, None, None, :]
    # Finite, so that a jet without keys has no NaN; the weights of padding are exactly zero in either case.
    weights = torch.softmax(torch.where(real, scores, torch.finfo(torch.float32).min), dim=-1)
    weights = torch.where(real, weights, 0.0)
    return (weights @ v.transpose(1, 2)).transpose(1, 2)
