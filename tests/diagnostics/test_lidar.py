"""LiDAR: the effective rank of z between jets, in units of its spread between views."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

from ssl_jets.config import TrainSettings
from ssl_jets.data.loading.in_memory import MemoryStream
from ssl_jets.diagnostics.lidar import LidarMonitor, lidar
from ssl_jets.jets import Jets
from ssl_jets.training.fabric import make_fabric
from ssl_jets.training.loop import fit
from ssl_jets.training.run_folder import TrainingRun
from support.small_models import CLASSES, build_method


def test_it_is_the_entropy_of_the_generalized_eigenvalues_of_scipy() -> None:
    rng = np.random.default_rng(0)
    scale, noise = rng.uniform(0.1, 3, 6), rng.uniform(0.05, 0.5, 6)
    z = scale * rng.normal(size=(200, 1, 6)) @ rng.normal(size=(6, 6)) + noise * rng.normal(size=(200, 7, 6))
    means = z.mean(axis=1)
    between = np.cov(means.T, bias=True)
    within = np.mean([np.cov(one.T, bias=True) for one in z], axis=0) + 1e-4 * np.eye(6)
    spectrum = scipy.linalg.eigh(between, within, eigvals_only=True)
    p = spectrum / spectrum.sum() + 1e-7
    assert float(lidar(torch.from_numpy(z))) == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-9)


def test_directions_that_only_tell_views_apart_do_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    content = torch.randn(500, 1, 3, generator=generator).expand(-1, 10, -1)
    nuisance = torch.randn(500, 10, 5, generator=generator)
    z = torch.cat([content + 0.01 * torch.randn(500, 10, 3, generator=generator), 10 * nuisance], dim=2)
    assert 2.8 < float(lidar(z)) < 3.1


def test_a_training_keeps_the_weights_of_the_largest_lidar(batch: Jets, tmp_path: Path) -> None:
    batch = batch.keep(batch.rank_by_pt() < 12)  # quick to encode
    settings = TrainSettings(
        steps=3, batch_size=8, validate_every=1, keep="best", best_by="lidar", precision="32-true", lr=0.01
    )
    run = TrainingRun(tmp_path / "run")
    run.create(settings)
    method = build_method("mae", batch, blocks=2)
    monitor = LidarMonitor(batch, 16, len(CLASSES))
    values: list[float] = []
    original = monitor.validate

    def validate(*args, **options):
        diagnosis = original(*args, **options)
        values.append(-1.0 if diagnosis.verdicts else diagnosis.metrics["lidar"])
        return diagnosis

    monitor.validate = validate  # type: ignore[method-assign]
    stream = MemoryStream(batch, batch_size=8, seed=0)
    result = fit(method, stream, run, settings, fabric=make_fabric(settings), monitor=monitor)
    assert result.best_step == 1 + values.index(max(values))
    assert 1 <= max(values) <= 64
    again = LidarMonitor(batch, 16, len(CLASSES)).validate(method, 1.0)
    assert again.metrics["lidar"] == pytest.approx(max(values), rel=1e-5)
