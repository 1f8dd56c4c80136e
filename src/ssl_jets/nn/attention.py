"""Attention within each jet of a packed batch.

On CUDA in half precision it is PyTorch's variable-length flash attention. Elsewhere consecutive jets of equal length
form a run, which is one exact batched product without padding; the encoder sorts jets by length, so that runs are long.
On CPUs the two products and the softmax of a run are explicit; `benchmarks/results` compares them with a padded
transformer and PyTorch's fused kernel. For jets of more than `LONG` tokens the weights are computed in slices, so that
memory grows linearly with the number of tokens.

Example of runs: lengths 2, 2, 3 are offsets 0, 2, 4, 7 and the runs (first token 0, 2 jets, length 2) and
(first token 4, 1 jet, length 3). A run of q `[token, head, d]` becomes `[jet * head, length, d]`, and its weights are
`[jet * head, length, length]`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import signature
from itertools import groupby
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ssl_jets.errors import SslJetsError

LONG = 256
"""Tokens of a jet above which its attention weights are computed in slices, and again in the backward pass: their
number grows quadratically, so they are not stored."""
SLICE = 2**24
"""Attention weights of a slice: 64 MiB in float32."""


@dataclass(eq=False)
class AttentionLayout:
    """Layout of the jets in a packed tensor of tokens, and the causality of their attention.

    Attributes:
        offsets: int64 `[jet + 1]`.
        runs: consecutive jets of equal length as (first token, jets, length).
        causal: a token attends to itself and earlier tokens of its jet only.

    Example:
        >>> AttentionLayout.of(torch.tensor([0, 2, 4, 7])).runs
        [(0, 2, 2), (4, 1, 3)]
    """

    offsets: Tensor
    runs: list[tuple[int, int, int]]
    causal: bool = False

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
        """Return the jet of each token, int64 `[token]`."""
        return torch.repeat_interleave(self.offsets[1:] - self.offsets[:-1])


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
    half = q.dtype in (torch.float16, torch.bfloat16)
    if bias is None and q.is_cuda and half and not (layout.causal and queries) and (kernel := _variable_length()):
        offsets = layout.offsets.to(torch.int32)
        longest = max(length for _, _, length in layout.runs)
        causal = kernel.causal if layout.causal else {}
        if queries is None:
            return cast(Tensor, kernel.attend(q, k, v, offsets, offsets, longest, longest, **causal))
        of_queries = queries * torch.arange(layout.jets + 1, dtype=torch.int32, device=q.device)
        return cast(Tensor, kernel.attend(q, k, v, of_queries, offsets, queries, longest))
    if bias is not None and len(bias) == 1 < len(layout.runs):
        return _attend_padded(q, k, v, layout, queries, bias[0])
    out: Tensor = _ExactAttention.apply(q, k, v, layout, queries, *(bias or ()))
    return out


def _attend_padded(
    q: Tensor, k: Tensor, v: Tensor, layout: AttentionLayout, queries: int | None, bias: Tensor
) -> Tensor:
    """Compute the attention of `attend` in the padded batch, with a bias `[jet, head, query, token]`."""
    jets, longest = layout.jets, bias.shape[3]
    jet = torch.repeat_interleave(layout.offsets.diff(), output_size=len(k))
    place = torch.arange(len(k), device=k.device) + (longest * jet - layout.offsets[jet])

    def padded(x: Tensor) -> Tensor:
        whole = x.new_zeros(jets * longest, *x.shape[1:]).index_copy(0, place, x)
        return whole.view(jets, longest, *x.shape[1:]).transpose(1, 2)  # [jet, head, token, d]

    if layout.causal:
        bias = bias.masked_fill(torch.ones_like(bias[0, 0], dtype=torch.bool).triu(1), -math.inf)
    asking = padded(q) if queries is None else q.unflatten(0, (jets, queries)).transpose(1, 2)
    by_head = torch.nn.functional.scaled_dot_product_attention(asking, padded(k), padded(v), bias.to(q.dtype))
    mixed: Tensor = by_head.transpose(1, 2).flatten(0, 1)  # [jet * query, head, d]
    return mixed[place] if queries is None else mixed


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


class _ExactAttention(torch.autograd.Function):
    """Attention of all runs as one autograd node: nodes per run would cost more than the arithmetic of short jets."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: AttentionLayout, n: int | None, *bias: Tensor
    ) -> Tensor:
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        saved: list[Tensor] = []
        with torch.autocast(q.device.type, enabled=False):
            for index, (run, asking) in enumerate(_pairs_of_runs(layout.runs, n)):
                queries = _by_head(q, *asking)  # [jet * head, query, d]
                keys = _by_head(k, *run)  # [jet * head, length, d]
                values = _by_head(v, *run)
                rows, length = asking[2], run[2]
                added = bias[index].to(queries.dtype).reshape(-1, rows, length) if bias else None
                if rows * length > LONG**2:
                    mixed = _mix_in_slices(queries, keys, values, added, causal=layout.causal)
                    saved += [queries, keys, values, queries.new_empty(0) if added is None else added]
                else:
                    weights = _weights(queries, keys, added, causal=layout.causal)  # [jet * head, query, length]
                    mixed = torch.bmm(weights, values)  # [jet * head, query, d]
                    saved += [queries, keys, values, weights]
                _view(out, *asking).copy_(mixed.view(asking[1], -1, rows, q.shape[-1]))
        ctx.save_for_backward(*saved)
        ctx.runs, ctx.n, ctx.bias_dtypes = layout.runs, n, [b.dtype for b in bias]
        ctx.causal, ctx.shapes = layout.causal, (q.shape, k.shape, v.shape)
        return out

    @staticmethod
    @once_differentiable  # saved tensors are detached: a second derivative would be silently wrong
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        grads = [grad.new_empty(shape) for shape in ctx.shapes]
        bias_grads: list[Tensor] = []
        with torch.autocast(grad.device.type, enabled=False):
            for index, (run, asking) in enumerate(_pairs_of_runs(ctx.runs, ctx.n)):
                queries, keys, values, last = saved[4 * index : 4 * index + 4]
                grad_out = _by_head(grad, *asking)
                rows, length = asking[2], run[2]
                if rows * length > LONG**2:
                    added = last if ctx.bias_dtypes else None
                    *of_run, of_bias = _gradients_in_slices(queries, keys, values, added, grad_out, causal=ctx.causal)
                else:
                    *of_run, of_bias = _gradients(queries, keys, values, last, grad_out)
                if ctx.bias_dtypes:
                    bias_grads.append(of_bias.view(run[1], -1, rows, length).to(ctx.bias_dtypes[index]))
                for whole, part, place in zip(grads, of_run, (asking, run, run), strict=True):
                    _view(whole, *place).copy_(part.view(place[1], -1, place[2], whole.shape[-1]))
        return (*grads, None, None, *bias_grads)


def _pairs_of_runs(
    runs: list[tuple[int, int, int]], n: int | None
) -> Iterator[tuple[tuple[int, int, int], tuple[int, int, int]]]:
    """Yield each run of keys with its run of queries: itself, or with `n` queries a jet (first query, jets, n).

    Runs (0, 2, 2), (4, 1, 3) with n = 1 have the queries (0, 2, 1), (2, 1, 1).
    """
    first = 0
    for run in runs:
        yield run, run if n is None else (first, run[1], n)
        first += run[1] * (n or 0)


def _weights(queries: Tensor, keys: Tensor, added: Tensor | None, *, causal: bool, first: int = 0) -> Tensor:
    """Return the attention weights `[jet * head, query, key]` of the queries from number `first` of each jet on."""
    bias, beta = (queries.new_empty(1), 0) if added is None else (added, 1)
    scores = torch.baddbmm(bias, queries, keys.transpose(1, 2), beta=beta, alpha=1 / math.sqrt(queries.shape[-1]))
    if causal:  # zero weights also have zero gradients; for 3 keys and first = 0 the mask is 011 / 001 / 000
        later = scores.new_ones(*scores.shape[1:], dtype=torch.bool).triu(1 + first)
        scores.masked_fill_(later, -math.inf)
    return torch.softmax(scores, dim=-1)


def _gradients(queries: Tensor, keys: Tensor, values: Tensor, weights: Tensor, grad_out: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of queries, keys, values and scores."""
    scale = 1 / math.sqrt(queries.shape[-1])
    grad_values = torch.bmm(weights.transpose(1, 2), grad_out)
    grad_weights = torch.bmm(grad_out, values.transpose(1, 2))
    grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
    grad_queries = torch.bmm(grad_scores, keys).mul_(scale)
    grad_keys = torch.bmm(grad_scores.transpose(1, 2), queries).mul_(scale)
    return grad_queries, grad_keys, grad_values, grad_scores


def _slices(matrices: int, queries: int, keys: int) -> Iterator[tuple[slice, slice]]:
    """Split `matrices` of `queries` x `keys` weights into ranges of matrices and rows of at most `SLICE` weights."""
    many, rows = max(1, SLICE // (queries * keys)), min(queries, max(1, SLICE // keys))
    for matrix in range(0, matrices, many):
        for row in range(0, queries, rows):
            yield slice(matrix, matrix + many), slice(row, row + rows)


def _mix_in_slices(queries: Tensor, keys: Tensor, values: Tensor, added: Tensor | None, *, causal: bool) -> Tensor:
    """Compute softmax(q k^T / sqrt(d) + bias) v of long jets, `[jet * head, query, d]`."""
    mixed = torch.empty_like(queries)
    for which, rows in _slices(len(queries), queries.shape[1], keys.shape[1]):
        bias = None if added is None else added[which, rows]
        weights = _weights(queries[which, rows], keys[which], bias, causal=causal, first=rows.start)
        mixed[which, rows] = torch.bmm(weights, values[which])
    return mixed


def _gradients_in_slices(
    queries: Tensor, keys: Tensor, values: Tensor, added: Tensor | None, grad_out: Tensor, *, causal: bool
) -> tuple[Tensor, ...]:
    """Return the gradients of queries, keys, values and bias of long jets, from recomputed weights."""
    grads = [torch.zeros_like(x) for x in (queries, keys, values)]
    of_bias = queries.new_empty(0) if added is None else torch.empty_like(added)
    for which, rows in _slices(len(queries), queries.shape[1], keys.shape[1]):
        bias = None if added is None else added[which, rows]
        some, grad = queries[which, rows], grad_out[which, rows]
        weights = _weights(some, keys[which], bias, causal=causal, first=rows.start)
        of_queries, of_keys, of_values, of_scores = _gradients(some, keys[which], values[which], weights, grad)
        grads[0][which, rows] = of_queries
        grads[1][which] += of_keys
        grads[2][which] += of_values
        if added is not None:
            of_bias[which, rows] = of_scores
    return (*grads, of_bias)


def _view(x: Tensor, start: int, jets: int, length: int) -> Tensor:
    """View a run of packed `x` as `[jet, head, length, d]`, sharing memory."""
    return x[start : start + jets * length].view(jets, length, *x.shape[1:]).transpose(1, 2)


def _by_head(x: Tensor, start: int, jets: int, length: int) -> Tensor:
    """Return a run of packed `x` as contiguous `[jet * head, length, d]`, at least in float32.

    Every run has its own shape, and oneDNN compiles a new kernel for each new shape of a bfloat16 product, which costs
    more than the product. In float32 it does not, and the softmax is exact.
    """
    exact = torch.promote_types(x.dtype, torch.float32)
    whole = _view(x, start, jets, length).to(exact, memory_format=torch.contiguous_format)
    return whole.reshape(-1, length, x.shape[-1])
