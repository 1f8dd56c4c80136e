"""Muon: orthogonal updates of matrices, so that all directions of a layer learn at one rate.

    M <- m M + (1 - m) G                                            momentum of the gradient G
    W <- (1 - lr d) W - lr s orthogonal((1 - m) G + m M)            with Nesterov's look ahead

orthogonal(A) is about U V^T of A = U S V^T. s = 0.2 sqrt(longer side) gives an update the size of AdamW's, so both
share learning rate and weight decay d. Jordan et al. (kellerjordan.github.io/posts/muon), scale of arXiv:2502.16982.

`torch.optim.Muon` computes in bfloat16 on every device, which on a CPU without bfloat16 arithmetic takes longer than
the rest of a step (`benchmarks/results/2026-11-30-muon.md`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.775, 2.0315)
"""a, b, c of X <- a X + b X X^T X + c (X X^T)^2 X, which brings singular values near 1 in few steps."""
STEPS = 5
"""Steps of this iteration; singular values are then within .7 and 1.2."""


class Muon(torch.optim.Optimizer):
    """Muon for matrices.

    Args:
        groups: parameter groups of matrices.
        lr: learning rate.
        momentum: m.
        dtype: type of the products of the orthogonalization.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(2, 2))
        >>> weight.grad = torch.tensor([[4.0, 0.0], [0.0, 1.0]])
        >>> Muon([{"params": [weight], "weight_decay": 0.0}], lr=0.1).step()
        >>> weight.detach().sign()
        tensor([[-1.,  0.],
                [ 0., -1.]])
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, lr: float, momentum: float = 0.95, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all matrices that have a gradient."""
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                ahead = weight.grad.lerp(state["momentum"].lerp_(weight.grad, 1 - momentum), momentum)
                weight.mul_(1 - lr * group["weight_decay"])
                weight.add_(orthogonal(ahead, self._dtype), alpha=-lr * 0.2 * max(weight.shape) ** 0.5)


def orthogonal(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return about the nearest orthogonal matrix (orthonormal rows or columns): singular values become about 1.

    >>> orthogonal(torch.diag(torch.tensor([3.0, -1.0])))
    tensor([[ 0.7530,  0.0000],
            [ 0.0000, -1.1337]])
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).to(dtype)
    x = x / x.norm().clamp(min=1e-7)  # no singular value above 1
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.T).to(matrix.dtype)
