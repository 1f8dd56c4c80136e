"""Comparison with peers: processes, inputs and tables; the network is the one of this package."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_jets.jets import Jets

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """Return the names of the script."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return argparse.Namespace(**runpy.run_path(str(BENCHMARKS / "peers.py"), run_name="imported"))


def two_jets() -> Jets:
    """Return jets of three particles and of one."""
    columns = ("pt", "deta", "dphi", "energy", "charge", "kind", "d0", "d0err", "dz", "dzerr")
    particles = torch.rand(4, len(columns), generator=torch.Generator().manual_seed(0)) + 0.5
    particles[:, columns.index("kind")] = torch.tensor([0.0, 1.0, 4.0, 2.0])
    return Jets(particles, torch.tensor([0, 3, 4]), columns, labels=torch.tensor([1, 0]))


def test_padded_inputs_hold_the_same_jets_and_zeros(peers: argparse.Namespace) -> None:
    jets = two_jets()
    inputs = peers.padded(jets)
    assert inputs["mask"][:, 0].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert inputs["kind"].tolist() == [[1, 2, 5], [3, 0, 0]]
    assert inputs["labels"].tolist() == [1, 0]
    px, py, _, energy = inputs["vectors"][0]
    torch.testing.assert_close(torch.hypot(px, py), jets.particles[:3, 0])
    torch.testing.assert_close(inputs["momenta"][0, :, 2:].exp(), torch.stack([jets.particles[:3, 0], energy], 1))
    for name in ("features", "vectors"):
        assert not inputs[name][1, :, 1:].any()
    for name in ("momenta", "tracks"):
        assert not inputs[name][1, 1:].any()


def test_this_package_trains_on_the_same_jets(peers: argparse.Namespace) -> None:
    module: dict[str, Any] = {}
    exec(peers.NETWORKS[peers.OURS], module)
    jets = two_jets()
    packed = module["packed"](peers.padded(jets))
    assert packed.columns == jets.columns
    assert packed.offsets.tolist() == jets.offsets.tolist()
    torch.testing.assert_close(packed.particles, jets.particles)


def test_a_step_is_taken_in_pieces(peers: argparse.Namespace, tmp_path: Path) -> None:
    step = peers.Step(sys.executable, tmp_path / "step", peers.NETWORKS[peers.OURS], [peers.padded(two_jets())])
    assert step.parameters >= 1_500_000
    assert 0 < step.take(0, 1, True) < 60
    assert 0 < step.take(0, 2, False) < 60
    step.close()


def test_a_process_that_cannot_start_ends_the_script(peers: argparse.Namespace, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="training step ended"):
        peers.Step(sys.executable, tmp_path / "missing", "import no_such_package", [{}])


def test_a_program_has_its_own_seconds_and_memory(peers: argparse.Namespace, tmp_path: Path) -> None:
    larger = b"x" * 10**8  # of this process, must not count
    work = "import time; x = b'x' * 3 * 10**7\nwhile time.process_time() < 0.2: pass"
    seconds, memory = peers.run_program([sys.executable, "-c", work], tmp_path)
    assert 0.2 <= seconds < 10
    assert 0.03 < memory < len(larger) / 1e9
    with pytest.raises(SystemExit, match="failed: no such jet"):
        peers.run_program([sys.executable, "-c", "raise SystemExit('no such jet')"], tmp_path)


def test_ratios_of_steps_are_medians_over_the_batches(peers: argparse.Namespace) -> None:
    own = {"ssl-jets supervised bf16": [1.0, 2.0, 4.0], "ssl-jets supervised fp32": [2.0, 4.0, 8.0]}
    *_, fp32, peer = peers.step_table(own | {"ParT": [4.0, 6.0, 8.0]}, 64).splitlines()
    assert fp32 == "| ssl-jets supervised fp32 | 16 | 8 to 32 | 2.00 | 1.00 |"
    assert peer == "| ParT | 10.7 | 8 to 16 | 3.00 | 1.50 |"


def test_start_up_does_not_count_in_the_rate_of_a_program(peers: argparse.Namespace) -> None:
    used = {"embed": [(6.0, 10.0, 0.6), (5.0, 10.0, 0.5)], "predict": [(15.0, 31.0, 1.0), (15.0, 35.0, 1.2)]}
    *_, own, other = peers.program_table(used, 1000, 3000).splitlines()
    assert own == "| embed | 5.5 | 10.0 | 450 | 1.00 | 0.55 |"
    assert other == "| predict | 15.0 | 33.0 | 112 | 4.00 | 1.10 |"
