"""Exact attention within each jet, without padding: one batched product for consecutive jets of equal length.

A run of q `[token, head, d]` becomes `[jet * head, length, d]`, and its weights are `[jet * head, length, length]`. The
two products and the softmax are explicit. For jets of more than `LONG` tokens the weights are computed in slices, so
that memory grows linearly with the number of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Run = tuple[int, int, int]
"""Consecutive jets of equal length: first token, number of jets, length."""
LONG = 256
"""Tokens of a jet above which its attention weights are computed in slices, and again in the backward pass: their
number grows quadratically, so they are not stored."""
SLICE = 2**24
"""Attention weights of a slice: 64 MiB in float32."""


class ExactAttention(torch.autograd.Function):
    """Attention of all runs as one autograd node: nodes per run would cost more than the arithmetic of short jets."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, runs: list[Run], causal: bool, n: int | None, *bias: Tensor
    ) -> Tensor:
        """Compute softmax(q k^T / sqrt(d) + bias) v, `[token, head, d]`, or `[jet * n, head, d]`.

        Args:
            ctx: of autograd.
            q: queries, `[token, head, d]`, or `[jet * n, head, d]`.
            k: keys, `[token, head, d]`.
            v: values, `[token, head, d]`.
            runs: consecutive jets of equal length.
            causal: a token attends to itself and earlier tokens of its jet only.
            n: number of queries of each jet; None for all.
            bias: of each run, `[jet, head, query, length]`.
        """
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        saved: list[Tensor] = []
        with torch.autocast(q.device.type, enabled=False):
            for index, (run, asking) in enumerate(_pairs_of_runs(runs, n)):
                queries = _by_head(q, *asking)  # [jet * head, query, d]
                keys = _by_head(k, *run)  # [jet * head, length, d]
                values = _by_head(v, *run)
                rows, length = asking[2], run[2]
                added = bias[index].to(queries.dtype).reshape(-1, rows, length) if bias else None
                if rows * length > LONG**2:
                    mixed = _mix_in_slices(queries, keys, values, added, causal=causal)
                    saved += [queries, keys, values, queries.new_empty(0) if added is None else added]
                else:
                    weights = _weights(queries, keys, added, causal=causal)  # [jet * head, query, length]
                    mixed = torch.bmm(weights, values)  # [jet * head, query, d]
                    saved += [queries, keys, values, weights]
                _view(out, *asking).copy_(mixed.view(asking[1], -1, rows, q.shape[-1]))
        ctx.save_for_backward(*saved)
        ctx.runs, ctx.n, ctx.bias_dtypes = runs, n, [b.dtype for b in bias]
        ctx.causal, ctx.shapes = causal, (q.shape, k.shape, v.shape)
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
        return (*grads, None, None, None, *bias_grads)


def _pairs_of_runs(runs: list[Run], n: int | None) -> Iterator[tuple[Run, Run]]:
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
