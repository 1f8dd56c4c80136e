"""LiDAR (arXiv:2312.04000): effective rank of z between jets, in units of its spread between views of one jet.

    S_b = Cov over jets of m_i,    S_w = mean over jets and views of (z_ij - m_i)(z_ij - m_i)^T + delta 1
    l = eigenvalues of S_w^-1/2 S_b S_w^-1/2,    p = l / sum l,    LiDAR = exp(-sum p ln p)

with the mean m_i of z over the views of jet i. Unlike RankMe it does not count directions that only tell views apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_jets.diagnostics.monitor import ANOTHER_VIEW, Diagnosis, Monitor, evaluating
from ssl_jets.diagnostics.results import joined
from ssl_jets.jets import Jets
from ssl_jets.methods._method import Method
from ssl_jets.nn.augment import make_view

JETS, VIEWS = 256, 10
"""Held-out jets, and views of each."""


def lidar(z: Tensor, delta: float = 1e-4, epsilon: float = 1e-7) -> Tensor:
    """Compute LiDAR of z `[jet, view, D]`, a scalar from 1 to D.

    >>> noise = torch.randn(100, 8, 3, generator=torch.Generator().manual_seed(0))
    >>> z = 1e-2 * noise + torch.tensor([5.0, 0.0, 0.0]) * noise[:, :1]
    >>> round(float(lidar(z)), 1)
    1.0
    """
    z = z.double()
    mean = z.mean(dim=1)  # [jet, D]
    between = torch.cov(mean.T, correction=0).reshape(z.shape[2], z.shape[2])
    rest = (z - mean.unsqueeze(1)).flatten(0, 1)  # [jet view, D]
    within = rest.T @ rest / len(rest) + delta * torch.eye(z.shape[2], dtype=z.dtype)
    values, vectors = torch.linalg.eigh(within)
    whiten = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    spectrum = torch.linalg.eigvalsh(whiten @ between @ whiten).clamp(min=0)
    p = spectrum / spectrum.sum().clamp(min=torch.finfo(z.dtype).tiny) + epsilon
    return torch.exp(-(p * p.log()).sum())


class LidarMonitor(Monitor):
    """Monitor whose validations measure LiDAR too: `VIEWS` times the encoding of `JETS` jets more."""

    def __init__(self, jets: Jets, batch_size: int, classes: int) -> None:
        super().__init__(jets, batch_size, classes)
        few = self.jets.select(torch.arange(min(JETS, len(jets))))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self._views = [make_view(few, ANOTHER_VIEW) for _ in range(VIEWS)]

    def validate(self, method: Method, progress: float, *, early: bool = False) -> Diagnosis:
        """Compute the metrics of `Monitor.validate`, and `lidar`."""
        diagnosis = super().validate(method, progress, early=early)
        with evaluating(method):
            z = torch.stack([self._z(method.exported(), view) for view in self._views], dim=1)  # [jet, view, D]
        return Diagnosis(joined(diagnosis.metrics, {"lidar": float(lidar(z))}), diagnosis.verdicts)
