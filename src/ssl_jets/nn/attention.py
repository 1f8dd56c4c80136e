"""Attention within each jet of a packed batch.

On CUDA in half precision it is PyTorch's variable-length flash attention. Elsewhere consecutive jets of equal length
form a run, which is one exact batched product without padding; the encoder sorts jets by length, so that runs are long.
On CPUs the product, softmax, product of a run are written out; `benchmarks/results` compares them with a padded
transformer and PyTorch's fused kernel. For jets of more than `LONG` tokens the weights are computed in slices, so that
memory grows linearly with the number of tokens.

Example of runs: lengths 2, 2, 3 are offsets 0, 2, 4, 7 and the runs (first token 0, 2 jets, length 2) and
(first token 4, 1 jet, length 3). A run of q `[token, head, d]` becomes `[jet * head, length, d]`, and its weights are
`[jet * head, length, length]`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ssl_jets.errors import SslJetsError

try:
    from torch.nn.attention import varlen
except ImportError:  # torch < 2.10
    varlen = None  # type: ignore[assignment]
LONG = 256
"""Tokens of a jet above which its attention weights are computed in slices, and again in the backward pass: their
number grows quadratically, so they are not stored."""
SLICE = 2**24
"""Attention weights of a slice: 64 MiB in float32."""
_CAUSAL_KERNEL: dict[str, Any] = {"is_causal": True}
if varlen is not None and "window_size" in inspect.signature(varlen.varlen_attn).parameters:  # torch > 2.10
    _CAUSAL_KERNEL = {"window_size": (-1, 0)}


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


def attend(q: Tensor, k: Tensor, v: Tensor, layout: AttentionLayout, bias: Sequence[Tensor] | None = None) -> Tensor:
    """Compute softmax(q k^T / sqrt(d) + bias) v within each jet; with a causal layout, over keys up to the query's own.

    Args:
        q: queries, `[token, head, d]`.
        k: keys, `[token, head, d]`.
        v: values, `[token, head, d]`.
        layout: the layout of the jets.
        bias: for each run of `layout` a tensor `[jet, head, length, length]` added to the scores.

    Returns:
        `[token, head, d]`.
    """
    if bias is None and q.is_cuda and varlen is not None and q.dtype in (torch.float16, torch.bfloat16):
        offsets = layout.offsets.to(torch.int32)
        longest = max(length for _, _, length in layout.runs)
        causal = _CAUSAL_KERNEL if layout.causal else {}
        return cast(Tensor, varlen.varlen_attn(q, k, v, offsets, offsets, longest, longest, **causal))
    out: Tensor = _ExactAttention.apply(q, k, v, layout, *(bias or ()))
    return out


def attend_once(q: Tensor, k: Tensor, v: Tensor, jet: Tensor) -> Tensor:
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


def attend_padded(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute softmax(q k^T / sqrt(d) + bias) v in a padded batch: `attend` and `attend_once` up to rounding.

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
        >>> whole = attend_padded(q, k, v, torch.tensor([[True] * 5, [True] * 3 + [False] * 2]))
        >>> torch.allclose(whole[1, :3], attend_padded(q[1:, :3], k[1:, :3], v[1:, :3], torch.ones(1, 3).bool())[0])
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
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: AttentionLayout, *bias: Tensor) -> Tensor:
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        saved: list[Tensor] = []
        with torch.autocast(q.device.type, enabled=False):
            for index, (start, jets, length) in enumerate(layout.runs):
                queries = _by_head(q, start, jets, length)  # [jet * head, length, d]
                keys = _by_head(k, start, jets, length)
                values = _by_head(v, start, jets, length)
                added = bias[index].to(queries.dtype).reshape(-1, length, length) if bias else None
                if length > LONG:
                    mixed = _mix_in_slices(queries, keys, values, added, causal=layout.causal)
                    saved += [queries, keys, values, queries.new_empty(0) if added is None else added]
                else:
                    weights = _weights(queries, keys, added, causal=layout.causal)  # [jet * head, length, length]
                    mixed = torch.bmm(weights, values)  # [jet * head, length, d]
                    saved += [queries, keys, values, weights]
                _view(out, start, jets, length).copy_(mixed.view(jets, -1, length, q.shape[-1]))
        ctx.save_for_backward(*saved)
        ctx.runs, ctx.shape, ctx.bias_dtypes = layout.runs, q.shape, [b.dtype for b in bias]
        ctx.causal = layout.causal
        return out

    @staticmethod
    @once_differentiable  # saved tensors are detached: a second derivative would be silently wrong
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        grads = [grad.new_empty(ctx.shape) for _ in range(3)]
        bias_grads: list[Tensor] = []
        with torch.autocast(grad.device.type, enabled=False):
            for index, (start, jets, length) in enumerate(ctx.runs):
                queries, keys, values, last = saved[4 * index : 4 * index + 4]
                grad_out = _by_head(grad, start, jets, length)
                if length > LONG:
                    added = last if ctx.bias_dtypes else None
                    *of_run, of_bias = _gradients_in_slices(queries, keys, values, added, grad_out, causal=ctx.causal)
                else:
                    *of_run, of_bias = _gradients(queries, keys, values, last, grad_out)
                if ctx.bias_dtypes:
                    bias_grads.append(of_bias.view(jets, -1, length, length).to(ctx.bias_dtypes[index]))
                for whole, part in zip(grads, of_run, strict=True):
                    _view(whole, start, jets, length).copy_(part.view(jets, -1, length, ctx.shape[-1]))
        return (*grads, None, *bias_grads)


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


def _slices(matrices: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Split `matrices` of `length` x `length` weights into ranges of matrices and rows of at most `SLICE` weights."""
    many, rows = max(1, SLICE // length**2), min(length, max(1, SLICE // length))
    for matrix in range(0, matrices, many):
        for row in range(0, length, rows):
            yield slice(matrix, matrix + many), slice(row, row + rows)


def _mix_in_slices(queries: Tensor, keys: Tensor, values: Tensor, added: Tensor | None, *, causal: bool) -> Tensor:
    """Compute softmax(q k^T / sqrt(d) + bias) v of long jets, `[jet * head, query, d]`."""
    mixed = torch.empty_like(queries)
    for which, rows in _slices(len(queries), queries.shape[1]):
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
    for which, rows in _slices(len(queries), queries.shape[1]):
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
