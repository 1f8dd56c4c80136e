"""Distributions of simulated jets against other jets of the same classes, where these exist."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from ssl_jets.simulation import request as request_module
from ssl_jets.simulation.request import request_of
from ssl_jets.simulation.run import simulate

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT.parent / "shared" / "data" / "train"
JETS = 150


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks" / "simulated_jets.py"), run_name="imported")


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference jets are not on this machine")
@pytest.mark.parametrize("process", ["qcd", "hbb", "hqql", "tbqq", "tbl"])
def test_distributions_agree_with_the_reference(
    process: str, benchmark: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pythia8mc")
    monkeypatch.setattr(request_module, "PART_JETS", JETS)
    out = tmp_path / f"{process}.root"
    simulate(request_of(process=process, jets=JETS, seed=11), out)
    reference = next(REFERENCE.glob(f"{benchmark['FILES'][process]}_*.root"))
    # Two samples of one distribution exceed 1.95 / sqrt(150) = 0.16 in 0.1 % of the cases. Without the rescaling of
    # tracks to their towers the distance of the number of particles is 0.21.
    limit = 1.95 / 1.358 * benchmark["critical"](JETS, 10000)
    table = benchmark["distances"](out, reference)
    assert not {name: row for name, row in table.items() if row[0] > limit}
